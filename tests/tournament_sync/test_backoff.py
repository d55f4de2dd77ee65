"""When a source is asked again."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tournament_sync.backoff import Schedule, is_due, next_attempt_at

NOW = datetime(2026, 11, 21, 2, 0, tzinfo=UTC)
HOURLY = Schedule(interval_s=3600, cap_s=86_400, jitter_fraction=0.25)


def wait_s(schedule: Schedule, *, failures: int, random_value: float) -> float:
    at = next_attempt_at(schedule, last_attempt_at=NOW, failures=failures, random_value=random_value)
    return (at - NOW).total_seconds()


@pytest.mark.parametrize(
    ("failures", "hours"), [(0, 1), (1, 2), (2, 4), (3, 8), (4, 16), (5, 24), (6, 24), (10**9, 24)]
)
def test_waits_twice_as_long_after_each_failure_up_to_the_cap(failures: int, hours: int) -> None:
    assert wait_s(HOURLY, failures=failures, random_value=0.5) == hours * 3600


@pytest.mark.parametrize(("random_value", "seconds"), [(0.0, 2700), (0.5, 3600), (1.0, 4500)])
def test_jitter_spreads_both_ways(random_value: float, seconds: int) -> None:
    assert wait_s(HOURLY, failures=0, random_value=random_value) == seconds


def test_without_jitter_the_random_value_does_not_matter() -> None:
    exact = Schedule(interval_s=60, cap_s=60, jitter_fraction=0)
    assert {wait_s(exact, failures=3, random_value=value) for value in (0.0, 0.3, 1.0)} == {60}


@given(
    st.floats(1, 10**6),
    st.floats(1, 100),
    st.floats(0, 0.99),
    st.integers(0, 10_000),
    st.floats(0, 1),
)
def test_wait_stays_between_interval_and_cap(interval_s, factor, jitter, failures, random_value) -> None:
    schedule = Schedule(interval_s=interval_s, cap_s=interval_s * factor, jitter_fraction=jitter)
    waited = wait_s(schedule, failures=failures, random_value=random_value)
    assert interval_s * (1 - jitter) - 1e-5 <= waited <= schedule.cap_s * (1 + jitter) + 1e-5
    assert waited <= wait_s(schedule, failures=failures + 1, random_value=random_value)


@pytest.mark.parametrize(
    ("interval_s", "cap_s", "jitter", "message"),
    [
        (0, 60, 0.1, "interval 0 s is not between 0 and the cap"),
        (-1, 60, 0.1, "interval -1 s is not between"),
        (61, 60, 0.1, "interval 61 s is not between 0 and the cap of 60 s"),
        (60, float("inf"), 0.1, "cap of inf s"),
        (float("nan"), 60, 0.1, "interval nan s"),
        (60, 60, 1, "jitter 1 is not a fraction"),
        (60, 60, -0.1, "jitter -0.1 is not a fraction"),
        (60, 60, float("nan"), "jitter nan is not a fraction"),
    ],
)
def test_refuses_a_schedule_that_is_none(
    interval_s: float, cap_s: float, jitter: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Schedule(interval_s=interval_s, cap_s=cap_s, jitter_fraction=jitter)


@pytest.mark.parametrize(("failures", "random_value"), [(-1, 0.5), (0, -0.1), (0, 1.1), (0, float("nan"))])
def test_refuses_numbers_that_cannot_be(failures: int, random_value: float) -> None:
    with pytest.raises(ValueError, match=f"{failures} failures, random value {random_value}"):
        wait_s(HOURLY, failures=failures, random_value=random_value)


@pytest.mark.parametrize(
    ("now_s", "due"), [(-1, True), (0, False), (3599, False), (3600, True), (10**6, True)]
)
def test_is_due_when_it_is_time_or_the_clock_went_back(now_s: int, due: bool) -> None:
    next_at, now = NOW + timedelta(hours=1), NOW + timedelta(seconds=now_s)
    assert is_due(next_at=next_at, last_attempt_at=NOW, now=now) is due
