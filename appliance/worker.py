"""The worker: one process that takes every unfinished run one step further, again and again.

Kill it anywhere and start it again: runs go on where the database says they are, jobs that kept running
meanwhile are found by their name.
"""

import logging
import time
from collections.abc import Callable

from appliance.domain import Run
from appliance.errors import ApplianceError, StaleRunError
from appliance.pipeline import advance
from appliance.ports import Ports
from appliance.pruning import forget_harvest, forget_harvests
from appliance.store import runs
from appliance.sync_child import ScheduledSync
from attestation.errors import AttestationError
from audit.errors import AuditError
from runner.errors import RunnerError

log = logging.getLogger(__name__)

RETRY_AFTER_S = 5.0


def work(ports: Ports, *, poll_interval_s: float, should_stop: Callable[[], bool]) -> None:
    """Advance runs until `should_stop`. A step that this machine hinders is tried again later.

    Sources that are due are synced beside, in a process that nothing here waits for.
    At most one process per home may do this (`Home.worker_lock`).
    """
    ports.home.remove_unfinished()
    for job_id in ports.launcher.reconcile():
        log.warning("job=%s its agent died while nobody looked; it is settled as lost", job_id)
    forget_harvests(ports)
    scheduled = ScheduledSync(ports)
    try:
        _work(ports, scheduled, poll_interval_s=poll_interval_s, should_stop=should_stop)
    finally:
        scheduled.stop()


def sequence_pending(ports: Ports) -> None:
    """Put what waits in the outbox into the log; a failure is told and tried again with the next round."""
    try:
        ports.log.sequence(ports.clock.now())
    except (ApplianceError, AttestationError, AuditError, OSError) as error:
        log.error("audit log cannot be extended, will be tried again: %s", error)


def _work(
    ports: Ports, scheduled: ScheduledSync, *, poll_interval_s: float, should_stop: Callable[[], bool]
) -> None:
    retry_at: dict[str, float] = {}
    while not should_stop():
        moved = False
        for run in _unfinished(ports):
            if time.monotonic() < retry_at.get(run.id, 0.0):
                continue
            try:
                moved = _advance_logged(run, ports) or moved
            except (ApplianceError, RunnerError, AttestationError, AuditError, OSError) as error:
                log.error("run=%s state=%s cannot go on, will be tried again: %s", run.id, run.state, error)
                retry_at[run.id] = time.monotonic() + RETRY_AFTER_S
        sequence_pending(ports)
        scheduled.tend()
        if not moved:
            time.sleep(poll_interval_s)


def _advance_logged(run: Run, ports: Ports) -> bool:
    try:
        moved = advance(run, ports)
    except StaleRunError:
        return True  # a cancellation came in between; the run is read again at once
    if moved is None:
        return False
    forget_harvest(moved, ports)
    reason = f" reason={moved.reason!r}" if moved.reason else ""
    log.info("run=%s %s -> %s%s", run.id, run.state, moved.state, reason)
    return True


def _unfinished(ports: Ports) -> tuple[Run, ...]:
    try:
        with ports.engine.connect() as connection:
            return runs.unfinished(connection)
    except ApplianceError as error:
        log.error("runs cannot be read, will be tried again: %s", error)
        return ()
