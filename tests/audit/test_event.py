"""The vocabulary and the one written form of an event."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from attestation import canonical
from audit.errors import EventError
from audit.event import MAX_ENTRY_BYTES, Event, EventKind, parse_event

AT = datetime(2026, 11, 21, 2, 0, tzinfo=UTC)
CLAIM = Event(
    kind=EventKind.CLAIM_SIGNED,
    subject="run-1",
    actor="appliance",
    at=AT,
    detail={"bundle": "ab" * 32, "kind": "verdict"},
)


def example(kind: EventKind) -> Event:
    if kind is EventKind.CLAIM_SIGNED:
        return CLAIM
    return Event(kind=kind, subject="run-1", actor="ada", at=AT, detail={"reason": "größer", "rows": 3})


@pytest.mark.parametrize("kind", EventKind)
def test_every_kind_survives_the_round_trip(kind: EventKind) -> None:
    event = example(kind)
    assert parse_event(event.encode()) == event


@pytest.mark.parametrize("kind", EventKind)
def test_every_kind_is_a_subject_and_an_action(kind: EventKind) -> None:
    assert [bool(part) for part in kind.split(":")] == [True, True]


def test_claim_entry_is_exactly_what_verifiers_demand() -> None:
    assert CLAIM.encode() == canonical.encode(
        {
            "at": "2026-11-21T02:00:00Z",
            "bundle": "ab" * 32,
            "event": "claim:signed",
            "kind": "verdict",
            "run": "run-1",
            "v": 1,
        }
    )


def test_time_is_written_in_utc() -> None:
    east = AT.astimezone(timezone(timedelta(hours=9)))
    event = Event(kind=EventKind.RUN_FAILED, subject="run-1", actor="ada", at=east)
    assert b'"at":"2026-11-21T02:00:00Z"' in event.encode()


def test_changing_the_given_detail_later_changes_nothing() -> None:
    detail: dict[str, str | int] = {"rows": 3}
    event = Event(kind=EventKind.RUN_FAILED, subject="run-1", actor="ada", at=AT, detail=detail)
    detail["rows"] = 4
    assert event.detail["rows"] == 3


@pytest.mark.parametrize("name", ["actor", "at", "event", "run", "subject", "v"])
def test_refuses_detail_that_redefines_a_fixed_field(name: str) -> None:
    with pytest.raises(EventError, match=rf"may not redefine \['{name}'\]"):
        Event(kind=EventKind.RUN_FAILED, subject="run-1", actor="ada", at=AT, detail={name: "x"})


@pytest.mark.parametrize(("subject", "actor"), [("", "ada"), ("run-1", "")])
def test_refuses_nameless_subject_or_actor(subject: str, actor: str) -> None:
    with pytest.raises(EventError, match="must be named"):
        Event(kind=EventKind.RUN_FAILED, subject=subject, actor=actor, at=AT)


@pytest.mark.parametrize("at", [AT.replace(tzinfo=None), AT.replace(microsecond=1)])
def test_refuses_times_that_cannot_be_written_whole(at: datetime) -> None:
    with pytest.raises(EventError, match="whole seconds with a time zone"):
        Event(kind=EventKind.RUN_FAILED, subject="run-1", actor="ada", at=at)


def test_refuses_detail_that_is_neither_text_nor_integer() -> None:
    detail: dict[str, str | int] = {"loss": 0.5}  # type: ignore[dict-item]  # the mistake under test
    with pytest.raises(EventError, match="text and integers only"):
        Event(kind=EventKind.RUN_FAILED, subject="run-1", actor="ada", at=AT, detail=detail)


def test_refuses_integer_that_json_readers_disagree_on() -> None:
    event = Event(kind=EventKind.RUN_FAILED, subject="run-1", actor="ada", at=AT, detail={"rows": 2**53})
    with pytest.raises(EventError, match="integer beyond"):
        event.encode()


def test_refuses_entry_over_the_size_of_a_tile_entry() -> None:
    event = Event(
        kind=EventKind.RUN_FAILED, subject="run-1", actor="ada", at=AT, detail={"why": "x" * MAX_ENTRY_BYTES}
    )
    with pytest.raises(EventError, match="over the limit of 65535"):
        event.encode()


def test_refuses_claim_with_other_detail() -> None:
    with pytest.raises(EventError, match="detail is bundle and kind"):
        Event(
            kind=EventKind.CLAIM_SIGNED, subject="run-1", actor="appliance", at=AT, detail={"kind": "verdict"}
        )


def test_refuses_claim_signed_by_anybody_but_the_appliance() -> None:
    with pytest.raises(EventError, match="signed by the appliance, not by 'ada'"):
        Event(kind=EventKind.CLAIM_SIGNED, subject="run-1", actor="ada", at=AT, detail=CLAIM.detail)


@pytest.mark.parametrize(
    "entry",
    [
        b"",
        b"[]",
        b"{}",
        b'{"at":"2026-11-21T02:00:00Z"}',
        example(EventKind.RUN_FAILED).encode() + b"\n",
        example(EventKind.RUN_FAILED).encode().replace(b"run:failed", b"run:unknown"),
        example(EventKind.RUN_FAILED).encode().replace(b'"v":1', b'"v":2'),
        example(EventKind.RUN_FAILED).encode().replace(b'"rows":3', b'"rows":[3]'),
        example(EventKind.RUN_FAILED).encode().replace(b'"ada"', b"7"),
        CLAIM.encode().replace(b'"run":', b'"ran":'),
        CLAIM.encode().replace(b'"kind"', b'"actor":"ada","kind"'),
    ],
)
def test_parser_refuses_what_it_would_not_write(entry: bytes) -> None:
    with pytest.raises(EventError):
        parse_event(entry)
