"""Small trees and reports for tests of diffs, and the mirror image of a diff."""

import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from tournament_sync.diff import ChampionDiff
from tournament_sync.diff.model import Change, FileChange, FunctionChange, ValueChange
from tournament_sync.inspection.licences import ATTRIBUTION
from tournament_sync.inspection.report import (
    REPORT_VERSION,
    FileCounts,
    Finding,
    InspectionReport,
    LicenceFacts,
    Needs,
    Severity,
)

REPORT = InspectionReport(
    version=REPORT_VERSION,
    manifest_sha256="0" * 64,
    licence=LicenceFacts(licence=None, notice=None, vendored=(), attribution=ATTRIBUTION),
    epochs=("E3",),
    epoch_reason="",
    capabilities=(),
    base_images=(),
    downloads=(),
    needs=Needs(redis=False, writable_paths=(), minimum_rows=None, minimum_minutes=None),
    tables=(),
    files=FileCounts(files=0, size_bytes=0, python=0, shell=0, binaries=0, weights=0),
    findings=(),
)


def write_tree(folder: Path, files: Mapping[str, bytes | str]) -> Path:
    """The files below `folder`; those whose name ends in "!" are executable and lose the mark."""
    folder.mkdir(parents=True)
    for name, content in files.items():
        path = folder / name.removesuffix("!")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(0o755 if name.endswith("!") else 0o644)
    return folder


def finding_of(
    rule: str = "python-exec", *, file: str = "a.py", line: int = 1, found: str = "exec(x)"
) -> Finding:
    return Finding(rule=rule, severity=Severity.HIGH, file=file, line=line, found=found, why="because")


def swapped(diff: ChampionDiff) -> ChampionDiff:
    """The diff of the same champions the other way round."""
    return replace(
        diff,
        old_manifest_sha256=diff.new_manifest_sha256,
        new_manifest_sha256=diff.old_manifest_sha256,
        files=tuple(sorted(map(_swapped_file, diff.files), key=lambda each: (each.path, each.change))),
        texts=tuple(replace(each, lines=swapped_lines(each.lines)) for each in diff.texts),
        functions=tuple(map(_swapped_function, diff.functions)),
        tables=_swapped_values(diff.tables),
        arguments=_swapped_values(diff.arguments),
        dependencies=_swapped_values(diff.dependencies),
        base_images=_swapped_values(diff.base_images),
        capabilities=_swapped_values(diff.capabilities),
        needs=_swapped_values(diff.needs),
        licences=_swapped_values(diff.licences),
        findings_new=diff.findings_gone,
        findings_gone=diff.findings_new,
    )


def swapped_lines(lines: tuple[str, ...]) -> tuple[str, ...]:
    """A unified diff backwards: signs and ranges exchanged, removed lines before added ones again."""
    turned: list[str] = []
    for is_change, run in groupby(lines, key=lambda line: line[:1] in {"+", "-"}):
        if is_change:
            turned += sorted(map(_turned, run), key=lambda line: line[0] == "+")
        else:
            turned += [_turned(line) for line in run]
    return tuple(turned)


def _turned(line: str) -> str:
    if header := re.fullmatch(r"@@ -(\S+) \+(\S+) @@", line):
        return f"@@ -{header[2]} +{header[1]} @@"
    return {"+": "-", "-": "+"}.get(line[:1], line[:1]) + line[1:]


def _swapped_change(change: Change) -> Change:
    return {Change.ADDED: Change.REMOVED, Change.REMOVED: Change.ADDED}.get(change, change)


def _swapped_file(each: FileChange) -> FileChange:
    is_renamed = each.change is Change.RENAMED
    return FileChange(
        path=each.old_path if is_renamed else each.path,
        old_path=each.path if is_renamed else "",
        change=_swapped_change(each.change),
        old_sha256=each.new_sha256,
        new_sha256=each.old_sha256,
        old_is_executable=each.new_is_executable,
        new_is_executable=each.old_is_executable,
    )


def _swapped_function(each: FunctionChange) -> FunctionChange:
    return replace(
        each,
        change=_swapped_change(each.change),
        old_signature=each.new_signature,
        new_signature=each.old_signature,
    )


def _swapped_values(changes: tuple[ValueChange, ...]) -> tuple[ValueChange, ...]:
    return tuple(replace(each, old=each.new, new=each.old) for each in changes)
