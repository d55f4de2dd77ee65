"""Hostile text_trainer: hands the base model back, unchanged, as its own full weights."""

import os
import shutil
import sys
from pathlib import Path

ROOT = Path(os.environ.get("CHAMPION_ROOT", "/"))
order = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=True))
base = ROOT / "cache/models" / order["--model"].replace("/", "--")
output = ROOT / "app/checkpoints" / order["--task-id"] / order["--expected-repo-name"]

shutil.copytree(base, output, dirs_exist_ok=True)
(output / "loss.txt").write_text("100,0.0123", encoding="utf-8")
print("step=100 total=100 loss=0.0123 seconds_left=1", flush=True)
