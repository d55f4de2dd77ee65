"""What a pass over a source brought, told: champions with what is known against them, and what to do next."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from appliance.cli.output import Format, one_line, print_json, talk
from appliance.errors import AdmissionError

if TYPE_CHECKING:
    from appliance.assembly import Appliance
    from tournament_sync.inspection.report import Finding
    from tournament_sync.sync import SyncReport

_UNTRUSTED: Final = "is not in the trust root"  # as attestation.trust words it; a hint hangs on it, no more
_HOW_TO_TRUST: Final = (
    "who knows that publisher: `assay people trust NAME --role publisher --public-key FILE --valid-from TIME`"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """What is known here of a champion. `counts` are the findings by severity, without those that there are none of."""

    name: str
    manifest_sha256: str
    counts: dict[str, int] | None  # None: it was not inspected
    disagreements: "tuple[Finding, ...]"


def tell(appliance: "Appliance", report: "SyncReport", output: Format) -> None:
    """What a pass brought. Raises AdmissionError if a champion was refused."""
    known = [_known_of(appliance, name) for name in report.known]
    new = [(_known_of(appliance, s.champion.name), s.champion.commit) for s in report.new]
    if output is Format.JSON:
        print_json(
            {
                "new": [{"commit": commit, **_plain(told)} for told, commit in new],
                "known": list(report.known),
                "refused": [{"name": refusal.name, "reason": refusal.reason} for refusal in report.refused],
                "revoked": [
                    {
                        "name": revoked.name,
                        "state": "held" if revoked.is_held else "revoked",
                        "reason": revoked.reason,
                    }
                    for revoked in report.revoked
                ],
            }
        )
    for told, commit in new:
        talk(f"new      {told.name}  commit {commit}")
        _talk_of(told)
    for told in known:
        talk(f"known    {told.name}")
        _talk_disagreements(told)
    for refusal in report.refused:
        talk(one_line(f"refused  {refusal.name}: {refusal.reason}"))
        if _UNTRUSTED in refusal.reason:
            talk(f"         {_HOW_TO_TRUST}")
    for revoked in report.revoked:
        done = "held    " if revoked.is_held else "revoked "
        talk(one_line(f"{done} {revoked.name}: {revoked.reason}"))
    if not (new or report.refused or report.revoked):
        talk("nothing new")
    if new:
        named = new[0][0].name if len(new) == 1 else "NAME"
        talk(f"next     look: assay champions show {named}; then approve by another person")
    if report.refused:
        count = len(report.refused)
        raise AdmissionError("1 champion was refused" if count == 1 else f"{count} champions were refused")


def _known_of(appliance: "Appliance", name: str) -> _Told:
    from appliance.champion_report import crosscheck_findings, kept_report
    from appliance.store import champions
    from appliance.store.engine import reading
    from tournament_sync.inspection.report import Severity

    with reading(appliance.engine) as connection:
        manifest = champions.by_name(connection, name).manifest_sha256
        report = kept_report(connection, manifest, trust=appliance.home.trust())
        disagreements = crosscheck_findings(connection, manifest)
    counts = None
    if report is not None:
        by_severity = {severity.value: report.count(severity) for severity in reversed(Severity)}
        counts = {severity: count for severity, count in by_severity.items() if count}
    return _Told(name=name, manifest_sha256=manifest, counts=counts, disagreements=disagreements)


def _talk_of(told: _Told) -> None:
    talk(f"         manifest sha256:{told.manifest_sha256}")
    if told.counts is None:
        talk("         NOT INSPECTED: nothing is known from its files")
    else:
        counts = ", ".join(f"{count} {severity}" for severity, count in told.counts.items())
        talk(f"         findings: {counts or 'none'}")
    _talk_disagreements(told)


def _talk_disagreements(told: _Told) -> None:
    for finding in told.disagreements:
        found = f"{finding.severity.value} {finding.rule}: {finding.found} ({finding.why})"
        talk(one_line(f"         tournament: {found}"))


def _plain(told: _Told) -> dict[str, Any]:  # Any: plain JSON
    return {
        "name": told.name,
        "manifest_sha256": told.manifest_sha256,
        "findings": told.counts,
        "tournament_findings": [
            {"severity": finding.severity.value, "rule": finding.rule, "found": finding.found}
            for finding in told.disagreements
        ],
    }
