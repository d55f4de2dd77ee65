"""A Dockerfile as instructions with their lines, read as BuildKit's parser does, and compared with another reader.

dockerfile-parse alone knows no here-documents and ends an instruction at an empty line, so lines are joined here.
Where the two read different instructions, builders may too: that is told, never resolved.

*Source.* Dockerfile reference (docs.docker.com/reference/dockerfile): parser directives, escape, here-documents.
"""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from dockerfile_parse import DockerfileParser  # type: ignore[import-untyped]  # ships no types

from tournament_sync.inspection.shell_commands import LineMap, name_set

MAX_DOCKERFILE_BYTES = 256 << 10
MAX_LINE_BYTES = 65_535  # bufio.MaxScanTokenSize - 1: builders refuse longer lines
MAX_INSTRUCTIONS = 2000

INSTRUCTIONS = name_set(
    "ADD ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL MAINTAINER ONBUILD RUN SHELL STOPSIGNAL USER "
    "VOLUME WORKDIR"
)
_WITH_HEREDOCS = frozenset({"ADD", "COPY", "RUN"})
_DIRECTIVE = re.compile(r"(?:#|//)\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*", re.ASCII)
_DIRECTIVES = frozenset({"syntax", "escape", "check"})
_HEREDOC = re.compile(r"""(?:^|\s)\d*<<(-?)(?:(["'])([^\s"'<>]+)\2|([^\s"'<>]+))(?=\s|$|[|&;<>)])""")
_FLAG = re.compile(r"--[a-z-]+(?:=\S*)?(?:\s+|$)")
_SPACE = " \t\v\f\r"


class UnreadableDockerfileError(Exception):
    """No builder would take it, or it is over a limit. Never leaves this package."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heredoc:
    """A here-document of an instruction; `line` is that of its first line."""

    name: str
    text: str
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """One instruction. `value` is what follows its name and flags, continued lines joined into one."""

    name: str  # upper case
    flags: tuple[str, ...]
    value: str
    line: int
    lines: LineMap = field(repr=False)  # of `value` as UTF-8
    heredocs: tuple[Heredoc, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Oddity:
    """Something about how the file is written: a rule, and where it applies."""

    rule: str
    line: int
    found: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerfileSyntax:
    """`frontend` is the image that `# syntax=` asks for, "" if none; `escape` is the character for continuing."""

    instructions: tuple[Instruction, ...]
    frontend: str
    escape: str
    oddities: tuple[Oddity, ...]


def parse_dockerfile(data: bytes) -> DockerfileSyntax:
    """The instructions of `data`. Raises UnreadableDockerfileError."""
    if len(data) > MAX_DOCKERFILE_BYTES:
        raise UnreadableDockerfileError(f"{len(data)} bytes are over the limit of {MAX_DOCKERFILE_BYTES}")
    try:
        text = data.removeprefix(b"\xef\xbb\xbf").decode()
    except UnicodeDecodeError as error:
        raise UnreadableDockerfileError(f"not UTF-8 at byte {error.start}") from error
    if "\0" in text:
        raise UnreadableDockerfileError("a NUL byte")
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if len(line.encode()) > MAX_LINE_BYTES:
            raise UnreadableDockerfileError(f"line {number} is over the limit of {MAX_LINE_BYTES} bytes")
    return _Reader(lines).read()


class _Reader:
    """One pass over the lines of a Dockerfile."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = [line.rstrip("\r") for line in lines]
        self._at = 0
        self._oddities: list[Oddity] = []
        # The same lines for the other reader, without what it cannot read.
        self._plain = list(self._lines)
        directives = _directives(self._lines)
        self._frontend = directives.get("syntax", "")
        self._escape = directives.get("escape", "\\")
        if self._escape not in {"\\", "`"}:
            raise UnreadableDockerfileError(f"escape is {self._escape[:20]!r}, not a backslash or a backtick")
        self._continued = re.compile(rf"(.*){re.escape(self._escape)}[ \t]*", re.DOTALL)

    def read(self) -> DockerfileSyntax:
        instructions: list[Instruction] = []
        while self._at < len(self._lines):
            instruction = self._instruction()
            if instruction is not None:
                instructions.append(instruction)
            if len(instructions) > MAX_INSTRUCTIONS:
                raise UnreadableDockerfileError(f"more than {MAX_INSTRUCTIONS} instructions")
        if not instructions:
            raise UnreadableDockerfileError("no instructions")
        self._compare(instructions)
        return DockerfileSyntax(
            instructions=tuple(instructions),
            frontend=self._frontend,
            escape=self._escape,
            oddities=tuple(self._oddities),
        )

    def _instruction(self) -> Instruction | None:
        line = self._at + 1
        joined, marks = self._joined()
        if not joined.strip():
            return None
        name = joined.split(None, 1)[0].upper()
        if name not in INSTRUCTIONS:
            raise UnreadableDockerfileError(f"line {line}: {name[:40]!r} is no instruction")
        lines = LineMap(tuple(marks))
        position = len(joined) - len(joined.lstrip(_SPACE)) + len(name)
        position += len(joined[position:]) - len(joined[position:].lstrip())
        flags = []
        while flag := _FLAG.match(joined, position):
            flags.append(flag[0].rstrip())
            position = flag.end()
        value = joined[position:].rstrip()
        if not value:
            raise UnreadableDockerfileError(f"line {line}: {name} needs an argument")
        return Instruction(
            name=name,
            flags=tuple(flags),
            value=value,
            line=line,
            lines=lines.after(len(joined[:position].encode())),
            heredocs=tuple(self._heredocs(name, value)),
        )

    def _joined(self) -> tuple[str, list[tuple[int, int]]]:
        """The next line and those that continue it, and which line each part stood on."""
        joined, marks, goes_on = "", [(0, self._at + 1)], True
        first = self._at
        while goes_on and self._at < len(self._lines):
            text = self._lines[self._at]
            is_comment = text.lstrip().startswith("#")
            if self._at > first and (is_comment or not text.strip()):
                if not is_comment:
                    self._plain[self._at] = self._escape
                self._at += 1
                continue
            if self._at == first and is_comment:
                text = ""
            self._check_escape(text)
            match = self._continued.fullmatch(text)
            goes_on = match is not None
            if self._at > first:
                marks.append((len(joined.encode()), self._at + 1))
            joined += match[1] if match else text
            self._at += 1
        return joined, marks

    def _check_escape(self, text: str) -> None:
        # Builders since 2023 take a doubled escape at the end for an escaped escape, older ones continue.
        # Other white space behind it continues the line for some readers.
        is_doubled = text.rstrip(" \t").endswith(self._escape * 2)
        if is_doubled or (text.rstrip().endswith(self._escape) and not self._continued.fullmatch(text)):
            self._odd("docker-ambiguous", self._at + 1, text)

    def _heredocs(self, name: str, value: str) -> Iterator[Heredoc]:
        if name not in _WITH_HEREDOCS or value.startswith("["):
            return
        for match in _HEREDOC.finditer(value):
            self._odd("docker-heredoc", self._at, match[0].strip())
            end, first = match[3] or match[4], self._at
            body: list[str] = []
            while self._at < len(self._lines):
                text = self._lines[self._at]
                self._plain[self._at] = ""
                self._at += 1
                if (text.lstrip("\t") if match[1] else text) == end:
                    break
                body.append(text.lstrip("\t") if match[1] else text)
            else:
                raise UnreadableDockerfileError(f"line {first}: here-document {end[:40]!r} does not end")
            yield Heredoc(name=end, text="".join(f"{text}\n" for text in body), line=first + 1)

    def _compare(self, instructions: list[Instruction]) -> None:
        """Tell where dockerfile-parse, which other tools use, reads other instructions."""
        ours = {(instruction.line, instruction.name) for instruction in instructions}
        # A file in memory: with a path it would read, and on assignment write, the disk.
        content = io.BytesIO("\n".join(self._plain).encode())
        theirs = {
            (read["startline"] + 1, read["instruction"])
            for read in DockerfileParser(fileobj=content, env_replace=False).structure
            if read["instruction"] != "COMMENT"
        }
        for line, name in sorted(ours ^ theirs)[:5]:
            self._odd("docker-ambiguous", line, f"{name[:40]}: {self._lines[line - 1]}")

    def _odd(self, rule: str, line: int, found: str) -> None:
        self._oddities.append(Oddity(rule=rule, line=line, found=found))


def _directives(lines: list[str]) -> dict[str, str]:
    # BuildKit also finds `syntax` behind a `#!` line, and in comments that begin with `//`.
    found: dict[str, str] = {}
    start = 1 if lines and lines[0].startswith("#!") else 0
    for line in lines[start:]:
        match = _DIRECTIVE.fullmatch(line.lstrip())
        if match is None or match[1].lower() not in _DIRECTIVES:
            return found
        name = match[1].lower()
        if name in found:
            raise UnreadableDockerfileError(f"directive {name} is given twice")
        if name == "syntax" or line.lstrip().startswith("#"):
            found[name] = match[2]
    return found
