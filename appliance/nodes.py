"""Finds a place on the node for a run: memory, CPUs, disk and exactly the GPUs it needs, or why there is none."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from appliance.domain import Order, Run, RunState
from appliance.errors import ApplianceError, InvalidOrderError
from appliance.room import Room
from appliance.sizing import Size, Wish, cpus, gib, size_for
from appliance.store.reservations import Reservation
from appliance.waiting import Capacity, earlier, why_waiting
from runner.contract.parameters import count_parameters
from runner.contract.tasks import TaskType
from runner.errors import RunnerError
from runner.inventory.units import Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a run goes: what it gets, and why that much."""

    reservation: Reservation
    size: Size


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortage:
    """Why there is no place for a run now, in one sentence."""

    why: str


def find_place(
    run: Run,
    others: tuple[Run, ...],
    held: tuple[Reservation, ...],
    *,
    capacity: Capacity,
    free_bytes: int,
    model_folder: Callable[[str], Path],
) -> Place | Shortage:
    """The place for `run`, whose turn it is, beside what is `held`; `model_folder` knows base models by digest.

    What the run was granted before a crash it keeps, if that is still to be had.
    Runs that want GPUs are placed in the order in which they were submitted: else many small ones would keep
    a large one waiting for ever. Raises RunnerError for weights that cannot be counted, OSError.
    """
    room = capacity.node.room()

    def size_of(one: Run) -> Size:
        return size_of_order(one.order, room=room, capacity=capacity, model_folder=model_folder)

    size = size_of(run)
    if size.gpus and (first := _first_that_could(earlier(run, others), room, size_of)) is not None:
        return Shortage(why=f"{first.id} was submitted earlier and waits for GPUs, too")
    rivals = tuple(one for one in held if one.run_id != run.id)
    own = next((one for one in held if one.run_id == run.id), None)
    taken = _take(run.id, size, room, rivals, free_bytes=free_bytes, had=() if own is None else own.gpus)
    return taken if isinstance(taken, Shortage) else Place(reservation=taken, size=size)


def shortage(size: Size, held: tuple[Reservation, ...], *, room: Room, free_bytes: int) -> str | None:
    """Why a run of that size would not be placed beside what is `held`; None if there is a place for it."""
    taken = _take("", size, room, held, free_bytes=free_bytes, had=())
    return taken.why if isinstance(taken, Shortage) else None


def waits_for(
    run: Run,
    others: tuple[Run, ...],
    held: tuple[Reservation, ...],
    *,
    capacity: Capacity,
    free_bytes: int,
    model_folder: Callable[[str], Path],
) -> str | None:
    """What `run` waits for, turn or place, in one sentence for people; None if nothing stands in its way."""
    if run.state is not RunState.SUBMITTED:
        return None
    if (turn := why_waiting(run, others, capacity=capacity, free_bytes=free_bytes)) is not None:
        return turn
    try:
        found = find_place(
            run, others, held, capacity=capacity, free_bytes=free_bytes, model_folder=model_folder
        )
    except (ApplianceError, RunnerError, OSError) as error:
        return f"what it needs cannot be told: {error}"
    return found.why if isinstance(found, Shortage) else None


def size_of_order(
    order: Order, *, room: Room, capacity: Capacity, model_folder: Callable[[str], Path]
) -> Size:
    """What a run of that order gets. Raises InvalidOrderError for a task type that nobody knows."""
    try:
        task = TaskType(order.task_type)
    except ValueError as error:
        raise InvalidOrderError(f"no task type {order.task_type!r}", checked="task_type") from error
    wish = Wish(
        task=task,
        parameters=lambda: count_parameters(model_folder(order.base_model)),
        gpus=capacity.gpus_per_run,
        driver=None if order.walls is None else order.walls.driver,
    )
    return size_for(wish, room=room, places=capacity.max_parallel_runs, disk_bytes=capacity.needed_free_bytes)


def place_detail(place: Place) -> dict[str, str | int]:
    """A reservation as the log entry of the placing has it; GPUs by UUID, in the guest's order."""
    held = place.reservation
    return {
        "gpus": " ".join(held.gpus),
        "memory_bytes": held.memory_bytes,
        "cpu_millis": held.cpu_millis,
        "shm_bytes": held.shm_bytes,
        "disk_bytes": held.disk_bytes,
        "why": place.size.why,
    }


def _first_that_could(ahead: tuple[Run, ...], room: Room, size_of: Callable[[Run], Size]) -> Run | None:
    """The first run before this one that waits for GPUs which this node has; one that never fits holds up nobody."""
    for run in ahead:
        try:
            size = size_of(run)
        except (ApplianceError, RunnerError):
            continue  # its own turn will tell
        if size.gpus and _choose(size, _fitting(size, room.units)) is not None:
            return run
    return None


def _take(
    run_id: str,
    size: Size,
    room: Room,
    held: tuple[Reservation, ...],
    *,
    free_bytes: int,
    had: tuple[str, ...],
) -> Reservation | Shortage:
    holders = {uuid: one.run_id for one in held for uuid in one.gpus}
    free_units = _fitting(size, tuple(u for u in room.units if u.uuid not in holders and u.refusal is None))
    kept = tuple(u for uuid in had for u in free_units if u.uuid == uuid)
    chosen = kept if len(kept) == size.gpus else _choose(size, free_units)
    if chosen is None:
        return Shortage(why=_why_no_gpus(size, room, holders))
    for what, wanted, there, taken, told in (
        ("of memory", size.memory_bytes, room.memory_bytes, sum(h.memory_bytes for h in held), gib),
        ("CPUs", size.cpu_millis, room.cpu_millis, sum(h.cpu_millis for h in held), cpus),
        ("of disk", size.disk_bytes, free_bytes, sum(h.disk_bytes for h in held), gib),
    ):
        if wanted > there - taken:
            by = ", ".join(one.run_id for one in held) or "nobody"
            free = told(max(0, there - taken))
            return Shortage(why=f"needs {told(wanted)} {what}, {free} free; the rest is reserved by {by}")
    return Reservation(
        run_id=run_id,
        memory_bytes=size.memory_bytes,
        cpu_millis=size.cpu_millis,
        shm_bytes=size.shm_bytes,
        disk_bytes=size.disk_bytes,
        gpus=tuple(unit.uuid for unit in chosen),
    )


def _fitting(size: Size, units: tuple[Unit, ...]) -> tuple[Unit, ...]:
    """Those that are large enough and of a kind that will do."""
    return tuple(
        u for u in units if u.memory_bytes >= size.gpu_memory_bytes and (size.takes_slices or not u.is_slice)
    )


def _choose(size: Size, units: tuple[Unit, ...]) -> tuple[Unit, ...] | None:
    """Exactly so many, all of one product, the smallest product that does; None if there are not so many."""
    if size.gpus == 0:
        return ()

    def product(unit: Unit) -> tuple[int, str]:
        return unit.memory_bytes, unit.product

    for _, same in groupby(sorted(units, key=product), key=product):
        equal = tuple(same)
        if len(equal) >= size.gpus:
            return equal[: size.gpus]
    return None


def _why_no_gpus(size: Size, room: Room, holders: Mapping[str, str]) -> str:
    each = (
        f" with {gib(size.gpu_memory_bytes)}{' each' if size.gpus > 1 else ''}"
        if size.gpu_memory_bytes
        else ""
    )
    fitting = _fitting(size, room.units)
    free = [u for u in fitting if u.uuid not in holders and u.refusal is None]
    told = f"needs {size.gpus} {'equal GPUs' if size.gpus > 1 else 'GPU'}{each}, {len(free)} free"
    reasons = [f"{holders[u.uuid]} holds {u.uuid}" for u in fitting if u.uuid in holders]
    reasons += [f"{u.uuid}: {u.refusal}" for u in fitting if u.uuid not in holders and u.refusal]
    if _choose(size, fitting) is None:
        too_few = len(fitting) < size.gpus
        most = f"more than {len(fitting)} such" if too_few else "so many of one product"
        reasons.insert(0, f"this node never has {most}")
    if not room.units and room.no_gpus is not None:
        reasons = [room.no_gpus]
    return "; ".join((told, *reasons))
