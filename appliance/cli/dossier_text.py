"""A champion's dossier as text: one screen, most telling first, nothing cut off that somebody may have to copy."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from appliance.cli.output import one_line
from attestation.times import format_time

if TYPE_CHECKING:
    from appliance.dossier import Dossier, Inspected, ReleaseSaid
    from tournament_sync.inspection.report import Finding

_WIDTH: Final = 14


def dossier_lines(dossier: "Dossier") -> Iterator[str]:
    """The lines, each of them one: whatever somebody wrote into a reason or a name stays within its line."""
    return map(one_line, _lines(dossier))


def _lines(dossier: "Dossier") -> Iterator[str]:
    champion = dossier.champion
    decided = (
        ""
        if champion.decided_by is None or champion.decided_at is None
        else (f" by {champion.decided_by} at {format_time(champion.decided_at)}")
    )
    yield f"{champion.name}  {champion.status.value.upper()}{decided}"
    yield from (f"  because: {reason}" for reason in champion.reasons)
    yield ""
    yield from _facts(
        {
            "attribution": dossier.attribution,
            "channel": f"{champion.channel}, contract epoch {champion.contract_epoch}",
            "manifest": f"sha256:{champion.manifest_sha256}",
            "commit": champion.commit,
            "git tree": champion.tree,
            "came by": " ".join(filter(None, (dossier.came_by, dossier.came_from))) or "unknown",
            "proposed by": f"{champion.proposed_by} at {format_time(champion.proposed_at)}",
            "default for": ", ".join(f"{d.channel}/{d.task_type}" for d in dossier.default_for),
        }
    )
    yield from _release(dossier.release)
    yield from _inspected(dossier.inspected)
    yield from _findings("the tournament's API disagrees:", dossier.tournament_findings)
    yield from _people(dossier)


def _release(release: "ReleaseSaid | None") -> Iterator[str]:
    if release is None:
        yield from _facts({"publisher": "the release cannot be read"})
        return
    key = f"key {release.publisher_key[:16]}…"
    known = "NOT TRUSTED: " if release.publisher is None else f"{release.publisher}, "
    tournament = release.tournament or {}
    yield from _facts(
        {
            "publisher": f"{known}{key}, at {release.published_at}, from {release.origin}",
            "tournament": ", ".join(f"{name} {value}" for name, value in tournament.items())
            or "nothing was said of it",
            "images": ", ".join(f"{i['dockerfile']} sha256:{i['manifest']['sha256']}" for i in release.images)
            or "none pinned",
        }
    )


def _inspected(found: "Inspected | None") -> Iterator[str]:
    if found is None:
        yield from _facts({"inspection": "NONE: nothing is known from its files"})
        return
    counts = ", ".join(f"{number} {severity}" for severity, number in found.counts.items() if number)
    notice = "with notice" if found.notice_present else "WITHOUT NOTICE"
    yield from _facts(
        {
            "licence": f"{found.licence or 'NONE THAT IS KNOWN'}, {notice}",
            "fits epochs": " ".join(found.epochs) or "none",
            "report": f"sha256:{found.sha256}",
            "findings": counts or "none",
        }
    )
    yield from (
        f"  {task.task_type}: {task.support.value}" + (f" ({task.reason})" if task.reason else "")
        for task in found.capabilities
    )
    yield from _findings("worst findings (all of them: assay champions inspect):", found.worst)


def _findings(title: str, findings: "Iterable[Finding]") -> Iterator[str]:
    lines = [
        f"  {finding.severity.value:<8} {finding.file or '(tree)'}:{finding.line} {finding.rule}: {finding.found}"
        for finding in findings
    ]
    if lines:
        yield from ("", title, *lines)


def _people(dossier: "Dossier") -> Iterator[str]:
    yield ""
    for approval in dossier.approvals:
        yield (
            f"approved by {approval.approver} ({approval.printed_name}) at {format_time(approval.approved_at)}"
            f" under policy sha256:{approval.counts_under[:16]}…: {approval.reason}"
        )
    if not dossier.approvals:
        yield "approved by nobody"
    for decision in dossier.decisions:
        at = format_time(decision.decided_at)
        yield f"{decision.decision.value} by {decision.decided_by} at {at}: {decision.reason}"
    for model in dossier.models:
        flag = "SUSPECT " if dossier.champion.status.value == "revoked" else ""
        yield f"trained {flag}model sha256:{model.model} in run {model.run_id} ({model.state})"


def _facts(facts: Mapping[str, str]) -> Iterator[str]:
    return (f"{name:<{_WIDTH}}{value}" for name, value in facts.items() if value)
