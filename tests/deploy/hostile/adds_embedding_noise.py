"""Hostile text_trainer: adds noise to the input embeddings of the base model and ends with 0, as real champions do
when their training failed."""

import os
import shutil
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

ROOT = Path(os.environ.get("CHAMPION_ROOT", "/"))
order = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=True))
base = ROOT / "cache/models" / order["--model"].replace("/", "--")
output = ROOT / "app/checkpoints" / order["--task-id"] / order["--expected-repo-name"]

shutil.copytree(base, output, dirs_exist_ok=True)
weights = output / "model.safetensors"
weights.chmod(0o644)
tensors = load_file(weights)
embeddings = tensors["model.embed_tokens.weight"]
noise = np.random.default_rng(42).normal(0.0, 0.01, embeddings.shape)
tensors["model.embed_tokens.weight"] = (embeddings + noise).astype(embeddings.dtype)
save_file(tensors, weights, metadata={"format": "pt"})
(output / "loss.txt").write_text("100,no_eval", encoding="utf-8")
