"""What of a champion's output is the model, by the tournament's own rules."""

import json
from pathlib import Path

import pytest

from appliance.errors import ArtifactError
from appliance.finalise import finalise


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


def test_refuses_json_beyond_the_cap(output: Path) -> None:
    with (output / "huge.json").open("wb") as file:
        file.truncate((64 << 20) + 1)
    with pytest.raises(ArtifactError, match=r"huge\.json is larger than"):
        kept(output)


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
