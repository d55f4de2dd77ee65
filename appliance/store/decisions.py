"""What people decided about champions beside the policy: holds, their ends and revocations; bundles are verbatim.

Each is a row and an event of the audit log, written together. Either alone stops a champion: whoever deletes
rows would have to delete them in both, and the log's check finds that. What is written stops it, signed or not;
a hold ends only by a statement that the appliance signed, since whoever reaches the database can also write
into the outbox, and the log takes what is there.
"""

from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Connection, Row, and_, insert, or_, select

from appliance.store.tables import champion as champion_table
from appliance.store.tables import champion_decision as decision_table
from appliance.store.tables import run as run_table
from attestation.claims import open_signed
from attestation.digest import sha256_hex
from attestation.errors import AttestationError
from attestation.predicates import CHAMPION_DECISION
from attestation.times import format_time, parse_time
from attestation.trust import TrustRoot
from audit.event import Event, EventKind
from audit.store import events_of


class DecisionKind(StrEnum):
    """What was decided. `released` is the end of a hold; a revocation has none."""

    HELD = "held"
    RELEASED = "released"
    REVOKED = "revoked"


EVENT_OF_DECISION: Final = {
    DecisionKind.HELD: EventKind.CHAMPION_HELD,
    DecisionKind.RELEASED: EventKind.CHAMPION_RELEASED,
    DecisionKind.REVOKED: EventKind.CHAMPION_REVOKED,
}
_DECISION_OF_EVENT: Final = {event: kind for kind, event in EVENT_OF_DECISION.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChampionDecision:
    """One decision; `champion` is the manifest's root digest, `tree` the git tree id, `bundle` as signed."""

    champion: str
    tree: str
    name: str
    decision: DecisionKind
    reason: str
    bundle: bytes
    decided_by: str
    decided_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A decision as a row or a log entry tells it; one that stands is why a champion may not start now."""

    decision: DecisionKind
    reason: str
    decided_by: str
    decided_at: datetime
    bundle_sha256: str  # of the statement that was signed; "" if the log entry names none

    def __str__(self) -> str:
        return f"{self.decision} by {self.decided_by} at {format_time(self.decided_at)}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedModel:
    """A model that a champion trained here; `model` is its manifest's root digest."""

    run_id: str
    model: str
    state: str
    submitted_by: str
    submitted_at: datetime


def add(conn: Connection, decision: ChampionDecision) -> None:
    """Keep a decision; the caller enqueues its event in the same transaction."""
    conn.execute(insert(decision_table).values(asdict(decision)))


def decisions_about(conn: Connection, manifest_sha256: str) -> tuple[ChampionDecision, ...]:
    """The decisions that name this champion, oldest first."""
    query = select(decision_table).where(decision_table.c.champion == manifest_sha256)
    return tuple(_decision(row) for row in conn.execute(query.order_by(decision_table.c.number)))


def block_of(
    conn: Connection, manifest_sha256: str, *, tree: str, trust: TrustRoot, before: datetime | None = None
) -> Block | None:
    """What stops the champion of that manifest or git tree (what stopped it `before` that time), if anything.

    A revocation is of manifest and tree, whatever the name; a hold of the manifest.
    """
    releases = releases_of(conn, manifest_sha256, tree=tree, trust=trust)
    told = _told(conn, manifest_sha256, tree=tree, before=before)
    standing = [block for blocks in told if (block := standing_block(blocks, releases=releases)) is not None]
    revoked = (block for block in standing if block.decision is DecisionKind.REVOKED)
    return next(revoked, None) or next(iter(standing), None)


def revocation_of(conn: Connection, manifest_sha256: str, *, tree: str) -> Block | None:
    """The revocation of that manifest or git tree. None was ever lifted, so no signature is asked for."""
    told = _told(conn, manifest_sha256, tree=tree, before=None)
    return next((block for said in told for block in said if block.decision is DecisionKind.REVOKED), None)


def is_revoked(conn: Connection, manifest_sha256: str, *, tree: str) -> bool:
    """Whether that tree, under whatever name, was revoked."""
    return revocation_of(conn, manifest_sha256, tree=tree) is not None


def standing_block(said: Iterable[Block], *, releases: Collection[str]) -> Block | None:
    """Of decisions in their order any revocation, or the hold that stands.

    `releases` are the bundles that end one (`releases_of`). Each ends what came before its first place: the same
    bundle again, from whoever wrote it there, ends nothing.
    """
    held, used = None, set[str]()
    for block in said:
        match block.decision:
            case DecisionKind.REVOKED:
                return block
            case DecisionKind.HELD:
                held = block
            case DecisionKind.RELEASED:
                if block.bundle_sha256 in releases and block.bundle_sha256 not in used:
                    held = None
                used.add(block.bundle_sha256)
    return held


def said_by(event: Event) -> Block:
    """The decision that an event of the log tells."""
    return Block(
        decision=_DECISION_OF_EVENT[event.kind],
        reason=str(event.detail.get("reason", "no reason is in the log")),
        decided_by=event.actor,
        decided_at=event.at,
        bundle_sha256=str(event.detail.get("decision", "")),
    )


def releases_of(conn: Connection, manifest_sha256: str, *, tree: str, trust: TrustRoot) -> frozenset[str]:
    """Digests of the kept bundles with which this appliance ended a hold of exactly that champion."""
    return frozenset(
        sha256_hex(decision.bundle)
        for decision in decisions_about(conn, manifest_sha256)
        if decision.decision is DecisionKind.RELEASED
        and _is_signed_release(decision.bundle, manifest_sha256, tree=tree, trust=trust)
    )


def revoked_among(conn: Connection, manifests: Collection[str]) -> frozenset[str]:
    """Those of `manifests` that are revoked; for pages that list runs."""
    known = select(champion_table.c.manifest_sha256, champion_table.c.tree).where(
        champion_table.c.manifest_sha256.in_(set(manifests))
    )
    rows = conn.execute(known).all()
    return frozenset(
        row.manifest_sha256 for row in rows if is_revoked(conn, row.manifest_sha256, tree=row.tree)
    )


def models_trained_with(conn: Connection, manifest_sha256: str) -> tuple[TrainedModel, ...]:
    """The models that this champion trained here, oldest first; all of them are suspect once it is revoked."""
    query = select(run_table).where(
        and_(run_table.c.champion == manifest_sha256, run_table.c.model.is_not(None))
    )
    return tuple(
        TrainedModel(
            run_id=row.id,
            model=row.model,
            state=row.state,
            submitted_by=row.submitted_by,
            submitted_at=row.submitted_at,
        )
        for row in conn.execute(query.order_by(run_table.c.submitted_at, run_table.c.id))
    )


def _is_signed_release(bundle: bytes, manifest_sha256: str, *, tree: str, trust: TrustRoot) -> bool:
    try:
        statement, key = open_signed(bundle, trust)
        if statement.predicate_type != CHAMPION_DECISION:
            return False
        said = statement.predicate
        key.check_valid(parse_time(said["decidedAt"]))
    except AttestationError:
        return False
    about = (statement.subjects[0].sha256, said["tree"], said["decision"])
    return about == (manifest_sha256, tree, DecisionKind.RELEASED.value)


def _told(
    conn: Connection, manifest_sha256: str, *, tree: str, before: datetime | None
) -> tuple[list[Block], list[Block]]:
    """What the rows tell, and what the log does, each in its order."""
    events = [logged.event for logged in events_of(conn, manifest_sha256)]
    logged = [said_by(event) for event in events if event.kind in _DECISION_OF_EVENT]
    stored = _stored(conn, manifest_sha256, tree=tree)
    return [b for b in stored if _counts(b, before)], [b for b in logged if _counts(b, before)]


def _stored(conn: Connection, manifest_sha256: str, *, tree: str) -> list[Block]:
    revoked = decision_table.c.decision == DecisionKind.REVOKED
    query = select(decision_table).where(
        or_(decision_table.c.champion == manifest_sha256, and_(decision_table.c.tree == tree, revoked))
    )
    return [
        Block(
            decision=DecisionKind(row.decision),
            reason=row.reason,
            decided_by=row.decided_by,
            decided_at=row.decided_at,
            bundle_sha256=sha256_hex(row.bundle),
        )
        for row in conn.execute(query.order_by(decision_table.c.number))
    ]


def _counts(block: Block, before: datetime | None) -> bool:
    return before is None or block.decided_at < before


# Any: rows of a Core select have no static column types.
def _decision(row: Row[Any]) -> ChampionDecision:
    fields = {name: value for name, value in row._asdict().items() if name != "number"}
    return ChampionDecision(**{**fields, "decision": DecisionKind(row.decision)})
