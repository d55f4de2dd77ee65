"""Each verdict from tensors alone, and each way in which a folder is no model."""

import math
from pathlib import Path
from typing import Any

import pytest

from runner.safetensors import SafetensorsError
from runner.verdict import NoModelError, Verdict, VerdictReport, decide_verdict
from runner.weights import WeightsError
from tests.runner.tensors import (
    ADAPTER,
    BASE,
    CONFIG,
    PREFIX,
    ramp,
    write_adapter,
    write_model,
    write_sharded,
)

EMBED, Q, V = BASE
NOISED = {**BASE, EMBED: ("F32", [6, 4], ramp(24, 1.01))}
TRAINED = {**BASE, Q: ("F32", [4, 4], ramp(16, 1.5))}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_model(tmp_path / "base", BASE)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def broken(report: VerdictReport) -> tuple[str, str]:
    assert [r.holds for r in report.rules] == [True] * (len(report.rules) - 1) + [False]
    return report.rules[-1].rule, report.rules[-1].detail


def test_changed_weights_are_trained(out: Path, base: Path) -> None:
    report = decide_verdict(write_model(out, TRAINED), base)
    assert report.verdict is Verdict.TRAINED
    assert [r.rule for r in report.rules] == [
        "files-whole",
        "architecture-equals-base",
        "tensors-match-base",
        "values-finite",
        "weights-changed",
        "more-than-embeddings-changed",
    ]
    assert all(r.holds for r in report.rules)


def test_identical_weights_are_unchanged(out: Path, base: Path) -> None:
    report = decide_verdict(write_model(out, BASE), base)
    assert report.verdict is Verdict.UNCHANGED
    assert broken(report) == ("weights-changed", "all 3 tensors equal the base model's")


def test_identical_weights_in_another_type_are_unchanged(out: Path, base: Path) -> None:
    narrow = {name: ("BF16", shape, values) for name, (_, shape, values) in BASE.items()}
    assert decide_verdict(write_model(out, narrow), base).verdict is Verdict.UNCHANGED


def test_noise_on_embeddings_is_the_fallback(out: Path, base: Path) -> None:
    report = decide_verdict(write_model(out, NOISED), base)
    assert report.verdict is Verdict.NOISE_FALLBACK
    assert "nothing but model.embed_tokens.weight differs" in broken(report)[1]


def test_noise_on_embeddings_and_tied_head_is_the_fallback(out: Path, base: Path) -> None:
    tied = {**NOISED, "lm_head.weight": NOISED[EMBED]}
    assert decide_verdict(write_model(out, tied), base).verdict is Verdict.NOISE_FALLBACK


def test_noise_on_a_head_that_both_models_save_tied_is_the_fallback(tmp_path: Path, out: Path) -> None:
    base = write_model(tmp_path / "base", {**BASE, "lm_head.weight": BASE[EMBED]})
    tied = {**NOISED, "lm_head.weight": NOISED[EMBED]}
    assert decide_verdict(write_model(out, tied), base).verdict is Verdict.NOISE_FALLBACK


def test_noise_beside_an_untouched_head_is_the_fallback(tmp_path: Path, out: Path) -> None:
    head = {"lm_head.weight": ("F32", [6, 4], ramp(24, 3.0))}
    base = write_model(tmp_path / "base", {**BASE, **head})
    assert decide_verdict(write_model(out, {**NOISED, **head}), base).verdict is Verdict.NOISE_FALLBACK


def test_a_trained_head_of_its_own_counts_as_training(tmp_path: Path, out: Path) -> None:
    base = write_model(tmp_path / "base", {**BASE, "lm_head.weight": ("F32", [6, 4], ramp(24, 3.0))})
    trained = {**NOISED, "lm_head.weight": ("F32", [6, 4], ramp(24, 4.0))}
    assert decide_verdict(write_model(out, trained), base).verdict is Verdict.TRAINED


def test_a_tied_head_may_be_left_out(tmp_path: Path, out: Path) -> None:
    base = write_model(tmp_path / "base", {**BASE, "lm_head.weight": BASE[EMBED]})
    assert decide_verdict(write_model(out, TRAINED), base).verdict is Verdict.TRAINED


def test_wrapper_prefixes_and_saved_buffers_do_not_matter(out: Path, base: Path) -> None:
    renamed = {f"module._orig_mod.{name}": value for name, value in TRAINED.items()}
    renamed["model.layers.0.rotary_emb.inv_freq"] = ("F32", [2], ramp(2))
    assert decide_verdict(write_model(out, renamed), base).verdict is Verdict.TRAINED


def test_more_token_rows_are_legal(out: Path, base: Path) -> None:
    resized = {**TRAINED, EMBED: ("F32", [7, 4], ramp(28))}
    assert decide_verdict(write_model(out, resized), base).verdict is Verdict.TRAINED


def test_shards_are_read_through_their_index(tmp_path: Path, out: Path) -> None:
    base = write_sharded(tmp_path / "base", {"a.safetensors": {EMBED: BASE[EMBED]}, "b.safetensors": {
        Q: BASE[Q], V: BASE[V]}})  # fmt: skip
    shards = {"x.safetensors": {Q: TRAINED[Q]}, "y.safetensors": {EMBED: BASE[EMBED], V: BASE[V]}}
    assert decide_verdict(write_sharded(out, shards), base).verdict is Verdict.TRAINED


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def test_a_cut_file_is_partial(out: Path, base: Path) -> None:
    cut(write_model(out, TRAINED) / "model.safetensors")
    report = decide_verdict(out, base)
    assert report.verdict is Verdict.PARTIAL
    assert broken(report)[1].startswith("model.safetensors: partial copy")


def test_a_cut_file_beside_the_model_is_partial(out: Path, base: Path) -> None:
    write_model(out, TRAINED)
    (out / "last.safetensors").write_bytes((out / "model.safetensors").read_bytes()[:-5])
    assert "last.safetensors: partial copy" in broken(decide_verdict(out, base))[1]


def test_a_missing_shard_is_partial(out: Path, base: Path) -> None:
    write_sharded(out, {"x.safetensors": {Q: TRAINED[Q]}, "y.safetensors": {EMBED: BASE[EMBED], V: BASE[V]}})
    (out / "y.safetensors").unlink()
    assert broken(decide_verdict(out, base)) == (
        "files-whole",
        "model.safetensors.index.json names y.safetensors, which is missing",
    )


def test_an_index_that_disagrees_with_its_shard_is_partial(out: Path, base: Path) -> None:
    write_sharded(out, {"x.safetensors": BASE})
    index = out / "model.safetensors.index.json"
    index.write_text(index.read_text().replace("q_proj", "k_proj"))
    assert "disagree on model.layers.0.k_proj.weight" in broken(decide_verdict(out, base))[1]


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("{}", "no weight_map"),
        ('{"weight_map": {"a": "../x.safetensors"}}', "unusable shard name"),
        ("{", "is not JSON"),
        ("[]", "is not an object"),
    ],
)
def test_an_unusable_index_is_partial(out: Path, base: Path, index: str, message: str) -> None:
    out.mkdir()
    (out / "model.safetensors.index.json").write_text(index)
    report = decide_verdict(out, base)
    assert report.verdict is Verdict.PARTIAL
    assert message in broken(report)[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"architectures": ["OtherForCausalLM"]},
            "architectures is ['OtherForCausalLM'], the base model has",
        ),
        ({"architectures": None}, "architectures is None"),
        ({"model_type": "other"}, "model_type is 'other'"),
        ({"hidden_size": 8}, "hidden_size is 8, the base model has 4"),
        ({"max_position_embeddings": 32}, "max_position_embeddings 32 is below the base model's 64"),
    ],
)
def test_another_architecture_is_partial(out: Path, base: Path, change: dict[str, Any], message: str) -> None:
    report = decide_verdict(write_model(out, TRAINED, {**CONFIG, **change}), base)
    assert report.verdict is Verdict.PARTIAL
    assert message in broken(report)[1]


def test_settings_that_only_one_side_tells_do_not_matter(out: Path, base: Path) -> None:
    config = {**CONFIG, "head_dim": 4, "max_position_embeddings": 128}
    assert decide_verdict(write_model(out, TRAINED, config), base).verdict is Verdict.TRAINED


def test_a_missing_configuration_is_partial(out: Path, base: Path) -> None:
    (write_model(out, TRAINED) / "config.json").unlink()
    assert broken(decide_verdict(out, base)) == ("architecture-equals-base", "config.json is missing")


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({EMBED: BASE[EMBED], Q: TRAINED[Q]}, f"{V} is missing in the output"),
        ({**TRAINED, "extra.weight": ("F32", [1], [1.0])}, "extra.weight is missing in the base model"),
        ({**TRAINED, Q: ("F32", [2, 8], ramp(16))}, f"{Q} has shape [2, 8], the base model's [4, 4]"),
        ({**TRAINED, EMBED: ("F32", [8, 3], ramp(24))}, f"{EMBED} has shape [8, 3]"),
        (
            {**TRAINED, "lm_head.weight": ("F32", [6, 4], ramp(24, 9.0))},
            "lm_head.weight is missing in the base",
        ),
    ],
)
def test_other_tensors_than_the_base_are_partial(out: Path, base: Path, tensors: Any, message: str) -> None:
    report = decide_verdict(write_model(out, tensors), base)
    assert report.verdict is Verdict.PARTIAL
    assert message in broken(report)[1]


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_values_that_are_no_numbers_are_partial(out: Path, base: Path, wrong: float) -> None:
    report = decide_verdict(write_model(out, {**TRAINED, V: ("F32", [2, 4], [*ramp(7), wrong])}), base)
    assert report.verdict is Verdict.PARTIAL
    assert broken(report) == ("values-finite", f"{V} holds NaN or infinity")


# --- adapters


def test_an_adapter_that_changes_something_is_trained(out: Path, base: Path) -> None:
    report = decide_verdict(write_adapter(out), base)
    assert report.verdict is Verdict.TRAINED
    assert [r.rule for r in report.rules] == [
        "files-whole",
        "adapter-fits-base",
        "values-finite",
        "adapter-changes-model",
    ]


def test_an_adapter_with_every_lora_b_zero_is_unchanged(out: Path, base: Path) -> None:
    zero = {**ADAPTER, f"{PREFIX}.lora_B.weight": ("F32", [4, 2], [-0.0] * 8)}
    report = decide_verdict(write_adapter(out, zero), base)
    assert report.verdict is Verdict.UNCHANGED
    assert "every lora_B is zero" in broken(report)[1]


def test_an_adapter_without_scale_is_unchanged(out: Path, base: Path) -> None:
    report = decide_verdict(write_adapter(out, lora_alpha=0), base)
    assert broken(report) == ("adapter-changes-model", "lora_alpha is 0")


def test_embedding_adapters_start_from_a_zero_lora_a(out: Path, base: Path) -> None:
    name = "base_model.model.model.embed_tokens.lora_embedding"
    fresh = {f"{name}_A": ("F32", [2, 6], [0.0] * 12), f"{name}_B": ("F32", [4, 2], ramp(8))}
    assert decide_verdict(write_adapter(out, fresh), base).verdict is Verdict.UNCHANGED
    used = {**fresh, f"{name}_A": ("F32", [2, 6], ramp(12))}
    assert decide_verdict(write_adapter(out, used), base).verdict is Verdict.TRAINED


def test_a_saved_module_counts_only_if_it_differs(out: Path, base: Path) -> None:
    zero = {**ADAPTER, f"{PREFIX}.lora_B.weight": ("F32", [4, 2], [0.0] * 8)}
    same = {**zero, f"base_model.model.{V}": BASE[V]}
    assert decide_verdict(write_adapter(out, same), base).verdict is Verdict.UNCHANGED
    other = {**zero, f"base_model.model.{V}": ("F32", [2, 4], ramp(8, 7.0))}
    assert decide_verdict(write_adapter(out, other), base).verdict is Verdict.TRAINED


def test_weights_kept_the_other_way_round_fit(out: Path, base: Path) -> None:
    name = "base_model.model.model.layers.0.v_proj"  # [2, 4] in the base model: 2 in, 4 out, as GPT-2 has it
    pair = {
        f"{name}.lora_A.weight": ("F32", [2, 2], ramp(4)),
        f"{name}.lora_B.weight": ("F32", [4, 2], ramp(8)),
    }
    assert decide_verdict(write_adapter(out, pair), base).verdict is Verdict.TRAINED


def test_an_adapted_embedding_may_bring_its_own_weights_along(out: Path, base: Path) -> None:
    brought = {**ADAPTER, "base_model.model.model.embed_tokens.base_layer.weight": BASE[EMBED]}
    assert decide_verdict(write_adapter(out, brought), base).verdict is Verdict.TRAINED


def test_an_adapter_finds_modules_whose_leading_name_the_base_leaves_out(tmp_path: Path, out: Path) -> None:
    base = write_model(tmp_path / "short", {name.removeprefix("model."): v for name, v in BASE.items()})
    assert decide_verdict(write_adapter(out), base).verdict is Verdict.TRAINED


@pytest.mark.parametrize(
    ("tensors", "config", "message"),
    [
        (ADAPTER, {"peft_type": "IA3"}, "peft_type is 'IA3'"),
        ({f"{PREFIX}.lora_A.weight": ("F32", [2, 4], ramp(8))}, {}, "has no lora_B"),
        ({f"{PREFIX}.lora_B.weight": ("F32", [4, 2], ramp(8))}, {}, "has no lora_A"),
        (
            {
                f"{PREFIX}.lora_A.weight": ("F32", [2, 8], ramp(16)),
                f"{PREFIX}.lora_B.weight": ADAPTER[f"{PREFIX}.lora_B.weight"],
            },
            {},
            "do not fit the base model's [4, 4]",
        ),
        (
            {
                f"{PREFIX}.lora_A.weight": ("F32", [2, 4], ramp(8)),
                f"{PREFIX}.lora_B.weight": ("F32", [8, 1], ramp(8)),
            },
            {},
            "do not fit",
        ),
        (
            {name.replace("q_proj", "z_proj"): v for name, v in ADAPTER.items()},
            {},
            "no module of the base model",
        ),
        (
            {**ADAPTER, "base_model.model.stray.weight": ("F32", [1], [1.0])},
            {},
            "has no place in the base model",
        ),
    ],
)
def test_an_adapter_that_does_not_fit_is_partial(
    out: Path, base: Path, tensors: Any, config: dict[str, Any], message: str
) -> None:
    report = decide_verdict(write_adapter(out, tensors, **config), base)
    assert report.verdict is Verdict.PARTIAL
    assert report.rules[-1].rule == "adapter-fits-base"
    assert message in broken(report)[1]


def test_a_cut_adapter_is_partial(out: Path, base: Path) -> None:
    cut(write_adapter(out) / "adapter_model.safetensors")
    assert "partial copy" in broken(decide_verdict(out, base))[1]


def test_an_adapter_configuration_beside_full_weights_needs_its_adapter(out: Path, base: Path) -> None:
    write_model(out, TRAINED)
    (out / "adapter_config.json").write_text("{}")
    assert broken(decide_verdict(out, base))[1] == "adapter_config.json without adapter_model.safetensors"


# --- no model at all


def test_a_missing_folder_is_no_model(out: Path, base: Path) -> None:
    with pytest.raises(NoModelError, match="wrote no model: its output folder is missing; looked for"):
        decide_verdict(out, base)


def test_other_files_are_no_model(out: Path, base: Path) -> None:
    out.mkdir()
    (out / "loss.txt").write_text("1,no_eval")
    with pytest.raises(NoModelError, match=r"found loss\.txt$"):
        decide_verdict(out, base)


def test_an_empty_folder_is_no_model(out: Path, base: Path) -> None:
    out.mkdir()
    with pytest.raises(NoModelError, match="found nothing"):
        decide_verdict(out, base)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth", "model.pkl", "model.ckpt"])
def test_pickles_alone_are_no_model(out: Path, base: Path, name: str) -> None:
    out.mkdir()
    (out / name).write_bytes(b"\x80\x04")
    with pytest.raises(NoModelError, match=f"{name}: pickles are never loaded"):
        decide_verdict(out, base)


def test_a_broken_base_model_is_not_blamed_on_the_champion(out: Path, base: Path) -> None:
    write_model(out, TRAINED)
    cut(base / "model.safetensors")
    with pytest.raises(SafetensorsError, match="partial copy"):
        decide_verdict(out, base)
    (base / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match="base: neither"):
        decide_verdict(out, base)


def test_hostile_tensor_names_are_told_harmlessly(out: Path, base: Path) -> None:
    hostile = {**TRAINED, "\x1b[2J" + "x" * 10_000: ("F32", [1], [1.0])}
    detail = broken(decide_verdict(write_model(out, hostile), base))[1]
    assert detail.isprintable()
    assert len(detail) == 500
