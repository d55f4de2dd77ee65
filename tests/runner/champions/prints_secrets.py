"""Prints whatever could hold a secret: its environment, every process's, mounts, files that keep passwords."""

import os
from pathlib import Path

from contract import read

read()
for name, value in os.environ.items():
    print(f"{name}={value}")
places = [*Path("/proc").glob("[0-9]*/environ"), *Path("/proc").glob("[0-9]*/cmdline")]
places += [Path("/proc/self/mountinfo"), Path("/etc/shadow"), Path("/etc/passwd"), Path("/etc/hosts")]
places += [Path.home() / ".netrc", Path.home() / ".cache/huggingface/token", Path("/run/secrets")]
places += [path for folder in ("/root", "/home", "/run") for path in Path(folder).rglob("*")]
for place in places:
    try:
        print(f"{place}: {place.read_bytes()!r}"[:4096])
    except OSError as error:
        print(f"{place}: {error.strerror}")
