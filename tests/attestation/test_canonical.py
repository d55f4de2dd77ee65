import time

import pytest

from attestation import canonical
from attestation.errors import MalformedError


def test_sorts_keys_by_utf16_code_units() -> None:
    # RFC 8785, 3.2.3: the emoji (surrogates, D83D) sorts before U+FB33.
    value = {"\ufb33": 1, "\U0001f600": 2, "\u20ac": 3, "1": 4, "\r": 5, "\u0080": 6}
    assert list(canonical.decode(canonical.encode(value), max_bytes=999)) == [
        "\r",
        "1",
        "\u0080",
        "\u20ac",
        "\U0001f600",
        "\ufb33",
    ]


def test_escapes_as_rfc_8785_says() -> None:
    assert canonical.encode('€$\x0f\nA\'B"\\"/\x7f') == '"€$\\u000f\\nA\'B\\"\\\\\\"/\x7f"'.encode()


def test_decodes_what_it_encodes() -> None:
    value = {"b": [1, -2, True, None, "ü"], "a": {"z": {}, "y": []}}
    assert canonical.decode(canonical.encode(value), max_bytes=999) == value


def test_compact_keeps_the_order_of_keys() -> None:
    assert canonical.compact({"b": 1, "a": (2,)}) == b'{"b":1,"a":[2]}'


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0.5, "type float"),
        (float("nan"), "type float"),
        (b"bytes", "type bytes"),
        (2**53, "integer beyond"),
        (-(2**53), "integer beyond"),
        ("\ud800", "unpaired surrogate"),
        ({"\udfff": 1}, "unpaired surrogate"),
        ({1: 2}, "object key of type int"),
    ],
)
def test_refuses_to_encode(value: object, message: str) -> None:
    with pytest.raises(MalformedError, match=message):
        canonical.encode([value])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"a":1,"a":1}', "duplicate key 'a'"),
        (b'[{"x":{"k":1,"k":2}}]', "duplicate key 'k'"),
        (b"1.0", "not an integer"),
        (b"1e3", "not an integer"),
        (b"NaN", "not an integer"),
        (b"-Infinity", "not an integer"),
        (b"-0", "no canonical form"),
        (b"9007199254740992", "integer beyond"),
        (b"1" * 5000, "no canonical form"),
        (b"01", "not JSON"),
        (b"{}x", "not JSON"),
        (b"", "not JSON"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b'"\xff"', "not UTF-8 at byte 1"),
        (b'"\\ud800"', "unpaired surrogate"),
        (b"[" * 34 + b"]" * 34, "nested deeper than 32"),
        (b"[" * 100_000, "nested deeper than 32"),
        (b'"' + b"x" * 200_000 + b'"', "over the limit of 200000"),
    ],
)
def test_refuses_to_decode(data: bytes, message: str) -> None:
    with pytest.raises(MalformedError, match=message):
        canonical.decode(data, max_bytes=200_000)


def test_takes_the_largest_integers_and_the_deepest_nesting() -> None:
    for text in (b"9007199254740991", b"-9007199254740991", b"[" * 32 + b"]" * 32):
        assert canonical.encode(canonical.decode(text, max_bytes=99)) == text


def test_finds_a_duplicate_among_many_keys_in_one_pass() -> None:
    count = 50_000
    data = b"{" + b"".join(b'"%d":0,' % n for n in range(count)) + b'"%d":0}' % (count - 1)
    started = time.process_time()
    with pytest.raises(MalformedError, match="duplicate key '49999'"):
        canonical.decode(data, max_bytes=len(data))
    assert time.process_time() - started < 3  # comparing each key with each takes ten times as long
