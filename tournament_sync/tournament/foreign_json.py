"""JSON of others: any shape, fractions too, but bounded and with one reading only.

`attestation.canonical` is stricter and for claims; this is for answers of a service that is not ours.
"""

import json
import math
from typing import Any, NoReturn

from tournament_sync.errors import TournamentError

MAX_DEPTH = 32  # the tournament's answers nest to 8
_MAX_NUMBER_CHARS = 40  # a double is written with at most 24


# Any: the shape of JSON is the caller's to check.
def decode_json(data: bytes, *, max_bytes: int) -> Any:
    """The value that `data` spells. Raises TournamentError.

    Refused: what is over `max_bytes` or nests too deeply, duplicate keys, NaN and infinities in every
    spelling, numbers of absurd length.
    """
    if len(data) > max_bytes:
        raise TournamentError(f"{len(data)} bytes are over the limit of {max_bytes}")
    try:
        value = json.loads(
            data.decode(),
            object_pairs_hook=_unique,
            parse_int=_integer,
            parse_float=_fraction,
            parse_constant=_refuse_constant,
        )
    except UnicodeDecodeError as error:
        raise TournamentError(f"not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise TournamentError(f"not JSON: {error}") from error
    except RecursionError as error:
        raise TournamentError(f"nested deeper than {MAX_DEPTH}") from error
    _check_depth(value, depth=1)
    return value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise TournamentError(f"duplicate key {key[:80]!r}")
        found[key] = value
    return found


def _integer(text: str) -> int:
    _check_length(text)
    return int(text)


def _fraction(text: str) -> float:
    _check_length(text)
    number = float(text)
    if math.isinf(number):  # 1e999
        raise TournamentError(f"number {text!r} is beyond a double")
    return number


def _check_length(text: str) -> None:
    if len(text) > _MAX_NUMBER_CHARS:
        raise TournamentError(
            f"number {text[:20]}… has {len(text)} characters, over the limit of {_MAX_NUMBER_CHARS}"
        )


def _refuse_constant(text: str) -> NoReturn:
    raise TournamentError(f"{text} is no JSON number")


def _check_depth(value: object, *, depth: int) -> None:
    if not isinstance(value, dict | list):
        return
    if depth > MAX_DEPTH:
        raise TournamentError(f"nested deeper than {MAX_DEPTH}")
    for item in value.values() if isinstance(value, dict) else value:
        _check_depth(item, depth=depth + 1)
