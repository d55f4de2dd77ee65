"""Losses in an offline W&B run: a `.wandb` file of LevelDB log records, of which only the history is read.

What is covered: checksums, record order, size caps; a file that was cut off while it was written counts up to
there.
What is not covered: media, configuration and console output, which are passed over.
"""

import math
import struct
import zlib
from collections.abc import Iterator
from typing import Final

from runner.losses import CurveError, Points, parse_json
from runner.protobuf import fields, messages

BLOCK_BYTES: Final = 32_768
MAX_RECORD_BYTES: Final = 1 << 20
MAX_JSON_BYTES: Final = 64
MAX_RECORDS: Final = 400_000
MAX_PARTS: Final = MAX_RECORD_BYTES // BLOCK_BYTES + 3  # whole blocks, and one cut at either end

# Source: wandb, sdk/internal/datastore.py: LevelDB's log format with a header and plain CRC-32.
_HEADER: Final = struct.pack("<4sHB", b":W&B", 0xBEE1, 0)
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_RECORD: Final = struct.Struct("<IHB")
# Field numbers. Source: wandb_internal.proto, which promises to keep them.
_HISTORY, _ITEM, _ITEM_KEY, _ITEM_NESTED_KEY, _ITEM_JSON = 2, 1, 1, 2, 16
_TRAINED_STEPS, _LOGGED_STEPS = "train/global_step", "_step"  # not every record has the training's own count


def read_run(data: bytes) -> Points:
    """The losses in the run's history. Raises CurveError."""
    points, trained_steps = Points(), None
    for record in _records(data):
        for history in messages(record, _HISTORY):
            values = dict(filter(None, map(_item, messages(history, _ITEM))))
            trained_steps = _whole(values.get(_TRAINED_STEPS)) or trained_steps
            step = trained_steps or _whole(values.get(_LOGGED_STEPS)) or 0
            for name, value in values.items():
                points.add(name, value, step=step)
    return points


def _whole(value: float | None) -> int | None:
    return int(value) if value is not None and math.isfinite(value) and value == int(value) else None


def _item(item: bytes) -> tuple[str, float] | None:
    """Name and number of a history item; None for what is no number."""
    key, nested, text = b"", [], b""
    for field in fields(item):
        if not isinstance(field.value, bytes):
            continue
        if field.number == _ITEM_KEY:
            key = field.value
        elif field.number == _ITEM_NESTED_KEY:
            nested.append(field.value)
        elif field.number == _ITEM_JSON:
            text = field.value
    if len(text) > MAX_JSON_BYTES or not text:
        return None
    value = parse_json(text, what="a value of the history")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return (key or b".".join(nested)).decode("utf-8", errors="replace"), value


def _records(data: bytes) -> Iterator[bytes]:
    if not data.startswith(_HEADER):
        raise CurveError("it does not begin as a W&B run does")
    parts: list[bytes] = []
    size_bytes = 0
    for kind, part in _parts(data):
        if (kind in {_FULL, _FIRST}) == bool(parts):
            raise CurveError(f"a part of kind {kind} is out of order")
        if kind in {_MIDDLE, _LAST} and not part:
            raise CurveError(f"a part of kind {kind} is empty")
        parts.append(part)
        size_bytes += len(part)
        if size_bytes > MAX_RECORD_BYTES or len(parts) > MAX_PARTS:
            raise CurveError(f"a record has more than {MAX_RECORD_BYTES} bytes or {MAX_PARTS} parts")
        if kind in {_FULL, _LAST}:
            yield b"".join(parts)
            parts, size_bytes = [], 0


def _parts(data: bytes) -> Iterator[tuple[int, bytes]]:
    place = len(_HEADER)
    for _ in range(MAX_RECORDS):
        left = BLOCK_BYTES - place % BLOCK_BYTES
        if left < _RECORD.size:
            place += left  # a block's padding
        if place + _RECORD.size > len(data):
            return
        check, size, kind = _RECORD.unpack_from(data, place)
        part = data[place + _RECORD.size : place + _RECORD.size + size]
        if len(part) < size:
            return  # cut off inside a record
        if not _FULL <= kind <= _LAST or zlib.crc32(part, zlib.crc32(bytes((kind,)))) != check:
            raise CurveError(f"the record at byte {place} has a wrong checksum")
        yield kind, part
        place += _RECORD.size + size
    raise CurveError(f"there are more than {MAX_RECORDS} records")
