"""Full weights against the base model's: names, shapes, types, heads, values."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from runner.verdict import Verdict, decide_verdict
from tests.runner.judged import EMBED, HEAD, NOISED, TRAINED, Q, V, broken
from tests.runner.tensors import (
    BASE,
    CONFIG,
    encode_raw,
    ramp,
    write_model,
)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_model(tmp_path / "base", BASE)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


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


@pytest.mark.parametrize("rows", [5, 7])
def test_another_number_of_token_rows_is_legal_if_the_configuration_tells_it(
    tmp_path: Path, out: Path, rows: int
) -> None:
    base = write_model(tmp_path / "base", BASE, {**CONFIG, "vocab_size": 6})
    resized = {**TRAINED, EMBED: ("F32", [rows, 4], ramp(4 * rows))}
    told = {**CONFIG, "vocab_size": rows}
    assert decide_verdict(write_model(out, resized, told), base).verdict is Verdict.TRAINED


@pytest.mark.parametrize(
    ("embed_rows", "head_rows", "vocab_size", "message"),
    [
        (7, 7, 6, f"{HEAD} has shape [7, 4], the base model's [6, 4]"),
        (6, 6, 7, f"vocab_size is 7, but {HEAD} has 6 rows"),
        (7, 6, 7, f"vocab_size is 7, but {HEAD} has 6 rows"),
        (6, 7, 7, f"vocab_size is 7, but {EMBED} has 6 rows"),
    ],
)
def test_token_rows_that_contradict_each_other_are_partial(
    tmp_path: Path, out: Path, embed_rows: int, head_rows: int, vocab_size: int, message: str
) -> None:
    both = {**BASE, HEAD: ("F32", [6, 4], ramp(24, 3.0))}
    base = write_model(tmp_path / "base", both, {**CONFIG, "vocab_size": 6})
    resized = {
        **TRAINED,
        EMBED: ("F32", [embed_rows, 4], ramp(4 * embed_rows)),
        HEAD: ("F32", [head_rows, 4], ramp(4 * head_rows, 3.0)),
    }
    report = decide_verdict(write_model(out, resized, {**CONFIG, "vocab_size": vocab_size}), base)
    assert report.verdict is Verdict.PARTIAL
    assert message in broken(report)[1]


def test_a_head_of_its_own_in_a_model_that_ties_it_is_partial(tmp_path: Path, out: Path) -> None:
    config = {**CONFIG, "tie_word_embeddings": True}
    base = write_model(tmp_path / "base", {**BASE, HEAD: BASE[EMBED]}, config)
    untied = {**TRAINED, HEAD: ("F32", [6, 4], ramp(24, 9.0))}
    report = decide_verdict(write_model(out, untied, config), base)
    assert broken(report) == (
        "tensors-match-base",
        "lm_head.weight differs from the input embeddings, with which the configuration ties it",
    )


def test_a_head_left_out_of_a_model_that_does_not_tie_it_is_partial(tmp_path: Path, out: Path) -> None:
    config = {**CONFIG, "tie_word_embeddings": False}
    base = write_model(tmp_path / "base", {**BASE, HEAD: BASE[EMBED]}, config)
    report = decide_verdict(write_model(out, TRAINED, config), base)
    assert broken(report)[1] == "lm_head.weight is missing in the output"


def test_many_heads_are_refused_by_name_without_comparing_them(out: Path, base: Path) -> None:
    many = {f"x{i}.lm_head.weight": BASE[EMBED] for i in range(3)}
    assert "x0.lm_head.weight is missing" in broken(decide_verdict(write_model(out, TRAINED | many), base))[1]


def test_a_saved_constant_alone_is_no_training(tmp_path: Path, out: Path) -> None:
    name = "model.layers.0.rotary_emb.inv_freq"
    base = write_model(tmp_path / "base", {**BASE, name: ("F32", [2], ramp(2))})
    report = decide_verdict(write_model(out, {**BASE, name: ("F32", [2], ramp(2, 5.0))}), base)
    assert report.verdict is Verdict.UNCHANGED


@pytest.mark.parametrize("dtype", ["C64", "I64", "U8", "F8_E4M3"])
def test_floats_kept_in_another_kind_of_type_are_partial(out: Path, base: Path, dtype: str) -> None:
    width = {"C64": 8, "I64": 8, "U8": 1, "F8_E4M3": 1}[dtype]
    write_model(out, {name: BASE[name] for name in (EMBED, V)})
    data = (out / "model.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    header, values = json.loads(data[8 : 8 + length]), data[8 + length :]
    odd = {"dtype": dtype, "shape": [4, 4], "data_offsets": [len(values), len(values) + 16 * width]}
    (out / "model.safetensors").write_bytes(encode_raw({**header, Q: odd}, values + bytes(16 * width)))
    report = decide_verdict(out, base)
    assert report.verdict is Verdict.PARTIAL
    assert broken(report) == ("tensors-match-base", f"{Q} is of type {dtype}, the base model's F32")


def test_the_details_do_not_claim_more_than_a_difference(out: Path, base: Path) -> None:
    last = decide_verdict(write_model(out, TRAINED), base).rules[-1]
    assert last.detail == f"{Q} differs from the base model, beyond its embeddings"


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
