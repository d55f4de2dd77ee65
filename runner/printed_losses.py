"""Losses in what a guest prints: lines with one flat dictionary, as transformers' Trainer prints them, or JSON,
or of `name=number` words.

What is covered: a strict grammar of names and numbers, applied while the run prints; nothing is evaluated.
What is not covered: lines of other forms, and what was printed faster than the log could look at.
"""

import re
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from runner.losses import Losses, LossPoint, Points, Source, StepKind, plain_name, read_losses
from runner.thinned import Record, ThinnedLines, read_lines

PRINTED_NAME: Final = "losses.jsonl"
CAP_BYTES: Final = 2 << 20
MAX_LINE_BYTES: Final = 4096
MAX_NAMES: Final = 64
MAX_WORDS: Final = 32

_HINTS: Final = (b"loss", b"reward")
_FLAT: Final = re.compile(r"\{([^{}]{3,4000})\}")
_PAIR: Final = re.compile(
    r"""\s*(['"])(?P<name>[A-Za-z0-9_./-]{1,64})\1\s*:\s*(?:
        (?P<quote>['"]?)(?P<number>-?\d{1,20}(?:\.\d{0,20})?(?:[eE][+-]?\d{1,3})?|[+-]?(?:nan|inf|NaN|Infinity))(?P=quote)
      | '[^'\\]{0,80}' | "[^"\\]{0,80}" | True|False|None|true|false|null
    )\s*(?:,|$)""",
    re.VERBOSE | re.ASCII,
)
_WORD: Final = re.compile(
    r"([A-Za-z_][A-Za-z0-9_./-]{0,63})=(-?\d{1,20}(?:\.\d{0,20})?(?:[eE][+-]?\d{1,3})?)", re.ASCII
)
_STEP_NAMES: Final = ("step", "global_step")


class PrintedLosses:
    """Finds losses in lines, and keeps them in `losses.jsonl` of the open `folder`. `read` never raises."""

    def __init__(self, *, folder: int) -> None:
        self._folder = folder
        self._file: ThinnedLines | None = None
        self._ordinals: Counter[str] = Counter()
        self.is_lost = False

    def read(self, lines: bytes) -> None:
        """Look at whole `lines`, scrubbed and without times."""
        if self.is_lost or not any(hint in lines for hint in _HINTS):
            return
        for line in lines.split(b"\n"):
            if len(line) <= MAX_LINE_BYTES and b"{" in line and any(hint in line for hint in _HINTS):
                self._read_line(line.decode("utf-8", errors="replace"))

    def close(self) -> None:
        """Have what was found on the disk."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None
        self.is_lost = True

    def _read_line(self, line: str) -> None:
        values = parse_printed(line)
        steps = [int(values[name]) for name in _STEP_NAMES if name in values and values[name].is_integer()]
        points = Points()
        for name, value in values.items():
            self._ordinals[plain_name(name)] += 1
            points.add(name, value, step=steps[0] if steps else self._ordinals[plain_name(name)])
        if len(self._ordinals) > MAX_NAMES:
            self._ordinals.clear()  # no training: a guest that makes names up
        for point in points.found:
            self._write(point, is_ordinal=not steps)

    def _write(self, point: LossPoint, *, is_ordinal: bool) -> None:
        record = {"step": point.step, "name": point.name, "micros": point.micros, "is_ordinal": is_ordinal}
        try:
            if self._file is None:
                self._file = ThinnedLines(
                    folder=self._folder, name=PRINTED_NAME, cap_bytes=CAP_BYTES, thin=every_other
                )
            self._file.append(record)
        except OSError:
            self.is_lost = True  # a picture of a run must not end the run


def parse_printed(line: str) -> dict[str, float]:
    """The numbers of the one flat dictionary in `line`; none if there is anything in it that we do not know."""
    flat = _FLAT.search(line)
    if flat is None:
        return _parse_words(line)
    body, place, found = flat[1], 0, {}
    while place < len(body):
        pair = _PAIR.match(body, place)
        if pair is None or pair["name"] in found:
            return {}
        if pair["number"] is not None:
            found[pair["name"]] = float(pair["number"])
        place = pair.end()
    return found


def _parse_words(line: str) -> dict[str, float]:
    """The numbers of a line of `name=number` words and nothing else; none if a name stands twice."""
    found: dict[str, float] = {}
    for word in line.split()[:MAX_WORDS]:
        match = _WORD.fullmatch(word)
        if match is None or match[1] in found:
            return {}
        found[match[1]] = float(match[2])
    return found


def every_other(records: Sequence[Record]) -> list[Record]:
    """Of every name every other point, and its last."""
    seen: Counter[object] = Counter()
    total = Counter(record.get("name") for record in records)
    kept = []
    for record in records:
        name = record.get("name")
        seen[name] += 1
        if seen[name] % 2 or seen[name] == total[name]:
            kept.append(record)
    return kept


def read_printed(folder: Path) -> Losses | None:
    """What was found in the job's log so far; None if that is nothing. Raises HarvestError."""
    points, has_steps = [], True
    for record in read_lines(folder / PRINTED_NAME, max_bytes=CAP_BYTES):
        with suppress(KeyError, TypeError):
            step, name, micros = record["step"], record["name"], record["micros"]
            if isinstance(step, int) and isinstance(micros, int) and isinstance(name, str):
                points.append(LossPoint(step=step, name=name, micros=micros))
                has_steps = has_steps and record["is_ordinal"] is False
    if not points:
        return None
    steps = StepKind.STEPS if has_steps else StepKind.ORDINALS
    return Losses(source=Source.PRINTED, steps=steps, file="stdout.log", points=tuple(points))


def find_job_losses(folder: Path) -> Losses | None:
    """The job's curve: from its files once it has ended and left one, else from its log. Raises RunnerError."""
    return read_losses(folder) or read_printed(folder)
