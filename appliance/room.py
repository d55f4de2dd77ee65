"""What this node has to share out among runs: GPUs, CPUs, memory; read again every few seconds."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Generic, Protocol, TypeVar

from appliance.errors import HomeError
from runner.inventory.gpus import GpuInventory, read_gpus
from runner.inventory.host import read_disk, read_host
from runner.inventory.node import Node, read_node
from runner.inventory.nvml import real_nvml
from runner.inventory.port import Nvml
from runner.inventory.units import Unit, units

T = TypeVar("T")

ROOM_AGE_S: Final = 5.0  # opening NVML takes up to a second where no other program holds the driver
NODE_AGE_S: Final = 30.0  # each container runtime is started to ask for its version
# Of the memory, for the system, the API and the worker: a sixteenth, and at least this much.
KEPT_MEMORY_BYTES: Final = 1 << 30
KEPT_MEMORY_PART: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """All that can be reserved on a node, whoever has it now. `no_gpus` says why there are none, if so."""

    cpu_millis: int  # thousandths of a CPU
    memory_bytes: int
    units: tuple[Unit, ...] = ()
    no_gpus: str | None = None


class NodeSource(Protocol):
    """Where the facts of the node come from."""

    def room(self) -> Room:
        """What there is to share out, at most some seconds old. Raises HomeError if it cannot be read."""

    def gpus(self) -> GpuInventory:
        """The GPUs as they are at this moment."""

    def node(self, folder: Path) -> Node:
        """Everything that is known of it, at most half a minute old; the disk is `folder`'s. Raises HomeError."""


class ThisNode:
    """The machine that this process runs on."""

    def __init__(self, nvml: Nvml | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing is read before it is asked for."""
        self._nvml = driver = nvml or real_nvml()
        self._room = _Kept(lambda: read_room(driver), max_age_s=ROOM_AGE_S, clock=clock)
        self._node = _Kept(lambda: read_node(Path("/"), nvml=driver), max_age_s=NODE_AGE_S, clock=clock)

    def room(self) -> Room:
        """See the port."""
        with _told():
            return self._room.value()

    def gpus(self) -> GpuInventory:
        """See the port."""
        return read_gpus(self._nvml)

    def node(self, folder: Path) -> Node:
        """See the port."""
        with _told():
            return replace(self._node.value(), disk=read_disk(folder))


def read_room(nvml: Nvml) -> Room:
    """What this machine has to share out now. Raises OSError."""
    host, gpus = read_host(), read_gpus(nvml)
    kept = max(KEPT_MEMORY_BYTES, host.memory_bytes // KEPT_MEMORY_PART)
    found = units(gpus)
    usable = tuple(unit for unit in found if not unit.is_too_old)
    return Room(
        cpu_millis=host.cpus * 1000,
        memory_bytes=max(0, host.memory_bytes - kept),
        units=usable,
        no_gpus=gpus.reason or _why_none(found, usable),
    )


def _why_none(found: tuple[Unit, ...], usable: tuple[Unit, ...]) -> str | None:
    if usable:
        return None
    return "no GPUs that champions can use: " + "; ".join(f"{unit.uuid}: {unit.refusal}" for unit in found)


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise HomeError(f"this node cannot be read: {error}") from error


class _Kept(Generic[T]):
    """A value that is read again when it is too old. Two threads may read it twice, which does no harm."""

    def __init__(self, read: Callable[[], T], *, max_age_s: float, clock: Callable[[], float]) -> None:
        self._read = read
        self._max_age_s = max_age_s
        self._clock = clock
        self._last: tuple[float, T] | None = None

    def value(self) -> T:
        now = self._clock()
        last = self._last
        if last is None or now - last[0] >= self._max_age_s:
            self._last = last = (now, self._read())
        return last[1]
