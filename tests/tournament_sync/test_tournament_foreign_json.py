"""JSON of others has one reading, or none."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tournament_sync.errors import TournamentError
from tournament_sync.tournament.foreign_json import MAX_DEPTH, decode_json

LIMIT = 1000
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"{} {}", "not JSON: Extra data"),
        (b'{"a":1,}', "not JSON"),
        (b"{'a':1}", "not JSON"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b'"\xff"', "not UTF-8 at byte 1"),
        (b'{"a":1,"b":{"c":1,"c":2}}', "duplicate key 'c'"),
        (b'{"a":1,"\\u0061":1}', "duplicate key 'a'"),
        (b"NaN", "NaN is no JSON number"),
        (b"[Infinity]", "Infinity is no JSON number"),
        (b"-Infinity", "-Infinity is no JSON number"),
        (b"1e999", "number '1e999' is beyond a double"),
        (b"-1e999", "beyond a double"),
        (b"9" * 41, "has 41 characters, over the limit of 40"),
        (b"0." + b"9" * 39, "has 41 characters, over the limit of 40"),
        (b"[" * 33 + b"]" * 33, f"nested deeper than {MAX_DEPTH}"),
        (b'{"a":' * 33 + b"1" + b"}" * 33, f"nested deeper than {MAX_DEPTH}"),
        (b" " * 1001, "1001 bytes are over the limit of 1000"),
    ],
)
def test_refuses(data: bytes, message: str) -> None:
    with pytest.raises(TournamentError, match=message):
        decode_json(data, max_bytes=LIMIT)


def test_nesting_beyond_the_parser_is_our_error() -> None:
    with pytest.raises(TournamentError, match="nested deeper"):
        decode_json(b"[" * 200_000, max_bytes=200_000)


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"1.5", 1.5),
        (b"-0.0", 0.0),
        (b"1e-300", 1e-300),
        (b"12345678901234567890", 12345678901234567890),
        (b"[" * 32 + b"]" * 32, json.loads("[" * 32 + "]" * 32)),
    ],
)
def test_takes(data: bytes, value: object) -> None:
    assert decode_json(data, max_bytes=LIMIT) == value


@given(JSON_VALUES)
def test_what_json_writes_is_read_back(value: object) -> None:
    assert decode_json(json.dumps(value).encode(), max_bytes=10_000) == value


@given(
    st.binary(max_size=100)
    | st.text('[]{}":,0123456789eE+-.nulltruefalseNaNIfity\\u', max_size=60).map(str.encode)
)
def test_any_bytes_are_a_value_or_our_error(data: bytes) -> None:
    try:
        value = decode_json(data, max_bytes=LIMIT)
    except TournamentError:
        return
    assert json.loads(data) == value
