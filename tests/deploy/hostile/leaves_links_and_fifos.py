"""Hostile text_trainer: leaves links, a FIFO and a socket among its results, to be followed or waited for."""

import os
import socket
import sys
from pathlib import Path

ROOT = Path(os.environ.get("CHAMPION_ROOT", "/"))
order = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=True))
base = ROOT / "cache/models" / order["--model"].replace("/", "--")
output = ROOT / "app/checkpoints" / order["--task-id"] / order["--expected-repo-name"]

output.mkdir(parents=True, exist_ok=True)
(output / "adapter_model.safetensors").symlink_to("/etc/passwd")
(output / "adapter_config.json").symlink_to(base / "config.json")
(output / "everything").symlink_to("/")
(output / "loop").symlink_to("loop")
os.mkfifo(output / "loss.txt")
(output / "model.safetensors").touch()
os.link(output / "model.safetensors", output / "twin.safetensors")
os.chdir(output)  # the name of a socket must be short
socket.socket(socket.AF_UNIX).bind("socket")
