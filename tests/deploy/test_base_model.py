"""The demo's base model is real, speaks its corpus, and is made alike each time."""

import json
import math
from pathlib import Path

import pytest

from tests.deploy.bare import DEPLOY, run_script

pytestmark = pytest.mark.training


def test_is_a_small_llama_in_safetensors(base_model: Path) -> None:
    config = json.loads((base_model / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert 1 << 20 < (base_model / "model.safetensors").stat().st_size < 16 << 20
    assert not [path for path in base_model.iterdir() if path.suffix in {".bin", ".pt", ".py"}]


def test_is_a_language_model(base_model: Path) -> None:
    # Loss far below that of guessing among the vocabulary, on a sentence like those of its corpus.
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base_model, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(base_model, local_files_only=True)
    ids = torch.tensor(
        [tokenizer("Hello. A clerk called about the app last week and it was done.")["input_ids"]]
    )
    loss = float(model(input_ids=ids, labels=ids).loss.detach())
    assert loss < 0.5 * math.log(len(tokenizer))


def test_the_same_seed_gives_the_same_bytes(base_model: Path, tmp_path: Path) -> None:
    assert run_script(DEPLOY / "demo/make_base_model.py", "--output", tmp_path / "again").returncode == 0
    for path in base_model.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name


def test_never_overwrites(tmp_path: Path) -> None:
    done = run_script(DEPLOY / "demo/make_base_model.py", "--output", tmp_path)
    assert done.returncode == 2
    assert "exists already" in done.stderr
