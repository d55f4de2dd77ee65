"""What people decided about champions beside the policy: holds, their ends and revocations; bundles are verbatim.

Each is a row and an event of the audit log, written together. Either alone stops a champion: whoever deletes
rows would have to delete them in both, and the log's check finds that.
"""

from collections.abc import Collection
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Connection, Row, and_, insert, or_, select

from appliance.store.tables import champion as champion_table
from appliance.store.tables import champion_decision as decision_table
from appliance.store.tables import run as run_table
from attestation.times import format_time
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
    """Why a champion may not start now, though it may have been admitted."""

    decision: DecisionKind  # held or revoked
    reason: str
    decided_by: str
    decided_at: datetime

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
    conn: Connection, manifest_sha256: str, *, tree: str, before: datetime | None = None
) -> Block | None:
    """What stops the champion of that manifest or git tree (what stopped it `before` that time), if anything.

    A revocation is of manifest and tree, whatever the name; a hold of the manifest.
    """
    entries = [logged.event for logged in events_of(conn, manifest_sha256)]
    logged = tuple(_said(event) for event in entries if event.kind in _DECISION_OF_EVENT)
    stored = tuple(_stored(conn, manifest_sha256, tree=tree))
    for said in (stored, logged):
        for block in said:
            if block.decision is DecisionKind.REVOKED and _counts(block, before):
                return block
    for said in (stored, logged):
        newest = next((block for block in reversed(said) if _counts(block, before)), None)
        if newest is not None and newest.decision is DecisionKind.HELD:
            return newest
    return None


def is_revoked(conn: Connection, manifest_sha256: str, *, tree: str) -> bool:
    """Whether that tree, under whatever name, was revoked."""
    block = block_of(conn, manifest_sha256, tree=tree)
    return block is not None and block.decision is DecisionKind.REVOKED


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
        )
        for row in conn.execute(query.order_by(decision_table.c.number))
    ]


def _said(event: Event) -> Block:
    return Block(
        decision=_DECISION_OF_EVENT[event.kind],
        reason=str(event.detail.get("reason", "no reason is in the log")),
        decided_by=event.actor,
        decided_at=event.at,
    )


def _counts(block: Block, before: datetime | None) -> bool:
    return before is None or block.decided_at < before


# Any: rows of a Core select have no static column types.
def _decision(row: Row[Any]) -> ChampionDecision:
    fields = {name: value for name, value in row._asdict().items() if name != "number"}
    return ChampionDecision(**{**fields, "decision": DecisionKind(row.decision)})
