"""The fields of one Protocol Buffers message, strictly.

What is covered: malformed and endless numbers, lengths beyond the message, wire types that nobody writes any more.
What is not covered: schemas; the caller knows which numbers mean what.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from runner.losses import CurveError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES = 10
_MAX_FIELD = (1 << 29) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field: `value` is a number for VARINT, bytes for everything else."""

    number: int
    wire: int
    value: int | bytes


def fields(message: bytes) -> Iterator[Field]:
    """The fields in their order. Raises CurveError.

    Source: Protocol Buffers documentation, "Encoding".
    """
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        number, wire = key >> 3, key & 7
        if not 0 < number <= _MAX_FIELD:
            raise CurveError(f"field {number} of a message is no field")
        value: int | bytes
        match wire:
            case 0:
                value, place = _varint(message, place)
            case 1 | 5:
                value, place = _take(message, place, 8 if wire == FIXED64 else 4)
            case 2:
                size, place = _varint(message, place)
                value, place = _take(message, place, size)
            case _:
                raise CurveError(f"wire type {wire} of field {number} is not known")
        yield Field(number=number, wire=wire, value=value)


def messages(message: bytes, number: int) -> Iterator[bytes]:
    """The contents of the fields `number`, which must be bytes. Raises CurveError."""
    for field in fields(message):
        if field.number == number:
            if not isinstance(field.value, bytes) or field.wire != BYTES:
                raise CurveError(f"field {number} has wire type {field.wire}: wanted {BYTES}")
            yield field.value


def _varint(message: bytes, place: int) -> tuple[int, int]:
    value = 0
    for index in range(_MAX_VARINT_BYTES):
        if place + index >= len(message):
            raise CurveError("a message ends inside a number")
        byte = message[place + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            if value >= 1 << 64:
                break
            return value, place + index + 1
    raise CurveError("a number in a message has more than 64 bits")


def _take(message: bytes, place: int, size: int) -> tuple[bytes, int]:
    if size > len(message) - place:
        raise CurveError(f"a field of {size} bytes ends behind its message")
    return message[place : place + size], place + size
