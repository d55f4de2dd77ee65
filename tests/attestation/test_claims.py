from datetime import UTC, datetime

import pytest

from attestation.claims import ClaimEntry, Kind, encode_entry, parse_entry, split_lines
from attestation.errors import MalformedError

ENTRY = ClaimEntry(at=datetime(2026, 11, 21, tzinfo=UTC), bundle="ab" * 32, kind=Kind.MODEL, run_id="run-1")


@pytest.mark.parametrize("kind", list(Kind))
def test_parses_what_it_encodes(kind: Kind) -> None:
    entry = ClaimEntry(at=ENTRY.at, bundle=ENTRY.bundle, kind=kind, run_id=ENTRY.run_id)
    assert parse_entry(encode_entry(entry)) == entry


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'"v":1', b'"v":2', "not the canonical log entry"),
        (b'"v":1', b'"v":1,"x":1', "not the canonical log entry"),
        (b"claim:signed", b"claim:made", "not the canonical log entry"),
        (b":", b": ", "not the canonical log entry"),
        (b'"model"', b'"models"', "not the log entry"),
        (b'"run-1"', b"1", "not the log entry"),
        (b"2026-11-21T00:00:00Z", b"today", "expected a time"),
        (b"abab", b"ABAB", "64 lower-case"),
    ],
)
def test_refuses_entries(old: bytes, new: bytes, message: str) -> None:
    assert old in encode_entry(ENTRY)
    with pytest.raises(MalformedError, match=message):
        parse_entry(encode_entry(ENTRY).replace(old, new, 1))


@pytest.mark.parametrize("data", [b"", b"x", b"x\ny", b"x\n" * 100])
def test_refuses_lines_without_end_and_too_many(data: bytes) -> None:
    with pytest.raises(MalformedError, match="expected 1 to 99 lines"):
        split_lines(data)
