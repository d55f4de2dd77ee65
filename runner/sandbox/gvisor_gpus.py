"""Whether runsc can hand a guest its GPUs here, and what it has to be told for it.

What is covered: nvproxy knows exact versions of the driver and no slices of a GPU; anything else is refused.
What is not covered: nvproxy hands the guest's calls to the host's driver, whose flaws stay the guest's to find.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from runner.errors import SandboxUnavailableError
from runner.spec import Gpu

DRIVER_FILE = Path("/proc/driver/nvidia/version")
MAX_DRIVER_FILE_BYTES = 4096
_DRIVER = re.compile(r"NVRM version: .*?\b(\d+\.\d+(?:\.\d+)?)\b")
_SLICE_NODES = "/dev/nvidia-caps/"


def check_gpus(
    gpus: Sequence[Gpu], *, supported_drivers: Callable[[], str], driver_file: Path = DRIVER_FILE
) -> None:
    """Return if nvproxy can serve `gpus`; `supported_drivers` is the output of runsc's list.

    Raises SandboxUnavailableError with the reason and the fix.
    """
    if not gpus:
        return
    for gpu in gpus:
        if gpu.uuid.startswith("MIG-") or any(node.startswith(_SLICE_NODES) for node in gpu.nodes):
            raise SandboxUnavailableError(
                f"{gpu.uuid} is a slice of a GPU (MIG), which gVisor cannot serve; "
                "grant a whole GPU, or let the policy ask for another driver"
            )
    installed = _installed_driver(driver_file)
    known = supported_drivers().split()
    if installed not in known:
        raise SandboxUnavailableError(
            f"this runsc knows no NVIDIA driver {installed}; it knows {', '.join(known) or 'none'}: "
            "install one of these, or a runsc whose 'runsc nvproxy list-supported-drivers' names it"
        )


def _installed_driver(driver_file: Path) -> str:
    try:
        with driver_file.open("rb") as file:
            text = file.read(MAX_DRIVER_FILE_BYTES).decode(errors="replace")
    except OSError as error:
        raise SandboxUnavailableError(
            f"the NVIDIA driver does not tell its version in {driver_file}: {error.strerror}; load it"
        ) from error
    match = _DRIVER.search(text)
    if match is None:
        raise SandboxUnavailableError(f"{driver_file} does not tell a version: {text[:200]!r}")
    return match[1]
