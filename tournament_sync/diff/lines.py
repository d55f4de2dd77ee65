"""Changed lines of a text file, in unified form; the work is bounded before it is begun."""

import difflib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tournament_sync.inspection.rules import shown

CONTEXT_LINES = 3
MAX_LINES = 400  # of one file's diff
# difflib takes the square of what it is given. These are steps of its inner loop, 10 million a second, at most:
# the worst that was found takes a third of them.
MAX_STEPS_PER_FILE = 60_000_000
TOO_MANY = "@@ too many lines to compare line by line @@"
_POPULAR_FROM = 200  # lines; from there on difflib leaves out lines that are more than 1 in 100


@dataclass(frozen=True, slots=True)
class LineDiff:
    """`steps` is the work that it took at most."""

    lines: tuple[str, ...]
    is_cut: bool
    steps: int


def line_diff(old: str, new: str, *, max_steps: int = MAX_STEPS_PER_FILE) -> LineDiff:
    """The lines that change `old` to `new`. Swapping the two swaps "-" and "+" and nothing else."""
    if old > new:
        # difflib is not symmetric: always compared in one order.
        return _swapped(line_diff(new, old, max_steps=max_steps))
    ours, theirs = old.split("\n"), new.split("\n")
    start, end = _same_ends(ours, theirs)
    ours, theirs = ours[start : len(ours) - end], theirs[start : len(theirs) - end]
    steps = _steps(ours, theirs)
    if steps > max_steps:
        return LineDiff(lines=(TOO_MANY,), is_cut=True, steps=0)
    lines: list[str] = []
    for line in _hunks(ours, theirs, start):
        if len(lines) == MAX_LINES:
            return LineDiff(lines=tuple(lines), is_cut=True, steps=steps)
        lines.append(line)
    return LineDiff(lines=tuple(lines), is_cut=False, steps=steps)


def _same_ends(old: Sequence[str], new: Sequence[str]) -> tuple[int, int]:
    """How many lines at the start and at the end need no comparison; some are left for context."""
    shorter = min(len(old), len(new))
    start = next((n for n in range(shorter) if old[n] != new[n]), shorter)
    end = next((n for n in range(shorter - start) if old[-1 - n] != new[-1 - n]), shorter - start)
    return max(0, start - CONTEXT_LINES), max(0, end - CONTEXT_LINES)


def _steps(old: Sequence[str], new: Sequence[str]) -> int:
    """At most so many steps: each match is looked for in what is left, line by line, wherever it stands."""
    times = Counter(new)
    if len(new) >= _POPULAR_FROM:
        limit = len(new) // 100 + 1
        times = Counter({line: count for line, count in times.items() if count <= limit})
    matches = sum(times[line] for line in old)
    return (len(old) + matches) * max(1, min(len(times), sum(line in times for line in set(old))))


def _hunks(old: list[str], new: list[str], before: int) -> Iterator[str]:
    matcher = difflib.SequenceMatcher(None, old, new)
    for group in matcher.get_grouped_opcodes(CONTEXT_LINES):
        first, last = group[0], group[-1]
        yield f"@@ -{_range(before + first[1], before + last[2])} +{_range(before + first[3], before + last[4])} @@"
        for tag, old_start, old_end, new_start, new_end in group:
            if tag == "equal":
                yield from (f" {shown(line)}" for line in old[old_start:old_end])
                continue
            yield from (f"-{shown(line)}" for line in old[old_start:old_end])
            yield from (f"+{shown(line)}" for line in new[new_start:new_end])


def _range(start: int, end: int) -> str:
    # As unified diffs count: from 1, and an empty range stands before its place.
    length = end - start
    return f"{start + 1}" if length == 1 else f"{start + bool(length)},{length}"


def _swapped(diff: LineDiff) -> LineDiff:
    lines: list[str] = []
    removed: list[str] = []
    for line in diff.lines:
        if line.startswith("-"):
            removed.append(f"+{line[1:]}")
        elif line.startswith("+"):
            lines.append(f"-{line[1:]}")
        else:
            lines += removed
            removed = []
            lines.append(_swapped_header(line) if line.startswith("@@") else line)
    return LineDiff(lines=tuple(lines + removed), is_cut=diff.is_cut, steps=diff.steps)


def _swapped_header(line: str) -> str:
    match line.split(" "):
        case ["@@", old, new, "@@"]:
            return f"@@ -{new[1:]} +{old[1:]} @@"
        case _:
            return line
