"""Hostile text_trainer: writes ten times 64 MiB, then ten thousand small files, and tells when it is stopped.

Run it with an output limit of 64 MiB.
"""

import os
import sys
from pathlib import Path

ROOT = Path(os.environ.get("CHAMPION_ROOT", "/"))
order = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=True))
base = ROOT / "cache/models" / order["--model"].replace("/", "--")
output = ROOT / "app/checkpoints" / order["--task-id"] / order["--expected-repo-name"]

LIMIT_BYTES = 64 << 20
FILES = 10_000
CHUNK = b"\xa5" * (1 << 20)

output.mkdir(parents=True, exist_ok=True)
written = 0
try:
    with (output / "model.safetensors").open("wb", buffering=0) as file:
        while written < 10 * LIMIT_BYTES:
            written += file.write(CHUNK)
except OSError as error:
    print(f"fill stopped_after_bytes={written} by={error.strerror}", flush=True)
else:
    print(f"fill written_bytes={written}", flush=True)
made = 0
try:
    for made in range(FILES):
        (output / f"{made}.txt").touch()
except OSError as error:
    print(f"fill stopped_after_files={made} by={error.strerror}", flush=True)
else:
    print(f"fill files={FILES}", flush=True)
