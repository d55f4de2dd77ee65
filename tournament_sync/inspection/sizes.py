"""Brings a report into its order and under its size, and says so where something was left out."""

from collections.abc import Iterable
from dataclasses import replace
from typing import TypeVar

from tournament_sync.inspection.report import (
    MAX_FINDINGS,
    MAX_REPORT_BYTES,
    BaseImage,
    Download,
    Finding,
    InspectionReport,
    LicenceText,
    Table,
    encode_report,
    sorted_findings,
)
from tournament_sync.inspection.rules import finding, shown
from tournament_sync.inspection.secrets import mask

MAX_FACTS = 3000  # of each other list

_Item = TypeVar("_Item")


def whole_report(report: InspectionReport) -> InspectionReport:
    """`report` with each thing once, in order, credentials masked, and no longer than may be."""
    findings = {replace(found, found=mask(found.found)) for found in report.findings}
    downloads = {replace(download, target=mask(shown(download.target))) for download in report.downloads}
    for share in (1, 4, 16, 64, 256):
        cut = _cut(
            report,
            findings=sorted_findings(list(findings)),
            downloads=sorted(downloads, key=_place_of_download),
            max_facts=MAX_FACTS // share,
            max_findings=MAX_FINDINGS // share,
        )
        if len(encode_report(cut)) <= MAX_REPORT_BYTES:
            return cut
    raise AssertionError("a report of a few dozen entries is under the limit")


def _cut(
    report: InspectionReport,
    *,
    findings: Iterable[Finding],
    downloads: Iterable[Download],
    max_facts: int,
    max_findings: int,
) -> InspectionReport:
    lost: list[str] = []

    def first(items: Iterable[_Item], title: str) -> tuple[_Item, ...]:
        kept = tuple(items)
        if len(kept) > max_facts:
            lost.append(f"{title}: {len(kept)}, kept {max_facts}")
        return kept[:max_facts]

    licence = replace(report.licence, vendored=first(sorted(report.licence.vendored, key=_file), "licences"))
    paths = first(report.needs.writable_paths, "writable paths")
    cut = replace(
        report,
        licence=licence,
        base_images=first(sorted(report.base_images, key=_place_of_image), "base images"),
        downloads=first(downloads, "downloads"),
        needs=replace(report.needs, writable_paths=paths),
        tables=first(sorted(report.tables, key=_place_of_table), "tables"),
    )
    more = [finding("too-many-facts", file="", line=0, found="; ".join(lost))] if lost else []
    kept = tuple(findings)
    room = max_findings - len(more)
    if len(kept) > room:
        said = f"{len(kept)} findings, kept the worst {room - 1}"
        more.append(finding("too-many-findings", file="", line=0, found=said))
        kept = kept[: room - 1]
    return replace(cut, findings=sorted_findings([*kept, *more]))


def _file(text: LicenceText) -> str:
    return text.file


def _place_of_image(image: BaseImage) -> tuple[str, int, str]:
    return image.dockerfile, image.line, image.reference


def _place_of_download(download: Download) -> tuple[str, int, str, str, str, bool]:
    return (
        download.file,
        download.line,
        download.tool,
        download.target,
        download.phase.value,
        download.pinned,
    )


def _place_of_table(table: Table) -> tuple[str, str, str]:
    return table.file, table.name, table.sha256
