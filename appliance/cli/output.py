"""How commands answer: data on stdout, talk on stderr, one exit code per kind of refusal."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any

from appliance.errors import (
    ApiError,
    ForbiddenError,
    HomeError,
    PolicyError,
    SettingsError,
    UnauthorizedError,
    UnreachableError,
)
from runner.errors import RunnerError


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
        case HomeError() | PolicyError() | UnreachableError() | RunnerError():
            return 3
        case _:
            return 1


def print_json(value: Any) -> None:  # Any: plain JSON
    """One JSON document."""
    print(json.dumps(value, indent=2))


def print_facts(facts: Mapping[str, object]) -> None:
    """One fact a line, names padded; what is None is left out."""
    shown = {name: value for name, value in facts.items() if value is not None}
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        print(f"{name:<{width}}  {printable(str(value))}")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Aligned columns without ruling; nothing is cut off, so that digests can be copied."""
    cells = [[name.upper() for name in columns], *([printable(str(cell)) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def printable(text: str) -> str:
    """`text` with control characters made visible, line feeds and tabs apart: guests' output is hostile."""
    return "".join(c if c in "\n\t" or c.isprintable() else c.encode("unicode_escape").decode() for c in text)
