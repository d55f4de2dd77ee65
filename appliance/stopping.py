"""What a hold or a revocation does to the runs that a champion has, inside its transaction.

A run that was only submitted has no job and fails at once. One that was placed may have one, so it is marked
for the worker, which ends the job first. One whose claims are signed goes on: they cannot be unsigned.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from appliance.domain import Run, RunState
from appliance.store import runs


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """Ids of the runs that failed, and of those that the worker has to end."""

    failed: tuple[str, ...]
    cancelling: tuple[str, ...]


def stop_runs(
    connection: Connection,
    manifests: Collection[str],
    *,
    actor: str,
    why: str,
    now: datetime,
    is_started_too: bool = False,
) -> Stopped:
    """Fail what is queued with those champions, for the reason `why`; ask for the end of what started if told."""
    mine = [run for run in runs.unfinished(connection) if run.order.champion in manifests]
    failed = [run for run in mine if run.state is RunState.SUBMITTED]
    started = [run for run in mine if is_started_too and _is_to_end(run)]
    for run in failed:
        runs.move(connection, run, RunState.FAILED, now=now, detail={"reason": why}, reason=why)
    for run in started:
        runs.request_cancel(connection, run.id, actor=actor, now=now, why=why)
    return Stopped(failed=tuple(run.id for run in failed), cancelling=tuple(run.id for run in started))


def _is_to_end(run: Run) -> bool:
    return (
        run.state is not RunState.SUBMITTED and run.state.is_cancellable and run.cancel_requested_by is None
    )
