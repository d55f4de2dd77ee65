"""What runs have of the node for themselves. A reservation ends by its run's state alone.

It is written with the move that places its run, and counts until the move that ends the run's jobs is
written, by whoever: nobody can forget it. The pipeline removes its rows with that move; rows that were left
behind otherwise reserve nothing and go with the next reservation that is made.
"""

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Select, delete, insert, select
from sqlalchemy.exc import IntegrityError

from appliance.domain import RunState
from appliance.errors import StaleRunError
from appliance.store.tables import gpu_grant, reservation
from appliance.store.tables import run as run_table
from appliance.waiting import OCCUPYING

# SUBMITTED: it is about to be placed.
_RESERVING: Final = (RunState.SUBMITTED, *OCCUPYING)
_AMOUNTS: Final = ("memory_bytes", "cpu_millis", "shm_bytes", "disk_bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """What one run has for itself. `gpus` are UUIDs, the first of them the guest's GPU 0."""

    run_id: str
    memory_bytes: int
    cpu_millis: int
    shm_bytes: int
    disk_bytes: int
    gpus: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserving:
    """A reservation that is to be written, and beside what it was found to fit."""

    wanted: Reservation
    seen: tuple[Reservation, ...]


def reserve(conn: Connection, wanted: Reservation, *, seen: tuple[Reservation, ...]) -> None:
    """Write a reservation that was found to fit beside what was `seen`; one that the run has already is replaced.

    Must share the transaction of the move that places the run, and come after it.
    Raises StaleRunError if reservations are others by now, or one of the GPUs is granted: nothing may be
    written then, and the run is looked at again.
    """
    if list_held(conn) != seen:
        raise _stale(wanted, "other reservations were made or ended meanwhile")
    remove_ended(conn)
    for table in (gpu_grant, reservation):
        conn.execute(delete(table).where(table.c.run_id == wanted.run_id))
    amounts = {name: getattr(wanted, name) for name in _AMOUNTS}
    conn.execute(insert(reservation).values(run_id=wanted.run_id, **amounts))
    rows = [
        {"uuid": uuid, "run_id": wanted.run_id, "ordinal": ordinal}
        for ordinal, uuid in enumerate(wanted.gpus)
    ]
    try:
        if rows:
            conn.execute(insert(gpu_grant), rows)
    except IntegrityError as error:
        raise _stale(wanted, f"one of {', '.join(wanted.gpus)} is granted already") from error


def remove_ended(conn: Connection) -> None:
    """Remove the rows that count no more."""
    for table in (gpu_grant, reservation):
        conn.execute(delete(table).where(table.c.run_id.not_in(_reserving())))


def list_held(conn: Connection) -> tuple[Reservation, ...]:
    """The reservations that count, by run."""
    grants: dict[str, list[str]] = {}
    for row in conn.execute(select(gpu_grant).order_by(gpu_grant.c.run_id, gpu_grant.c.ordinal)):
        grants.setdefault(row.run_id, []).append(row.uuid)
    query = select(reservation).where(reservation.c.run_id.in_(_reserving()))
    rows = conn.execute(query.order_by(reservation.c.run_id))
    return tuple(Reservation(**row._asdict(), gpus=tuple(grants.get(row.run_id, ()))) for row in rows)


def held_by(conn: Connection, run_id: str) -> Reservation | None:
    """What that run has; None before it is placed, after its jobs, and for runs placed by an older Assay."""
    return next((held for held in list_held(conn) if held.run_id == run_id), None)


def granted(conn: Connection, run_id: str) -> tuple[str, ...]:
    """The UUIDs of the GPUs that this run may use now, the first of them its GPU 0; none for a run without."""
    held = held_by(conn, run_id)
    return () if held is None else held.gpus


def _reserving() -> Select[Any]:  # Any: one column of text
    return select(run_table.c.id).where(run_table.c.state.in_(_RESERVING))


def _stale(wanted: Reservation, why: str) -> StaleRunError:
    return StaleRunError(
        f"run {wanted.run_id} cannot be placed as was decided: {why}",
        checked="reservations",
        wanted="the same as when it was decided",
    )
