import hashlib

import pytest

from attestation.errors import MalformedError
from attestation.paired import Interval, encode_losses, paired_interval

BEFORE = [3_000_000 + 17_000 * (row % 7) for row in range(30)]
AFTER = [2_900_000 + 23_000 * (row % 5) for row in range(30)]


GOLDEN = Interval(
    rows=30, mean_before=3048167, mean_after=2946000, mean_difference=-102167, low=-120033, high=-84067
)


def naive(before: list[int], after: list[int], *, resamples: int, tail: int) -> tuple[int, int]:
    """The docstring again, without any trick."""
    rows, sums = len(before), []
    for number in range(resamples):
        seed = b"assay paired bootstrap v1\0" + encode_losses(before, after) + number.to_bytes(4, "big")
        stream = hashlib.shake_128(seed).digest(4 * rows)
        draws = [int.from_bytes(stream[4 * k : 4 * k + 4], "big") % rows for k in range(rows)]
        sums.append(sum(after[draw] - before[draw] for draw in draws))
    sums.sort()
    half_up = [(2 * total + rows) // (2 * rows) for total in (sums[tail], sums[-1 - tail])]
    return half_up[0], half_up[1]


def test_is_what_the_docstring_says() -> None:
    found = paired_interval(BEFORE, AFTER, resamples=1000, confidence_permille=900)
    assert (found.low, found.high) == naive(BEFORE, AFTER, resamples=1000, tail=50)


def test_golden_value() -> None:
    assert paired_interval(BEFORE, AFTER) == GOLDEN


def test_interval_holds_the_mean() -> None:
    found = paired_interval(BEFORE, AFTER)
    assert found.low <= found.mean_difference <= found.high


def test_more_confidence_is_a_wider_interval() -> None:
    narrow, wide = (paired_interval(BEFORE, AFTER, confidence_permille=level) for level in (500, 990))
    assert wide.low < narrow.low <= narrow.high < wide.high


def test_no_change_is_an_interval_of_zero() -> None:
    found = paired_interval(BEFORE, BEFORE, resamples=1000)
    assert (found.low, found.mean_difference, found.high) == (0, 0, 0)


def test_rounds_halves_up() -> None:
    assert paired_interval([0, 1], [0, 0], resamples=1000).mean_before == 1  # 0.5
    assert paired_interval([0, -1], [0, 0], resamples=1000).mean_before == 0  # -0.5


def test_interval_depends_on_every_loss() -> None:
    other = [*AFTER[:-1], AFTER[-1] + 1]
    assert paired_interval(BEFORE, other, resamples=1000) != paired_interval(BEFORE, AFTER, resamples=1000)


@pytest.mark.parametrize(
    ("before", "after", "options", "message"),
    [
        ([1, 2], [1], {}, "2 losses before, but 1 after"),
        ([1], [1], {}, "1 rows, expected 2"),
        ([], [], {}, "0 rows"),
        ([1, True], [1, 2], {}, "not an integer"),
        ([1, 2], [1.0, 2], {}, "not an integer"),
        ([1, 2], [1, 2], {"confidence_permille": 1000}, "1000 permille"),
        ([1, 2], [1, 2], {"confidence_permille": 0}, "0 permille"),
        ([1, 2], [1, 2], {"resamples": 999}, "999 resamples"),
        ([1, 2], [1, 2], {"resamples": 50_000_001}, "no more than 100000000 draws"),
        ([1] * 100_001, [1] * 100_001, {}, "100001 rows"),
    ],
)
def test_refuses(before: list[int], after: list[int], options: dict[str, int], message: str) -> None:
    with pytest.raises(MalformedError, match=message):
        paired_interval(before, after, **options)
