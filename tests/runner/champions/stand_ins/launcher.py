"""Stands in for what needs a GPU (accelerate, torchrun, deepspeed, a training script): tells what it was given.

It prints its command line, the files that the command names, and what was prepared beside them; it trains nothing.
"""

import json
import sys
from pathlib import Path

words = sys.argv[1:]
print("LAUNCH " + json.dumps(words), flush=True)
for word in words:
    path = Path(word)
    if path.suffix in {".json", ".toml", ".yml", ".yaml"} and path.is_file():
        print("FILE " + json.dumps([word, path.read_text()]), flush=True)
for folder in ("datasets", "/workspace/axolotl/data", "/workspace/axolotl/src"):
    for path in sorted(Path(folder).glob("*")):
        rows = json.loads(path.read_text()) if path.suffix == ".json" else None
        if isinstance(rows, list):
            print("ROWS " + json.dumps([str(path), len(rows), sorted(rows[0]) if rows else []]), flush=True)
        elif path.suffix == ".py":
            print("SOURCE " + json.dumps([str(path), path.read_text()]), flush=True)
for picture in sorted(Path("/dataset/images").rglob("*")):
    if picture.is_file():
        print("IMAGE " + json.dumps(str(picture)), flush=True)
if "--output_dir" in words:  # champions take this file for the sign that training ended well
    output = Path(words[words.index("--output_dir") + 1])
    output.mkdir(parents=True, exist_ok=True)
    (output / "success.txt").write_text("ok")
