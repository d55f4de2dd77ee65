"""The device nodes that a process needs to use one GPU or one MIG slice, and which of them are not there.

What is covered: the nodes of the driver's own numbering, capability nodes of MIG slices.
What is not covered: making them. The driver's modules are loaded on the host, never from inside a sandbox.

Source: isolation of GPUs, MIG user guide ("Device nodes").
"""

import re
from dataclasses import dataclass
from pathlib import Path

# nvidia-uvm-tools too: drivers from 570 on open it and fail without.
SHARED_NODES = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools")
MIG_MINORS = "proc/driver/nvidia-caps/mig-minors"
MAX_MINORS_BYTES = 1 << 20
_MINOR_LINE = re.compile(r"(gpu\d{1,4}/gi\d{1,4}(?:/ci\d{1,4})?/access) (\d{1,9})")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceNodes:
    """Host paths in the order in which they are bound; `problem` says why they do not suffice, else None."""

    paths: tuple[str, ...]
    problem: str | None


def nodes_of_gpu(minor: int, *, root: Path = Path("/")) -> DeviceNodes:
    """The nodes of the whole GPU with that minor number."""
    return _checked((f"/dev/nvidia{minor}", *SHARED_NODES), root)


def nodes_of_slice(minor: int, *, gpu: int, compute: int, root: Path = Path("/")) -> DeviceNodes:
    """The nodes of one MIG slice: its GPU's, and the capabilities of its two instances (`gpu`, `compute`)."""
    wanted = (f"gpu{minor}/gi{gpu}/access", f"gpu{minor}/gi{gpu}/ci{compute}/access")
    try:
        minors = _read_minors(root / MIG_MINORS)
    except OSError as error:
        return DeviceNodes(paths=(), problem=f"/{MIG_MINORS} cannot be read: {error.strerror}")
    if missing := [name for name in wanted if name not in minors]:
        return DeviceNodes(paths=(), problem=f"/{MIG_MINORS} has no line for {', '.join(missing)}")
    capabilities = tuple(f"/dev/nvidia-caps/nvidia-cap{minors[name]}" for name in wanted)
    return _checked((f"/dev/nvidia{minor}", *SHARED_NODES, *capabilities), root)


def _checked(paths: tuple[str, ...], root: Path) -> DeviceNodes:
    missing = [path for path in paths if not (root / path.lstrip("/")).is_char_device()]
    problem = (
        f"no device node {', '.join(missing)}: load the driver's modules on the host" if missing else None
    )
    return DeviceNodes(paths=paths, problem=problem)


def _read_minors(path: Path) -> dict[str, int]:
    with path.open("rb") as file:
        text = file.read(MAX_MINORS_BYTES).decode("ascii", "replace")
    found = (_MINOR_LINE.fullmatch(line.strip()) for line in text.splitlines())
    return {line[1]: int(line[2]) for line in found if line}
