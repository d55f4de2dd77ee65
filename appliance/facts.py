"""The facts of the admission policy, read again from the stored tree and from what was signed and logged."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from appliance.approvals import Counted, claimed, counted_approvals
from appliance.assembly import Appliance
from appliance.champion_report import crosscheck_findings, is_complete, kept_report
from appliance.errors import ArtifactError
from appliance.home import INTAKE
from appliance.policy import PolicySet
from appliance.recorded import intake_of
from appliance.store import decisions, inspections
from appliance.store.champions import ChampionRow
from appliance.store.decisions import Block, DecisionKind
from appliance.store.engine import reading
from appliance.store.inspections import OriginKind
from attestation.claims import Kind
from attestation.digest import sha256_hex
from attestation.errors import AttestationError
from attestation.times import parse_time
from attestation.trust import TrustRoot
from audit.event import Event
from tournament_sync.errors import LicenceError, ReportError
from tournament_sync.inspection.report import Finding, InspectionReport, Severity, Support, encode_report
from tournament_sync.licence import read_licence
from tournament_sync.tournament.repository_name import parse_repository_name

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """The facts, and what they were read from: the proposer by the log, approvals that count, the report's digest
    (None: no report)."""

    facts: Mapping[str, Any]  # Any: booleans, integers, texts and lists of texts, as the schema types them
    proposed_by: str
    approvals: tuple[Counted, ...]
    report_sha256: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Release:
    """What the signed release says; of one that does not verify, nothing."""

    is_signed: bool
    publisher: str
    origin: str  # the URL that the publisher took it from, or "tree"
    published_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class _Inspected:
    """What is known from reading the files. Of a tree that was not inspected nothing is: `report` is None."""

    report: InspectionReport | None
    findings: tuple[Finding, ...]
    is_complete: bool


def gather_facts(appliance: Appliance, champion: ChampionRow, *, policy: PolicySet) -> Gathered:
    """All facts about `champion` as of now; approvals count only under `policy`.

    Raises AdmissionError if who proposed it is not proved by the log, or is another than the database says.
    """
    intake = intake_of(champion, appliance)
    trust, now = appliance.home.trust(), appliance.clock.now()
    release = _release(champion, trust, now=now)
    with reading(appliance.engine) as connection:
        approvals = counted_approvals(
            connection,
            champion,
            proposer=intake.actor,
            policy_sha256=policy.sha256,
            trust=trust,
            now=now,
        )
        block = decisions.block_of(connection, champion.manifest_sha256, tree=champion.tree, trust=trust)
        inspected = _inspected(connection, champion, trust)
        origin, keyless_identity = _origin(connection, champion, release, intake=intake)
    tree = appliance.store.path(champion.manifest_sha256)
    licence, notice_present = _licence_facts(tree)
    facts = {
        "release_signed": release.is_signed,
        "publisher": release.publisher,
        "origin": origin,
        "keyless_identity": keyless_identity,
        "tree_pinned": _is_unchanged(appliance, champion),
        "licence": licence,
        "notice_present": notice_present,
        "contract_epoch": champion.contract_epoch,
        "age_days": _age_days(champion, release, now=now),
        "approval_count": len({counted.approver for counted in approvals}),
        **_inspection_facts(inspected),
        **_decision_facts(block),
    }
    report = inspected.report
    return Gathered(
        facts=facts,
        proposed_by=intake.actor,
        approvals=approvals,
        report_sha256=None if report is None else sha256_hex(encode_report(report)),
    )


def _release(champion: ChampionRow, trust: TrustRoot, *, now: datetime) -> _Release:
    try:
        statement, publisher = claimed(champion.release_bundle, trust, kind=Kind.CHAMPION_RELEASE, now=now)
    except AttestationError:
        statement = None
    if statement is None or statement.subjects[0].sha256 != champion.manifest_sha256:
        return _Release(is_signed=False, publisher="", origin="", published_at=champion.proposed_at)
    return _Release(
        is_signed=True,
        publisher=publisher,
        origin=statement.predicate["origin"],
        published_at=parse_time(statement.predicate["publishedAt"]),
    )


def _origin(
    connection: Connection, champion: ChampionRow, release: _Release, *, intake: Event
) -> tuple[str, str]:
    """The kind of source, and the identity behind a keyless signature that was verified at `intake`."""
    # What the site released itself says so in its signature, whatever the database has.
    if release.publisher == INTAKE:
        return (OriginKind.TREE if release.origin == "tree" else OriginKind.GIT).value, ""
    kept = inspections.origin_of(connection, champion.manifest_sha256)
    if kept is None:
        return OriginKind.FEED.value, ""
    is_logged = kept.keyless_identity == intake.detail.get("keyless")
    return kept.kind.value, kept.keyless_identity if is_logged else ""


def _inspected(connection: Connection, champion: ChampionRow, trust: TrustRoot) -> _Inspected:
    report = kept_report(connection, champion.manifest_sha256, trust=trust)
    try:
        found = crosscheck_findings(connection, champion.manifest_sha256)
    except ReportError:
        return _Inspected(
            report=report, findings=() if report is None else report.findings, is_complete=False
        )
    if report is None:
        return _Inspected(report=None, findings=found, is_complete=False)
    findings = (*report.findings, *found)
    return _Inspected(report=report, findings=findings, is_complete=is_complete(report))


def _inspection_facts(inspected: _Inspected) -> dict[str, Any]:
    """Could not be inspected is never passed: without a report `inspected` is false, whatever else is here."""
    report, findings = inspected.report, inspected.findings
    tasks = () if report is None else report.capabilities
    return {
        "inspected": inspected.is_complete,
        "supported_tasks": sorted({task.task_type for task in tasks if task.support is Support.YES}),
        "findings": sorted({finding.rule for finding in findings}),
        "critical_findings": sum(finding.severity is Severity.CRITICAL for finding in findings),
        "high_findings": sum(finding.severity is Severity.HIGH for finding in findings),
    }


def _decision_facts(block: Block | None) -> dict[str, bool]:
    return {
        "held": block is not None and block.decision is DecisionKind.HELD,
        "revoked": block is not None and block.decision is DecisionKind.REVOKED,
    }


def _age_days(champion: ChampionRow, release: _Release, *, now: datetime) -> int:
    """Whole days since it was released, or since its tournament's date if that is later; negative: the future.

    The later of the two: neither a publisher nor a name can make a champion older than the other says.
    """
    named = parse_repository_name(champion.name)
    since = release.published_at
    if named is not None:
        since = max(since, datetime.strptime(named.tournament_id[-8:], "%Y%m%d").replace(tzinfo=UTC))
    return (now - since) // _DAY


def _is_unchanged(appliance: Appliance, champion: ChampionRow) -> bool:
    try:
        appliance.store.verify(champion.manifest_sha256)
    except ArtifactError:
        return False
    return True


def _licence_facts(tree: Path) -> tuple[str, bool]:
    try:
        read_licence(tree)
    except LicenceError as error:
        return f"none ({error})", False
    return "Apache-2.0", True
