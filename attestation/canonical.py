"""JSON both ways: the one canonical encoding (RFC 8785) and a strict decoder for hostile bytes.

The decoder takes a subset of JSON in which every value has exactly one reading: no duplicate keys, no
floats, integers a double can hold, no unpaired surrogates, bounded depth.
"""

import json
from collections.abc import Mapping
from typing import Any, NoReturn

from attestation.errors import MalformedError

MAX_INTEGER = 2**53 - 1  # RFC 8785, 3.2.2.3: what every JSON reader reads alike
MAX_DEPTH = 32  # no claim nests deeper than 8


def encode(value: object) -> bytes:
    """`value` as RFC 8785 bytes: sorted keys, no white space.

    Takes None, bool, int, str, list, tuple and mappings of str. Raises MalformedError for anything else.
    """
    check(value)
    return _dumps(_sorted(value)).encode()


def compact(value: object) -> bytes:
    """`value` as JSON without white space, keys in the order given. Takes what `encode` takes."""
    check(value)
    return _dumps(value).encode()


# Any: the shape of JSON is the caller's to check.
def decode(data: bytes, *, max_bytes: int) -> Any:
    """The value that `data` spells. Raises MalformedError for whatever has more than one reading."""
    if len(data) > max_bytes:
        raise MalformedError(f"{len(data)} bytes are over the limit of {max_bytes}")
    try:
        value = json.loads(
            data.decode(),
            object_pairs_hook=_unique,
            parse_int=_integer,
            parse_float=_refuse_number,
            parse_constant=_refuse_number,
        )
    except UnicodeDecodeError as error:
        raise MalformedError(f"not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise MalformedError(f"not JSON: {error}") from error
    except RecursionError as error:
        raise MalformedError(f"nested deeper than {MAX_DEPTH}") from error
    check(value)
    return value


def check(value: object, *, depth: int = 0) -> None:
    """Raise MalformedError unless `value` has exactly one JSON form."""
    if depth > MAX_DEPTH:
        raise MalformedError(f"nested deeper than {MAX_DEPTH}")
    match value:
        case None | bool():
            pass
        case int():
            if abs(value) > MAX_INTEGER:
                raise MalformedError(f"integer beyond ±{MAX_INTEGER}")
        case str():
            _check_text(value)
        case list() | tuple():
            for item in value:
                check(item, depth=depth + 1)
        case Mapping():
            for key, item in value.items():
                if not isinstance(key, str):
                    raise MalformedError(f"object key of type {type(key).__name__}")
                _check_text(key)
                check(item, depth=depth + 1)
        case _:
            raise MalformedError(f"a value of type {type(value).__name__} has no canonical form")


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise MalformedError("text holds an unpaired surrogate") from error


def _dumps(value: object) -> str:
    # Without ensure_ascii, Python escapes exactly what RFC 8785, 3.2.2.2 wants escaped, in that form.
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain)


def _plain(value: object) -> dict[str, object]:
    assert isinstance(value, Mapping)  # checked: json knows every other type that `check` lets pass
    return dict(value)


def _sorted(value: object) -> object:
    match value:
        case Mapping():
            # RFC 8785, 3.2.3: keys are compared as UTF-16 code units.
            keys = sorted(value, key=lambda key: key.encode("utf-16-be"))
            return {key: _sorted(value[key]) for key in keys}
        case list() | tuple():
            return [_sorted(item) for item in value]
        case _:
            return value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise MalformedError(f"duplicate key {key[:80]!r}")
        found[key] = value
    return found


def _integer(text: str) -> int:
    if len(text) > 17 or text == "-0":  # sign and 16 digits; "-0" has no canonical form
        raise MalformedError(f"integer {text[:20]!r} has no canonical form")
    return int(text)


def _refuse_number(text: str) -> NoReturn:
    raise MalformedError(f"number {text[:20]!r} is not an integer")
