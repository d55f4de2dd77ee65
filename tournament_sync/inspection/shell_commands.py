"""Shell commands as values: words, redirections, and the lines that they came from."""

import re
from bisect import bisect_right
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class LineMap:
    """Which line of a file each byte of a text came from: pairs of offset and line, the first at offset 0."""

    marks: tuple[tuple[int, int], ...]

    def at(self, offset: int) -> int:
        """The line of the byte at `offset`."""
        return self.marks[max(0, bisect_right(self.marks, (offset, 1 << 60)) - 1)][1]

    def between(self, start: int, end: int) -> tuple[tuple[int, int], ...]:
        """The marks strictly after `start` and before `end`."""
        first = bisect_right(self.marks, (start, 1 << 60))
        return self.marks[first : bisect_right(self.marks, (end, -1), lo=first)]

    def after(self, offset: int) -> "LineMap":
        """The map of the same text from `offset` on."""
        later = ((at - offset, line) for at, line in self.marks if at > offset)
        return LineMap(((0, self.at(offset)), *later))

    @staticmethod
    def of(data: bytes, *, first_line: int) -> "LineMap":
        """The map of a text that stands in its file as it is."""
        starts = (match.end() for match in re.finditer(rb"\n", data))
        return LineMap(((0, first_line), *((at, first_line + n) for n, at in enumerate(starts, 1))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """A word after quotes were taken off. What is not literal is as written, e.g. "$(date)"."""

    text: str
    is_literal: bool
    lines: LineMap = field(repr=False, compare=False)  # of `text` as UTF-8


@dataclass(frozen=True, slots=True, kw_only=True)
class Redirect:
    """A redirection to or from a file, e.g. ">>" to "/etc/hosts"."""

    operator: str
    target: Word


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """`name=value`, alone, before a command or after `export`."""

    name: str
    value: Word


@dataclass(frozen=True, slots=True, kw_only=True)
class ShellCommand:
    """A simple command; `words` is empty for assignments alone.

    `stages` places it in pipes: pairs of a pipe's number and the stage in it, outermost pipe first.
    `span` are its bytes in the text. `stdin` is a here-document or here-string.
    """

    line: int
    words: tuple[Word, ...]
    assignments: tuple[Assignment, ...]
    redirects: tuple[Redirect, ...]
    stdin: Word | None
    in_background: bool
    stages: tuple[tuple[int, int], ...]
    span: tuple[int, int]

    @property
    def name(self) -> str:
        """The last part of the literal path of its program, "" if there is none or it is computed."""
        if not self.words or not self.words[0].is_literal:
            return ""
        return self.words[0].text.rpartition("/")[2]

    @property
    def shown(self) -> str:
        """Its words in one line, for a reader."""
        return " ".join(word.text for word in self.words)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShellSyntax:
    """The commands of a script in the order written; `errors` are what could not be read: line and text."""

    commands: tuple[ShellCommand, ...]
    errors: tuple[tuple[int, str], ...]


def name_set(text: str) -> frozenset[str]:
    """The words of `text`."""
    return frozenset(text.split())
