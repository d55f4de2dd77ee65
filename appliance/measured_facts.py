"""Reading what was measured: plain JSON of which nothing is taken for granted, one fact at a time.

What is covered: a fact that is missing or of another shape is None, in text "not told", and never a good one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

# Any, in the whole module: that plain JSON.
Facts = Mapping[str, Any]

NOT_TOLD: Final = "not told"
MAX_SHOWN_CHARS: Final = 400
_MAP_COLUMNS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One fact for the screen, as text."""

    name: str
    value: str


def fact(facts: object, *path: str) -> Any:
    """What stands at `path`, None if nothing does."""
    found = facts
    for name in path:
        if not isinstance(found, Mapping):
            return None
        found = found.get(name)
    return found


def shown(value: object) -> str:
    """A fact as text; what is missing is "not told"."""
    match value:
        case None:
            return NOT_TOLD
        case bool():
            return "yes" if value else "no"
        case Mapping():
            text = ", ".join(f"{shown(name)} {shown(part)}" for name, part in sorted(value.items())) or "none"
        case list() | tuple():
            text = ", ".join(map(shown, value)) or "none"
        case _:
            text = "".join(map(_printable, str(value))) or "nothing"
    return text if len(text) <= MAX_SHOWN_CHARS else f"{text[:MAX_SHOWN_CHARS]}…"


def amount(name: str, value: object) -> str:
    """A number as text, bytes also in GiB."""
    if type(value) is int and value > 0 and name.endswith("bytes"):
        return f"{value} ({value / (1 << 30):.2f} GiB)"
    return shown(value)


def rows_of(facts: Facts, *names: str) -> tuple[Row, ...]:
    """The facts of these names, as rows."""
    return tuple(Row(name=name.replace("_", " "), value=shown(fact(facts, name))) for name in names)


def integers(value: object, *, may_be_empty: bool = False) -> list[int] | None:
    """`value` if it is a list of integers, None otherwise; an empty one counts only if it may be."""
    if not isinstance(value, list) or not all(type(number) is int for number in value):
        return None
    return value if value or may_be_empty else None


def map_rows(value: object) -> list[list[int]] | None:
    """The rows of an id map: inside, outside, how many."""
    if not isinstance(value, list) or not value:
        return None
    rows = [row for row in map(integers, value) if row is not None and len(row) == _MAP_COLUMNS]
    return rows if len(rows) == len(value) else None


def hexadecimal(value: object) -> int | None:
    """The number that `value` spells, None if it spells none."""
    try:
        return int(str(value), 16)
    except ValueError:
        return None


def items(value: object) -> list[tuple[str, Any]]:
    """The entries of an object; none of anything else."""
    return [(shown(name), part) for name, part in value.items()] if isinstance(value, Mapping) else []


def listed(value: object) -> list[Any]:
    """The parts of a list; none of anything else."""
    return value if isinstance(value, list) else []


def is_positive(value: object) -> bool:
    """Whether `value` is an integer above 0."""
    return type(value) is int and value > 0


def _printable(letter: str) -> str:
    return letter if letter.isprintable() else letter.encode("unicode_escape").decode()
