"""Inspects a tree in this process and writes the report; child.py is what calls it, under limits."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tournament_sync.inspection.capabilities import Served, contract_dockerfiles, read_capabilities
from tournament_sync.inspection.dockerfiles import DockerfileFacts, dockerfile_facts, is_dockerfile
from tournament_sync.inspection.entries import Entry, find_entry, reached
from tournament_sync.inspection.epochs import EpochFacts, Fit, fit_epochs
from tournament_sync.inspection.files import MAX_SOURCE_BYTES, inspect_file
from tournament_sync.inspection.kinds import PARSED_KINDS, TEXT_KINDS, Kind, kind_of
from tournament_sync.inspection.licences import MAX_LICENCE_BYTES, is_licence_name, read_licences
from tournament_sync.inspection.python_code import PythonFacts, is_output, read_python
from tournament_sync.inspection.python_commands import Command
from tournament_sync.inspection.report import (
    REPORT_VERSION,
    Capability,
    Download,
    FileCounts,
    Finding,
    InspectionReport,
    Needs,
    Phase,
    Table,
)
from tournament_sync.inspection.rules import finding, shown
from tournament_sync.inspection.secrets import find_secrets
from tournament_sync.inspection.shell import ShellFacts, read_shell
from tournament_sync.inspection.sizes import MAX_FACTS, whole_report
from tournament_sync.inspection.tables import tables_in_data
from tournament_sync.inspection.tree import TreeFile, read_tree

_MAX_KEPT_BYTES = 16 << 20  # of files that are needed together: Dockerfiles, requirements, scripts, licences
_MAX_REQUIREMENTS_BYTES = 64 << 10
# Told by rules of Python already, or no more than that a command holds what only the run knows.
_SAID_BY_PYTHON = frozenset({"shell-download-at-run", "shell-variable-command"})
_PLACEHOLDER = re.compile(r"\{(\w*)\}")
_SLOW_SUFFIXES = frozenset({".yaml", ".yml", ".toml"})
_MAX_SLOW_BYTES = 1 << 20  # of them that tables are looked for in, about a second's worth
_NAMED = re.compile(r"\{(\w+)\}")


@dataclass(slots=True, kw_only=True)
class _Tree:
    """What was gathered file by file."""

    paths: set[str] = field(default_factory=set)
    size_bytes: int = 0
    kinds: dict[Kind, int] = field(default_factory=dict)
    kept: dict[str, bytes] = field(default_factory=dict)  # for dockerfile_facts
    kept_bytes: int = 0
    slow_bytes: int = 0
    licences: list[TreeFile] = field(default_factory=list)
    shells: dict[str, bytes] = field(default_factory=dict)
    shell_facts: dict[str, ShellFacts] = field(default_factory=dict)
    python: dict[str, PythonFacts] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    downloads: list[Download] = field(default_factory=list)


def inspect_here(tree: Path, *, manifest_sha256: str) -> InspectionReport:
    """The report on `tree`. Raises TooManyEntriesError, OSError where the tree itself cannot be read."""
    gathered = _Tree()
    for file in read_tree(tree):
        _read_file(file, gathered)
    docker = dockerfile_facts(gathered.kept, names=gathered.paths)
    served, entries = _served(docker, gathered)
    licence, licence_findings = read_licences(gathered.licences)
    fit = fit_epochs(_epoch_facts(served, gathered.python), has_licence=licence.licence is not None)
    tables = [table for facts in gathered.python.values() for table in facts.tables] + gathered.tables
    capabilities = read_capabilities(served, gathered.python, paths=frozenset(gathered.paths), tables=tables)
    findings = [
        *gathered.findings,
        *docker.findings,
        *licence_findings,
        *_model_tables(tables),
        *_contract(served, capabilities, fit),
    ]
    scripts = frozenset(path for each in served.values() for path in reached(each.entry, gathered.python))
    report = InspectionReport(
        version=REPORT_VERSION,
        manifest_sha256=manifest_sha256,
        licence=licence,
        epochs=fit.epochs,
        epoch_reason=fit.reason,
        capabilities=capabilities,
        base_images=docker.base_images,
        downloads=(*docker.downloads, *gathered.downloads),
        needs=_needs(gathered, docker, entries, scripts or frozenset(gathered.python)),
        tables=tuple(tables),
        files=_counts(gathered),
        findings=tuple(findings),
    )
    return whole_report(report)


def _read_file(file: TreeFile, gathered: _Tree) -> None:
    kind = kind_of(file)
    gathered.paths.add(file.path)
    gathered.size_bytes += file.size_bytes
    gathered.kinds[kind] = gathered.kinds.get(kind, 0) + 1
    gathered.findings += inspect_file(file, kind)
    if kind not in TEXT_KINDS:
        return
    gathered.findings += find_secrets(file.data, file=file.path)
    if is_licence_name(file.path):
        gathered.licences.append(replace(file, data=file.data[:MAX_LICENCE_BYTES]))
    if kind in PARSED_KINDS and file.size_bytes > MAX_SOURCE_BYTES:
        return  # told by file-too-large
    if is_dockerfile(file.path) or _may_be_requirements(file, gathered):
        gathered.kept[file.path] = file.data
    if kind is Kind.PYTHON:
        _read_python(file, gathered)
    elif kind is Kind.SHELL:
        _read_shell(file, gathered)
    elif file.suffix not in _SLOW_SUFFIXES or _has_time(file, gathered):
        gathered.tables += tables_in_data(file.data, file=file.path)


def _has_time(file: TreeFile, gathered: _Tree) -> bool:
    gathered.slow_bytes += file.size_bytes
    return gathered.slow_bytes <= _MAX_SLOW_BYTES


def _may_be_requirements(file: TreeFile, gathered: _Tree) -> bool:
    if file.suffix != ".txt" or file.size_bytes > _MAX_REQUIREMENTS_BYTES:
        return False
    gathered.kept_bytes += file.size_bytes  # captions of images are .txt too
    return gathered.kept_bytes <= _MAX_KEPT_BYTES


def _read_python(file: TreeFile, gathered: _Tree) -> None:
    facts = read_python(file.data, file=file.path)
    gathered.python[file.path] = facts
    gathered.findings += facts.findings
    gathered.downloads += facts.downloads
    for command in facts.commands:
        shell = _as_shell(command, file.path)
        gathered.downloads += shell.downloads
        is_whole = "{" not in command.text
        gathered.findings += (
            found
            for found in shell.findings
            if found.rule not in _SAID_BY_PYTHON and (is_whole or found.rule != "shell-unparsable")
        )


def _as_shell(command: Command, path: str) -> ShellFacts:
    # What is not known before it runs becomes a variable, which the shell's rules know how to judge.
    text = _PLACEHOLDER.sub(lambda unknown: f"${{{unknown[1] or 'unknown'}}}", command.text)
    return read_shell(text, file=path, first_line=command.line, phase=Phase.RUN)


def _read_shell(file: TreeFile, gathered: _Tree) -> None:
    text = file.data.decode(errors="replace")
    facts = read_shell(text, file=file.path, first_line=1, phase=Phase.RUN)
    gathered.shells[file.path] = file.data
    gathered.shell_facts[file.path] = facts
    gathered.findings += facts.findings
    gathered.downloads += facts.downloads
    for code in facts.inline_python:
        inner = read_python(code.text.encode(errors="replace"), file=file.path)
        gathered.findings += (replace(found, line=found.line + code.line - 1) for found in inner.findings)


def _served(docker: DockerfileFacts, gathered: _Tree) -> tuple[dict[str, Served], list[Entry]]:
    """What each Dockerfile of the contract starts, by the name of the Dockerfile."""
    served, entries = {}, []
    for name, path in contract_dockerfiles(frozenset(gathered.paths)).items():
        entry = find_entry(path, docker, shells=gathered.shells, paths=gathered.paths)
        entries.append(entry)
        missing = [
            found.found
            for found in docker.findings
            if found.rule == "docker-missing-source" and found.file == path
        ]
        served[name] = Served(
            dockerfile=path,
            entry=entry.script,
            creates=_without_comments(gathered.kept.get(path, b"").decode(errors="replace")),
            missing=tuple(missing),
        )
    return served, entries


def _without_comments(dockerfile: str) -> str:
    return "\n".join(line for line in dockerfile.splitlines() if not line.lstrip().startswith("#"))


def _epoch_facts(served: Mapping[str, Served], python: Mapping[str, PythonFacts]) -> tuple[EpochFacts, ...]:
    found = []
    for name, each in served.items():
        entry = python.get(each.entry)
        if entry is None or entry.contract is None:
            continue
        words = [python[path].words for path in reached(each.entry, python)]
        choices = {
            option: argument.choices
            for argument in entry.contract.arguments
            for option in argument.names
            if argument.choices is not None
        }
        image_types = choices.get("--model-type")
        found.append(
            EpochFacts(
                kind="text" if "text" in name else "image",
                dockerfile=each.dockerfile,
                words=frozenset().union(*words),
                near_words=entry.words,
                image_types=None if image_types is None else frozenset(image_types),
                takes_environment="EnvTask" in choices.get("--task-type", ()),
            )
        )
    return tuple(found)


def _model_tables(tables: Sequence[Table]) -> Iterator[Finding]:
    for table in tables:
        if table.is_model_table:
            said = f"{table.name or 'the file'}: {table.entries} entries"
            yield finding("table-of-models", file=table.file, line=0, found=said)


def _contract(
    served: Mapping[str, Served], capabilities: Sequence[Capability], fit: Fit
) -> Iterator[Finding]:
    if not served:
        yield finding("contract-no-dockerfile", file="", line=0, found="no standalone trainer Dockerfile")
        return
    if not fit.epochs:
        yield finding("contract-no-epoch", file="", line=0, found=fit.reason)
    for row in capabilities:
        if row.dockerfile and ("could not be read" in row.reason or not row.entrypoint):
            yield finding("contract-no-parser", file=row.dockerfile, line=0, found=row.reason)


def _needs(
    gathered: _Tree, docker: DockerfileFacts, entries: Sequence[Entry], scripts: frozenset[str]
) -> Needs:
    """What `scripts`, the Python files that are reached, need."""
    facts = [gathered.python[path] for path in sorted(scripts)]
    contracts = [each.contract for each in facts if each.contract is not None]
    rows = [each.held_back_rows for each in contracts if each.held_back_rows is not None]
    minutes = [each.reserved_minutes for each in contracts if each.reserved_minutes is not None]
    shells = [gathered.shell_facts[path] for entry in entries for path in entry.shells]
    return Needs(
        redis=docker.needs_redis
        or any(entry.needs_redis for entry in entries)
        or any(each.needs_redis for each in facts),
        writable_paths=_writable(facts, shells),
        # One row at least has to be left to learn from, and one minute to do it in.
        minimum_rows=max(rows) + 1 if rows else None,
        minimum_minutes=max(minutes) + 1 if minutes else None,
    )


def _writable(facts: Sequence[PythonFacts], shells: Sequence[ShellFacts]) -> tuple[str, ...]:
    constants: dict[str, tuple[str, ...]] = {}
    for each in facts:
        constants |= each.constants
    found = {path for shell in shells for path in shell.writes}
    for each in facts:
        for write in each.writes:
            named = _NAMED.match(write.folder)
            heads = constants.get(named[1], ()) if named else ("",)
            rest = write.folder[named.end() :] if named else write.folder
            found |= {f"{head.rstrip('/')}{rest}".partition("{")[0].rstrip("/") for head in heads}
    kept = {path for path in found if path.startswith("/") and not is_output(path)}
    return tuple(sorted(shown(path) for path in kept))[:MAX_FACTS]


def _counts(gathered: _Tree) -> FileCounts:
    kinds = gathered.kinds
    return FileCounts(
        files=sum(kinds.values()),
        size_bytes=gathered.size_bytes,
        python=kinds.get(Kind.PYTHON, 0),
        shell=kinds.get(Kind.SHELL, 0),
        binaries=kinds.get(Kind.BINARY, 0),
        weights=kinds.get(Kind.WEIGHTS, 0),
    )
