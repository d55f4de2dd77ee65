"""What is left of a sandbox that should have left nothing.

What is covered: members and folders of its control group, loop devices with its label or its images, image
files in its job folder, mounts that name it in our own namespace.
What is not covered: what a driver keeps elsewhere under another name; drivers keep their state in the
holder's own mount namespace, which is gone with it.
"""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

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
