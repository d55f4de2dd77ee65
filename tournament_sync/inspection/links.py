"""The links that were left out of a champion's files, as findings of its report."""

from collections.abc import Sequence
from dataclasses import replace

from tournament_sync.git_objects import Link
from tournament_sync.inspection.report import InspectionReport, sorted_findings
from tournament_sync.inspection.rules import finding


def with_links(report: InspectionReport, links: Sequence[Link]) -> InspectionReport:
    """`report`, which is about the files alone, with what the commit's tree has besides them."""
    told = [finding("link-left-out", file=link.name, line=0, found=f"→ {link.target}") for link in links]
    return replace(report, findings=sorted_findings([*report.findings, *told]))
