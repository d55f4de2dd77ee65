"""The paired comparison of losses before and after training, in integers, so that anybody gets the same.

Percentile bootstrap of the mean difference, its "random" numbers a function of the losses alone.
"""

import hashlib
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from attestation import canonical
from attestation.errors import MalformedError

MAX_ROWS = 100_000
MAX_DRAWS = 100_000_000  # rows × resamples: about ten seconds
_DOMAIN = b"assay paired bootstrap v1\0"
_DRAW_BYTES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """Means and the interval of the mean difference (after - before), in the unit of the losses.

    Negative differences are improvements. `high` < 0 says that training helped, at the chosen confidence.
    """

    rows: int
    mean_before: int
    mean_after: int
    mean_difference: int
    low: int
    high: int


def encode_losses(before: Sequence[int], after: Sequence[int]) -> bytes:
    """Both vectors as the file `evaluation/losses.json`, which is also the seed of the bootstrap."""
    return canonical.encode({"after": list(after), "before": list(before)})


def paired_interval(
    before: Sequence[int], after: Sequence[int], *, resamples: int = 10_000, confidence_permille: int = 950
) -> Interval:
    """The interval of the mean of after[i] - before[i]. Raises MalformedError for unusable input.

    Resample k (from 0) draws row `word mod rows` for each of `rows` big-endian 32-bit words of
    SHAKE-128(domain ‖ losses file ‖ k as 4 bytes, big-endian). The sums are sorted; with
    t = resamples · (1000 - confidence) div 2000, the interval runs from sum t to sum (resamples - 1 - t).
    Every mean is rounded to the nearest integer, halves up.
    """
    rows = len(before)
    _check_input(before, after, resamples=resamples, confidence_permille=confidence_permille)
    differences = [late - early for early, late in zip(before, after, strict=True)]
    sums = _resampled_sums(differences, seed=_DOMAIN + encode_losses(before, after), resamples=resamples)
    tail = resamples * (1000 - confidence_permille) // 2000
    return Interval(
        rows=rows,
        mean_before=_mean(sum(before), rows),
        mean_after=_mean(sum(after), rows),
        mean_difference=_mean(sum(differences), rows),
        low=_mean(sums[tail], rows),
        high=_mean(sums[resamples - 1 - tail], rows),
    )


def _check_input(
    before: Sequence[int], after: Sequence[int], *, resamples: int, confidence_permille: int
) -> None:
    if len(before) != len(after):
        raise MalformedError(f"{len(before)} losses before, but {len(after)} after")
    if not 2 <= len(before) <= MAX_ROWS:
        raise MalformedError(f"{len(before)} rows, expected 2 to {MAX_ROWS}")
    for loss in (*before, *after):
        if not isinstance(loss, int) or isinstance(loss, bool):
            raise MalformedError("a loss is not an integer")
    if not 1 <= confidence_permille <= 999:
        raise MalformedError(f"confidence of {confidence_permille} permille, expected 1 to 999")
    if not 1000 <= resamples <= MAX_DRAWS // len(before):
        raise MalformedError(
            f"{resamples} resamples of {len(before)} rows, expected 1000 or more and "
            f"no more than {MAX_DRAWS} draws"
        )


def _resampled_sums(differences: Sequence[int], *, seed: bytes, resamples: int) -> list[int]:
    rows = len(differences)
    seeded = hashlib.shake_128(seed)
    sums = []
    for resample in range(resamples):
        stream = seeded.copy()
        stream.update(resample.to_bytes(4, "big"))
        words = array("I", stream.digest(_DRAW_BYTES * rows))
        if sys.byteorder == "little":
            words.byteswap()
        # Modulo favours low rows by at most rows / 2^32: far below what an interval can show.
        sums.append(sum([differences[word % rows] for word in words]))
    return sorted(sums)


def _mean(total: int, rows: int) -> int:
    return (2 * total + rows) // (2 * rows)
