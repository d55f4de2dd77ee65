"""What the signed log says of a run and of a champion, held against what the database says now.

Rows can be changed by whoever reaches the database; entries under a signed head cannot. Nothing is claimed
about a run, nothing of it is started and no champion is let in, that the log contradicts.

Covered: rows that were changed, entries that were changed together with them, entries that somebody else put
behind the true ones, guests whose walls are not the ordered ones.
Not covered: entries that were taken out of the log's tables. A proof says what is there; that all of it is
there says the check of the whole log (`assay log fsck`).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn, Protocol

from sqlalchemy import Connection, Engine

from appliance.domain import Run, RunState
from appliance.errors import AdmissionError, EvidenceError, NotFoundError
from appliance.evaluation import parse_metrics
from appliance.home import Home
from appliance.isolation_policy import demand_of, driver_of, evaluation_driver_of
from appliance.measured_facts import listed, shown
from appliance.ports import Clock, Ports
from appliance.store import champions, decisions
from appliance.store.champions import ChampionRow
from appliance.store.engine import reading
from appliance.store.runs import order_detail
from attestation.checkpoint import open_checkpoint
from attestation.errors import AttestationError, MalformedError
from attestation.isolation import check_measured, contradictions
from attestation.merkle import leaf_hash, verify_inclusion
from attestation.times import format_time
from attestation.tlogproof import parse_proof
from attestation.trust import TrustRoot
from audit.errors import AuditError
from audit.event import Event, EventKind
from audit.log import AuditLog
from audit.store import LoggedEvent, events_of
from runner.isolation_demand import shortfalls

Record = Mapping[EventKind, Event]
FOUR_EYES: Final = ("four-eyes",)
# Of the run's champion, not of the run: while the newest of these in the log is one of the first two, nothing
# starts with it, even if the rows that say so were deleted.
_STOPPING: Final = frozenset({EventKind.CHAMPION_HELD, EventKind.CHAMPION_REVOKED})
_DECIDING: Final = _STOPPING | {EventKind.CHAMPION_RELEASED}
_ONCE: Final = frozenset(
    {EventKind.RUN_SUBMITTED, EventKind.RUN_PLACED, EventKind.RUN_HARVESTED, EventKind.RUN_EVALUATED}
)


class Logged(Protocol):
    """A database and the log beside it: the whole appliance, or what its worker has of it."""

    @property
    def engine(self) -> Engine:
        """The database."""

    @property
    def home(self) -> Home:
        """Whose trust root names the log's key."""

    @property
    def log(self) -> AuditLog:
        """The log."""

    @property
    def clock(self) -> Clock:
        """When heads are signed."""


def intake_of(champion: ChampionRow, at: Logged) -> Event:
    """How `champion` came here, by its first entry in the log, proved under the signed head; `actor` proposed it.

    Raises AdmissionError if the log does not prove it, or the row or a later entry names somebody else.
    """
    try:
        at.log.sequence(at.clock.now())
        with reading(at.engine) as connection:
            events = [
                logged.event
                for logged in events_of(connection, champion.manifest_sha256)
                if logged.event.kind is EventKind.CHAMPION_SYNCED
            ]
        if not events or not _are_proved(events, at):
            raise AdmissionError(
                f"the signed log does not say how {champion.name} came here", reasons=FOUR_EYES
            )
    except (AttestationError, AuditError) as error:
        raise AdmissionError(
            f"the log does not prove how {champion.name} came here: {error}", reasons=FOUR_EYES
        ) from error
    for event in events:
        if event.actor != champion.proposed_by:
            raise AdmissionError(
                f"{champion.name} was changed in the database: proposed by {champion.proposed_by}, the log says"
                f" {event.actor}",
                reasons=FOUR_EYES,
            )
    return events[0]


def read_record(run: Run, ports: Ports) -> Record | None:
    """The run's events, each proved to stand under the signed head; None while some are not there yet.

    With them the event that stops its champion, if the log has one: proved too, though its absence cannot be.
    Raises EvidenceError if an event that happens once is there twice, VerificationError for a false proof.
    """
    ports.log.sequence(ports.clock.now())
    with reading(ports.engine) as connection:
        events = [logged.event for logged in events_of(connection, run.id)]
        releases = _releases(connection, run.order.champion, trust=ports.home.trust())
        stopping = _stopping(events_of(connection, run.order.champion), releases=releases)
    if not events or not _are_proved(events + stopping, ports):
        return None
    record: dict[EventKind, Event] = {}
    for event in events + stopping:
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
    ordered = order_detail(run.order)
    for name in sorted(ordered.keys() | submitted.detail.keys()):  # a deleted row says less than the log
        _same(run, name, ordered.get(name), submitted.detail.get(name))
    if run.model is not None:
        harvested = _event(run, record, EventKind.RUN_HARVESTED)
        _same(run, "model", run.model, harvested.detail.get("model"))
        _same(run, "verdict", run.verdict, harvested.detail.get("verdict"))
    if run.metrics is not None:
        evaluated = _event(run, record, EventKind.RUN_EVALUATED)
        losses = parse_metrics(run.metrics).losses_sha256
        _same(run, "losses", losses, evaluated.detail.get("losses"))


# Any: plain JSON of a job's folder, whose shape nobody has checked yet.
def check_walls(run: Run, record: Record, *, train: Mapping[str, Any], evaluate: Mapping[str, Any]) -> None:
    """Return if what was measured around the two guests is what the run was ordered and placed with.

    To be called after `check_record`, which holds the order against the log. Raises EvidenceError naming the
    first difference, or facts that are not of whole walls: files of a job can be changed by whoever reaches the
    disk, before it starts or later.
    """
    placed = _event(run, record, EventKind.RUN_PLACED).detail
    granted = set(str(placed.get("gpus", "")).split())
    for guest, name, driver, measured in (
        ("the champion", "driver", driver_of(run), train),
        ("the evaluation", "evaluation_driver", evaluation_driver_of(run), evaluate),
    ):
        if measured.get("driver") != driver:
            _other_walls(run, guest, f"found {shown(measured.get('driver'))}, ordered {driver}")
        if (as_placed := placed.get(name, driver)) != driver:  # runs placed earlier do not say
            _other_walls(run, guest, f"ordered {driver}, placed with {as_placed}")
        if strange := sorted(set(map(shown, listed(measured.get("gpus")))) - granted):
            _other_walls(
                run, guest, f"found GPU {strange[0]}, granted {', '.join(sorted(granted)) or 'none'}"
            )
        if (demand := demand_of(run)) is not None and (missing := shortfalls(measured, demand)):
            _other_walls(run, guest, "; ".join(missing))
        _check_whole(run, guest, measured)


def _are_proved(events: Sequence[Event], at: Logged) -> bool:
    """Whether all are under the signed head. Raises VerificationError for a false proof."""
    receipts = at.log.receipts([event.encode() for event in events])
    if receipts is None:
        return False
    vkey = at.home.trust().log_vkey
    for event, receipt in zip(events, receipts, strict=True):
        head, proof = open_checkpoint(receipt.checkpoint, vkey=vkey), parse_proof(receipt.proof)
        leaf = leaf_hash(event.encode())
        verify_inclusion(leaf, index=proof.index, size=head.size, path=proof.path, root=head.root)
    return True


def _releases(connection: Connection, manifest_sha256: str, *, trust: TrustRoot) -> frozenset[str]:
    try:
        champion = champions.get(connection, manifest_sha256)
    except NotFoundError:  # the run's row was changed, which its record tells
        return frozenset()
    return decisions.releases_of(connection, manifest_sha256, tree=champion.tree, trust=trust)


def _stopping(about_champion: tuple[LoggedEvent, ...], *, releases: frozenset[str]) -> list[Event]:
    """The newest hold that no signed statement released, or any revocation."""
    decided = [logged.event for logged in about_champion if logged.event.kind in _DECIDING]
    said = [decisions.said_by(event) for event in decided]
    standing = decisions.standing_block(said, releases=releases)
    return [event for event, block in zip(decided, said, strict=True) if block == standing][:1]


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


def _check_whole(run: Run, guest: str, measured: Mapping[str, Any]) -> None:
    """Nothing is signed that a reader of the claim would refuse."""
    try:
        check_measured(measured, "measured")
    except MalformedError as error:
        raise EvidenceError(f"run {run.id}: the walls of {guest} are not told as claimed: {error}") from error
    if found := list(contradictions(measured)):
        raise EvidenceError(f"run {run.id}: the walls of {guest} were not whole: {'; '.join(found)[:400]}")


def _other_walls(run: Run, guest: str, difference: str) -> NoReturn:
    raise EvidenceError(f"run {run.id}: {guest} had other walls than ordered: {difference}")


def _same(run: Run, what: str, found: object, logged: object) -> None:
    if found != logged:
        raise EvidenceError(
            f"run {run.id} was changed in the database: {what} is {found}, the log says {logged}"
        )
