"""LoRA adapters against their base model: what fits, and what changes nothing."""

import math
from pathlib import Path
from typing import Any

import pytest

from runner.verdict import Verdict, decide_verdict
from tests.runner.judged import EMBED, V, broken
from tests.runner.tensors import ADAPTER, BASE, PREFIX, ramp, write_adapter, write_model


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_model(tmp_path / "base", BASE)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


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
    assert report.verdict is Verdict.UNCHANGED
    assert broken(report) == (
        "adapter-changes-model",
        "all 1 LoRA products are zero (every lora_B is zero, or its lora_A or scale, or they share no rank)",
    )


@pytest.mark.parametrize(
    ("config", "verdict"),
    [
        ({"alpha_pattern": {"q_proj": 0}}, Verdict.UNCHANGED),
        ({"alpha_pattern": {"layers.0.q_proj": 0.0}}, Verdict.UNCHANGED),
        ({"alpha_pattern": {"^model.layers.0.q_proj": 0}}, Verdict.UNCHANGED),
        ({"alpha_pattern": {"v_proj": 0}}, Verdict.TRAINED),
        ({"alpha_pattern": {"proj": 0}}, Verdict.TRAINED),
        ({"lora_alpha": 0, "alpha_pattern": {"q_proj": 4}}, Verdict.TRAINED),
        ({"lora_alpha": 0, "alpha_pattern": {"v_proj": 4}}, Verdict.UNCHANGED),
        ({"lora_alpha": 0.0, "use_rslora": True}, Verdict.UNCHANGED),
        ({"r": 64, "rank_pattern": {"q_proj": 2}}, Verdict.TRAINED),
    ],
)
def test_the_scale_is_that_of_each_module(
    out: Path, base: Path, config: dict[str, Any], verdict: Verdict
) -> None:
    assert decide_verdict(write_adapter(out, **config), base).verdict is verdict


@pytest.mark.parametrize("dtype", ["F64", "F32", "F16", "BF16"])
def test_factors_that_never_meet_make_a_product_of_zero(out: Path, base: Path, dtype: str) -> None:
    down, up = f"{PREFIX}.lora_A.weight", f"{PREFIX}.lora_B.weight"
    silent = {
        down: (dtype, [2, 4], [1.0, 0, 0, 0.5, 0, 0, -0.0, 0]),
        up: (dtype, [4, 2], [0, 1.0, -0.0, 2.0, 0, 0.0, 0, 0]),
    }
    assert decide_verdict(write_adapter(out, silent), base).verdict is Verdict.UNCHANGED
    heard = {**silent, up: (dtype, [4, 2], [0, 1.0, 0, 2.0, 0, 0.0, 0.25, 0])}
    assert decide_verdict(write_adapter(out, heard), base).verdict is Verdict.TRAINED


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
        (ADAPTER, {"r": 4}, "rank 2, the configuration says 4"),
        (ADAPTER, {"rank_pattern": {"q_proj": 1}}, "rank 2, the configuration says 1"),
        (ADAPTER, {"lora_alpha": "4"}, "lora_alpha is '4'"),
        (ADAPTER, {"lora_alpha": True}, "lora_alpha is True"),
        (ADAPTER, {"lora_alpha": math.nan}, "lora_alpha is nan"),
        (ADAPTER, {"lora_alpha": math.inf}, "lora_alpha is inf"),
        (ADAPTER, {"lora_alpha": 10**400}, "lora_alpha is"),
        (ADAPTER, {"alpha_pattern": {"(a+)+": 1}}, "alpha_pattern: '(a+)+' is no plain module name"),
        (ADAPTER, {"alpha_pattern": {"q_proj": None}}, "alpha_pattern is {'q_proj': None}"),
        (ADAPTER, {"rank_pattern": [1]}, "rank_pattern is [1]"),
        (ADAPTER, {"layer_replication": [[0, 1]]}, "layer_replication is [[0, 1]]"),
        (ADAPTER, {"brand_new": 1}, "brand_new is 1, which is not judged"),
        (ADAPTER, {"init_lora_weights": "pissa"}, "init_lora_weights is 'pissa'"),
        (ADAPTER, {"task_type": "SEQ_CLS"}, "task_type is 'SEQ_CLS'"),
        (
            {name: ("I64", shape, [1] * 8) for name, (_, shape, _) in ADAPTER.items()},
            {},
            "lora_A.weight is of type I64",
        ),
        (
            {**ADAPTER, **{"a." + name.removeprefix("base_model.model."): v for name, v in ADAPTER.items()}},
            {},
            "adapts a module twice",
        ),
        (
            {"a" * 2000 + name.removeprefix("base_model.model"): v for name, v in ADAPTER.items()},
            {},
            "name of 2",
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
