"""Inspects a champion's files in a child process under limits; whatever becomes of the child, there is a report.

A champion that cannot be inspected has not passed: the report then has one critical finding, `could-not-inspect`.
"""

import json
from pathlib import Path

from tournament_sync.errors import ReportError
from tournament_sync.inspection.licences import ATTRIBUTION
from tournament_sync.inspection.report import (
    MAX_REPORT_BYTES,
    REPORT_VERSION,
    FileCounts,
    InspectionReport,
    LicenceFacts,
    Needs,
    parse_report,
)
from tournament_sync.inspection.rules import finding
from tournament_sync.limited_child import Work, ask, cpu_limit_s, program_of

_PROGRAM = program_of("tournament_sync.inspection.child")


def inspect_tree(tree: Path, *, manifest_sha256: str, timeout_s: float = 120) -> InspectionReport:
    """The report on the files in `tree`, whose manifest has that digest; nothing of them is run or imported.

    Raises ReportError if `tree` is no folder or no child can be started, which is no fault of the champion.
    """
    if tree.is_symlink() or not tree.is_dir():
        raise ReportError(f"{tree} is no folder that could be inspected")
    request = {
        "tree": str(tree.absolute()),
        "manifest_sha256": manifest_sha256,
        "cpu_s": cpu_limit_s(timeout_s),
    }
    work = Work(name="inspection", timeout_s=timeout_s, max_printed_bytes=MAX_REPORT_BYTES)
    ended = ask(_PROGRAM, json.dumps(request).encode(), work=work)
    if isinstance(ended, str):
        return could_not_inspect(ended, manifest_sha256=manifest_sha256)
    try:
        report = parse_report(ended)
    except ReportError as error:
        return could_not_inspect(f"the inspection wrote no report: {error}", manifest_sha256=manifest_sha256)
    if report.manifest_sha256 != manifest_sha256:
        return could_not_inspect("the inspection wrote another report", manifest_sha256=manifest_sha256)
    return report


def could_not_inspect(reason: str, *, manifest_sha256: str) -> InspectionReport:
    """The report on a tree of which nothing is known, for `reason`."""
    return InspectionReport(
        version=REPORT_VERSION,
        manifest_sha256=manifest_sha256,
        licence=LicenceFacts(licence=None, notice=None, vendored=(), attribution=ATTRIBUTION),
        epochs=(),
        epoch_reason="it could not be inspected",
        capabilities=(),
        base_images=(),
        downloads=(),
        needs=Needs(redis=False, writable_paths=(), minimum_rows=None, minimum_minutes=None),
        tables=(),
        files=FileCounts(files=0, size_bytes=0, python=0, shell=0, binaries=0, weights=0),
        findings=(finding("could-not-inspect", file="", line=0, found=reason),),
    )
