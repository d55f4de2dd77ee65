"""Compares two champions' trees and reports. Content is read only where digests differ."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TypeVar

from attestation.oms import Manifest
from tournament_sync.diff import facts
from tournament_sync.diff.files import Side, changed_names, file_changes, open_side
from tournament_sync.diff.functions import (
    MAX_PYTHON_BYTES,
    UnreadablePythonError,
    function_changes,
    read_python,
    value_changes,
)
from tournament_sync.diff.lines import MAX_STEPS_PER_FILE, line_diff
from tournament_sync.diff.model import (
    DIFF_VERSION,
    ChampionDiff,
    FunctionChange,
    TextDiff,
    Unread,
    ValueChange,
)
from tournament_sync.diff.tables import MAX_JSON_BYTES, SUFFIXES, UnreadableTableError, read_entries
from tournament_sync.inspection.licences import ATTRIBUTION
from tournament_sync.inspection.report import InspectionReport
from tournament_sync.inspection.rules import shown

MAX_TEXT_BYTES = 1 << 20  # of a file that is compared line by line
MAX_STEPS = 2 * MAX_STEPS_PER_FILE
MAX_PYTHON_TOTAL = 32 << 20  # of all changed files on both sides; about 8 s
MAX_LISTED = 5000  # of one list
MAX_TEXT_LINES = 10_000  # of all line diffs together
# What the inspection says of files that it could not parse: they are not parsed here either, where no process
# of their own would die in our place.
_NOT_PARSED = frozenset({"python-unreadable", "python-unparsable", "python-2", "file-too-large"})

_Item = TypeVar("_Item")


def compare_here(
    old_tree: Path,
    new_tree: Path,
    *,
    old: InspectionReport,
    new: InspectionReport,
    old_manifest: Manifest | None = None,
    new_manifest: Manifest | None = None,
) -> ChampionDiff:
    """`tournament_sync.diff.run.compare`, in this process: parsers that run away take it along.

    Raises TreeError for trees that are not those of
    their manifests, or that change meanwhile.
    """
    before, after = open_side(old_tree, old_manifest), open_side(new_tree, new_manifest)
    contents = _Contents(before, after, _not_parsed(old), _not_parsed(new))
    contents.read()
    findings = facts.finding_changes(old, new)
    lists = _Lists()
    return ChampionDiff(
        version=DIFF_VERSION,
        attribution=ATTRIBUTION,
        old_manifest_sha256=old.manifest_sha256,
        new_manifest_sha256=new.manifest_sha256,
        files=lists.kept("files", file_changes(before, after)),
        texts=lists.kept("texts", contents.texts),
        functions=lists.kept("functions", contents.functions),
        tables=lists.kept("tables", contents.tables),
        arguments=lists.kept("arguments", contents.arguments),
        dependencies=lists.kept("dependencies", facts.dependency_changes(old, new)),
        base_images=lists.kept("base_images", facts.base_image_changes(old, new)),
        capabilities=lists.kept("capabilities", facts.capability_changes(old, new)),
        needs=lists.kept("needs", facts.need_changes(old, new)),
        licences=lists.kept("licences", facts.licence_changes(old, new)),
        findings_new=lists.kept("findings_new", findings.new),
        findings_gone=lists.kept("findings_gone", findings.gone),
        findings_same=findings.same,
        unread=lists.kept("unread", contents.unread),
        cut=tuple(lists.cut),
    )


def _not_parsed(report: InspectionReport) -> frozenset[str]:
    """Files that may not be parsed; "" for all."""
    if any(finding.rule == "could-not-inspect" for finding in report.findings):
        return frozenset({""})
    return frozenset(finding.file for finding in report.findings if finding.rule in _NOT_PARSED)


@dataclass(slots=True)
class _Lists:
    """Keeps lists within MAX_LISTED and remembers which were not."""

    cut: list[str] = field(default_factory=list)

    def kept(self, name: str, items: Iterable[_Item]) -> tuple[_Item, ...]:
        whole: Sequence[_Item] = tuple(items)
        if len(whole) > MAX_LISTED:
            self.cut.append(name)
        return tuple(whole[:MAX_LISTED])


@dataclass(slots=True)
class _Contents:
    """What differs inside files that both trees have."""

    old: Side
    new: Side
    old_not_parsed: frozenset[str]
    new_not_parsed: frozenset[str]
    texts: list[TextDiff] = field(default_factory=list)
    functions: list[FunctionChange] = field(default_factory=list)
    tables: list[ValueChange] = field(default_factory=list)
    arguments: list[ValueChange] = field(default_factory=list)
    unread: list[Unread] = field(default_factory=list)
    steps_left: int = MAX_STEPS
    lines_left: int = MAX_TEXT_LINES
    python_bytes: int = 0

    def read(self) -> None:
        for name in changed_names(self.old, self.new):
            before = self.old.read(name, max_bytes=MAX_JSON_BYTES)
            after = self.new.read(name, max_bytes=MAX_JSON_BYTES)
            if before is None or after is None:
                self._unread(name, f"over the limit of {MAX_JSON_BYTES} bytes")
                continue
            self._read_lines(name, before, after)
            if name.endswith((".py", ".pyw")):
                self._read_python(name, before, after)
            elif name.endswith(SUFFIXES):
                self._read_table(name, before, after)

    def _unread(self, name: str, why: str) -> None:
        self.unread.append(Unread(file=shown(name), why=shown(why)))

    def _read_lines(self, name: str, before: bytes, after: bytes) -> None:
        texts = [_text(data) for data in (before, after)]
        if texts[0] is None or texts[1] is None:
            return  # no text: that it changed is told among the files
        if max(len(before), len(after)) > MAX_TEXT_BYTES:
            self._unread(name, f"over the limit of {MAX_TEXT_BYTES} bytes for a comparison of lines")
            return
        if not self.lines_left:  # none would be kept
            self.texts.append(TextDiff(path=shown(name), lines=(), is_cut=True))
            return
        found = line_diff(texts[0], texts[1], max_steps=min(self.steps_left, MAX_STEPS_PER_FILE))
        self.steps_left -= found.steps
        kept = found.lines[: self.lines_left]
        self.lines_left -= len(kept)
        is_cut = found.is_cut or len(kept) < len(found.lines)
        self.texts.append(TextDiff(path=shown(name), lines=kept, is_cut=is_cut))

    def _read_python(self, name: str, before: bytes, after: bytes) -> None:
        if {"", name} & (self.old_not_parsed | self.new_not_parsed):
            self._unread(name, "the inspection could not parse it")
        elif max(len(before), len(after)) > MAX_PYTHON_BYTES:
            self._unread(name, f"over the limit of {MAX_PYTHON_BYTES} bytes for Python")
        elif self.python_bytes + len(before) + len(after) > MAX_PYTHON_TOTAL:
            self._unread(name, f"more than {MAX_PYTHON_TOTAL} bytes of Python changed")
        else:
            self.python_bytes += len(before) + len(after)
            try:
                ours, theirs = read_python(before, after)
                # What is over the limit of the list is only counted as far as it takes to see that.
                room = MAX_LISTED + 1 - len(self.functions)
                functions = list(islice(function_changes(name, ours.functions, theirs.functions), room))
            except UnreadablePythonError as error:
                self._unread(name, str(error))
                return
            self.functions += functions
            self.arguments += value_changes(name, ours.arguments, theirs.arguments)
            self.tables += value_changes(name, ours.values, theirs.values)

    def _read_table(self, name: str, before: bytes, after: bytes) -> None:
        try:
            self.tables += value_changes(
                name, read_entries(before, file=name), read_entries(after, file=name)
            )
        except UnreadableTableError as error:
            self._unread(name, str(error))


def _text(data: bytes) -> str | None:
    if b"\0" in data:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None
