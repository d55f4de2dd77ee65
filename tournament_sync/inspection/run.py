"""Inspects a champion's files in a child process under limits; whatever becomes of the child, there is a report.

A champion that cannot be inspected has not passed: the report then has one critical finding, `could-not-inspect`.
"""

import json
import math
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import tournament_sync
from tournament_sync.errors import ReportError
from tournament_sync.inspection.child import EXIT_UNREADABLE
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

# -I shuts out the environment, the working directory and whatever lies in a home; so the path is handed over.
_PROGRAM = (
    "import sys; sys.path[:0] = sys.argv[1:]; from tournament_sync.inspection.child import main; main()"
)


def inspect_tree(tree: Path, *, manifest_sha256: str, timeout_s: float = 120) -> InspectionReport:
    """The report on the files in `tree`, whose manifest has that digest; nothing of them is run or imported.

    Raises ReportError if `tree` is no folder or no child can be started, which is no fault of the champion.
    """
    if tree.is_symlink() or not tree.is_dir():
        raise ReportError(f"{tree} is no folder that could be inspected")
    request = {
        "tree": str(tree.absolute()),
        "manifest_sha256": manifest_sha256,
        "cpu_s": max(1, math.ceil(timeout_s)),
    }
    ended = _run(json.dumps(request).encode(), timeout_s=timeout_s)
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


def _run(request: bytes, *, timeout_s: float) -> bytes | str:
    """What the child printed, or why it printed nothing that counts."""
    roots = [str(Path(path).absolute().parent) for path in tournament_sync.__path__]
    command = [sys.executable, "-I", "-B", "-c", _PROGRAM, *roots]
    try:
        process = subprocess.Popen(
            command,
            env={"PATH": os.defpath, "LC_ALL": "C.UTF-8"},
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except OSError as error:
        raise ReportError(f"the inspection could not be started: {error}") from error
    late = threading.Event()

    def end() -> None:
        late.set()
        process.kill()

    timer = threading.Timer(timeout_s, end)
    timer.start()
    with process:
        try:
            printed = _talk(process, request)
            if len(printed) > MAX_REPORT_BYTES:
                process.kill()
                return f"the inspection wrote more than {MAX_REPORT_BYTES} bytes"
            code = process.wait()
        finally:
            timer.cancel()
            process.kill()
    if late.is_set():
        return f"the inspection took longer than {timeout_s:g} s"
    return printed if code == 0 else _told(code, printed)


def _talk(process: subprocess.Popen[bytes], request: bytes) -> bytes:
    assert process.stdin is not None and process.stdout is not None  # pipes
    try:
        process.stdin.write(request)
        process.stdin.close()
    except BrokenPipeError:
        pass  # it ended before it listened; its exit code says why
    return process.stdout.read(MAX_REPORT_BYTES + 1)


def _told(code: int, printed: bytes) -> str:
    if code == EXIT_UNREADABLE:
        return f"the tree could not be read: {printed[:500].decode(errors='replace')}"
    if code == -signal.SIGXCPU:
        return "the inspection used up its processor time"
    if code < 0:
        return f"the inspection died of signal {signal.Signals(-code).name}"
    return f"the inspection ended with code {code}"
