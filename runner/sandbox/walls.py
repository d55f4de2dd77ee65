"""The port behind which the ways to put up walls stand: bubblewrap, podman, gVisor.

The holder of a sandbox does everything that they have in common: it stages the root, makes the control group,
watches the guest, kills, harvests. Walls only start and measure; what they note lies in the stage, which is gone with
the holder, so that nothing has to be cleared after a kill.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from runner.sandbox import cgroup
from runner.sandbox.identity import Identity
from runner.spec import SandboxSpec

# Facts for the isolation claim: strings, integers, booleans, lists and objects; no floats.
Facts = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What the holder has made for one guest, in its own mount namespace.

    Below `root` everything that the guest sees is mounted, flags included, the output too; walls add /proc,
    /dev, /dev/shm of `limits.shm_bytes`, and for a strict guest /tmp of `limits.tmp_bytes`. `/busybox-gate` is a
    static program, see `runner.sandbox.gate`.
    """

    spec: SandboxSpec
    name: str  # unique on this host; of the control group, and of whatever else has to have a name
    root: str
    scratch: Path  # an empty folder of ours, mode 0700, gone with the holder
    identity: Identity
    group: cgroup.Group
    program: bytes  # the system-call filter as BPF
    command: tuple[str, ...]  # what the gate is started with: program, script, arguments
    environment: Mapping[str, str]  # every variable that the guest sees
    # Inside → the flags that each mount below `root` has, and the size of those that have a quota.
    mounts: tuple["StagedMount", ...] = ()

    @property
    def guest_id(self) -> int:
        """The user and group id inside."""
        return guest_id(self.spec)


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedMount:
    """One mount below the root, as it must be found again inside."""

    target: str
    writable: bool
    size_bytes: int | None = None  # of a writable one: its quota
    inodes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """Process ids on the host, and our ends of the pipes. The guest waits at its gate."""

    child: int  # ours to wait for: when it has ended, with the guest's exit code, so has the guest
    first: (
        int  # what is to be killed to end all the rest: process 1 of the guest's pid namespace, or a kernel
    )
    first_start_time: int | None
    gate: int  # the process to measure
    release: int  # the gate's words are written here; closing it ends the guest
    output: int  # the guest's stdout and stderr, from the gate's report on
    walls: frozenset[int] = field(
        default_factory=frozenset
    )  # never sent SIGTERM: they would end before the guest


class Walls(Protocol):
    """One way to put up walls.

    All methods but `check` and `version` are called in the holder, a single-threaded fork.
    """

    @property
    def name(self) -> str:
        """As in `SandboxSpec.driver` and in the isolation claim."""

    @property
    def mounts_late(self) -> bool:
        """Whether inputs can be mounted after the walls were measured."""

    def check(self) -> str:
        """The version, if this host can give the isolation.

        Raises SandboxUnavailableError with the reason and the fix.
        """

    def version(self) -> str:
        """The version alone, where `start` finds by itself what else is missing. Raises as `check`."""

    def start(self, stage: Stage) -> Started:
        """Start the guest up to its gate, inside `stage.group` and with `stage.identity`'s ids outside.

        Raises SandboxUnavailableError with the program's own words; then nothing of it is left running.
        """

    def input_root(self, started: Started, stage: Stage) -> tuple[int, str]:
        """Where inputs can still be mounted: a process in the guest's mount namespace, and the guest's `/` there.

        Only called where `mounts_late`.
        """

    def measure(self, started: Started, stage: Stage) -> Facts:
        """What the walls are, from outside. Takes what was asked from `stage` only to say what was found."""

    def violations(self, facts: Facts, stage: Stage) -> tuple[str, ...]:
        """Every way in which `facts` are weaker than asked; empty when none is."""

    def unenforced(self, facts: Facts, stage: Stage) -> tuple[str, ...]:
        """What this driver or host leaves unenforced or unseen; no violation, but told in the claim."""

    def ask_to_end(self, started: Started, stage: Stage) -> None:
        """Send SIGTERM to the guest's processes, and none to the walls'. Does not wait."""


def guest_id(spec: SandboxSpec) -> int:
    """The user and group id inside: 0 for a champion, as upstream; powerless outside in any case."""
    return 0 if spec.profile == "champion" else 1000
