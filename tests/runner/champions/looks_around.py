"""Tells what it finds: arguments, user, clock, environment, what is read-only, what the network answers."""

import errno
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from contract import CACHE, CHECKPOINTS, read, say

told = read()


def error_of(act: Callable[[], object]) -> str:
    try:
        act()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return "done"


def connect() -> None:
    with socket.socket() as talk:
        talk.settimeout(60)
        talk.connect(("192.0.2.1", 443))  # RFC 5737


say("hours", told.hours)
say("nulls", sorted(name for name, value in told.dataset_type.items() if value is None))
say("ids", (os.getuid(), os.geteuid(), os.getgid()))
say("home", Path.home())
say("folder", Path.cwd())
say("clock", (time.tzname[0], time.timezone))
say("leaf", told.leaf.exists())
say("parent", told.leaf.parent.is_dir())
say("environment", ",".join(sorted(os.environ)))
say("stdin", os.read(0, 1))

for name, path in (("data", told.data), ("weights", told.base / "model.safetensors")):
    say(f"open-{name}", error_of(lambda path=path: path.open("r+b")))
say("write-cache", error_of(lambda: (CACHE / "mine").write_text("x")))
say("remove-data", error_of(told.data.unlink))
say("write-checkpoints", error_of(lambda: (CHECKPOINTS / "mine").write_text("x")))
say("cache", sorted(str(path.relative_to(CACHE)) for path in CACHE.rglob("*") if path.is_file()))

started = time.monotonic()
say("connect", error_of(connect))
say("resolve", error_of(lambda: socket.getaddrinfo("example.invalid", 443)))
say("network-ms", round(1000 * (time.monotonic() - started)))
say("chown", error_of(lambda: os.chown(__file__, 1234, 1234)))

started = time.monotonic()
pip = subprocess.run(
    [sys.executable, "-m", "pip", "install", "--target", str(Path.home() / "extra"), "no-such-package-here"],
    capture_output=True, check=False,
)  # fmt: skip
say("pip", pip.returncode)
say("pip-ms", round(1000 * (time.monotonic() - started)))
