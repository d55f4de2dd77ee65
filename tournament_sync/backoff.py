"""When to ask a source again: pure arithmetic on moments and a random number that the caller draws."""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

_MAX_DOUBLINGS = 32  # beyond any cap; keeps the power of two small


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Every `interval_s`; after failures twice as long each time, up to `cap_s`.

    `jitter_fraction` (0 up to, not including, 1) spreads each wait by that part of it, both ways, so that
    sites which started together do not ask together.
    """

    interval_s: float
    cap_s: float
    jitter_fraction: float

    def __post_init__(self) -> None:
        if not 0 < self.interval_s <= self.cap_s < math.inf:
            raise ValueError(f"interval {self.interval_s} s is not between 0 and the cap of {self.cap_s} s")
        if not 0 <= self.jitter_fraction < 1:
            raise ValueError(f"jitter {self.jitter_fraction} is not a fraction of at least 0, below 1")


def next_attempt_at(
    schedule: Schedule, *, last_attempt_at: datetime, failures: int, random_value: float
) -> datetime:
    """The moment of the next attempt. `failures`: in a row, up to now; `random_value`: from 0 to 1, uniform.

    Never sooner than (1 - jitter) times the interval, never later than (1 + jitter) times the cap.
    """
    if failures < 0 or not 0 <= random_value <= 1:
        raise ValueError(f"{failures} failures, random value {random_value}")
    wait_s = min(schedule.interval_s * 2 ** min(failures, _MAX_DOUBLINGS), schedule.cap_s)
    spread = 1 + schedule.jitter_fraction * (2 * random_value - 1)
    return last_attempt_at + timedelta(seconds=wait_s * spread)


def is_due(*, next_at: datetime, last_attempt_at: datetime, now: datetime) -> bool:
    """Whether to try now. A last attempt in the future means that the clock was set back: try."""
    return now >= next_at or now < last_attempt_at
