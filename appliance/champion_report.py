"""A champion's inspection report and the tournament's word on it: made once, kept byte for byte, read back."""

from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Connection

from appliance.assembly import Appliance
from appliance.store import inspections
from appliance.store.champions import ChampionRow
from appliance.store.engine import reading
from appliance.store.inspections import KeptCrossCheck
from attestation import canonical
from attestation.digest import sha256_hex
from attestation.errors import MalformedError
from audit.event import Event, EventKind
from audit.store import enqueue, events_of
from tournament_sync.errors import ReportError
from tournament_sync.inspection.links import with_links
from tournament_sync.inspection.report import Finding, InspectionReport, Severity, encode_report, parse_report
from tournament_sync.inspection.run import inspect_tree
from tournament_sync.release import claimed_links
from tournament_sync.tournament.crosscheck import CrossCheck
from tournament_sync.tournament.details import TournamentDetails

_FINDINGS: Final = TypeAdapter(tuple[Finding, ...])
_DETAILS: Final = TypeAdapter(TournamentDetails)
COULD_NOT_INSPECT: Final = "could-not-inspect"  # the one finding of a report that says nothing else
MAX_CROSSCHECK_BYTES: Final = 1 << 20  # a comparison has some twenty findings


class Inspect(Protocol):
    """Inspects a tree; `tournament_sync.inspection.run.inspect_tree` in earnest."""

    def __call__(self, tree: Path, *, manifest_sha256: str) -> InspectionReport:
        """The report. Raises ReportError."""


def inspect_champion(
    appliance: Appliance, champion: ChampionRow, *, actor: str, inspect: Inspect = inspect_tree
) -> InspectionReport:
    """The champion's report: the kept one, or a new one if there is none of this version that succeeded.

    Raises ReportError, ArtifactError if its tree is not in the store.
    """
    with reading(appliance.engine) as connection:
        kept = kept_report(connection, champion.manifest_sha256)
    if kept is not None and is_complete(kept):
        return kept
    tree = appliance.store.path(champion.manifest_sha256)
    report = with_links(
        inspect(tree, manifest_sha256=champion.manifest_sha256), claimed_links(champion.release_bundle)
    )
    with appliance.engine.begin() as connection:
        record_report(connection, report, actor=actor, at=appliance.clock.now())
    return report


def record_report(connection: Connection, report: InspectionReport, *, actor: str, at: datetime) -> None:
    """Keep `report` with its event, in the caller's transaction."""
    encoded = encode_report(report)
    event = Event(
        kind=EventKind.CHAMPION_INSPECTED,
        subject=report.manifest_sha256,
        actor=actor,
        at=at,
        detail={
            "report": sha256_hex(encoded),
            **{severity.value: report.count(severity) for severity in Severity},
        },
    )
    inspections.add_inspection(connection, report.manifest_sha256, report=encoded, inspected_at=at)
    enqueue(connection, event)


def kept_report(connection: Connection, manifest_sha256: str) -> InspectionReport | None:
    """The champion's newest report, None unless it is of this version and tree, and the one that was logged."""
    kept = inspections.newest_inspection(connection, manifest_sha256)
    if kept is None or not _is_logged(connection, manifest_sha256, sha256=sha256_hex(kept.report)):
        return None
    try:
        report = parse_report(kept.report)
    except ReportError:
        return None  # of an older Assay, or changed: it is made again
    return report if report.manifest_sha256 == manifest_sha256 else None


def keep_crosscheck(
    appliance: Appliance, champion: ChampionRow, found: CrossCheck, *, details: TournamentDetails, actor: str
) -> None:
    """`record_crosscheck` for a champion that is here already."""
    with appliance.engine.begin() as connection:
        record_crosscheck(
            connection,
            champion.manifest_sha256,
            found,
            details=details,
            actor=actor,
            at=appliance.clock.now(),
        )


def record_crosscheck(
    connection: Connection,
    manifest_sha256: str,
    found: CrossCheck,
    *,
    details: TournamentDetails,
    actor: str,
    at: datetime,
) -> None:
    """Keep what comparing a champion with the tournament's answer found, in the caller's transaction."""
    kept = KeptCrossCheck(
        champion=manifest_sha256,
        findings=encode_findings(found.findings),
        details_sha256=sha256_hex(_DETAILS.dump_json(details)),  # of what was read of the answer
        checked_at=at,
    )
    event = Event(
        kind=EventKind.CHAMPION_CROSSCHECKED,
        subject=manifest_sha256,
        actor=actor,
        at=at,
        detail={
            "crosscheck": sha256_hex(kept.findings),
            "details": kept.details_sha256,
            "findings": len(found.findings),
        },
    )
    inspections.add_crosscheck(connection, kept)
    enqueue(connection, event)


def is_complete(report: InspectionReport) -> bool:
    """Whether the inspection came to its end; one that did not may another time."""
    return all(found.rule != COULD_NOT_INSPECT for found in report.findings)


def crosscheck_findings(connection: Connection, manifest_sha256: str) -> tuple[Finding, ...]:
    """What the newest comparison found; nothing if nobody compared.

    Raises ReportError if it is not the one that was logged.
    """
    kept = inspections.newest_crosscheck(connection, manifest_sha256)
    logged = [
        entry.event.detail.get("crosscheck")
        for entry in events_of(connection, manifest_sha256)
        if entry.event.kind is EventKind.CHAMPION_CROSSCHECKED
    ]
    if kept is None and not logged:
        return ()
    if kept is None or not logged or logged[-1] != sha256_hex(kept.findings):
        raise ReportError(f"the comparison kept of {manifest_sha256[:16]}… is not the one that was logged")
    return parse_findings(kept.findings)


def encode_findings(findings: tuple[Finding, ...]) -> bytes:
    """`findings` as canonical JSON."""
    return canonical.encode(_FINDINGS.dump_python(findings, mode="json"))


def parse_findings(data: bytes) -> tuple[Finding, ...]:
    """What `encode_findings` wrote. Raises ReportError for anything else."""
    try:
        canonical.decode(data, max_bytes=MAX_CROSSCHECK_BYTES)
        findings = _FINDINGS.validate_json(data)
    except (MalformedError, ValidationError) as error:
        raise ReportError(f"not findings: {error}") from error
    if encode_findings(findings) != data:
        raise ReportError("not findings in their one written form")
    return findings


def _is_logged(connection: Connection, manifest_sha256: str, *, sha256: str) -> bool:
    """A report from which somebody deleted findings is none that was ever logged."""
    return any(
        logged.event.kind is EventKind.CHAMPION_INSPECTED and logged.event.detail.get("report") == sha256
        for logged in events_of(connection, manifest_sha256)
    )
