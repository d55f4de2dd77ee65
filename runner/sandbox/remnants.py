"""What is left of a sandbox that should have left nothing.

What is covered: members and folders of its control group, loop devices with its label or its images, image
files in its job folder, mounts that name it in our own namespace.
What is not covered: what a driver keeps elsewhere under another name; drivers keep their state in the
holder's own mount namespace, which is gone with it.
"""

import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

DEADLINE_S = 10.0
PAUSE_S = 0.02
IMAGES = ("output.img", "root.img")


def find_remnants(
    name: str, *, job_dir: Path, parents: Mapping[str, Path], blocks: Path = Path("/sys/block")
) -> tuple[str, ...]:
    """What of the sandbox `name` is still there, one line each; empty after an orderly end."""
    found = [f"control group {folder}" for folder in _groups(name, parents)]
    found += [f"loop device {device} holds {file}" for device, file in _loops(blocks, job_dir)]
    found += [f"image file {job_dir / image}" for image in IMAGES if (job_dir / image).exists()]
    with suppress(OSError):
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        found += [f"mount {line.split(' ')[4]}" for line in lines if str(job_dir) in line.split(" ")[4]]
    return tuple(found)


def await_none(name: str, *, job_dir: Path, parents: Mapping[str, Path]) -> tuple[str, ...]:
    """`find_remnants` once there are none, or when the deadline has passed.

    The kernel takes mounts and loop devices apart some time after the last process has ended.
    """
    deadline = time.monotonic() + DEADLINE_S
    while found := find_remnants(name, job_dir=job_dir, parents=parents):
        if time.monotonic() > deadline:
            break
        time.sleep(PAUSE_S)
    return found


def _groups(name: str, parents: Mapping[str, Path]) -> list[Path]:
    folders = {p / name for p in (*parents.values(), *(p.parent for p in parents.values()))}
    return sorted(folder for folder in folders if folder.is_dir())


def _loops(blocks: Path, job_dir: Path) -> list[tuple[str, str]]:
    found = []
    for device in sorted(blocks.glob("loop*")):
        with suppress(OSError):
            file = (device / "loop" / "backing_file").read_text().strip()
            if file.removesuffix(" (deleted)").startswith(f"{job_dir}/"):
                found.append((device.name, file))
    return found
