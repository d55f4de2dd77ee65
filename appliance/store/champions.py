"""Champions as proposed, the approvals they got and every decision about them; bundles are verbatim."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select

from appliance.attest import AdmittedChampion
from appliance.errors import NotFoundError
from appliance.store import decisions
from appliance.store.tables import admission as admission_table
from appliance.store.tables import approval as approval_table
from appliance.store.tables import champion as champion_table
from appliance.store.tables import counted_approval as counted_table
from attestation.digest import sha256_hex
from attestation.trust import TrustRoot


@dataclass(frozen=True, slots=True, kw_only=True)
class ChampionRow:
    """A champion as it was proposed. Being here admits nothing."""

    manifest_sha256: str
    name: str
    channel: str
    commit: str
    tree: str
    contract_epoch: str
    release_bundle: bytes
    proposed_by: str
    proposed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """One person's signed approval."""

    approver: str
    policy_sha256: str
    bundle: bytes
    approved_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionDecision:
    """One decision of the policy about a champion. `bundle` is the signed verdict or refusal."""

    number: int
    policy_sha256: str
    allowed: bool
    reasons: tuple[str, ...]
    bundle: bytes | None
    decided_by: str
    decided_at: datetime


def add(conn: Connection, champion: ChampionRow) -> bool:
    """Propose `champion`. False if it was proposed before; then the first proposal stands."""
    known = select(champion_table.c.name).where(champion_table.c.manifest_sha256 == champion.manifest_sha256)
    if conn.execute(known).one_or_none() is not None:
        return False
    conn.execute(insert(champion_table).values(asdict(champion)))
    return True


def get(conn: Connection, manifest_sha256: str) -> ChampionRow:
    """The champion of that manifest. Raises NotFoundError."""
    query = select(champion_table).where(champion_table.c.manifest_sha256 == manifest_sha256)
    row = conn.execute(query).one_or_none()
    if row is None:
        raise NotFoundError(f"no champion sha256:{manifest_sha256}")
    return _champion(row)


def by_name(conn: Connection, name: str) -> ChampionRow:
    """The newest proposal of that name. Raises NotFoundError."""
    query = select(champion_table).where(champion_table.c.name == name)
    newest = (champion_table.c.proposed_at.desc(), champion_table.c.manifest_sha256)
    row = conn.execute(query.order_by(*newest).limit(1)).one_or_none()
    if row is None:
        raise NotFoundError(f"no champion named {name}")
    return _champion(row)


def list_champions(conn: Connection) -> tuple[ChampionRow, ...]:
    """All champions, oldest proposal first."""
    order = (champion_table.c.proposed_at, champion_table.c.manifest_sha256)
    return tuple(_champion(row) for row in conn.execute(select(champion_table).order_by(*order)))


def of_tree(conn: Connection, tree: str) -> frozenset[str]:
    """Manifests of the champions with that git tree."""
    return frozenset(
        conn.scalars(select(champion_table.c.manifest_sha256).where(champion_table.c.tree == tree))
    )


def add_approval(
    conn: Connection,
    manifest_sha256: str,
    *,
    approver: str,
    policy_sha256: str,
    bundle: bytes,
    approved_at: datetime,
) -> bool:
    """Keep a signed approval. False if the very same bytes are kept already."""
    sha256 = sha256_hex(bundle)
    if conn.execute(select(approval_table.c.sha256).where(approval_table.c.sha256 == sha256)).first():
        return False
    conn.execute(
        insert(approval_table).values(
            sha256=sha256,
            champion=manifest_sha256,
            approver=approver,
            policy_sha256=policy_sha256,
            bundle=bundle,
            approved_at=approved_at,
        )
    )
    return True


def approvals(conn: Connection, manifest_sha256: str) -> tuple[Approval, ...]:
    """The champion's approvals, oldest first."""
    query = select(approval_table).where(approval_table.c.champion == manifest_sha256)
    rows = conn.execute(query.order_by(approval_table.c.approved_at, approval_table.c.sha256))
    return tuple(_approval(row) for row in rows)


def add_admission(
    conn: Connection,
    manifest_sha256: str,
    *,
    policy_sha256: str,
    allowed: bool,
    reasons: Sequence[str],
    bundle: bytes | None,
    decided_by: str,
    decided_at: datetime,
    approvals: Sequence[str] = (),
) -> None:
    """Keep a decision; from now on it is the one that counts. `approvals`: digests of the bundles it counted."""
    if allowed and bundle is None:
        raise ValueError("an admission without its signed verdict proves nothing")
    number = conn.execute(
        insert(admission_table)
        .values(
            champion=manifest_sha256,
            policy_sha256=policy_sha256,
            allowed=allowed,
            reasons=list(reasons),
            bundle=bundle,
            decided_by=decided_by,
            decided_at=decided_at,
        )
        .returning(admission_table.c.number)
    ).scalar_one()
    for sha256 in sorted(set(approvals)):
        conn.execute(insert(counted_table).values(admission=number, approval=sha256))


def newest_decision(
    conn: Connection, manifest_sha256: str, *, at: datetime | None = None
) -> AdmissionDecision | None:
    """The decision that counts (that counted `at` that time), None if nobody had decided yet."""
    query = select(admission_table).where(admission_table.c.champion == manifest_sha256)
    if at is not None:
        query = query.where(admission_table.c.decided_at <= at)
    row = conn.execute(query.order_by(admission_table.c.number.desc()).limit(1)).one_or_none()
    if row is None:
        return None
    return AdmissionDecision(
        number=row.number,
        policy_sha256=row.policy_sha256,
        allowed=row.allowed,
        reasons=tuple(row.reasons),
        bundle=row.bundle,
        decided_by=row.decided_by,
        decided_at=row.decided_at,
    )


def admitted(
    conn: Connection, manifest_sha256: str, *, trust: TrustRoot, at: datetime | None = None
) -> AdmittedChampion | None:
    """The champion with all that admits it (admitted it `at` that time), None unless a decision allows it.

    None too while it is held, and for ever once it is revoked (if it was, before `at`).
    Only the approvals that the decision counted are part of it.
    Raises NotFoundError if there is no such champion.
    """
    champion = get(conn, manifest_sha256)
    decision = newest_decision(conn, manifest_sha256, at=at)
    if decision is None or not decision.allowed or decision.bundle is None:
        return None
    if decisions.block_of(conn, manifest_sha256, tree=champion.tree, trust=trust, before=at) is not None:
        return None
    counted = _counted(conn, decision.number)
    return AdmittedChampion(
        name=champion.name,
        manifest_sha256=champion.manifest_sha256,
        commit=champion.commit,
        tree=champion.tree,
        contract_epoch=champion.contract_epoch,
        policy_sha256=decision.policy_sha256,
        release_bundle=champion.release_bundle,
        approvers=frozenset(approval.approver for approval in counted),
        approval_bundles=tuple(approval.bundle for approval in counted),
        admission_bundle=decision.bundle,
    )


def _counted(conn: Connection, admission: int) -> tuple[Approval, ...]:
    query = (
        select(approval_table)
        .join(counted_table, counted_table.c.approval == approval_table.c.sha256)
        .where(counted_table.c.admission == admission)
        .order_by(approval_table.c.approved_at, approval_table.c.sha256)
    )
    return tuple(_approval(row) for row in conn.execute(query))


# Any: rows of a Core select have no static column types.
def _approval(row: Row[Any]) -> Approval:
    return Approval(
        approver=row.approver,
        policy_sha256=row.policy_sha256,
        bundle=row.bundle,
        approved_at=row.approved_at,
    )


def _champion(row: Row[Any]) -> ChampionRow:
    return ChampionRow(**row._asdict())
