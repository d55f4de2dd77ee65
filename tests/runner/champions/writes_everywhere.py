"""Writes where real champions were seen to write: all over its root file system, not only to its output."""

import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

from contract import read, save, say

told = read()
FOLDERS = (
    "/workspace/scripts/datasets", "/workspace/scripts/soutputs", "/workspace/axolotl/data",
    "/workspace/axolotl/data_prepared", "/workspace/axolotl/configs", "/workspace/axolotl/outputs",
    "/workspace/axolotl/src", "/workspace/input_data", "/workspace/data/trained_model", "/dataset/configs",
    "/dataset/images", "/dataset/outputs", "core/dataset/images/tmp", "~/.cache/huggingface",
    "~/.triton/cache", "/etc/ours.d", "/var/lib/redis", "/var/log", "/opt/ours",
    "/srv/ours", "/ours", "/tmp/ours", tempfile.gettempdir(), "/dev/shm", "/run/ours",
)  # fmt: skip

failed = []
for folder in FOLDERS:
    try:
        place = Path(folder).expanduser()
        place.mkdir(parents=True, exist_ok=True)
        (place / "written").write_text("x")
    except OSError as error:
        failed.append(f"{folder}: {error.strerror}")
say("failed", failed)

# Its own scripts and the train file's copy, as stock scripts do; a file of the system.
own = Path(__file__)
own.write_text(own.read_text() + "# changed\n")
say("own-script", own.read_text().endswith("# changed\n"))
(own.parent / "contract.py").unlink()
say("deleted", not (own.parent / "contract.py").exists())
shutil.copy(told.data, "/workspace/axolotl/data")
shutil.copy(told.data, "/workspace/axolotl")
Path("/etc/hosts").write_text(Path("/etc/hosts").read_text() + "127.0.0.1 me\n")
say("hosts", "127.0.0.1 me" in Path("/etc/hosts").read_text())

# Compilers' caches: what is written is loaded and executed.
for folder in ("/tmp/ours", "~/.triton/cache", "/workspace/scripts"):
    program = Path(folder, "compiled").expanduser()
    program.write_text("#!/bin/sh\necho ran\n")
    program.chmod(0o755)
    say(f"execute-{folder}", subprocess.run([program], capture_output=True, check=False).stdout.strip())
say("mode", stat.filemode(Path("/tmp").stat().st_mode))
save(told)
