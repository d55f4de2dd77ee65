"""A champion's inspection report and the tournament's word on it: made once, kept byte for byte, read back.

A report is signed by the appliance that made it. The log alone would not do: it takes whatever waits in the
outbox, so that whoever reaches the database has it say that a clean report was made. Comparisons are not
signed, since another one cannot take a finding back: what all of them found counts.
"""

import re
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Connection

from appliance.assembly import Appliance
from appliance.store import inspections
from appliance.store.champions import ChampionRow
from appliance.store.engine import reading
from appliance.store.inspections import Inspection, KeptCrossCheck, OriginKind
from attestation import canonical
from attestation.bundle import sign_statement
from attestation.claims import open_signed
from attestation.digest import sha256_hex
from attestation.errors import AttestationError, MalformedError
from attestation.keys import Signer
from attestation.predicates import CHAMPION_INSPECTION
from attestation.statement import Statement, Subject
from attestation.times import format_time, parse_time
from attestation.trust import TrustRoot
from audit.event import Event, EventKind
from audit.store import enqueue, events_of
from tournament_sync.errors import ReportError
from tournament_sync.inspection.links import with_release
from tournament_sync.inspection.report import (
    Finding,
    InspectionReport,
    Severity,
    encode_report,
    parse_report,
    sorted_findings,
)
from tournament_sync.inspection.run import inspect_tree
from tournament_sync.release import claimed_links
from tournament_sync.tournament.crosscheck import CrossCheck, not_compared
from tournament_sync.tournament.details import TournamentDetails

_FINDINGS: Final = TypeAdapter(tuple[Finding, ...])
_DETAILS: Final = TypeAdapter(TournamentDetails)
COULD_NOT_INSPECT: Final = "could-not-inspect"  # the one finding of a report that says nothing else
MAX_CROSSCHECK_BYTES: Final = 1 << 20  # a comparison has some twenty findings
MAX_SOURCE_CHARS: Final = 500
_USER: Final = re.compile(r"//[^/\s]*@")


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
        kept = kept_report(connection, champion.manifest_sha256, trust=appliance.home.trust())
    if kept is not None and is_complete(kept):
        return kept
    tree = appliance.store.path(champion.manifest_sha256)
    report = with_release(
        inspect(tree, manifest_sha256=champion.manifest_sha256),
        links=claimed_links(champion.release_bundle),
        epoch=champion.contract_epoch,
        channel=champion.channel,
    )
    now = appliance.clock.now()
    bundle = sign_report(report, signer=appliance.signer, now=now)
    with appliance.engine.begin() as connection:
        record_report(connection, report, bundle=bundle, actor=actor, at=now)
    return report


def sign_report(report: InspectionReport, *, signer: Signer, now: datetime) -> bytes:
    """The appliance's word that it read the champion's files itself and found `report`."""
    statement = Statement(
        subjects=(Subject(name="champion", sha256=report.manifest_sha256),),
        predicate_type=CHAMPION_INSPECTION,
        predicate={
            "report": {"sha256": sha256_hex(encode_report(report))},
            "inspectedAt": format_time(now),
        },
    )
    return sign_statement(statement, signer)


def record_report(
    connection: Connection, report: InspectionReport, *, bundle: bytes, actor: str, at: datetime
) -> None:
    """Keep `report`, signed as `bundle`, with its event, in the caller's transaction."""
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
    inspections.add_inspection(
        connection, report.manifest_sha256, report=encoded, bundle=bundle, inspected_at=at
    )
    enqueue(connection, event)


def kept_report(connection: Connection, manifest_sha256: str, *, trust: TrustRoot) -> InspectionReport | None:
    """The champion's newest report, None unless it is of this version and tree, signed here and logged."""
    kept = inspections.newest_inspection(connection, manifest_sha256)
    if kept is None or not _is_signed(kept, manifest_sha256, trust=trust):
        return None
    if not _is_logged(connection, manifest_sha256, sha256=sha256_hex(kept.report)):
        return None
    try:
        report = parse_report(kept.report)
    except ReportError:
        return None  # of an older Assay, or changed: it is made again
    return report if report.manifest_sha256 == manifest_sha256 else None


def keep_crosscheck(
    appliance: Appliance,
    champion: ChampionRow,
    found: CrossCheck,
    *,
    details: TournamentDetails,
    source: str,
    actor: str,
) -> None:
    """`record_crosscheck` for a champion that is here already."""
    with appliance.engine.begin() as connection:
        record_crosscheck(
            connection,
            champion.manifest_sha256,
            found,
            details=details,
            source=source,
            actor=actor,
            at=appliance.clock.now(),
        )


def record_crosscheck(
    connection: Connection,
    manifest_sha256: str,
    found: CrossCheck,
    *,
    details: TournamentDetails,
    source: str,
    actor: str,
    at: datetime,
) -> None:
    """Keep what comparing a champion with the tournament's answer found, in the caller's transaction.

    `source` is where the answer is from, a URL or the name of a file: it is logged with who brought it.
    """
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
            "source": _shown(source),
        },
    )
    inspections.add_crosscheck(connection, kept)
    enqueue(connection, event)


def is_complete(report: InspectionReport) -> bool:
    """Whether the inspection came to its end; one that did not may another time."""
    return all(found.rule != COULD_NOT_INSPECT for found in report.findings)


def crosscheck_findings(connection: Connection, manifest_sha256: str) -> tuple[Finding, ...]:
    """What all comparisons found, each thing once; that nobody compared, where somebody could have.

    Raises ReportError unless exactly those are kept that were logged.
    """
    events = [entry.event for entry in events_of(connection, manifest_sha256)]
    logged = {e.detail.get("crosscheck") for e in events if e.kind is EventKind.CHAMPION_CROSSCHECKED}
    kept = {
        sha256_hex(check.findings): check for check in inspections.crosschecks_of(connection, manifest_sha256)
    }
    if kept.keys() != logged:
        raise ReportError(f"the comparisons kept of {manifest_sha256[:16]}… are not those that were logged")
    if not kept:
        synced = [e.detail for e in events if e.kind is EventKind.CHAMPION_SYNCED]
        from_git = [str(d.get("name")) for d in synced if d.get("origin") == OriginKind.GIT.value]
        return tuple(found for name in from_git[:1] if (found := not_compared(name)) is not None)
    joined = {
        (found.rule, found.found): found
        for check in kept.values()
        for found in parse_findings(check.findings)
    }
    return sorted_findings(list(joined.values()))


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


def _is_signed(kept: Inspection, manifest_sha256: str, *, trust: TrustRoot) -> bool:
    """A report that somebody else wrote into the database has no signature of this appliance."""
    try:
        statement, key = open_signed(kept.bundle, trust)
        if statement.predicate_type != CHAMPION_INSPECTION:
            return False
        said = statement.predicate
        key.check_valid(parse_time(said["inspectedAt"]))
    except AttestationError:
        return False
    about = (statement.subjects[0].sha256, said["report"]["sha256"])
    return about == (manifest_sha256, sha256_hex(kept.report))


def _shown(source: str) -> str:
    """`source` as it is logged: without a password, printable, not endless."""
    return ascii(_USER.sub("//", source))[1:-1][:MAX_SOURCE_CHARS]


def _is_logged(connection: Connection, manifest_sha256: str, *, sha256: str) -> bool:
    """A report from which somebody deleted findings is none that was ever logged."""
    return any(
        logged.event.kind is EventKind.CHAMPION_INSPECTED and logged.event.detail.get("report") == sha256
        for logged in events_of(connection, manifest_sha256)
    )
