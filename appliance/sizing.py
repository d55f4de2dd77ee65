"""What a run needs of a node: upstream's rule and defaults, what the operator says, and what the node has. Pure."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from appliance.room import Room
from runner.contract.resources import GpuNeed, Resources, cpu_resources, gpus_for, lowered, upstream_resources
from runner.contract.tasks import TaskType

WITHOUT_SLICES: Final = "gvisor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """What a run gets before it starts. `why` is about the GPUs; `lowered` says what upstream would grant more of."""

    gpus: int
    gpu_memory_bytes: int  # that each of them must have at least
    memory_bytes: int
    cpu_millis: int  # thousandths of a CPU
    shm_bytes: int
    disk_bytes: int
    why: str
    lowered: tuple[str, ...] = ()
    takes_slices: bool = True  # a MIG slice will do in place of a whole GPU


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is trained how. `parameters` counts the base model's; it is asked only where the number matters."""

    task: TaskType
    parameters: Callable[[], int]
    has_kl: bool = False
    gpus: int | None = None  # what the order or the operator says, against the rule
    driver: str | None = None  # what will stand around the champion, if that is decided


def size_for(wish: Wish, *, room: Room, places: int, disk_bytes: int) -> Size:
    """What such a run would get on a node with that `room`, which runs so many (`places`) at once at most.

    A run without GPUs gets its share of the places, a run with GPUs that of the GPUs: so all can be in use.
    Raises what `wish.parameters` raises.
    """
    need = _gpu_need(wish, room)
    if need.gpus:
        wanted = upstream_resources(gpus=need.gpus)
        part, of = need.gpus, max(need.gpus, len(room.units))
    else:
        wanted, part, of = cpu_resources(), 1, places
    got = lowered(
        wanted, memory_bytes=room.memory_bytes * part // of, cpu_millis=room.cpu_millis * part // of
    )
    return Size(
        gpus=need.gpus,
        gpu_memory_bytes=need.memory_each_bytes,
        memory_bytes=got.memory_bytes,
        cpu_millis=got.cpu_millis,
        shm_bytes=got.shm_bytes,
        disk_bytes=disk_bytes,
        why=need.why,
        lowered=_lowered(wanted, got),
        # CUDA shows a process one slice at most, and gVisor none.
        takes_slices=need.gpus == 1 and wish.driver != WITHOUT_SLICES,
    )


def _gpu_need(wish: Wish, room: Room) -> GpuNeed:
    if wish.gpus is not None:
        told = (
            f"{wish.gpus} GPU{'' if wish.gpus == 1 else 's'}, as was ordered or set, whatever the rule says"
        )
        return GpuNeed(gpus=wish.gpus, memory_each_bytes=0, why=told)
    if not room.units:
        return GpuNeed(
            gpus=0,
            memory_each_bytes=0,
            why=f"no GPU: {room.no_gpus or 'the node has none'}",
        )
    # An image task's rule needs no number, and its weights lie in folders of their own.
    parameters = 0 if wish.task is TaskType.IMAGE else wish.parameters()
    return gpus_for(wish.task, parameters=parameters, has_kl=wish.has_kl)


def _lowered(wanted: Resources, got: Resources) -> tuple[str, ...]:
    told = []
    if got.memory_bytes < wanted.memory_bytes:
        told.append(
            f"memory {gib(wanted.memory_bytes)} lowered to {gib(got.memory_bytes)}, its share of the node"
        )
    if got.cpu_millis < wanted.cpu_millis:
        told.append(
            f"CPUs {cpus(wanted.cpu_millis)} lowered to {cpus(got.cpu_millis)}, its share of the node"
        )
    if got.shm_bytes < wanted.shm_bytes:
        told.append(
            f"shared memory {gib(wanted.shm_bytes)} lowered to {gib(got.shm_bytes)}, half of the memory"
        )
    return tuple(told)


def gib(size_bytes: int) -> str:
    """The size for people: tenths of a GiB, rounded down so that it never says more than there is."""
    tenths = size_bytes * 10 >> 30
    return f"{tenths // 10}{f'.{tenths % 10}' if tenths % 10 else ''} GiB"


def cpus(millis: int) -> str:
    """Thousandths of a CPU as a number of CPUs."""
    return f"{millis / 1000:g}"
