"""Moments as they are written in claims: RFC 3339, UTC, whole seconds, `2026-11-21T02:00:00Z`."""

from datetime import UTC, datetime

from attestation.errors import MalformedError

_FORM = "%Y-%m-%dT%H:%M:%SZ"


def format_time(moment: datetime) -> str:
    """`moment` (aware) in UTC; fractions of a second are cut off."""
    if moment.tzinfo is None:
        raise MalformedError("a time without a time zone cannot be written")
    return moment.astimezone(UTC).strftime(_FORM)


def parse_time(text: object) -> datetime:
    """The moment that `format_time` wrote, aware. Raises MalformedError for every other form."""
    try:
        if isinstance(text, str):
            moment = datetime.strptime(text, _FORM).replace(tzinfo=UTC)
            if format_time(moment) == text:  # strptime alone takes "2026-1-2T3:4:5Z"
                return moment
    except ValueError:
        pass
    raise MalformedError(f"expected a time like 2026-11-21T02:00:00Z, found {str(text)[:80]!r}")
