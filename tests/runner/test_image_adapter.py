"""LoRA files of image models: the layouts of their trainers, what fits the base model, what changes nothing."""

import math
from pathlib import Path
from typing import Any

import pytest

from runner.contract.tasks import TaskType
from runner.image_adapter import newest
from runner.safetensors import SafetensorsError
from runner.verdict import Verdict, VerdictReport, decide_verdict
from runner.weights import WeightsError
from tests.runner.judged import broken, cut
from tests.runner.tensors import Named, encode_file, ramp

# A denoiser as diffusers names it, with one convolution, and a text encoder.
UNET = {
    "mid.attn.to_q.weight": ("F32", [4, 6], ramp(24)),
    "mid.conv.weight": ("F32", [4, 2, 3, 3], ramp(72)),
    "mid.conv.bias": ("F32", [4], ramp(4)),
}
TEXT = {"text_model.layers.0.fc1.weight": ("F32", [8, 4], ramp(32))}
# The same module in a single file, and one that only the image's own coder has.
CHECKPOINT = {
    "model.diffusion_model.mid.attn.to_q.weight": UNET["mid.attn.to_q.weight"],
    "conditioner.embedders.0.transformer.text_model.layers.0.fc1.weight": TEXT["text_model.layers.0.fc1.weight"],
    "first_stage_model.mid.attn.to_q.weight": ("F32", [9, 9], ramp(81)),
}  # fmt: skip


def pair(module: str, down: str, up: str, *, into: int = 6, out: int = 4, rank: int = 2) -> dict[str, Any]:
    return {
        module + down: ("F16", [rank, into], ramp(rank * into)),
        module + up: ("F16", [out, rank], ramp(out * rank)),
    }


def kohya(module: str = "lora_unet_mid_attn_to_q", **sizes: int) -> dict[str, Any]:
    factors = pair(module, ".lora_down.weight", ".lora_up.weight", **sizes)
    return {**factors, f"{module}.alpha": ("F32", [], [2.0])}


CONV = {
    "lora_unet_mid_conv.lora_down.weight": ("F32", [2, 2, 3, 3], ramp(36)),
    "lora_unet_mid_conv.lora_up.weight": ("F32", [4, 2, 1, 1], ramp(8)),
}
MIXED = {
    "lora_unet_mid_conv.lora_down.weight": ("F32", [2, 2, 1, 1], ramp(4)),
    "lora_unet_mid_conv.lora_mid.weight": ("F32", [2, 2, 3, 3], ramp(36)),
    "lora_unet_mid_conv.lora_up.weight": ("F32", [4, 2, 1, 1], ramp(8)),
}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    for folder, tensors in (("unet", UNET), ("text_encoder", TEXT), ("vae", CHECKPOINT)):
        (tmp_path / "base" / folder).mkdir(parents=True)
        (tmp_path / "base" / folder / "model.safetensors").write_bytes(encode_file(tensors))
    return tmp_path / "base"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out" / "checkpoints").mkdir(parents=True)
    return tmp_path / "out"


def judge(out: Path, base: Path, tensors: Named, name: str = "checkpoints/last.safetensors") -> VerdictReport:
    (out / name).write_bytes(encode_file(tensors))
    return decide_verdict(out, base, task=TaskType.IMAGE)


LAYOUTS = {
    "kohya": kohya(),
    "kohya, text encoder": kohya("lora_te1_text_model_layers_0_fc1", into=4, out=8),
    "kohya, convolution": CONV,
    "kohya, convolution in three": MIXED,
    "diffusers": pair("unet.mid.attn.to_q", ".lora_A.weight", ".lora_B.weight"),
    "diffusers, older": pair("unet.mid.attn.to_q", ".lora.down.weight", ".lora.up.weight"),
    "PEFT": pair("base_model.model.mid.attn.to_q", ".lora_A.weight", ".lora_B.weight"),
    "ai-toolkit": pair("diffusion_model.mid.attn.to_q", ".lora_A.weight", ".lora_B.weight"),
    "ai-toolkit, transformer": pair("transformer.mid.attn.to_q", ".lora_A.weight", ".lora_B.weight"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_is_held_against_the_base_model(out: Path, base: Path, layout: str) -> None:
    report = judge(out, base, LAYOUTS[layout])
    assert report.verdict is Verdict.TRAINED
    assert [(r.rule, r.detail) for r in report.rules] == [
        ("files-whole", f"{len(LAYOUTS[layout])} tensors in checkpoints/last.safetensors"),
        ("adapter-fits-base", "1 LoRA pairs of rank 2 fit the base model"),
        ("values-finite", "no NaN, no infinity"),
        ("adapter-changes-model", "at least one LoRA product is not zero"),
    ]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_other_widths_than_the_base_models_are_partial(out: Path, base: Path, layout: str) -> None:
    down = next(name for name in LAYOUTS[layout] if "down" in name or "lora_A" in name)
    dtype, (rank, width, *rest), _ = LAYOUTS[layout][down]
    wider = (dtype, [rank, width + 1, *rest], ramp(rank * (width + 1) * math.prod(rest)))
    report = judge(out, base, {**LAYOUTS[layout], down: wider})
    assert report.verdict is Verdict.PARTIAL
    assert "do not fit the base model's" in broken(report)[1]


def test_a_base_model_in_a_single_file_is_understood(tmp_path: Path, out: Path) -> None:
    base = tmp_path / "model.safetensors"
    base.write_bytes(encode_file(CHECKPOINT))
    tensors = {**kohya(), **kohya("lora_te1_text_model_layers_0_fc1", into=4, out=8)}
    assert judge(out, base, tensors).rules[1].detail == "2 LoRA pairs of rank 2 fit the base model"
    assert judge(out, tmp_path, tensors).rules[1].detail == "2 LoRA pairs of rank 2 fit the base model"
    assert "do not fit" in broken(judge(out, base, kohya(out=9, into=9)))[1]


def test_names_of_another_convention_are_told_as_not_compared(out: Path, base: Path) -> None:
    strange = kohya("lora_unet_input_blocks_4_1_to_q", into=123, rank=3)
    assert judge(out, base, strange).rules[1].detail == (
        "1 LoRA pairs of rank 3 are whole in themselves; none has a name of the base model's, so no shape was compared"
    )
    assert judge(out, base, {**strange, **kohya()}).rules[1].detail == (
        "2 LoRA pairs of ranks 2 to 3: 1 fit the base model, 1 have no name of it and were not compared"
    )


def test_a_place_that_two_shapes_claim_is_not_compared(tmp_path: Path, out: Path, base: Path) -> None:
    (base / "unet" / "twin.safetensors").write_bytes(
        encode_file({"mid.attn_to.q.weight": ("F32", [5, 5], ramp(25))})
    )
    assert "no shape was compared" in judge(out, base, kohya()).rules[1].detail


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"lora_unet_a.lora_down.weight": ("F32", [2, 4], ramp(8))}, "has no lora_up"),
        ({"a.lora_B.weight": ("F32", [4, 2], ramp(8))}, "a.lora_B.weight has no lora_A"),
        ({"a.alpha": ("F32", [], [1.0])}, "a.alpha belongs to no pair"),
        ({**kohya(), "lora_unet_mid_attn_to_q.lokr_w1": ("F32", [2], ramp(2))}, "no part of a LoRA that is understood"),
        ({"mid.attn.to_q.weight": UNET["mid.attn.to_q.weight"]}, "no part of a LoRA that is understood"),
        ({**kohya(), "lora_unet_mid_attn_to_q.alpha": ("F32", [2], ramp(2))}, "alpha of shape [2] is no number"),
        ({**CONV, "lora_unet_mid_conv.lora_mid.weight": ("F32", [3, 3], ramp(9))}, "middle factor of shape [3, 3]"),
        ({**kohya(), "lora_unet_mid_attn_to_q.lora_up.weight": ("F32", [4, 3], ramp(12))}, "no rank in common"),
        ({**kohya(), "lora_unet_mid_attn_to_q.lora_up.weight": ("F32", [8], ramp(8))}, "are no factors"),
        ({"a.lora_A.weight": ("F32", [0, 4], []), "a.lora_B.weight": ("F32", [4, 0], [])}, "are no factors"),
        (kohya(rank=4097, into=1, out=1), "is of rank 4097, over 4096"),
        ({**kohya(), "lora_unet_mid_attn_to_q.alpha": ("I64", [], [2])}, "alpha is of type I64"),
        ({**kohya(), **kohya("unet.mid.attn.to_q")}, "adapts a module twice"),
        (kohya("x" * 2000), "name of 20"),
    ],
)  # fmt: skip
def test_what_is_no_whole_lora_is_partial(out: Path, base: Path, tensors: Any, message: str) -> None:
    report = judge(out, base, tensors)
    assert report.verdict is Verdict.PARTIAL
    assert report.rules[-1].rule == "adapter-fits-base"
    assert message in broken(report)[1]


@pytest.mark.parametrize("suffix", [".dora_scale", ".lora_magnitude_vector"])
def test_magnitudes_belong_to_their_pair(out: Path, base: Path, suffix: str) -> None:
    whole = {**kohya(), f"lora_unet_mid_attn_to_q{suffix}": ("F32", [4], ramp(4))}
    assert judge(out, base, whole).verdict is Verdict.TRAINED


@pytest.mark.parametrize(
    "change",
    [
        {"lora_unet_mid_attn_to_q.lora_up.weight": ("F16", [4, 2], [-0.0] * 8)},
        {"lora_unet_mid_attn_to_q.lora_down.weight": ("F16", [2, 6], [0.0] * 12)},
        {"lora_unet_mid_attn_to_q.alpha": ("F32", [], [0.0])},
    ],
)
def test_products_that_are_zero_are_unchanged(out: Path, base: Path, change: Any) -> None:
    report = judge(out, base, {**kohya(), **change})
    assert report.verdict is Verdict.UNCHANGED
    assert "all 1 LoRA products are zero" in broken(report)[1]
    assert judge(out, base, {**kohya(), **change, **CONV}).verdict is Verdict.TRAINED


@pytest.mark.parametrize("part", ["down", "mid", "up"])
def test_a_convolution_in_three_is_silent_if_a_part_is(out: Path, base: Path, part: str) -> None:
    name = f"lora_unet_mid_conv.lora_{part}.weight"
    dtype, shape, values = MIXED[name]
    assert judge(out, base, {**MIXED, name: (dtype, shape, [0.0] * len(values))}).verdict is Verdict.UNCHANGED


@pytest.mark.parametrize("wrong", [math.nan, -math.inf])
def test_values_that_are_no_numbers_are_partial(out: Path, base: Path, wrong: float) -> None:
    name = "lora_unet_mid_attn_to_q.lora_up.weight"
    report = judge(out, base, {**kohya(), name: ("F16", [4, 2], [*ramp(7), wrong])})
    assert broken(report) == ("values-finite", f"{name} holds NaN or infinity")


def test_a_cut_file_is_partial(out: Path, base: Path) -> None:
    judge(out, base, kohya())
    cut(out / "checkpoints" / "last.safetensors")
    report = decide_verdict(out, base, task=TaskType.IMAGE)
    assert report.verdict is Verdict.PARTIAL
    assert broken(report)[1].startswith("last.safetensors: partial copy")


@pytest.mark.parametrize("name", ["other.safetensors", "checkpoints/Last.SafeTensors"])
def test_other_weights_beside_the_judged_ones_are_partial(out: Path, base: Path, name: str) -> None:
    (out / name).write_bytes(encode_file(kohya()))
    report = judge(out, base, kohya())
    assert (
        broken(report)[1] == f"{name} lies beside the weights that are judged, checkpoints/last.safetensors"
    )


def test_a_broken_base_model_is_not_blamed_on_the_champion(out: Path, base: Path) -> None:
    cut(base / "unet" / "model.safetensors")
    with pytest.raises(SafetensorsError, match="partial copy"):
        judge(out, base, kohya())
    with pytest.raises(WeightsError, match="none: no such base model"):
        judge(out, base / "none", kohya())


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        ([], None),
        (["a.txt"], None),
        (["last-000004.safetensors", "last.safetensors"], "last.safetensors"),
        (["last-000009.safetensors", "last-000010.safetensors"], "last-000010.safetensors"),
        (["x/last_000000500.safetensors", "x/last_000001000.safetensors"], "x/last_000001000.safetensors"),
        (["b.safetensors", "a.safetensors"], "b.safetensors"),
        (["b.safetensors", "a_1.safetensors"], "a_1.safetensors"),
    ],
)
def test_the_newest_lora_is_that_of_the_tournament(names: list[str], wanted: str | None) -> None:
    assert newest(names) == wanted
