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


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.ckpt", "x.pkl"])
def test_refuses_pickle_weights_by_name(model: Path, name: str) -> None:
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
