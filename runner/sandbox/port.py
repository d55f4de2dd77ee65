"""The port behind which every isolation driver stands."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from runner.spec import Exit, SandboxSpec

# The isolation as measured from outside: JSON of strings, integers, booleans, lists and objects; no floats.
Isolation = Mapping[str, Any]


class Sandbox(Protocol):
    """Runs one guest behind walls and tells what the walls really were.

    Not promised: protection against a flaw of the kernel or of a GPU driver that host and guest share, or
    against root on the host.
    """

    @property
    def name(self) -> str:
        """The driver's name as it stands in the isolation claim, e.g. `bubblewrap`."""

    def check(self) -> None:
        """Return if this host can give the isolation.

        Raises SandboxUnavailableError with the reason and the fix.
        """

    def run(
        self,
        spec: SandboxSpec,
        *,
        job_dir: Path,
        on_measured: Callable[[Isolation], None],
        should_cancel: Callable[[], bool],
    ) -> Exit:
        """Run the guest to its end, harvest its output into `job_dir/harvest`, leave nothing behind.

        The guest's stdout and stderr go to `job_dir/stdout.log`, capped at `limits.log_bytes`. Before the
        guest's first instruction the walls are measured from outside and handed to `on_measured`; if they
        are weaker than asked the guest never runs and the reason is `refused`. `should_cancel` is asked a
        few times a second. The wall clock runs from the release of the guest.

        The harvest is complete or absent: it is built beside and renamed. It happens after every process
        of the guest is dead, whatever the reason of its end.

        Raises SandboxUnavailableError if the sandbox cannot be made, before the guest has run.
        """
