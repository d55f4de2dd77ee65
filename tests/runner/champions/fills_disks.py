"""Fills its output and its root file system until they are full, notices, makes room, and saves."""

import os
from pathlib import Path

from contract import read, save, say

MIB = b"\x01" * (1 << 20)
told = read()
told.leaf.mkdir(parents=True)


def fill(path: Path) -> str:
    """What the system said, and how many MiB fitted."""
    written = 0
    try:
        with path.open("wb", buffering=0) as file:
            while written < 1024:
                file.write(MIB)
                written += 1
                os.fsync(file.fileno())
    except OSError as error:
        return f"{error.strerror} after {written}"
    finally:
        path.unlink()
    return f"never full after {written}"


def flood(folder: Path) -> str:
    """The same for files without content."""
    folder.mkdir(parents=True)
    made = 0
    try:
        while made < 100_000:
            (folder / str(made)).touch()
            made += 1
    except OSError as error:
        return f"{error.strerror} after {made}"
    finally:
        for name in range(made):
            (folder / str(name)).unlink()
        folder.rmdir()
    return f"never full after {made}"


say("output", fill(told.leaf / "optimizer.pt"))
say("output-files", flood(told.leaf / "many"))
say("root", fill(Path("/workspace/scripts/big")))
say("root-files", flood(Path("/workspace/scripts/many")))
for name in ("/tmp", "/dev/shm"):
    say(name, fill(Path(name, "big")))
save(told)
