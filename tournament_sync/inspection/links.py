"""What a release says of a champion besides its files, as findings of the report on them."""

from collections.abc import Sequence
from dataclasses import replace

from tournament_sync.git_objects import Link
from tournament_sync.inspection.report import InspectionReport, Support, sorted_findings
from tournament_sync.inspection.rules import finding


def with_links(report: InspectionReport, links: Sequence[Link]) -> InspectionReport:
    """`report`, which is about the files alone, with what the commit's tree has besides them."""
    told = [finding("link-left-out", file=link.name, line=0, found=f"→ {link.target}") for link in links]
    return replace(report, findings=sorted_findings([*report.findings, *told]))


def with_release(
    report: InspectionReport, *, links: Sequence[Link], epoch: str, channel: str
) -> InspectionReport:
    """`with_links`, and with what the release says of the files that they do not bear out."""
    told = []
    if report.epochs and epoch not in report.epochs:
        fits = ", ".join(report.epochs)
        told.append(finding("contract-epoch-mismatch", file="", line=0, found=f"{epoch}; it fits {fits}"))
    serves = {_channel(each.task_type) for each in report.capabilities if each.support is Support.YES}
    if serves and channel not in serves:
        told.append(
            finding(
                "contract-channel-mismatch",
                file="",
                line=0,
                found=f"{channel}; it serves {', '.join(sorted(serves))}",
            )
        )
    whole = with_links(report, links)
    return replace(whole, findings=sorted_findings([*whole.findings, *told]))


def _channel(task_type: str) -> str:
    """The tournament that a task belongs to."""
    if task_type.startswith("ImageTask"):
        return "image"
    return "environment" if task_type == "EnvTask" else "text"
