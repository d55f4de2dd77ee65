"""The list of revocations: one spelling, and nothing in it that is not meant."""

from dataclasses import fields, replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tournament_sync.errors import ReleaseError
from tournament_sync.feed.revocations import (
    MAX_REASON_CHARS,
    MAX_REVOCATIONS_BYTES,
    Revocation,
    encode_revocations,
    parse_revocations,
)

ENTRY = Revocation(
    name="god-text-a",
    manifest_root="a" * 64,
    tree="b" * 40,
    reason="phones home",
    revoked_at=datetime(2026, 11, 21, 2, 0, tzinfo=UTC),
)
DATA = (
    b'{"revocations":[{"manifestRoot":"' + b"a" * 64 + b'","name":"god-text-a","reason":"phones home",'
    b'"revokedAt":"2026-11-21T02:00:00Z","tree":"' + b"b" * 40 + b'"}]}'
)


def test_a_list_has_these_bytes() -> None:
    assert encode_revocations([ENTRY]) == DATA
    assert encode_revocations([]) == b'{"revocations":[]}'


@given(
    st.lists(
        st.builds(
            Revocation,
            name=st.from_regex(r"[a-z0-9]{1,20}", fullmatch=True),
            manifest_root=st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
            tree=st.from_regex(r"[0-9a-f]{40}", fullmatch=True),
            reason=st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=50),
            revoked_at=st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)).map(
                lambda moment: moment.replace(microsecond=0, tzinfo=UTC)
            ),
        ),
        max_size=4,
    )
)
def test_what_is_written_is_read(entries: list[Revocation]) -> None:
    assert parse_revocations(encode_revocations(entries)) == tuple(entries)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"god-text-a", b"God", "'God' is no champion's name"),
        (b'"god-text-a"', b"1", "'1' is no champion's name"),
        (b"b" * 40, b"b" * 39, "the tree is no git id"),
        (b"b" * 40, b"B" * 40, "the tree is no git id"),
        (b"a" * 64, b"a" * 63, "expected 64 lower-case hexadecimal digits"),
        (b'"phones home"', b'""', "the reason is no text of 1 to 1000"),
        (b'"phones home"', b"null", "the reason is no text of 1 to 1000"),
        (b"02:00:00Z", b"2:00:00Z", "expected a time like"),
        (b'"name"', b'"nam"', "an entry is not an object of"),
        (b'"tree"', b'"more":1,"tree"', "an entry is not an object of"),
        (b'{"revocations"', b'{"more":1,"revocations"', "not an object with the one field"),
        (b'{"revocations"', b'{ "revocations"', "not canonical JSON"),
        (b"[{", b"[1,{", "an entry is not an object of"),
        (DATA, b"[]", "not an object with the one field"),
        (DATA, b'{"revocations":{}}', "not an object with the one field"),
        (DATA, b"", "not JSON"),
        (DATA, b" " * (MAX_REVOCATIONS_BYTES + 1), "over the limit"),
    ],
)
def test_refuses_every_other_spelling(old: bytes, new: bytes, message: str) -> None:
    assert old in DATA
    with pytest.raises(ReleaseError, match=f"list of revocations: .*{message}"):
        parse_revocations(DATA.replace(old, new))


@pytest.mark.parametrize("escape", [b"\\n", b"\\u001b[2J", b"\xe2\x80\xae", b"\\u0000", b"\\ud800"])
def test_refuses_a_reason_that_would_write_into_a_terminal_or_a_log(escape: bytes) -> None:
    with pytest.raises(ReleaseError, match="list of revocations: "):
        parse_revocations(DATA.replace(b"phones home", b"phones" + escape + b"home"))


@pytest.mark.parametrize(
    "change",
    [
        {"name": "God"},
        {"tree": ""},
        {"reason": "x" * (MAX_REASON_CHARS + 1)},
        {"reason": ""},
        {"reason": "it phones home\n2026-11-22 admin: all is fine"},
    ],
)
def test_writes_nothing_that_could_not_be_read(change: dict[str, str]) -> None:
    with pytest.raises(ReleaseError):
        encode_revocations([replace(ENTRY, **change)])  # type: ignore[arg-type]


def test_every_field_is_in_the_list() -> None:
    assert DATA.count(b'":"') == len(fields(Revocation))
