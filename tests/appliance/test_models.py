"""Base models are taken only if training on them runs no foreign code."""

import json
from pathlib import Path

import pytest

from appliance.errors import ArtifactError
from appliance.models import check_model_folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(
        json.dumps({"architectures": ["LlamaForCausalLM"], "model_type": "llama"})
    )
    (tmp_path / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    return tmp_path


def test_says_what_the_model_is(model: Path) -> None:
    assert check_model_folder(model).architectures == ("LlamaForCausalLM",)


def test_refuses_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no such folder"):
        check_model_folder(tmp_path / "nothing")


def test_refuses_a_foreign_folder(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"found no config\.json"):
        check_model_folder(tmp_path)


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "model.pt", "weights.ckpt", "x.pkl", "MODEL.BIN", "original/a.pth"]
)
def test_refuses_pickle_weights_by_name(model: Path, name: str) -> None:
    (model / name).parent.mkdir(exist_ok=True)
    (model / name).write_bytes(b"\x80\x04")
    with pytest.raises(ArtifactError, match=f"{name} is a pickle"):
        check_model_folder(model)


def test_refuses_foreign_code(model: Path) -> None:
    (model / "config.json").write_text(
        json.dumps({"architectures": ["X"], "auto_map": {"AutoModel": "modeling.X"}})
    )
    with pytest.raises(ArtifactError, match="auto_map"):
        check_model_folder(model)


def test_refuses_a_model_without_weights(model: Path) -> None:
    (model / "model.safetensors").unlink()
    with pytest.raises(ArtifactError, match=r"no \.safetensors"):
        check_model_folder(model)


@pytest.mark.parametrize("text", ["{", "[]", "null", '{"architectures": []}', '{"architectures": "X"}', "{}"])
def test_refuses_a_broken_config(model: Path, text: str) -> None:
    (model / "config.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"config\.json"):
        check_model_folder(model)


def test_refuses_a_config_beyond_the_cap(model: Path) -> None:
    (model / "config.json").write_bytes(b" " * (4 << 20) + b"{}")
    with pytest.raises(ArtifactError, match="larger than"):
        check_model_folder(model)


@pytest.mark.parametrize(
    "name",
    [
        "modeling_evil.py",
        "sub/x.py",
        "model.gguf",
        "x.SO",
        "picture.png",
        "script",
        ".hidden",
        "sub/.gitattributes",
    ],
)
def test_refuses_every_file_that_is_not_known_to_be_harmless(model: Path, name: str) -> None:
    (model / name).parent.mkdir(exist_ok=True)
    (model / name).write_bytes(b"x")
    with pytest.raises(ArtifactError, match=rf"{name} is no kind of file .* remove it"):
        check_model_folder(model)


@pytest.mark.parametrize(
    "name",
    [
        "LICENSE",
        "LICENCE",
        "Notice",
        "README",
        "README.md",
        "USE_POLICY.md",
        "merges.txt",
        "tokenizer.model",
        "chat_template.jinja",
        "MERGES.TXT",
        ".gitattributes",
        "original/params.json",
    ],
)
def test_takes_what_a_model_folder_usually_holds(model: Path, name: str) -> None:
    (model / name).parent.mkdir(exist_ok=True)
    (model / name).write_text("{}")
    assert check_model_folder(model).model_type == "llama"


@pytest.mark.parametrize(
    "name", ["tokenizer_config.json", "processor_config.json", "X.JSON", "sub/config.json"]
)
def test_refuses_foreign_code_in_any_json_file(model: Path, name: str) -> None:
    (model / name).parent.mkdir(exist_ok=True)
    (model / name).write_text('{"auto_map": {"AutoTokenizer": ["evil.E", null]}}')
    with pytest.raises(ArtifactError, match=f"{name} has auto_map"):
        check_model_folder(model)


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "\xff"])
def test_refuses_json_that_cannot_be_read(model: Path, text: str) -> None:
    (model / "tokenizer.json").write_text(text, encoding="latin-1")
    with pytest.raises(ArtifactError, match=r"tokenizer\.json cannot be read"):
        check_model_folder(model)


def test_refuses_json_beyond_the_cap(model: Path) -> None:
    with (model / "tokenizer.json").open("wb") as file:
        file.truncate((64 << 20) + 1)
    with pytest.raises(ArtifactError, match=r"tokenizer\.json is larger than"):
        check_model_folder(model)


@pytest.mark.parametrize("name", ["model-00002-of-00002.safetensors", "sub/model.safetensors"])
def test_refuses_safetensors_that_are_none(model: Path, name: str) -> None:
    (model / name).parent.mkdir(exist_ok=True)
    (model / name).write_bytes(b"not safetensors at all")
    with pytest.raises(ArtifactError, match=rf"model .*{Path(name).name}: .*header"):
        check_model_folder(model)
