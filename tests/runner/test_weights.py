"""Which files are the weights of a model folder, and every way in which they are not whole."""

import json
import sys
from pathlib import Path
from types import FrameType

import pytest

from runner.verdict import Verdict, decide_verdict
from tests.runner.judged import EMBED, TRAINED, Q, V, broken, cut
from tests.runner.tensors import (
    BASE,
    encode_file,
    encode_raw,
    write_adapter,
    write_model,
    write_sharded,
)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_model(tmp_path / "base", BASE)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def test_shards_are_read_through_their_index(tmp_path: Path, out: Path) -> None:
    base = write_sharded(tmp_path / "base", {"a.safetensors": {EMBED: BASE[EMBED]}, "b.safetensors": {
        Q: BASE[Q], V: BASE[V]}})  # fmt: skip
    shards = {"x.safetensors": {Q: TRAINED[Q]}, "y.safetensors": {EMBED: BASE[EMBED], V: BASE[V]}}
    assert decide_verdict(write_sharded(out, shards), base).verdict is Verdict.TRAINED


def test_a_cut_file_is_partial(out: Path, base: Path) -> None:
    cut(write_model(out, TRAINED) / "model.safetensors")
    report = decide_verdict(out, base)
    assert report.verdict is Verdict.PARTIAL
    assert broken(report)[1].startswith("model.safetensors: partial copy")


def test_a_cut_file_beside_the_model_is_partial(out: Path, base: Path) -> None:
    write_model(out, TRAINED)
    (out / "last.safetensors").write_bytes((out / "model.safetensors").read_bytes()[:-5])
    report = decide_verdict(out, base)
    assert report.verdict is Verdict.PARTIAL
    assert broken(report)[1] == "last.safetensors lies beside the weights that are judged"


@pytest.mark.parametrize("name", ["other.safetensors", "Z.SafeTensors", "adapter_model.safetensors"])
def test_whole_weights_beside_the_model_are_partial(out: Path, base: Path, name: str) -> None:
    write_model(out, TRAINED)
    (out / name).write_bytes(encode_file(BASE))
    report = decide_verdict(out, base)
    assert report.verdict is Verdict.PARTIAL
    assert broken(report) == ("files-whole", f"{name} lies beside the weights that are judged")


def test_full_weights_beside_an_adapter_are_partial(out: Path, base: Path) -> None:
    write_model(out, TRAINED)
    report = decide_verdict(write_adapter(out), base)
    assert broken(report)[1] == "model.safetensors lies beside the weights that are judged"


def test_a_folder_with_the_name_of_weights_is_partial(out: Path, base: Path) -> None:
    (write_model(out, TRAINED) / "z.safetensors").mkdir()
    report = decide_verdict(out, base)
    assert report.verdict is Verdict.PARTIAL
    assert broken(report) == ("files-whole", "z.safetensors lies beside the weights that are judged")


@pytest.mark.parametrize(
    "shard",
    [
        "b" * 5000 + ".safetensors",
        "b" * 250 + ".safetensors",
        "\u00e4" * 120 + ".safetensors",
        "a\0b.safetensors",
        "\ud800.safetensors",
        "a b.safetensors",
        "-a.safetensors",
        "..safetensors",
        "a\n.safetensors",
        "a.safetensors\n",
    ],
)
def test_a_shard_name_that_is_not_plain_is_partial(out: Path, base: Path, shard: str) -> None:
    out.mkdir()
    (out / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {Q: shard}}))
    report = decide_verdict(out, base)
    assert report.verdict is Verdict.PARTIAL
    assert broken(report)[0] == "files-whole"
    assert "unusable shard name" in broken(report)[1]


def test_a_shard_that_is_a_folder_is_partial(out: Path, base: Path) -> None:
    write_sharded(out, {"x.safetensors": {Q: TRAINED[Q]}, "y.safetensors": {EMBED: BASE[EMBED], V: BASE[V]}})
    (out / "y.safetensors").unlink()
    (out / "y.safetensors").mkdir()
    assert broken(decide_verdict(out, base))[1].endswith("names y.safetensors, which is missing")


def test_a_file_that_cannot_be_opened_is_partial(out: Path, base: Path) -> None:
    # /proc/self/mem is a file whose first byte cannot be read: EIO is ours to propagate, so not that. A file
    # in a cycle of links is the guest's doing.
    write_sharded(out, {"x.safetensors": BASE})
    (out / "x.safetensors").unlink()
    (out / "x.safetensors").symlink_to("x.safetensors")
    report = decide_verdict(out, base)
    assert report.verdict is Verdict.PARTIAL
    assert "x.safetensors" in broken(report)[1]


def test_a_header_is_parsed_once_per_verdict(out: Path, base: Path) -> None:
    write_model(out, TRAINED)
    parsed: list[Path] = []

    def watch(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call" and frame.f_code.co_name == "read_header":
            parsed.append(frame.f_locals["path"])

    sys.setprofile(watch)
    try:
        decide_verdict(out, base)
    finally:
        sys.setprofile(None)
    assert sorted(parsed) == [base / "model.safetensors", out / "model.safetensors"]


def test_headers_too_large_together_are_partial(out: Path, base: Path) -> None:
    out.mkdir()
    shards = {f"x{i}.safetensors": f"t{i}" for i in range(5)}
    for file, name in shards.items():
        entry = {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}
        header = {"__metadata__": {"a": "x" * (7 << 20)}, name: entry}
        (out / file).write_bytes(encode_raw(header, b""))
    index = {"weight_map": {name: file for file, name in shards.items()}}
    (out / "model.safetensors.index.json").write_text(json.dumps(index))
    report = decide_verdict(out, base)
    assert report.verdict is Verdict.PARTIAL
    assert "x4.safetensors: headers of more than 33554432 bytes in one model" in broken(report)[1]


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
        ('{"weight_map": {"a": "x.safetensors", "a": "y.safetensors"}}', "a key stands twice"),
        ('{"weight_map": {"a": "x.safetensors"}, "weight_map": {}}', "a key stands twice"),
        ('{"weight_map": {"a": "/etc/x.safetensors"}}', "unusable shard name"),
        ('{"weight_map": {"a": "sub/x.safetensors"}}', "unusable shard name"),
        ('{"weight_map": {"a": 1}}', "unusable shard name"),
        ('{"weight_map": ["x.safetensors"]}', "no weight_map"),
        ('{"weight_map": ' + "1" * 5000 + "}", "is not JSON"),
    ],
)
def test_an_unusable_index_is_partial(out: Path, base: Path, index: str, message: str) -> None:
    out.mkdir()
    (out / "model.safetensors.index.json").write_text(index)
    report = decide_verdict(out, base)
    assert report.verdict is Verdict.PARTIAL
    assert message in broken(report)[1]


def test_a_cut_adapter_is_partial(out: Path, base: Path) -> None:
    cut(write_adapter(out) / "adapter_model.safetensors")
    assert "partial copy" in broken(decide_verdict(out, base))[1]


def test_an_adapter_configuration_beside_full_weights_needs_its_adapter(out: Path, base: Path) -> None:
    write_model(out, TRAINED)
    (out / "adapter_config.json").write_text("{}")
    assert broken(decide_verdict(out, base))[1] == "adapter_config.json without adapter_model.safetensors"


def test_a_shard_that_no_index_names_is_partial(out: Path, base: Path) -> None:
    write_sharded(out, {"x.safetensors": {Q: TRAINED[Q]}, "y.safetensors": {EMBED: BASE[EMBED], V: BASE[V]}})
    (out / "z.safetensors").write_bytes(encode_file({"more": ("F32", [1], [1.0])}))
    assert broken(decide_verdict(out, base)) == (
        "files-whole",
        "z.safetensors lies beside the weights that are judged",
    )


def test_a_tensor_in_two_shards_is_partial(out: Path, base: Path) -> None:
    write_sharded(out, {"x.safetensors": {Q: TRAINED[Q]}, "y.safetensors": {f"module.{Q}": BASE[Q]}})
    assert broken(decide_verdict(out, base))[1] == f"y.safetensors: module.{Q} stands twice"


def test_an_index_beyond_the_cap_is_partial(out: Path, base: Path) -> None:
    out.mkdir()
    with (out / "model.safetensors.index.json").open("wb") as file:
        file.truncate((16 << 20) + 1)
    assert "is over 16777216 bytes" in broken(decide_verdict(out, base))[1]
