"""What is known here about one champion, as one plain value: what people read on the console, in the API, on the CLI.

Champions are the work of Gradients.io's participants (https://gradients.io).
Not covered: whether it may run; that is decided from the signed bytes and the tree each time (appliance.facts).
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pydantic import TypeAdapter
from sqlalchemy import Connection

from appliance.adoption import ChampionState, status_of
from appliance.approvals import claimed
from appliance.champion_report import crosscheck_findings, kept_report
from appliance.errors import InvalidOrderError
from appliance.store import champions, decisions, defaults, inspections
from appliance.store.champions import Approval, ChampionRow
from appliance.store.decisions import ChampionDecision, DecisionKind, TrainedModel
from appliance.store.sources import SyncSource
from attestation.bundle import parse_bundle
from attestation.claims import Kind
from attestation.digest import sha256_hex
from attestation.errors import AttestationError
from attestation.predicates import CHAMPION_RELEASE, check_predicate
from attestation.statement import parse_statement
from attestation.trust import TrustRoot
from tournament_sync.champion import is_champion_digest
from tournament_sync.inspection.report import Capability, Finding, InspectionReport, Severity, encode_report

ATTRIBUTION: Final = "Gradients.io (https://gradients.io)"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChampionLine:
    """A champion in a list. `reasons` say why it may not run, and are empty for one that may."""

    manifest_sha256: str
    name: str
    channel: str
    commit: str
    tree: str
    contract_epoch: str
    proposed_by: str
    proposed_at: datetime
    approved_by: tuple[str, ...]
    status: ChampionState
    admitted: bool
    reasons: tuple[str, ...]
    decided_by: str | None
    decided_at: datetime | None
    policy_sha256: str | None
    attribution: str = ATTRIBUTION


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseSaid:
    """What the release says; its signer's word. `publisher` is the name behind the key, None if it is not trusted."""

    publisher: str | None
    publisher_key: str
    origin: str
    published_at: str
    tournament: dict[str, Any] | None  # Any: parts of a predicate, in plain JSON
    images: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalSaid:
    """An approval; `counts_under` is the policy set that it was signed for."""

    approver: str
    printed_name: str
    reason: str
    approved_at: datetime
    counts_under: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonDecided:
    """A hold, its end or a revocation."""

    decision: DecisionKind
    reason: str
    decided_by: str
    decided_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspected:
    """The report in short; all of it is `assay champions inspect`. `sha256` is of its bytes."""

    sha256: str
    licence: str  # "" for none that is known
    notice_present: bool
    epochs: tuple[str, ...]
    counts: dict[str, int]  # severity → how many
    worst: tuple[Finding, ...]
    capabilities: tuple[Capability, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DefaultPlace:
    """Where it is what an order gets that names no champion."""

    channel: str
    task_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DefaultLine:
    """What an order of that channel and task type gets; only an adopted one can be ordered."""

    channel: str
    task_type: str
    name: str
    manifest_sha256: str
    status: ChampionState
    set_by: str
    set_at: datetime
    attribution: str = ATTRIBUTION


@dataclass(frozen=True, slots=True, kw_only=True)
class Dossier:
    """One champion. `inspected` is None if nothing is known from its files; that is no good sign, but no sign."""

    champion: ChampionLine
    came_by: str  # feed, git, archive or tree; "" for those of an older home
    came_from: str
    release: ReleaseSaid | None
    approvals: tuple[ApprovalSaid, ...]
    decisions: tuple[PersonDecided, ...]
    inspected: Inspected | None
    tournament_findings: tuple[Finding, ...]
    default_for: tuple[DefaultPlace, ...]
    models: tuple[TrainedModel, ...]
    attribution: str = ATTRIBUTION


WORST_SHOWN: Final = 20


def find_champion(conn: Connection, named: str) -> ChampionRow:
    """The champion of that manifest digest or, newest proposal first, of that name. Raises NotFoundError.

    64 hexadecimal digits are a digest, whoever is called so: a name must not answer for other files.
    """
    return champions.get(conn, named) if is_champion_digest(named) else champions.by_name(conn, named)


def read_line(conn: Connection, champion: ChampionRow, *, trust: TrustRoot) -> ChampionLine:
    """`champion` as a list shows it."""
    status = status_of(conn, champion, trust=trust)
    decision = champions.newest_decision(conn, champion.manifest_sha256)
    return ChampionLine(
        manifest_sha256=champion.manifest_sha256,
        name=champion.name,
        channel=champion.channel,
        commit=champion.commit,
        tree=champion.tree,
        contract_epoch=champion.contract_epoch,
        proposed_by=champion.proposed_by,
        proposed_at=champion.proposed_at,
        approved_by=status.approvers,
        status=status.state,
        admitted=status.state is ChampionState.ADOPTED,
        reasons=status.reasons,
        decided_by=status.decided_by,
        decided_at=status.decided_at,
        policy_sha256=decision.policy_sha256 if decision else None,
    )


def list_lines(
    conn: Connection, *, trust: TrustRoot, channel: str | None = None, state: str | None = None
) -> tuple[ChampionLine, ...]:
    """Champions, oldest proposal first; only those of `channel`, only those that stand so. InvalidOrderError."""
    if state is not None and state not in set(ChampionState):
        raise InvalidOrderError(
            f"no champion ever is {state[:40]!r}", checked="status", wanted=" or ".join(ChampionState)
        )
    rows = (row for row in champions.list_champions(conn) if channel is None or row.channel == channel)
    lines = (read_line(conn, row, trust=trust) for row in rows)
    return tuple(line for line in lines if state is None or line.status == state)


def list_defaults(conn: Connection, *, trust: TrustRoot) -> tuple[DefaultLine, ...]:
    """What orders get that name no champion, with how that champion stands now."""
    lines = []
    for place in defaults.list_defaults(conn):
        champion = champions.get(conn, place.champion)
        lines.append(
            DefaultLine(
                channel=place.channel,
                task_type=place.task_type,
                name=champion.name,
                manifest_sha256=place.champion,
                status=status_of(conn, champion, trust=trust).state,
                set_by=place.set_by,
                set_at=place.set_at,
            )
        )
    return tuple(lines)


def read_dossier(conn: Connection, champion: ChampionRow, *, trust: TrustRoot, now: datetime) -> Dossier:
    """Everything about `champion`. Raises ReportError if the tournament's word was changed since it was logged."""
    manifest = champion.manifest_sha256
    origin = inspections.origin_of(conn, manifest)
    report = kept_report(conn, manifest, trust=trust)
    return Dossier(
        champion=read_line(conn, champion, trust=trust),
        came_by=origin.kind.value if origin else "",
        came_from=origin.location if origin else "",
        release=_release(champion, trust, now=now),
        approvals=tuple(_approval(approval) for approval in champions.approvals(conn, manifest)),
        decisions=tuple(_decided(decision) for decision in decisions.decisions_about(conn, manifest)),
        inspected=None if report is None else _inspected(report),
        tournament_findings=crosscheck_findings(conn, manifest),
        default_for=tuple(
            DefaultPlace(channel=place.channel, task_type=place.task_type)
            for place in defaults.list_defaults(conn)
            if place.champion == manifest
        ),
        models=decisions.models_trained_with(conn, manifest),
    )


def plain(value: ChampionLine | DefaultLine | Dossier | SyncSource) -> dict[str, Any]:
    """`value` as the API writes it, in plain JSON values."""
    written: dict[str, Any] = TypeAdapter(type(value)).dump_python(value, mode="json")
    return written


def _release(champion: ChampionRow, trust: TrustRoot, *, now: datetime) -> ReleaseSaid | None:
    try:
        bundle = parse_bundle(champion.release_bundle)
        statement = parse_statement(bundle.payload)
        check_predicate(statement)
    except AttestationError:
        return None
    said = statement.predicate
    if statement.predicate_type != CHAMPION_RELEASE:
        return None
    return ReleaseSaid(
        publisher=_publisher(champion, trust, now=now),
        publisher_key=bundle.hint,
        origin=said["origin"],
        published_at=said["publishedAt"],
        tournament=said["tournament"],
        images=tuple(said["images"]),
    )


def _publisher(champion: ChampionRow, trust: TrustRoot, *, now: datetime) -> str | None:
    try:
        statement, name = claimed(champion.release_bundle, trust, kind=Kind.CHAMPION_RELEASE, now=now)
    except AttestationError:
        return None
    return name if statement.subjects[0].sha256 == champion.manifest_sha256 else None


def _approval(approval: Approval) -> ApprovalSaid:
    """Only approvals that verified are kept, so the statement is there; one of a changed row says nothing."""
    try:
        said = parse_statement(parse_bundle(approval.bundle).payload).predicate
    except AttestationError:
        said = {}
    return ApprovalSaid(
        approver=approval.approver,
        printed_name=said.get("printedName", ""),
        reason=said.get("reason", ""),
        approved_at=approval.approved_at,
        counts_under=approval.policy_sha256,
    )


def _decided(decision: ChampionDecision) -> PersonDecided:
    return PersonDecided(
        decision=decision.decision,
        reason=decision.reason,
        decided_by=decision.decided_by,
        decided_at=decision.decided_at,
    )


def _inspected(report: InspectionReport) -> Inspected:
    licence = report.licence.licence
    return Inspected(
        sha256=sha256_hex(encode_report(report)),
        licence=licence.recognised if licence else "",
        notice_present=report.licence.notice is not None,
        epochs=report.epochs,
        counts={severity.value: report.count(severity) for severity in reversed(Severity)},
        worst=report.findings[:WORST_SHOWN],
        capabilities=report.capabilities,
    )
