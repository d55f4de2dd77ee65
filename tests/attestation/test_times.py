from datetime import UTC, datetime, timedelta, timezone

import pytest

from attestation.errors import MalformedError
from attestation.times import format_time, parse_time


def test_parses_what_it_formats() -> None:
    moment = datetime(2026, 11, 21, 2, tzinfo=UTC)
    assert parse_time(format_time(moment)) == moment


def test_writes_utc_whole_seconds() -> None:
    moment = datetime(2026, 11, 21, 3, 0, 0, 999, tzinfo=timezone(timedelta(hours=1)))
    assert format_time(moment) == "2026-11-21T02:00:00Z"


def test_refuses_to_format_a_time_without_zone() -> None:
    with pytest.raises(MalformedError, match="without a time zone"):
        format_time(datetime(2026, 11, 21))


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-21T02:00:00+00:00",
        "2026-11-21T02:00:00.0Z",
        "2026-11-21 02:00:00Z",
        "2026-1-21T02:00:00Z",
        "2026-02-30T02:00:00Z",
        "2026-11-21T02:00:00Z\n",
        "２026-11-21T02:00:00Z",
        "",
        None,
    ],
)
def test_rejects_every_other_form(text: object) -> None:
    with pytest.raises(MalformedError, match="expected a time like"):
        parse_time(text)
