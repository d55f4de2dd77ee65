"""Changed lines in unified form: right, the same both ways, and never more work than was allowed."""

import re
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tournament_sync.diff_trees import swapped_lines
from tournament_sync.diff.lines import MAX_LINES, MAX_STEPS_PER_FILE, TOO_MANY, line_diff

_TEXTS = st.lists(st.sampled_from(["a", "b", "c", "", "-", "+x", "@@ -1 +1 @@"]), max_size=30).map("\n".join)


def patched(old: str, lines: tuple[str, ...]) -> str:
    """`old` after the changes of a unified diff, applied by hand."""
    source = old.split("\n")
    result: list[str] = []
    at = 0
    for line in lines:
        if header := re.fullmatch(r"@@ -(\d+)(?:,(\d+))? \+\S+ @@", line):
            start = int(header[1]) - (header[2] != "0")
            result += source[at:start]
            at = start
        elif line.startswith("+"):
            result.append(line[1:])
        else:
            assert source[at] == line[1:]
            at += 1
            result += [line[1:]] if line.startswith(" ") else []
    return "\n".join(result + source[at:])


@given(_TEXTS, _TEXTS)
def test_the_lines_turn_one_text_into_the_other_and_back(old: str, new: str) -> None:
    forth, back = line_diff(old, new), line_diff(new, old)
    assert patched(old, forth.lines) == new
    assert patched(new, back.lines) == old
    assert swapped_lines(forth.lines) == back.lines
    assert (forth.lines == ()) is (old == new)


def test_only_what_is_near_a_change_is_shown() -> None:
    old = [str(number) for number in range(1000)]
    new = [*old[:500], "x", *old[501:]]
    assert line_diff("\n".join(old), "\n".join(new)).lines == (
        "@@ -498,7 +498,7 @@",
        *(f" {number}" for number in (497, 498, 499)),
        "-500",
        "+x",
        *(f" {number}" for number in (501, 502, 503)),
    )


def test_long_diffs_are_cut_and_say_so() -> None:
    found = line_diff("", "\n".join(map(str, range(MAX_LINES))))
    assert (len(found.lines), found.is_cut) == (MAX_LINES, True)
    assert not line_diff("", "x").is_cut


def test_control_characters_and_long_lines_are_escaped_and_cut() -> None:
    lines = line_diff("", "\x1b[31mred\r\u202e\n" + "x" * 10_000).lines
    assert all(line.isprintable() and len(line) <= 301 for line in lines)
    assert "+\\x1b[31mred\\r\\u202e" in lines


@pytest.mark.parametrize("count", [3000, 20_000])
def test_texts_that_would_take_too_long_are_not_compared(count: int) -> None:
    start_s = process_time()
    old = "\n".join(f"{number % 97}" for number in range(count))
    new = "\n".join(f"{number % 89}" for number in range(count))
    found = line_diff(f"x{old}x", f"y{new}y", max_steps=1000)
    assert (found.lines, found.is_cut, found.steps) == ((TOO_MANY,), True, 0)
    assert process_time() - start_s < 2


@pytest.mark.parametrize("period", [2, 7, 50, 150])
def test_the_allowed_work_takes_bounded_time(period: int) -> None:
    # Lines that repeat with two different periods are among the worst for difflib.
    old = "\n".join(f"{number % period}" for number in range(190))
    new = "\n".join(f"{number * 7 % (period + 1)}" for number in range(190))
    start_s = process_time()
    assert line_diff(old, new).steps <= MAX_STEPS_PER_FILE
    assert process_time() - start_s < 3
