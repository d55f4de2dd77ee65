"""A text_trainer for tests: nudges every tensor of the base model, differently for each task, in a second.

To the verdict that is a trained model; it lets tests have several whole runs in little time.
"""

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
source = np.random.default_rng(list(order["--task-id"].encode()))
tensors = {
    name: (tensor + source.normal(0.0, 1e-3, tensor.shape)).astype(tensor.dtype)
    for name, tensor in load_file(weights).items()
}
save_file(tensors, weights, metadata={"format": "pt"})
(output / "loss.txt").write_text("1,0.5", encoding="utf-8")
print("step=1 total=1 loss=0.5000 seconds_left=1", flush=True)
