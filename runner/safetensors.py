"""Safetensors files from untrusted hands: a strict header parser, and streamed questions about the values.

Standard library only; a tensor is never held whole. What is covered: files whose header and data do not fit
together (partial copies, overlaps, gaps), zeros, NaN and infinity, equality of values across float types. A
header costs at most some 30 times its bytes while it is parsed; hence its limit, far below the format's own.
What is not covered: types smaller than a byte, which are refused.

Source: https://github.com/huggingface/safetensors, section "Format".
"""

import json
import struct
from array import array
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod
from pathlib import Path
from reprlib import repr as short
from typing import Any

from runner.errors import RunnerError

MAX_HEADER_BYTES = 8 << 20  # the format allows 100 MB; the largest models need 1 MB a shard
MAX_TENSORS = 100_000  # the largest models have 91,000 in all their files together
MAX_DIMENSIONS = 16
MAX_ELEMENTS = 2**48
CHUNK_BYTES = 4 << 20  # a multiple of every item size
ITEM_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E4M3FNUZ": 1, "F8_E5M2": 1, "F8_E5M2FNUZ": 1,
    "F8_E8M0": 1, "C64": 8, "BOOL": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1,
}  # fmt: skip
_STRUCT_LETTERS = {"F64": "d", "F32": "f", "F16": "e"}
FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
MAX_NAME_TOLD = 200  # characters
_ALL_EXPONENT_F16 = bytes(b for b in range(256) if b & 0x7C == 0x7C)


class SafetensorsError(RunnerError):
    """The file is not a whole safetensors file; the message names the file and what does not fit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """Where one tensor lies. `start` and `end` count from the beginning of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    path: Path
    start: int
    end: int


def read_header(path: Path) -> tuple[Tensor, ...]:
    """The tensors of the file in the order of their bytes; its size is checked against them.

    Raises SafetensorsError if header and file do not fit together exactly.
    """
    size, length = path.stat().st_size, read_header_size(path)
    if 8 + length > size:
        raise SafetensorsError(f"{path.name}: partial copy: header of {length} bytes in a file of {size}")
    with path.open("rb") as file:
        file.seek(8)
        header = _parse_json(file.read(length), path.name)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise SafetensorsError(f"{path.name}: __metadata__ is not a map of texts")
    if len(header) > MAX_TENSORS:
        raise SafetensorsError(f"{path.name}: {len(header)} tensors are over {MAX_TENSORS}")
    tensors = [_tensor(name, entry, path, 8 + length) for name, entry in header.items()]
    tensors.sort(key=lambda t: (t.start, t.end))
    _check_layout(tensors, path, data_start=8 + length, size=size)
    return tuple(tensors)


def read_header_size(path: Path) -> int:
    """How many bytes the file's header has, by its own word. Raises SafetensorsError if that is too many."""
    with path.open("rb") as file:
        prefix = file.read(8)
    size_bytes = int.from_bytes(prefix, "little")
    if len(prefix) < 8 or size_bytes < 2:
        raise SafetensorsError(f"{path.name}: partial copy: no header")
    if size_bytes > MAX_HEADER_BYTES:
        raise SafetensorsError(f"{path.name}: header of {size_bytes} bytes is over {MAX_HEADER_BYTES}")
    return size_bytes


def told(name: str) -> str:
    """A tensor's name for a message: a stranger made it, so it is shortened, and escaped where it does not print."""
    cut = name if len(name) <= MAX_NAME_TOLD else name[:MAX_NAME_TOLD] + "…"
    return cut if cut.isprintable() else ascii(cut)


def _parse_json(data: bytes, file_name: str) -> dict[str, Any]:
    try:
        header = json.loads(data.decode(), object_pairs_hook=without_twins)
    except (ValueError, RecursionError) as error:
        raise SafetensorsError(f"{file_name}: header is not JSON: {error}") from error
    if not isinstance(header, dict):
        raise SafetensorsError(f"{file_name}: header is not an object")
    return header


def _tensor(name: str, entry: Any, path: Path, data_start: int) -> Tensor:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise SafetensorsError(f"{path.name}: {told(name)}: wanted dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise SafetensorsError(f"{path.name}: {told(name)}: unknown dtype {short(dtype)}")
    if not _are_counts(shape) or len(shape) > MAX_DIMENSIONS:
        raise SafetensorsError(f"{path.name}: {told(name)}: malformed shape")
    if not _are_counts(offsets) or len(offsets) != 2:
        raise SafetensorsError(f"{path.name}: {told(name)}: malformed data_offsets")
    elements = prod(shape)
    if elements > MAX_ELEMENTS or elements * ITEM_BYTES[dtype] != offsets[1] - offsets[0]:
        raise SafetensorsError(
            f"{path.name}: {told(name)}: {offsets[1] - offsets[0]} bytes do not hold {dtype} of shape {shape}"
        )
    return Tensor(
        name=name,
        dtype=dtype,
        shape=tuple(shape),
        path=path,
        start=data_start + offsets[0],
        end=data_start + offsets[1],
    )


def _are_counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(n) is int and 0 <= n <= MAX_ELEMENTS * 8 for n in value)


def _check_layout(tensors: list[Tensor], path: Path, *, data_start: int, size: int) -> None:
    end = tensors[-1].end if tensors else data_start
    if tensors and tensors[0].start != data_start:
        raise SafetensorsError(f"{path.name}: gap before {told(tensors[0].name)}")
    for before, after in pairwise(tensors):
        if after.start != before.end:
            what = "gap between" if after.start > before.end else "overlap of"
            raise SafetensorsError(f"{path.name}: {what} {told(before.name)} and {told(after.name)}")
    if size < end:
        raise SafetensorsError(f"{path.name}: partial copy: header tells of {end} bytes, the file has {size}")
    if size > end:
        raise SafetensorsError(f"{path.name}: {size - end} bytes after the last tensor")


def without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these pairs, for JSON's `object_pairs_hook`. Raises ValueError if a key stands twice."""
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key stands twice")
    return made


def is_zero(tensor: Tensor) -> bool:
    """Whether every value is zero; minus zero counts as zero."""
    width = ITEM_BYTES[tensor.dtype]
    for chunk in _chunks(tensor):
        top = chunk[width - 1 :: width] if tensor.dtype in FLOATS else b""
        if chunk.count(0) - top.count(0) != len(chunk) - len(top) or top.translate(None, b"\x00\x80"):
            return False
    return True


def nonzero_rows(tensor: Tensor) -> list[int]:
    """The rows of a matrix that are not all zero, in order. `tensor`: [rows, columns]."""
    rows, columns = tensor.shape
    width = columns * ITEM_BYTES[tensor.dtype]
    starts = (tensor.start + row * width for row in range(rows))
    each = (replace(tensor, shape=(columns,), start=start, end=start + width) for start in starts)
    return [number for number, row in enumerate(each) if not is_zero(row)]


def any_nonzero_in_columns(tensor: Tensor, columns: Collection[int]) -> bool:
    """Whether one of these columns of a float matrix is not all zero. `tensor`: [rows, columns].

    Holds one row or CHUNK_BYTES, whichever is more: bound the number of columns first.
    """
    width = ITEM_BYTES[tensor.dtype]
    row = tensor.shape[1] * width
    for chunk in _chunks(tensor, max(1, CHUNK_BYTES // row) * row):
        for column in columns:
            for place in range(width):
                zeros = b"\x00\x80" if place == width - 1 else b"\x00"
                if chunk[column * width + place :: row].translate(None, zeros):
                    return True
    return False


def is_finite(tensor: Tensor) -> bool:
    """Whether no value is NaN or infinite; types other than F64, F32, F16 and BF16 count as finite."""
    if tensor.dtype not in FLOATS:
        return True
    return all(_chunk_is_finite(chunk, tensor.dtype) for chunk in _chunks(tensor))


def _chunk_is_finite(chunk: bytes, dtype: str) -> bool:
    width = ITEM_BYTES[dtype]
    top = chunk[width - 1 :: width]
    if dtype == "F16":
        return len(top.translate(None, _ALL_EXPONENT_F16)) == len(top)
    # Seven exponent bits lie in the top byte. Weights near 2**127 do not occur, so the slow way is rare.
    if len(top.translate(None, b"\x7f\xff")) == len(top):
        return True
    rest_of_exponent = 0xF0 if dtype == "F64" else 0x80
    second = chunk[width - 2 :: width]
    return not any(
        t & 0x7F == 0x7F and s & rest_of_exponent == rest_of_exponent
        for t, s in zip(top, second, strict=True)
    )


def same_values(tensor: Tensor, base: Tensor) -> bool:
    """Whether `tensor` holds what `base` holds, converted to the type of `tensor` if the types differ.

    Stops at the first difference. A conversion that is not known here counts as a difference.
    """
    if tensor.shape != base.shape:
        return False
    if tensor.dtype == base.dtype:
        return all(a == b for a, b in zip(_chunks(tensor), _chunks(base), strict=True))
    if not {tensor.dtype, base.dtype} <= FLOATS:
        return False
    if (tensor.dtype, base.dtype) == ("F32", "BF16"):
        return _is_widened(tensor, base)
    here, there = ITEM_BYTES[tensor.dtype], ITEM_BYTES[base.dtype]
    per_chunk = CHUNK_BYTES // 64
    pairs = zip(_chunks(tensor, per_chunk * here), _chunks(base, per_chunk * there), strict=True)
    return all(_encode(_decode(b, base.dtype), tensor.dtype) == a for a, b in pairs)


def _is_widened(tensor: Tensor, base: Tensor) -> bool:
    """Whether F32 holds the BF16 of `base`: the same upper halves, the lower ones zero. What loading a model does."""
    for wide, narrow in zip(_chunks(tensor), _chunks(base, CHUNK_BYTES // 2), strict=True):
        if wide[2::4] != narrow[0::2] or wide[3::4] != narrow[1::2]:
            return False
        if any(wide[lower::4].count(0) != len(narrow) // 2 for lower in (0, 1)):
            return False
    return True


def _chunks(tensor: Tensor, size_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
    with tensor.path.open("rb") as file:
        file.seek(tensor.start)
        left = tensor.end - tensor.start
        while left:
            chunk = file.read(min(left, size_bytes))
            if not chunk:
                raise SafetensorsError(f"{tensor.path.name}: became shorter while it was read")
            left -= len(chunk)
            yield chunk


def _decode(chunk: bytes, dtype: str) -> tuple[float, ...]:
    count = len(chunk) // ITEM_BYTES[dtype]
    if dtype == "BF16":
        wide = bytearray(4 * count)
        wide[2::4], wide[3::4] = chunk[0::2], chunk[1::2]
        chunk, dtype = bytes(wide), "F32"
    return struct.unpack(f"<{count}{_STRUCT_LETTERS[dtype]}", chunk)


def _encode(values: tuple[float, ...], dtype: str) -> bytes | None:
    """The values as bytes of that type, rounded to nearest, ties to even; None if one does not fit."""
    try:
        if dtype != "BF16":
            return struct.pack(f"<{len(values)}{_STRUCT_LETTERS[dtype]}", *values)
        bits = struct.unpack(f"<{len(values)}I", struct.pack(f"<{len(values)}f", *values))
    except OverflowError:
        return None
    rounded = array("H", (((b + 0x7FFF + ((b >> 16) & 1)) >> 16) & 0xFFFF for b in bits))
    return struct.pack(f"<{len(values)}H", *rounded)
