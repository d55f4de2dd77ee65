"""What every clock must do: the machine's, and the one that stands still in tests."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from appliance.ports import Clock, SystemClock
from attestation.times import format_time, parse_time
from tests.appliance.world import FixedClock


@pytest.fixture(params=[SystemClock, FixedClock], ids=["system", "fixed"])
def clock(request: pytest.FixtureRequest) -> Clock:
    make: Callable[[], Clock] = request.param
    return make()


def test_now_is_aware_utc(clock: Clock) -> None:
    assert clock.now().utcoffset() == timedelta(0)


def test_now_is_in_whole_seconds(clock: Clock) -> None:
    assert clock.now().microsecond == 0


def test_now_can_be_written_and_read_back(clock: Clock) -> None:
    now = clock.now()
    assert parse_time(format_time(now)) == now


def test_the_machines_clock_is_the_machines(clock: Clock) -> None:
    if isinstance(clock, FixedClock):
        before = clock.now()
        clock.pass_s(90)
        assert clock.now() - before == timedelta(seconds=90)
    else:
        assert abs(clock.now() - datetime.now(UTC)) < timedelta(seconds=5)
