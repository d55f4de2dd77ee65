"""A report as text for a terminal, in the order in which five minutes are best spent."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from tournament_sync.inspection.report import (
    Download,
    Finding,
    InspectionReport,
    LicenceText,
    Phase,
    Severity,
    Support,
)
from tournament_sync.inspection.rules import shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much of each list is shown; of one rule, how many places. The report as JSON has all."""

    listed: int
    places: int


SHORT: Final = Limits(listed=20, places=5)
WHOLE: Final = Limits(listed=sys.maxsize, places=sys.maxsize)
_MARKS = {Support.YES: "yes", Support.NO: "no", Support.UNKNOWN: "?"}


def render_text(report: InspectionReport, *, limits: Limits = SHORT) -> str:
    """`report` for a reader. Whatever the champion wrote is escaped: it cannot move the cursor or forge a line."""
    sections = (
        ("What it is", _identity(report, limits.listed)),
        ("What it can do", _capabilities(report, limits.listed)),
        ("What it fetches", _downloads(report, limits.listed)),
        ("What it needs", _needs(report, limits.listed)),
        ("What was found", _findings(report.findings, limits.places)),
    )
    lines = [f"Champion of {report.licence.attribution}"]
    for title, content in sections:
        lines += ["", title, "-" * len(title), *content]
    return "\n".join(lines) + "\n"


def _identity(report: InspectionReport, kept: int) -> Iterator[str]:
    counts = report.files
    yield f"manifest    {report.manifest_sha256}"
    yield (
        f"files       {counts.files} ({counts.size_bytes:,} bytes): {counts.python} Python, {counts.shell} shell, "
        f"{counts.binaries} binaries, {counts.weights} weights"
    )
    yield f"epochs      {', '.join(report.epochs) or 'none'}"
    if report.epoch_reason:
        yield f"            {shown(report.epoch_reason)}"
    yield f"licence     {_licence(report.licence.licence)}"
    yield f"notice      {_licence(report.licence.notice)}"
    for text in report.licence.vendored[:kept]:
        yield f"a part      {shown(text.file)}: {text.recognised or 'not recognised'}"
    yield from _more(len(report.licence.vendored), kept=kept)
    yield f"attribution {report.licence.attribution}"


def _licence(text: LicenceText | None) -> str:
    return "absent, or not the text that champions are published under" if text is None else _named(text)


def _named(text: LicenceText) -> str:
    return f"{text.recognised or 'not recognised'} ({shown(text.file)})"


def _capabilities(report: InspectionReport, kept: int) -> Iterator[str]:
    if not report.capabilities:
        yield "nothing is known"
    for row in report.capabilities:
        yield f"{_MARKS[row.support]:<4}{row.task_type:<24}{shown(row.reason)}"
        if row.support is not Support.NO:
            yield f"    {'':<24}{shown(row.dockerfile)} starts {shown(row.entrypoint) or 'an unknown script'}"
    for table in [table for table in report.tables if table.is_model_table][:kept]:
        yield f"    knows {table.entries} models by name in {shown(table.file)} {shown(table.name)}".rstrip()


def _downloads(report: InspectionReport, kept: int) -> Iterator[str]:
    for image in report.base_images[:kept]:
        pinned = "pinned" if image.digest else "not pinned"
        yield f"base image  {shown(image.reference)} ({pinned}, {shown(image.dockerfile)}:{image.line})"
    yield from _more(len(report.base_images), kept=kept)
    for phase in Phase:
        fetched = [download for download in report.downloads if download.phase is phase]
        open_ends = sum(not download.pinned for download in fetched)
        moment = "while it is built" if phase is Phase.BUILD else "while it runs"
        yield f"{len(fetched)} {moment}, {open_ends} of them not pinned"
        yield from (f"  {_download(download)}" for download in fetched[:kept])
        yield from _more(len(fetched), kept=kept)


def _download(download: Download) -> str:
    pinned = "" if download.pinned else "  (not pinned)"
    return f"{download.tool} {shown(download.target)}{pinned}  {shown(download.file)}:{download.line}"


def _needs(report: InspectionReport, kept: int) -> Iterator[str]:
    needs = report.needs
    yield f"redis       {'yes' if needs.redis else 'no'}"
    yield f"rows        {_at_least(needs.minimum_rows, 'rows')}"
    yield f"time        {_at_least(needs.minimum_minutes, 'minutes')}"
    yield f"writes to   {', '.join(map(shown, needs.writable_paths[:kept])) or 'its output only'}"
    yield from _more(len(needs.writable_paths), kept=kept)


def _at_least(number: int | None, unit: str) -> str:
    return "no constant says" if number is None else f"at least {number} {unit}"


def _findings(findings: Sequence[Finding], kept: int) -> Iterator[str]:
    counts = [
        f"{sum(f.severity is severity for f in findings)} {severity}" for severity in reversed(Severity)
    ]
    yield ", ".join(counts)
    # Sorted worst first already; a rule has one severity, so its findings can be brought together.
    ordered = sorted(findings, key=lambda found: (-found.severity.rank, found.rule))
    for (severity, rule), group in groupby(ordered, key=lambda found: (found.severity, found.rule)):
        same = list(group)
        yield ""
        yield f"{severity.upper()} {rule} ({len(same)}): {same[0].why}"
        yield from (f"  {_place(found)}  {shown(found.found)}".rstrip() for found in same[:kept])
        yield from _more(len(same), kept=kept)


def _place(found: Finding) -> str:
    if not found.file:
        return "whole tree"
    return f"{shown(found.file)}:{found.line}" if found.line else shown(found.file)


def _more(count: int, *, kept: int) -> Iterator[str]:
    if count > kept:
        yield f"  and {count - kept} more"
