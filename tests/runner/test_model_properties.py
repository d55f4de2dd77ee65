"""Whatever a champion writes: a verdict or one of our errors, and never a crash."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.contract.tasks import TaskType
from runner.safetensors import SafetensorsError, read_header
from runner.verdict import NoModelError, Verdict, decide_verdict
from runner.weights import WeightsError, read_json
from tests.runner.tensors import ADAPTER, BASE, CONFIG, encode_file, encode_raw, write_adapter, write_model

MANY = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
json_values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
dtypes = st.sampled_from(["F32", "F16", "BF16", "U8", "F8_E4M3", "X9"]) | json_values
counts = st.integers(min_value=-2, max_value=20) | st.sampled_from([2**48, 2**63, 2**400])
entries = st.fixed_dictionaries(
    {"dtype": dtypes, "shape": st.lists(counts, max_size=3), "data_offsets": st.lists(counts, max_size=3)}
)
headers = st.dictionaries(st.text(max_size=6) | st.just("__metadata__"), entries | json_values, max_size=4)
settings_of_peft = st.dictionaries(
    st.sampled_from([
        "peft_type", "r", "lora_alpha", "rank_pattern", "alpha_pattern", "task_type", "init_lora_weights",
        "use_dora", "bias", "new",
    ]),
    json_values | st.just("LORA"),
)  # fmt: skip
settings_of_model = st.dictionaries(
    st.sampled_from([
        "architectures", "model_type", "hidden_size", "vocab_size", "rope_scaling", "rope_parameters", "rope_theta",
        "layer_types", "max_position_embeddings", "tie_word_embeddings", "use_sliding_window", "head_dim",
    ]),
    json_values,
)  # fmt: skip


def opened(path: Path) -> None:
    try:
        found = read_header(path)
    except SafetensorsError as error:
        assert len(str(error)) < 2000
    else:
        assert sum(t.end - t.start for t in found) <= path.stat().st_size


@MANY
@given(data=st.binary(max_size=200))
def test_any_bytes_are_tensors_or_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.safetensors").write_bytes(data)
    opened(tmp_path / "x.safetensors")


@MANY
@given(header=headers | json_values, data=st.binary(max_size=40))
def test_any_header_is_tensors_or_refused(tmp_path: Path, header: Any, data: bytes) -> None:
    (tmp_path / "x.safetensors").write_bytes(encode_raw(header, data))
    opened(tmp_path / "x.safetensors")


@MANY
@given(data=st.binary(max_size=100) | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_json_file_is_an_object_or_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "config.json").write_bytes(data)
    try:
        assert isinstance(read_json(tmp_path / "config.json"), dict)
    except WeightsError:
        return


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_model(tmp_path / "base", BASE)


def judged(out: Path, base: Path, *, task: TaskType | None = None) -> None:
    try:
        report = decide_verdict(out, base, task=task, log=out / "loss.txt", wants_loss_file=True)
    except NoModelError:
        return
    assert report.verdict in Verdict
    assert all(rule.detail.isprintable() and len(rule.detail) <= 500 for rule in report.rules)


@MANY
@given(config=settings_of_model)
def test_any_configuration_is_judged(tmp_path: Path, base: Path, config: dict[str, Any]) -> None:
    judged(write_model(tmp_path / "out", BASE, {**CONFIG, **config}), base)


@MANY
@given(config=settings_of_peft)
def test_any_adapter_configuration_is_judged(tmp_path: Path, base: Path, config: dict[str, Any]) -> None:
    judged(write_adapter(tmp_path / "out", ADAPTER, **config), base)


@MANY
@given(flips=st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), min_size=1, max_size=4))
def test_any_damage_to_a_file_is_judged(tmp_path: Path, base: Path, flips: list[tuple[int, int]]) -> None:
    for folder, file in (("full", "model.safetensors"), ("adapter", "adapter_model.safetensors")):
        out = write_model(tmp_path / folder, BASE) if folder == "full" else write_adapter(tmp_path / folder)
        data = bytearray((out / file).read_bytes())
        for place, value in flips:
            data[place % len(data)] = value
        (out / file).write_bytes(bytes(data))
        judged(out, base)
        judged(out, base, task=TaskType.IMAGE)


SUFFIXES = [
    ".lora_down.weight",
    ".lora_up.weight",
    ".alpha",
    ".lora_mid.weight",
    ".lora_A.weight",
    ".lora_B.weight",
]
shapes = st.lists(st.integers(0, 3), max_size=5)


@MANY
@given(
    tensors=st.dictionaries(
        st.sampled_from([m + s for m in ("unet.a", "lora_unet_b") for s in SUFFIXES]), shapes
    )
)
def test_any_image_lora_is_judged(tmp_path: Path, base: Path, tensors: dict[str, list[int]]) -> None:
    made = {}
    for name, shape in tensors.items():
        size = 1
        for count in shape:
            size *= count
        made[name] = ("F32", shape, [1.0] * size)
    (tmp_path / "out").mkdir(exist_ok=True)
    (tmp_path / "out" / "last.safetensors").write_bytes(encode_file(made))
    judged(tmp_path / "out", base, task=TaskType.IMAGE)
