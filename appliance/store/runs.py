"""Runs: submitted once per key, moved by compare-and-swap, each move with its audit event."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, and_, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from appliance.domain import LEGAL_MOVES, ChosenWalls, Classification, Order, Run, RunState
from appliance.errors import ConflictError, NotFoundError, StaleRunError
from appliance.store.tables import run as run_table
from appliance.store.tables import run_walls
from audit.event import APPLIANCE, Event, EventKind
from audit.store import enqueue

EVENT_OF_STATE: Final[Mapping[RunState, EventKind]] = {
    RunState.SUBMITTED: EventKind.RUN_SUBMITTED,
    RunState.PLACED: EventKind.RUN_PLACED,
    RunState.RUNNING: EventKind.RUN_STARTED,
    RunState.HARVESTED: EventKind.RUN_HARVESTED,
    RunState.EVALUATED: EventKind.RUN_EVALUATED,
    RunState.ATTESTED: EventKind.RUN_ATTESTED,
    RunState.LOGGED: EventKind.RUN_LOGGED,
    RunState.FAILED: EventKind.RUN_FAILED,
    RunState.CANCELLED: EventKind.RUN_CANCELLED,
}

_ORDER_COLUMNS: Final = ("champion", "base_model", "dataset", "hours_to_complete", "task_type")
_CANCELLABLE: Final = tuple(state for state in RunState if state.is_cancellable)
_UNFINISHED: Final = tuple(state for state in RunState if not state.is_final)


def submit(
    conn: Connection, order: Order, *, run_id: str, actor: str, idempotency_key: str | None, now: datetime
) -> Run:
    """The run for `order`: new under `run_id`, or the one that `actor` submitted with the same key before.

    Raises ConflictError if that key was used for another order.
    """
    row = {name: getattr(order, name) for name in _ORDER_COLUMNS} | {
        "id": run_id,
        "state": RunState.SUBMITTED,
        "version": 0,
        "submitted_by": actor,
        "submitted_at": now,
        "updated_at": now,
        "idempotency_key": idempotency_key,
    }
    try:
        with conn.begin_nested():  # a refused insert must not spoil the caller's transaction
            conn.execute(insert(run_table).values(row))
            if order.walls is not None:
                walls = {"run_id": run_id, "asked": order.driver, **asdict(order.walls)}
                conn.execute(insert(run_walls).values(walls))
    except IntegrityError as error:
        known = submitted_before(conn, order, actor=actor, idempotency_key=idempotency_key)
        if known is None:
            raise ConflictError("a run of this id exists; ids are never used twice") from error
        return known
    detail = order_detail(order)
    enqueue(conn, Event(kind=EventKind.RUN_SUBMITTED, subject=run_id, actor=actor, at=now, detail=detail))
    return get(conn, run_id)


def submitted_before(
    conn: Connection, order: Order, *, actor: str, idempotency_key: str | None
) -> Run | None:
    """The run that `actor` submitted with that key, None if there is none.

    Raises ConflictError if it was for another order.
    """
    if idempotency_key is None:  # no claim to an earlier run; comparing would find every run without one
        return None
    same = and_(run_table.c.submitted_by == actor, run_table.c.idempotency_key == idempotency_key)
    row = conn.execute(_select_runs().where(same)).one_or_none()
    run = None if row is None else _run(row)
    if run is not None and _as_asked(run.order) != _as_asked(order):
        raise ConflictError(
            f"idempotency key {idempotency_key!r} was used for another order, run {run.id}",
            checked="idempotency key",
            found=f"an order that differs in {', '.join(_differences(run.order, order))}",
            wanted="the same order, or a new key",
        )
    return run


def order_detail(order: Order) -> dict[str, str]:
    """An order as the log entry of its submission has it."""
    detail = {name: str(getattr(order, name)) for name in _ORDER_COLUMNS}
    if order.walls is None:  # ordered before there was a choice
        return detail
    return detail | {
        "driver_asked": order.driver or "",
        "driver": order.walls.driver,
        "evaluation_driver": order.walls.evaluation_driver,
        "classification": order.walls.classification.value,
        "isolation_demand": order.walls.demand,
        "isolation_policy": order.walls.policy_sha256,
    }


def get(conn: Connection, run_id: str) -> Run:
    """The run `run_id`. Raises NotFoundError."""
    row = conn.execute(_select_runs().where(run_table.c.id == run_id)).one_or_none()
    if row is None:
        raise NotFoundError(f"no run {run_id}")
    return _run(row)


def list_runs(conn: Connection, *, limit: int, after: str | None = None) -> tuple[Run, ...]:
    """At most `limit` runs, newest first, starting behind the run `after`. Raises NotFoundError."""
    query = _select_runs().order_by(run_table.c.submitted_at.desc(), run_table.c.id.desc()).limit(limit)
    if after is not None:
        last = get(conn, after)
        same_time = and_(run_table.c.submitted_at == last.submitted_at, run_table.c.id < last.id)
        query = query.where(or_(run_table.c.submitted_at < last.submitted_at, same_time))
    return tuple(_run(row) for row in conn.execute(query))


def by_state(conn: Connection, *states: RunState) -> tuple[Run, ...]:
    """The runs in one of `states`, oldest first."""
    query = _select_runs().where(run_table.c.state.in_(states))
    return tuple(_run(row) for row in conn.execute(query.order_by(run_table.c.submitted_at, run_table.c.id)))


def unfinished(conn: Connection) -> tuple[Run, ...]:
    """The runs that still have a way to go, oldest first."""
    return by_state(conn, *_UNFINISHED)


def move(
    conn: Connection,
    run: Run,
    to: RunState,
    *,
    now: datetime,
    detail: Mapping[str, str | int] | None = None,
    reason: str | None = None,
    verdict: str | None = None,
    model: str | None = None,
    metrics: str | None = None,
) -> Run:
    """`run` moved on, with its event, if it still is as given; fields left out keep their value.

    Must be the first statement of the transaction. Raises StaleRunError if the run was moved or its
    cancellation was asked for since it was read. ValueError is a bug: there is no such move.
    """
    if to not in LEGAL_MOVES[run.state]:
        raise ValueError(f"run {run.id} cannot move from {run.state} to {to}")
    fields = {"reason": reason, "verdict": verdict, "model": model, "metrics": metrics}
    moved = _swap(
        conn,
        and_(run_table.c.id == run.id, run_table.c.state == run.state, run_table.c.version == run.version),
        {"state": to, "updated_at": now}
        | {name: value for name, value in fields.items() if value is not None},
    )
    if moved is None:
        raise StaleRunError(
            f"run {run.id} is no longer {run.state} at version {run.version}",
            checked="run state and version",
            wanted=f"{run.state} at version {run.version}",
        )
    actor = run.cancel_requested_by if to is RunState.CANCELLED else None
    _record(conn, EVENT_OF_STATE[to], moved, actor=actor or APPLIANCE, detail=detail)
    return moved


def request_cancel(
    conn: Connection, run_id: str, *, actor: str, now: datetime, why: str | None = None
) -> Run:
    """The run, cancelled at once if nothing was started, else marked for the worker to end it; `why`, if told.

    The mark counts as a move, so a step in flight cannot be applied past it. Asking again changes nothing.
    Raises NotFoundError, or ConflictError if it is too late.
    """
    is_this = run_table.c.id == run_id
    reason = why or f"cancelled by {actor} before it started"
    cancelled = _swap(
        conn,
        and_(is_this, run_table.c.state == RunState.SUBMITTED),
        {"state": RunState.CANCELLED, "updated_at": now, "cancel_requested_by": actor, "reason": reason},
    )
    if cancelled is not None:
        _record(conn, EventKind.RUN_CANCELLED, cancelled, actor=actor, detail={"reason": reason})
        return cancelled
    marked = _swap(
        conn,
        and_(is_this, run_table.c.state.in_(_CANCELLABLE), run_table.c.cancel_requested_by.is_(None)),
        {"updated_at": now, "cancel_requested_by": actor} | ({"reason": why} if why else {}),
    )
    if marked is not None:
        _record(conn, EventKind.RUN_CANCEL_REQUESTED, marked, actor=actor)
        return marked
    run = get(conn, run_id)
    if run.state is RunState.CANCELLED or run.state.is_cancellable:
        return run
    raise ConflictError(
        f"run {run_id} is {run.state} and cannot be cancelled any more",
        checked="run state",
        found=run.state,
        wanted=" or ".join(_CANCELLABLE),
    )


# Any: what SQLAlchemy calls a where clause and column values.
def _swap(conn: Connection, guard: Any, values: dict[str, Any]) -> Run | None:
    changed = update(run_table).where(guard).values(values | {"version": run_table.c.version + 1})
    row = conn.execute(changed.returning(run_table.c.id)).one_or_none()
    return None if row is None else get(conn, row.id)


def _record(
    conn: Connection, kind: EventKind, run: Run, *, actor: str, detail: Mapping[str, str | int] | None = None
) -> None:
    event = Event(kind=kind, subject=run.id, actor=actor, at=run.updated_at, detail=detail or {})
    enqueue(conn, event)


def _as_asked(order: Order) -> Order:
    """Without what policy made of it, which may have changed since: the same wish is the same order."""
    return replace(order, walls=None)


def _differences(one: Order, other: Order) -> list[str]:
    return [name for name in (*_ORDER_COLUMNS, "driver") if getattr(one, name) != getattr(other, name)]


def _select_runs() -> Select[Any]:
    walls = [column for column in run_walls.c if column is not run_walls.c.run_id]
    return select(run_table, *walls).join_from(run_table, run_walls, isouter=True)


# Any: rows of a Core select have no static column types.
def _run(row: Row[Any]) -> Run:
    return Run(
        id=row.id,
        order=Order(
            **{name: getattr(row, name) for name in _ORDER_COLUMNS}, driver=row.asked, walls=_walls(row)
        ),
        state=RunState(row.state),
        version=row.version,
        submitted_by=row.submitted_by,
        submitted_at=row.submitted_at,
        updated_at=row.updated_at,
        cancel_requested_by=row.cancel_requested_by,
        reason=row.reason,
        verdict=row.verdict,
        model=row.model,
        metrics=row.metrics,
    )


def _walls(row: Row[Any]) -> ChosenWalls | None:
    if row.driver is None:
        return None
    return ChosenWalls(
        classification=Classification(row.classification),
        driver=row.driver,
        evaluation_driver=row.evaluation_driver,
        demand=row.demand,
        policy_sha256=row.policy_sha256,
    )
