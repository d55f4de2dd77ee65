"""The drivers by name: what `SandboxSpec.driver` may say."""

from collections.abc import Callable, Mapping

from runner.errors import SandboxUnavailableError
from runner.sandbox.bubblewrap import BubblewrapWalls
from runner.sandbox.gvisor import GvisorWalls
from runner.sandbox.held import HeldSandbox
from runner.sandbox.oci import OciWalls
from runner.sandbox.walls import Walls

DRIVERS: Mapping[str, Callable[[], Walls]] = {
    "bubblewrap": BubblewrapWalls,
    "oci": OciWalls,
    "gvisor": GvisorWalls,
}


def sandbox_of(driver: str) -> HeldSandbox:
    """The sandbox of that driver, and of no other.

    Raises SandboxUnavailableError for a name that is not a driver's.
    """
    if driver not in DRIVERS:
        known = ", ".join(DRIVERS)
        raise SandboxUnavailableError(f"there is no sandbox driver {driver!r}; known are {known}")
    return HeldSandbox(DRIVERS[driver]())
