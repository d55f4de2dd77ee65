"""What the signed log says of a run, held against what the database says now.

Rows can be changed by whoever reaches the database; entries under a signed head cannot. Nothing is claimed
about a run, and nothing of it is started, that the log contradicts.
"""

from collections.abc import Mapping
from typing import Final

from appliance.domain import Run, RunState
from appliance.errors import AdmissionError, EvidenceError
from appliance.evaluation import parse_metrics
from appliance.ports import Ports
from appliance.store.engine import reading
from appliance.store.runs import order_detail
from attestation.checkpoint import open_checkpoint
from attestation.merkle import leaf_hash, verify_inclusion
from attestation.times import format_time
from attestation.tlogproof import parse_proof
from audit.event import Event, EventKind
from audit.store import LoggedEvent, events_of

Record = Mapping[EventKind, Event]
# Of the run's champion, not of the run: while the newest of these in the log is one of the first two, nothing
# starts with it, even if the rows that say so were deleted.
_STOPPING: Final = frozenset({EventKind.CHAMPION_HELD, EventKind.CHAMPION_REVOKED})
_DECIDING: Final = _STOPPING | {EventKind.CHAMPION_RELEASED}
_ONCE: Final = frozenset(
    {EventKind.RUN_SUBMITTED, EventKind.RUN_PLACED, EventKind.RUN_HARVESTED, EventKind.RUN_EVALUATED}
)


def read_record(run: Run, ports: Ports) -> Record | None:
    """The run's events, each proved to stand under the signed head; None while some are not there yet.

    With them the event that stops its champion, if the log has one: proved too, though its absence cannot be.
    Raises EvidenceError if an event that happens once is there twice, VerificationError for a false proof.
    """
    ports.log.sequence(ports.clock.now())
    with reading(ports.engine) as connection:
        events = [logged.event for logged in events_of(connection, run.id)]
        stopping = _stopping(events_of(connection, run.order.champion))
    events += stopping
    receipts = ports.log.receipts([event.encode() for event in events])
    if len(events) == len(stopping) or receipts is None:
        return None
    vkey = ports.home.trust().log_vkey
    record: dict[EventKind, Event] = {}
    for event, receipt in zip(events, receipts, strict=True):
        head, proof = open_checkpoint(receipt.checkpoint, vkey=vkey), parse_proof(receipt.proof)
        leaf = leaf_hash(event.encode())
        verify_inclusion(leaf, index=proof.index, size=head.size, path=proof.path, root=head.root)
        if event.kind in _ONCE and event.kind in record:
            raise EvidenceError(f"the log has {event.kind} twice for run {run.id}")
        record[event.kind] = event
    return record


def check_record(run: Run, record: Record) -> None:
    """Return if `run` is what its log entries say, and if it may start, should it not have yet.

    Raises EvidenceError naming the first difference, AdmissionError if the log has its champion stopped.
    """
    if run.state is RunState.PLACED:
        _check_not_stopped(record)
    submitted = _event(run, record, EventKind.RUN_SUBMITTED)
    _same(run, "submitter", run.submitted_by, submitted.actor)
    _same(run, "submission", run.submitted_at, submitted.at)
    for name, value in order_detail(run.order).items():
        _same(run, name, value, submitted.detail.get(name))
    if run.model is not None:
        harvested = _event(run, record, EventKind.RUN_HARVESTED)
        _same(run, "model", run.model, harvested.detail.get("model"))
        _same(run, "verdict", run.verdict, harvested.detail.get("verdict"))
    if run.metrics is not None:
        evaluated = _event(run, record, EventKind.RUN_EVALUATED)
        losses = parse_metrics(run.metrics).losses_sha256
        _same(run, "losses", losses, evaluated.detail.get("losses"))


def _stopping(about_champion: tuple[LoggedEvent, ...]) -> list[Event]:
    """The newest hold that was not released, and any revocation."""
    decided = [logged.event for logged in about_champion if logged.event.kind in _DECIDING]
    revoked = [event for event in decided if event.kind is EventKind.CHAMPION_REVOKED][:1]
    return revoked or [event for event in decided[-1:] if event.kind in _STOPPING]


def _check_not_stopped(record: Record) -> None:
    for kind in _STOPPING & record.keys():
        event = record[kind]
        raise AdmissionError(
            f"champion {event.detail.get('name', event.subject)} was {kind.partition(':')[2]} by {event.actor}"
            f" at {format_time(event.at)}: {event.detail.get('reason')}"
        )


def recorded_text(run: Run, record: Record, kind: EventKind, name: str) -> str:
    """A detail of one of the run's events. Raises EvidenceError if it is not there."""
    value = _event(run, record, kind).detail.get(name)
    if not isinstance(value, str):
        raise EvidenceError(f"the log entry {kind} of run {run.id} has no {name}")
    return value


def _event(run: Run, record: Record, kind: EventKind) -> Event:
    if kind not in record:
        raise EvidenceError(f"the log has no {kind} for run {run.id}")
    return record[kind]


def _same(run: Run, what: str, found: object, logged: object) -> None:
    if found != logged:
        raise EvidenceError(
            f"run {run.id} was changed in the database: {what} is {found}, the log says {logged}"
        )
