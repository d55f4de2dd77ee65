"""What a shell text would do: its commands, what it fetches, and what a reader should know. Nothing is run.

Covered: code that is handed on as a literal (`bash -c`, `eval`, here-documents, `echo … | sh`) is read too, and
so are pipes from a download or a decoder into an interpreter. Not covered: what a program that is started does,
and code that is put together from more than literals; that is told as computed, never passed as read.
"""

import re
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tournament_sync.inspection.report import Download, Finding, Phase
from tournament_sync.inspection.rules import finding
from tournament_sync.inspection.shell_commands import LineMap, ShellCommand, Word
from tournament_sync.inspection.shell_programs import (
    SHELLS,
    is_python,
    other_code,
    program_name,
    program_words,
    reads_code_from_input,
    shell_code,
)
from tournament_sync.inspection.shell_rules import Script, fetched, told, written_paths
from tournament_sync.inspection.shell_syntax import parse_shell

__all__ = ["InlineCode", "LineMap", "ShellCommand", "ShellFacts", "is_shell", "read_shell"]

MAX_NESTED = 8  # texts within texts
MAX_TEXTS = 500  # of one script, itself included
_SHEBANG = re.compile(
    rb"#![ \t]*(?:/\S*/)?(?:env[ \t]+(?:-S[ \t]+)?)?(?:ba|da|a|z|k|mk|rba)?sh(?:[ \t\r\n]|$)"
)
_SUFFIXES = (".sh", ".bash", ".zsh", ".ksh")


@dataclass(frozen=True, slots=True, kw_only=True)
class InlineCode:
    """Python text that a shell command runs; `line` is where it starts in its file."""

    line: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShellFacts:
    """What one shell text would do. Commands in nested texts are listed too, after those around them."""

    downloads: tuple[Download, ...]
    findings: tuple[Finding, ...]
    needs_redis: bool
    commands: tuple[ShellCommand, ...]
    writes: tuple[str, ...]  # absolute paths, outside the declared output
    inline_python: tuple[InlineCode, ...]


def is_shell(name: str, head: bytes) -> bool:
    """Whether a file of that name that starts with `head` is a shell script."""
    return name.lower().endswith(_SUFFIXES) or _SHEBANG.match(head) is not None


def read_shell(
    text: str,
    *,
    file: str,
    first_line: int,
    phase: Phase,
    lines: LineMap | None = None,
    variables: Mapping[str, str] | None = None,
) -> ShellFacts:
    """What `text`, which starts at `first_line` of `file`, would do in `phase`.

    `lines` says where each part of it came from, for texts that were put together from several lines;
    `variables` are values that are set around it. What cannot be read is a finding, never an error.
    """
    data = text.encode(errors="replace")
    reading = _Reading(file=file, phase=phase, variables=dict(variables or {}))
    reading.read(data, lines or LineMap.of(data, first_line=first_line))
    return reading.facts()


@dataclass(slots=True, kw_only=True)
class _Reading:
    """The facts of one text and of those within it, as they are gathered."""

    file: str
    phase: Phase
    variables: dict[str, str]
    downloads: list[Download] = field(default_factory=list)
    # Insertion order, each once: a loop of the same command says nothing new.
    findings: dict[Finding, None] = field(default_factory=dict)
    commands: list[ShellCommand] = field(default_factory=list)
    writes: dict[str, None] = field(default_factory=dict)
    inline_python: list[InlineCode] = field(default_factory=list)

    def read(self, data: bytes, lines: LineMap) -> None:
        waiting = deque([(data, lines, 0)])
        texts = 0
        while waiting:
            data, lines, depth = waiting.popleft()
            texts += 1
            if depth > MAX_NESTED or texts > MAX_TEXTS:
                self._tell("shell-unparsable", lines.at(0), f"more code within code than {MAX_NESTED} deep")
                return
            for word in self._read_one(data, lines):
                waiting.append((word.text.encode(errors="replace"), word.lines, depth + 1))

    def facts(self) -> ShellFacts:
        return ShellFacts(
            downloads=tuple(self.downloads),
            findings=tuple(self.findings),
            needs_redis=any(found.rule == "shell-redis" for found in self.findings),
            commands=tuple(self.commands),
            writes=tuple(self.writes),
            inline_python=tuple(self.inline_python),
        )

    def _tell(self, rule: str, line: int, found: str) -> None:
        self.findings[finding(rule, file=self.file, line=line, found=found)] = None

    def _read_one(self, data: bytes, lines: LineMap) -> list[Word]:
        syntax = parse_shell(data, lines, variables=self.variables)
        for line, text in syntax.errors:
            self._tell("shell-unparsable", line, text)
        script = Script.of(syntax.commands, phase=self.phase)
        for command, rule, found in told(script):
            self._tell(rule, command.line, found)
        self._read_downloads(script)
        self.commands += syntax.commands
        nested: list[Word] = []
        for command in syntax.commands:
            self.writes.update(dict.fromkeys(written_paths(command) if self.phase is Phase.RUN else ()))
            self.inline_python += _inline_python(command)
            nested += _nested_texts(command, script)
        return nested

    def _read_downloads(self, script: Script) -> None:
        for command, found in fetched(script):
            self.downloads += [
                Download(
                    phase=self.phase,
                    file=self.file,
                    line=command.line,
                    tool=fetch.tool,
                    target=fetch.target,
                    pinned=fetch.pinned,
                )
                for fetch in found
            ]
            open_targets = [fetch.target for fetch in found if not fetch.pinned]
            if open_targets:
                system = found[0].tool in {"apt", "apk", "dnf", "zypper"}
                rule = "shell-unpinned-system" if system else "shell-unpinned-download"
                self._tell(rule, command.line, f"{found[0].tool}: {' '.join(open_targets)}")
            if found and self.phase is Phase.RUN:
                self._tell("shell-download-at-run", command.line, command.shown)


def _nested_texts(command: ShellCommand, script: Script) -> Iterator[Word]:
    """Shell code that stands within `command` as a literal."""
    words = program_words(command)
    code = shell_code(words)
    if code is not None:
        # What is not all literal is told as computed; the words that can be read are read all the same.
        if code.is_literal or not code.text.startswith(("$", "`")):
            yield code
    elif reads_code_from_input(words) and program_name(words) in SHELLS:
        if command.stdin is not None:
            yield command.stdin
        for source in script.upstream(command):
            if source.stdin is not None:
                yield source.stdin
            elif program_name(source.words) in {"echo", "printf"}:
                yield from source.words[1:]
    if program_name(words) == "find":
        yield from (
            _rest(words, number) for number, word in enumerate(words) if word.text.startswith("-exec")
        )


def _rest(words: tuple[Word, ...], number: int) -> Word:
    kept = [word for word in words[number + 1 :] if word.text not in {";", "+", "{}"}]
    text = " ".join(_quoted(word) for word in kept) or ":"
    return Word(text=text, is_literal=all(word.is_literal for word in kept), lines=words[number].lines)


def _quoted(word: Word) -> str:
    return "'" + word.text.replace("'", "'\\''") + "'" if word.is_literal else word.text


def _inline_python(command: ShellCommand) -> Iterator[InlineCode]:
    words = program_words(command)
    if not is_python(program_name(words)):
        return
    code = other_code(words)
    if code is None and reads_code_from_input(words):
        code = command.stdin
    if code is not None and code.is_literal:
        yield InlineCode(line=code.lines.at(0), text=code.text)
