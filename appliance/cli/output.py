"""How commands answer: data on stdout, talk on stderr, one exit code per kind of refusal."""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from threading import Timer
from typing import Any, Final

from appliance.errors import (
    ApiError,
    ConflictError,
    ForbiddenError,
    HomeError,
    InvalidOrderError,
    PolicyError,
    SettingsError,
    UnauthorizedError,
    UnreachableError,
)
from runner.errors import RunnerError
from tournament_sync.errors import SourceUnavailableError

QUIET_S: Final = 2.0  # what takes longer is told, so that nobody thinks it hangs


class Format(StrEnum):
    """Text for people, JSON for programs."""

    TEXT = "text"
    JSON = "json"


def talk(sentence: str) -> None:
    """Say something that is not data."""
    print(printable(sentence), file=sys.stderr)


def exit_code_of(error: Exception) -> int:
    """0 done, 1 refused, 2 usage, 3 cannot decide or unreachable, 4 authentication."""
    match error:
        case SettingsError():
            return 2
        case UnauthorizedError() | ForbiddenError():
            return 4
        case ApiError(answer_code="unauthorized" | "forbidden"):
            return 4
        case ApiError(answer_status=status):
            return 3 if status >= 500 else 1
        case HomeError() | PolicyError() | UnreachableError() | RunnerError() | SourceUnavailableError():
            return 3
        case _:
            return 1


def print_json(value: Any) -> None:  # Any: plain JSON
    """One JSON document."""
    print(json.dumps(value, indent=2))


def print_bytes(document: bytes) -> None:
    """A document whose digest counts: verbatim, without a line feed behind it."""
    sys.stdout.buffer.write(document)
    sys.stdout.buffer.flush()


def read_small(path: Path, *, max_bytes: int) -> bytes:
    """The whole of a file that a person named. Raises InvalidOrderError if it is larger, or cannot be read."""
    try:
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
    except OSError as error:
        raise InvalidOrderError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > max_bytes:
        raise InvalidOrderError(f"{path} is over the limit of {max_bytes} bytes")
    return content


def write_new(path: Path, content: bytes) -> None:
    """Write `content` to a file that does not exist yet. Raises ConflictError."""
    try:
        with path.open("xb") as file:
            file.write(content)
    except OSError as error:
        raise ConflictError(f"{path} cannot be written: {error.strerror}; give a new file") from error


@contextmanager
def progress(doing: str, *, quiet_s: float = QUIET_S) -> Iterator[None]:
    """Say on stderr what goes on, once it has taken two seconds."""
    timer = Timer(quiet_s, talk, (f"{doing} …",))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def print_facts(facts: Mapping[str, object]) -> None:
    """One fact a line, names padded; what is None is left out."""
    shown = {name: value for name, value in facts.items() if value is not None}
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        print(f"{name:<{width}}  {one_line(str(value))}")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Aligned columns without ruling; nothing is cut off, so that digests can be copied."""
    cells = [[name.upper() for name in columns], *([one_line(str(cell)) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def printable(text: str) -> str:
    """`text` with control characters made visible, line feeds and tabs apart: guests' output is hostile."""
    return "".join(c if c in "\n\t" or c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def one_line(text: str) -> str:
    """`printable` without exceptions: what stands in a line must not begin another one, which nobody said."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")
