"""Compares two champions in a child process under limits: their files are read there by parsers that may run away."""

import json
from pathlib import Path

from attestation.oms import Manifest
from tournament_sync.diff.model import MAX_DIFF_BYTES, ChampionDiff, parse_diff
from tournament_sync.errors import ReportError
from tournament_sync.inspection.report import InspectionReport, encode_report
from tournament_sync.limited_child import Work, ask, cpu_limit_s, program_of

_PROGRAM = program_of("tournament_sync.diff.child")


def compare(
    old_tree: Path,
    new_tree: Path,
    *,
    old: InspectionReport,
    new: InspectionReport,
    old_manifest: Manifest | None = None,
    new_manifest: Manifest | None = None,
    timeout_s: float = 60,
) -> ChampionDiff:
    """What changed from the champion in `old_tree` to the one in `new_tree`, with their reports.

    With manifests only files whose digest differs are read. Raises ReportError for trees that cannot be compared:
    not those of their manifests, changed meanwhile, or too much for the limits.
    """
    request = {
        "cpu_s": cpu_limit_s(timeout_s),
        "old": _side(old_tree, old, old_manifest),
        "new": _side(new_tree, new, new_manifest),
    }
    work = Work(name="comparison", timeout_s=timeout_s, max_printed_bytes=MAX_DIFF_BYTES)
    ended = ask(_PROGRAM, json.dumps(request).encode(), work=work)
    if isinstance(ended, str):
        raise ReportError(f"the champions could not be compared: {ended}")
    diff = parse_diff(ended)
    if (diff.old_manifest_sha256, diff.new_manifest_sha256) != (old.manifest_sha256, new.manifest_sha256):
        raise ReportError("the champions could not be compared: the child compared others")
    return diff


def _side(tree: Path, report: InspectionReport, manifest: Manifest | None) -> dict[str, object]:
    return {
        "tree": str(tree.absolute()),
        "report": encode_report(report).decode(),
        "manifest": None if manifest is None else [[file.name, file.sha256] for file in manifest.files],
    }
