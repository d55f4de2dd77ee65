"""What two inspection reports say differently: dependencies, images, capabilities, needs, licences, findings."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from tournament_sync.diff.functions import value_changes
from tournament_sync.diff.model import ValueChange
from tournament_sync.inspection.report import Download, Finding, InspectionReport, LicenceText

# PEP 508: a name, perhaps extras, then what is asked of it.
_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][\w.-]*)\s*(?:\[[^\]]*\])?\s*(.*)", re.ASCII | re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingChanges:
    """Findings by rule, file and text: a line that moved is no change."""

    new: tuple[Finding, ...]
    gone: tuple[Finding, ...]
    same: int


def dependency_changes(old: InspectionReport, new: InspectionReport) -> tuple[ValueChange, ...]:
    """What is fetched in another version, newly or no more; by tool and name."""
    return _changes(old, new, _dependencies)


def base_image_changes(old: InspectionReport, new: InspectionReport) -> tuple[ValueChange, ...]:
    """Images by the Dockerfile that builds on them."""
    return _changes(old, new, _base_images)


def capability_changes(old: InspectionReport, new: InspectionReport) -> tuple[ValueChange, ...]:
    """What serves each task type."""
    return _changes(old, new, _capabilities)


def need_changes(old: InspectionReport, new: InspectionReport) -> tuple[ValueChange, ...]:
    """Epochs of the contract, and what must be there for it to run."""
    return _changes(old, new, _needs)


def licence_changes(old: InspectionReport, new: InspectionReport) -> tuple[ValueChange, ...]:
    """Licence and notice of the repository and of vendored parts."""
    return _changes(old, new, _licences)


def finding_changes(old: InspectionReport, new: InspectionReport) -> FindingChanges:
    """See FindingChanges."""
    return FindingChanges(
        new=tuple(_only_first(new.findings, old.findings)),
        gone=tuple(_only_first(old.findings, new.findings)),
        same=(_counted(old.findings) & _counted(new.findings)).total(),
    )


_Facts = Iterable[tuple[tuple[str, str], str]]  # of file and name, each value of it


def _changes(
    old: InspectionReport, new: InspectionReport, read: Callable[[InspectionReport], _Facts]
) -> tuple[ValueChange, ...]:
    before, after = _joined(read(old)), _joined(read(new))
    changes: list[ValueChange] = []
    for file in sorted(before.keys() | after.keys()):
        changes += value_changes(file, before.get(file, {}), after.get(file, {}))
    return tuple(changes)


def _joined(facts: _Facts) -> dict[str, dict[str, str]]:
    """By file, then by name: all values, sorted."""
    values: dict[tuple[str, str], set[str]] = defaultdict(set)
    for place, value in facts:
        values[place].add(value)
    joined: dict[str, dict[str, str]] = defaultdict(dict)
    for (file, name), found in values.items():
        joined[file][name] = ", ".join(sorted(found))
    return joined


def _dependencies(report: InspectionReport) -> _Facts:
    for download in report.downloads:
        name, version = _named(download)
        # By name only: that an installation moved to another file changes nothing.
        yield (
            ("", f"{download.tool} {name}"),
            f"{version}{'' if download.pinned else ' (not pinned)'}".strip(),
        )


def _named(download: Download) -> tuple[str, str]:
    target = download.target
    if download.tool == "pip" and not target.startswith("-") and (match := _REQUIREMENT.fullmatch(target)):
        name = re.sub(r"[-_.]+", "-", match[1]).lower()  # PEP 503
        return (name, match[2].strip()) if "://" not in match[1] else (target, "")
    if download.tool in {"apt", "apk", "dnf", "conda"} and "=" in target:
        name, _, version = target.partition("=")
        return name, f"={version}"
    return target, ""


def _base_images(report: InspectionReport) -> _Facts:
    for image in report.base_images:
        name = image.reference.partition("@")[0]
        folder, _, last = name.rpartition("/")
        repository = f"{folder}/{last.partition(':')[0]}" if folder else last.partition(":")[0]
        yield (image.dockerfile, repository), image.reference


def _capabilities(report: InspectionReport) -> _Facts:
    for row in report.capabilities:
        serves = " ".join(part for part in (row.dockerfile, row.entrypoint) if part)
        yield ("", row.task_type), f"{row.support.value}{f' ({serves})' if serves else ''}: {row.reason}"


def _needs(report: InspectionReport) -> _Facts:
    needs = report.needs
    yield ("", "epochs"), " ".join(report.epochs) or "none"
    yield ("", "redis"), "yes" if needs.redis else "no"
    yield ("", "minimum rows"), "unknown" if needs.minimum_rows is None else str(needs.minimum_rows)
    yield ("", "minimum minutes"), "unknown" if needs.minimum_minutes is None else str(needs.minimum_minutes)
    yield from ((("", f"writable {path}"), "yes") for path in needs.writable_paths)


def _licences(report: InspectionReport) -> _Facts:
    for name, text in (("licence", report.licence.licence), ("notice", report.licence.notice)):
        if text is not None:
            yield ("", name), _licence(text)
    for text in report.licence.vendored:
        yield (text.file, "vendored licence"), _licence(text)


def _licence(text: LicenceText) -> str:
    return f"{text.recognised or 'not recognised'} {text.normalised_sha256}"


def _key(finding: Finding) -> tuple[str, str, str]:
    return finding.rule, finding.file, finding.found


def _counted(findings: Iterable[Finding]) -> Counter[tuple[str, str, str]]:
    return Counter(_key(finding) for finding in findings)


def _only_first(findings: Iterable[Finding], others: Iterable[Finding]) -> Iterator[Finding]:
    left = _counted(others)
    for finding in findings:
        if left[_key(finding)] > 0:
            left[_key(finding)] -= 1
        else:
            yield finding
