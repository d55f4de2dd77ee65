"""Losses in a TensorBoard event file: TFRecords of Event messages, of which only scalars are read.

What is covered: lengths and contents are checked against their checksums; a file that was cut off while it was
written counts up to there; images, texts and graphs are passed over.
What is not covered: contents of records that are too large to be scalars; they are not looked at.
"""

import struct
from collections.abc import Iterator
from typing import Final

from runner.losses import CurveError, Points
from runner.protobuf import BYTES, FIXED32, VARINT, fields, messages

MAX_SCALAR_RECORD_BYTES: Final = 16 << 10
MAX_RECORDS: Final = 200_000

_DT_FLOAT: Final = 1
# Field numbers. Source: tensorflow event.proto, summary.proto, tensor.proto.
_EVENT_STEP, _EVENT_SUMMARY = 2, 5
_SUMMARY_VALUE, _VALUE_TAG, _VALUE_SIMPLE, _VALUE_TENSOR = 1, 1, 2, 8
_TENSOR_TYPE, _TENSOR_SHAPE, _TENSOR_CONTENT, _TENSOR_FLOATS = 1, 2, 4, 5


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)  # Castagnoli, reflected
        table.append(crc)
    return tuple(table)


_TABLE: Final = _crc_table()


def masked_crc32c(data: bytes) -> int:
    """The checksum of a TFRecord's part. Source: tensorflow record_writer.h."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def read_events(data: bytes) -> Points:
    """The losses in the event file. Raises CurveError."""
    points = Points()
    for record in _records(data):
        step, summaries = 0, []
        for field in fields(record):
            if field.number == _EVENT_STEP and field.wire == VARINT and isinstance(field.value, int):
                step = field.value
            if field.number == _EVENT_SUMMARY and isinstance(field.value, bytes):
                summaries.append(field.value)
        for summary in summaries:
            for value in messages(summary, _SUMMARY_VALUE):
                _add(points, value, step)
    return points


def _records(data: bytes) -> Iterator[bytes]:
    place = 0
    for _ in range(MAX_RECORDS):
        head = data[place : place + 12]
        if len(head) < 12:
            return  # the end, or cut off inside a length
        size, check = struct.unpack("<QI", head)
        if masked_crc32c(head[:8]) != check:
            raise CurveError(f"the record at byte {place} has a wrong length checksum")
        end = place + 12 + size
        if end + 4 > len(data):
            return  # cut off inside a record
        if size <= MAX_SCALAR_RECORD_BYTES:
            record = data[place + 12 : end]
            if masked_crc32c(record) != int.from_bytes(data[end : end + 4], "little"):
                raise CurveError(f"the record at byte {place} has a wrong checksum")
            yield record
        place = end + 4
    raise CurveError(f"there are more than {MAX_RECORDS} records")


def _add(points: Points, value: bytes, step: int) -> None:
    tag, number = "", None
    for field in fields(value):
        if field.number == _VALUE_TAG and field.wire == BYTES and isinstance(field.value, bytes):
            tag = field.value.decode("utf-8", errors="replace")
        elif field.number == _VALUE_SIMPLE and field.wire == FIXED32 and isinstance(field.value, bytes):
            (number,) = struct.unpack("<f", field.value)
        elif field.number == _VALUE_TENSOR and isinstance(field.value, bytes):
            number = _scalar(field.value)
    if number is not None:
        points.add(tag, number, step=step)


def _scalar(tensor: bytes) -> float | None:
    """The one float in `tensor`; None for everything else."""
    kind, content = 0, b""
    for field in fields(tensor):
        if field.number == _TENSOR_TYPE and isinstance(field.value, int):
            kind = field.value
        elif field.number in {_TENSOR_CONTENT, _TENSOR_FLOATS} and isinstance(field.value, bytes):
            content += field.value
        elif field.number == _TENSOR_SHAPE and field.value:
            return None
    return float(struct.unpack("<f", content)[0]) if kind == _DT_FLOAT and len(content) == 4 else None
