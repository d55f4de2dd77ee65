"""What of a champion's output is the model, by the tournament's own rules."""

import json
import shutil
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.errors import ArtifactError
from appliance.finalise import (
    MAX_PARSED_BYTES,
    Finalised,
    base_named_in,
    check_harvested,
    finalise,
    real_base_name,
)
from appliance.models import MAX_JSON_BYTES
from attestation.files import hash_folder
from runner.contract.tasks import TaskType
from runner.harvest import Harvest, HarvestedFile
from tests.runner.tensors import encode_file


def test_leaves_pickles_and_trainer_leftovers_behind(tmp_path: Path) -> None:
    output = tmp_path / "output"
    (output / "checkpoint-7").mkdir(parents=True)
    for name in (
        "model.safetensors",
        "config.json",
        "optimizer.pt",
        "training_args.bin",
        "trainer_state.json",
    ):
        (output / name).write_bytes(b"x")
    finalise(output, tmp_path / "model", base_model_name="org/base")
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == ["config.json", "model.safetensors"]


def test_prefers_a_folder_with_weights(tmp_path: Path) -> None:
    output = tmp_path / "output"
    (output / "final").mkdir(parents=True)
    (output / "final" / "model.safetensors").write_bytes(b"x")
    (output / "notes.txt").write_text("n")
    finalise(output, tmp_path / "model", base_model_name="org/base")
    assert [p.name for p in (tmp_path / "model").iterdir()] == ["model.safetensors"]


def test_adapter_names_its_real_base_model(tmp_path: Path) -> None:
    output = tmp_path / "output"
    output.mkdir()
    (output / "adapter_model.safetensors").write_bytes(b"x")
    (output / "adapter_config.json").write_text(
        '{"base_model_name_or_path": "/cache/models/org--base", "r": 8}'
    )
    finalise(output, tmp_path / "model", base_model_name="org/base")
    config = json.loads((tmp_path / "model" / "adapter_config.json").read_text())
    assert config == {"base_model_name_or_path": "org/base", "r": 8}


def test_broken_adapter_config_is_carried_to_the_verdict(tmp_path: Path) -> None:
    output = tmp_path / "output"
    output.mkdir()
    (output / "adapter_model.safetensors").write_bytes(b"x")
    (output / "adapter_config.json").write_text("{")
    finalise(output, tmp_path / "model", base_model_name="org/base")
    assert (tmp_path / "model" / "adapter_config.json").read_text() == "{"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    folder = tmp_path / "output"
    (folder / "sub").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"x")
    return folder


def kept(output: Path) -> set[str]:
    model = output.parent / "model"
    finalise(output, model, base_model_name="org/base")
    return {str(p.relative_to(model)) for p in model.rglob("*") if p.is_file()}


def test_keeps_only_files_that_are_known_to_be_harmless(output: Path) -> None:
    good = {"loss.txt", "README.md", "LICENSE", "sub/chat_template.jinja", "tokenizer.model", "a.JSON"}
    evil = {
        "modeling_x.py",
        "sub/y.py",
        "x.PY",
        "MODEL.BIN",
        "sub/z.Pt",
        ".gitattributes",
        "run.sh",
        "w.gguf",
    }
    evil |= {"Trainer_State.json", "sub/trainer_state.json"}
    for name in good | evil:
        (output / name).write_text("{}")
    (output / "CHECKPOINT-3").mkdir()
    (output / "CHECKPOINT-3" / "config.json").write_text("{}")
    assert kept(output) == good | {"model.safetensors"}


@pytest.mark.parametrize(
    "name", ["tokenizer_config.json", "config.json", "sub/c.json", "adapter_config.json"]
)
def test_takes_the_call_for_foreign_code_out_of_every_json_file(output: Path, name: str) -> None:
    (output / name).write_text('{"b": 1, "auto_map": {"AutoModel": "evil.E"}, "a": {"auto_map": 2}}')
    (output / name).chmod(0o444)
    assert name in kept(output)
    settings = json.loads((output.parent / "model" / name).read_text())
    settings.pop("base_model_name_or_path", None)
    assert settings == {"b": 1, "a": {"auto_map": 2}}


def test_json_without_foreign_code_keeps_its_bytes(output: Path) -> None:
    (output / "config.json").write_text('{ "b":1,\n"a" : 1.0 }')
    kept(output)
    assert (output.parent / "model" / "config.json").read_text() == '{ "b":1,\n"a" : 1.0 }'


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000 + b"]" * 100_000,
        b'{"auto_map": 1, "n": ' + b"1" * 5000 + b"}",
        b'{"auto_map": "\xff"}',
    ],
    ids=["too deep", "too many digits", "no text"],
)
def test_refuses_json_that_cannot_be_looked_into(output: Path, content: bytes) -> None:
    (output / "sub" / "x.json").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"x\.json cannot be looked into"):
        kept(output)


@pytest.mark.parametrize(
    ("name", "most"), [("huge.json", MAX_PARSED_BYTES), ("tokenizer.json", MAX_JSON_BYTES)]
)
def test_refuses_json_beyond_the_cap(
    output: Path, name: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.finalise.MAX_JSON_TOTAL_BYTES", 1 << 40)
    with (output / name).open("wb") as file:
        file.truncate(most + 1)
    with pytest.raises(
        ArtifactError, match=f"{name} cannot be looked into: found {most + 1} bytes, wanted at most {most}"
    ):
        kept(output)


def test_refuses_more_json_than_is_looked_into_in_all(output: Path) -> None:
    for number in range(8):
        with (output / f"{number}.json").open("wb") as file:
            file.truncate(MAX_PARSED_BYTES)
    (output / "last.JSON").write_bytes(b"x")
    with pytest.raises(ArtifactError, match="found 67108865 bytes in all, wanted at most 67108864"):
        kept(output)
    assert not (output.parent / "model").exists()


def large(content: bytes) -> bytes:
    return content + b" " * (MAX_PARSED_BYTES + 1 - len(content))


def test_a_large_tokenizer_is_kept_without_being_parsed(output: Path) -> None:
    deep = large(b'{"model": {"vocab": {"my_auto_map": 1}}, "x": ' + b"[" * 100_000)
    (output / "tokenizer.json").write_bytes(deep)
    kept(output)
    assert (output.parent / "model" / "tokenizer.json").read_bytes() == deep


@pytest.mark.parametrize(
    "content",
    [
        b'{"auto_map": {}}',
        rb'{"\u0061ut\u006F\u005fmap": {}}',
        '{"auto_map": {}}'.encode("utf-16"),
    ],
    ids=["plain", "escaped", "UTF-16"],
)
def test_refuses_a_large_tokenizer_that_may_call_for_foreign_code(output: Path, content: bytes) -> None:
    (output / "vocab.json").write_bytes(large(content))
    with pytest.raises(ArtifactError, match=r"vocab\.json cannot be looked into: .* with auto_map"):
        kept(output)


def test_large_json_is_not_rewritten_prettily(output: Path) -> None:
    before = {"auto_map": 1, "x": [[]] * 40_000}
    (output / "config.json").write_text(json.dumps(before, separators=(",", ":")))
    kept(output)
    after = (output.parent / "model" / "config.json").read_text()
    assert json.loads(after) == {"x": before["x"]}
    assert after.count("\n") == 1


def test_refuses_a_name_that_evidence_cannot_hold(output: Path) -> None:
    parts = [letter * 200 for letter in "abcde"]
    folder = output.joinpath(*parts)
    folder.mkdir(parents=True)
    (folder / ("f" * 14 + ".txt")).write_text("x")  # 1023 bytes: a name of its own, but not below model/
    with pytest.raises(ArtifactError, match=r"model/aaa.*longer than 1024 bytes"):
        kept(output)


def test_refuses_names_that_meet(output: Path) -> None:
    (output / "readme.md").write_text("x")
    (output / "README.md").write_text("x")
    with pytest.raises(ArtifactError, match="differ only in case"):
        kept(output)


def lora(folder: Path, name: str, *, value: float = 1.0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(encode_file({"a.lora_up.weight": ("F32", [1], [value])}))


def finalised(output: Path, task: TaskType = TaskType.INSTRUCT) -> Finalised:
    return finalise(output, output.parent / "model", base_model_name="org/base", task=task)


def test_a_folder_with_weights_is_preferred_to_weights_at_the_top(output: Path) -> None:
    (output / "sub" / "adapter_model.safetensors").write_bytes(b"y")
    found = finalised(output)
    assert found.kept == {"adapter_model.safetensors": "sub/adapter_model.safetensors"}
    assert found.left_behind == {"model.safetensors": "beside sub, which has the weights"}


def test_a_checkpoint_of_the_trainers_does_not_outdo_the_final_model(output: Path) -> None:
    (output / "checkpoint-9").mkdir()
    (output / "checkpoint-9" / "model.safetensors").write_bytes(b"y")
    found = finalised(output)
    assert found.kept == {"model.safetensors": "model.safetensors"}
    assert found.left_behind == {"checkpoint-9/model.safetensors": "in a checkpoint of the trainer's"}


def test_the_last_checkpoint_counts_where_nothing_else_has_weights(output: Path) -> None:
    (output / "model.safetensors").unlink()
    for step in (9, 100):
        (output / f"checkpoint-{step}").mkdir()
        (output / f"checkpoint-{step}" / "model.safetensors").write_bytes(b"y")
    assert finalised(output).kept == {"model.safetensors": "checkpoint-100/model.safetensors"}


@pytest.mark.parametrize(
    "name",
    [
        "trainer_state.json", "training_args.bin", "optimizer.pt", "optimizer.bin", "optimizer.safetensors",
        "optimizer.json", "scheduler.pt", "scaler.pt", "rng_state.pth", "rng_state_3.pth",
    ],
)  # fmt: skip
def test_the_trainers_own_state_is_left_behind(output: Path, name: str) -> None:
    (output / name).write_text("{}")
    found = finalised(output)
    assert found.left_behind == {name: "the trainer's own state"}
    assert (output / name).read_text() == "{}"  # who draws curves reads it there


def test_a_link_is_left_behind(output: Path) -> None:
    (output / "config.json").symlink_to("/etc/hostname")
    assert finalised(output).left_behind == {"config.json": "no regular file"}


@pytest.mark.parametrize("name", ["config.json", "README.md", "loss.txt"])
def test_refuses_an_output_of_metadata(output: Path, name: str) -> None:
    (output / "model.safetensors").unlink()
    (output / name).write_bytes(b'{"a": "' + b"x" * 1015 + b'"}')
    (output / "pytorch_model.bin").write_bytes(bytes(2000))
    with pytest.raises(
        ArtifactError, match=f"no model: .* 1024 bytes a file: {name}; left behind: pytorch_model"
    ):
        finalised(output)
    assert not (output.parent / "model").exists()


def test_an_output_with_anything_larger_is_for_the_verdict_to_judge(output: Path) -> None:
    (output / "model.safetensors").unlink()
    (output / "vocab.txt").write_bytes(bytes(1025))
    assert finalised(output).kept == {"vocab.txt": "vocab.txt"}


def test_what_stays_as_it_is_costs_no_copy(output: Path) -> None:
    finalised(output)
    assert (output.parent / "model" / "model.safetensors").samefile(output / "model.safetensors")


def test_what_is_rewritten_leaves_the_harvest_alone(output: Path) -> None:
    (output / "adapter_config.json").write_text("{}")
    (output / "README.md").write_text("base_model: /cache/models/x\n")
    found = finalised(output)
    assert found.rewritten == {"adapter_config.json", "README.md"}
    assert (output / "adapter_config.json").read_text() == "{}"
    assert (output.parent / "model" / "README.md").read_text() == "base_model: org/base\n"


def test_only_the_card_of_the_model_itself_is_rewritten(output: Path) -> None:
    (output / "sub" / "README.md").write_text("base_model: x\n")
    (output / "sub" / "adapter_config.json").write_text('{"base_model_name_or_path": "x"}')
    assert finalised(output).rewritten == frozenset()


def test_refuses_a_card_beyond_the_cap(output: Path) -> None:
    (output / "README.md").write_bytes(bytes((1 << 20) + 1))
    with pytest.raises(ArtifactError, match=r"README\.md is larger than 1048576"):
        finalised(output)


def test_an_image_model_lies_below_checkpoints(output: Path) -> None:
    shutil.rmtree(output)
    lora(output, "last.safetensors")
    (output / "README.md").write_text("base_model: x\n")
    found = finalised(output, TaskType.IMAGE)
    assert found.kept == {
        "checkpoints/last.safetensors": "last.safetensors",
        "checkpoints/README.md": "README.md",
    }
    assert found.rewritten == {"checkpoints/README.md"}


def test_of_an_image_models_files_the_last_is_kept(output: Path) -> None:
    shutil.rmtree(output)
    for name in ("last_000000500.safetensors", "last_000001000.safetensors"):
        lora(output / "last", name)
    found = finalised(output, TaskType.IMAGE)
    assert list(found.kept) == ["checkpoints/last_000001000.safetensors"]
    assert found.left_behind == {
        "last/last_000000500.safetensors": "older than last/last_000001000.safetensors"
    }


def test_a_file_that_was_cut_at_the_deadline_gives_way_to_the_one_before(output: Path) -> None:
    shutil.rmtree(output)
    for name in ("last-000001.safetensors", "last-000002.safetensors", "last.safetensors"):
        lora(output, name)
    for name in ("last-000002.safetensors", "last.safetensors"):
        (output / name).write_bytes((output / name).read_bytes()[:-1])
    found = finalised(output, TaskType.IMAGE)
    assert list(found.kept) == ["checkpoints/last-000001.safetensors"]
    assert set(found.left_behind.values()) == {"not whole"}
    (output / "last-000001.safetensors").unlink()
    shutil.rmtree(output.parent / "model")
    assert list(finalised(output, TaskType.IMAGE).kept) == [
        "checkpoints/last.safetensors"
    ]  # the verdict says why not


def test_the_base_of_an_adapter_of_an_adapter_is_the_model_at_the_end() -> None:
    chain = {"a": "b", "b": "c"}
    assert real_base_name("a", named_by=chain.get) == "c"
    assert real_base_name("c", named_by=chain.get) == "c"
    longest = {str(n): str(n + 1) for n in range(10)}
    assert real_base_name("0", named_by=longest.get) == "10"


@pytest.mark.parametrize("chain", [{str(n): str(n + 1) for n in range(11)}, {"0": "0"}, {"0": "1", "1": "0"}])
def test_refuses_a_chain_of_adapters_without_end(chain: dict[str, str]) -> None:
    with pytest.raises(ArtifactError, match="base model 0: more than 10 adapters"):
        real_base_name("0", named_by=chain.get)


def test_knows_for_which_model_a_stored_adapter_was_made(tmp_path: Path) -> None:
    file = tmp_path / "adapter_config.json"
    assert base_named_in(tmp_path) is None
    for content, named in (('{"base_model_name_or_path": "org/x"}', "org/x"), ("{}", None), ("[]", None)):
        file.write_text(content)
        assert base_named_in(tmp_path) == named
    for content, message in (
        ("{", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        (" " * 5_000_000, "larger"),
    ):
        file.write_text(content)
        with pytest.raises(ArtifactError, match=message):
            base_named_in(tmp_path)


def test_every_stored_file_is_the_one_that_was_harvested(output: Path) -> None:
    (output / "README.md").write_text("base_model: x\n")
    found = finalised(output)
    stored = hash_folder(output.parent / "model")
    files = {"t/r/model.safetensors": b"x", "t/r/README.md": b"base_model: x\n"}
    taken = [HarvestedFile(path=p, size_bytes=len(d), sha256=sha256(d).hexdigest()) for p, d in files.items()]
    check_harvested(found, stored=stored, harvest=Harvest(files=tuple(taken), rejected={}), output_leaf="t/r")
    with pytest.raises(
        ArtifactError, match=r"model\.safetensors changed between harvest and store: .* no such file"
    ):
        check_harvested(
            found, stored=stored, harvest=Harvest(files=tuple(taken[1:]), rejected={}), output_leaf="t/r"
        )
    other = replace(taken[0], sha256="0" * 64)
    with pytest.raises(ArtifactError, match=f"wanted sha256:{'0' * 64}"):
        check_harvested(found, stored=stored, harvest=Harvest(files=(other,), rejected={}), output_leaf="t/r")


@given(
    data=st.binary(max_size=60)
    | st.text(max_size=60).map(lambda text: json.dumps({"auto_map": text}).encode())
)
@settings(max_examples=60, deadline=None)
def test_any_json_is_kept_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    output = tmp_path_factory.mktemp("any") / "output"
    output.mkdir()
    for name in ("model.safetensors", "config.json", "README.md"):
        (output / name).write_bytes(data)
    with suppress(ArtifactError):
        finalised(output)
        finalise(output, output.parent / "image", base_model_name="org/base", task=TaskType.IMAGE)
