"""The safetensors parser: what is whole is read exactly, what is not is refused by name."""

import json
import math
import struct
import tracemalloc
from pathlib import Path

import pytest

from runner.safetensors import (
    SafetensorsError,
    Tensor,
    any_nonzero_in_columns,
    is_finite,
    is_zero,
    nonzero_rows,
    read_header,
    same_values,
)
from tests.runner.tensors import BASE, encode_file, encode_raw, pack, ramp


def write(tmp_path: Path, data: bytes, name: str = "x.safetensors") -> Path:
    path = tmp_path / name
    path.write_bytes(data)
    return path


def tensor(tmp_path: Path, dtype: str, data: bytes, *, name: str = "x") -> Tensor:
    width = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "U8": 1}[dtype]
    header = {"t": {"dtype": dtype, "shape": [len(data) // width], "data_offsets": [0, len(data)]}}
    return read_header(write(tmp_path, encode_raw(header, data), f"{name}.safetensors"))[0]


def test_reads_names_types_shapes_and_places(tmp_path: Path) -> None:
    found = read_header(write(tmp_path, encode_file(BASE, {"format": "pt"})))
    assert {t.name: (t.dtype, list(t.shape)) for t in found} == {n: (d, s) for n, (d, s, _) in BASE.items()}
    data = (tmp_path / "x.safetensors").read_bytes()
    for t in found:
        assert data[t.start : t.end] == pack(t.dtype, BASE[t.name][2])


def test_reads_scalars_and_empty_tensors(tmp_path: Path) -> None:
    found = read_header(write(tmp_path, encode_file({"s": ("F32", [], [1.0]), "e": ("F32", [0, 4], [])})))
    assert {t.name: t.end - t.start for t in found} == {"s": 4, "e": 0}


def test_every_truncation_is_a_partial_copy(tmp_path: Path) -> None:
    whole = encode_file({"t": ("F32", [4], ramp(4))})
    for length in range(len(whole)):
        with pytest.raises(SafetensorsError, match="partial copy"):
            read_header(write(tmp_path, whole[:length]))


def test_every_changed_header_byte_is_refused_or_read_as_whole(tmp_path: Path) -> None:
    whole = encode_file({"t": ("F32", [4], ramp(4))})
    for position in range(len(whole) - 16):
        for flip in (0x01, 0x20, 0x80):
            changed = bytearray(whole)
            changed[position] ^= flip
            try:
                found = read_header(write(tmp_path, bytes(changed)))
            except SafetensorsError:
                continue
            assert sum(t.end - t.start for t in found) in (0, 16)


def entry(begin: int, end: int, dtype: str = "F32", shape: object = None) -> dict[str, object]:
    return {
        "dtype": dtype,
        "shape": [(end - begin) // 4] if shape is None else shape,
        "data_offsets": [begin, end],
    }


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"a": entry(0, 8), "b": entry(4, 16)}, "overlap of a and b"),
        ({"a": entry(0, 4), "b": entry(8, 16)}, "gap between a and b"),
        ({"a": entry(4, 16)}, "gap before a"),
        ({"a": entry(0, 12)}, "4 bytes after the last tensor"),
        ({"a": entry(0, 20)}, "partial copy: header tells of"),
        ({"a": entry(0, 16, dtype="F4")}, "unknown dtype 'F4'"),
        ({"a": entry(0, 16, dtype="F16")}, "do not hold F16"),
        ({"a": entry(0, 16, shape=[2**40, 2**40])}, "do not hold"),
        ({"a": entry(0, 16, shape=[-4])}, "malformed shape"),
        ({"a": entry(0, 16, shape=[True, 4])}, "malformed shape"),
        ({"a": entry(0, 16, shape=[4.0])}, "malformed shape"),
        ({"a": entry(0, 16, shape=[1] * 17)}, "malformed shape"),
        ({"a": entry(16, 0, shape=[4])}, "do not hold"),
        ({"a": {**entry(0, 16), "data_offsets": [0]}}, "malformed data_offsets"),
        ({"a": {**entry(0, 16), "extra": 1}}, "wanted dtype, shape and data_offsets"),
        ({"a": 3}, "wanted dtype, shape and data_offsets"),
        ([], "partial copy|not an object"),
        ([1], "not an object"),
        ({"a": entry(0, 16), "__metadata__": [[]]}, "__metadata__ is not a map of texts"),
        ({"a": entry(0, 16), "__metadata__": {"a": {}}}, "__metadata__ is not a map of texts"),
        ({"a": entry(0, 16), "__metadata__": {"a": 1}}, "__metadata__ is not a map of texts"),
        ({"a": entry(0, 16), "__metadata__": None}, "__metadata__ is not a map of texts"),
        ({"a": {**entry(0, 16), "dtype": ["F32"]}}, "unknown dtype"),
        ({"a": {**entry(0, 16), "dtype": "x" * 10_000}}, "unknown dtype 'xxx.{,30}xxx'$"),
        ({"a": {**entry(0, 16), "data_offsets": [0, 16, 16]}}, "malformed data_offsets"),
        ({"a": {**entry(0, 16), "data_offsets": [0, 2**200]}}, "malformed data_offsets"),
        ({"a": entry(8, 16), "b": entry(8, 16)}, "gap before a"),
        ({"a": entry(0, 16), "b": entry(0, 16)}, "overlap of a and b"),
        ({"a": entry(0, 0, shape=[0, 2**48]), "b": entry(0, 8)}, "8 bytes after the last tensor"),
        ({"n" * 5000: 3}, "n{200}…: wanted dtype"),
        ({"\x1b[2J": 3}, r"'\\x1b\[2J': wanted dtype"),
    ],
)
def test_refuses_header(tmp_path: Path, header: object, message: str) -> None:
    with pytest.raises(SafetensorsError, match=message):
        read_header(write(tmp_path, encode_raw(header, bytes(16))))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"a":1,"a":2}', "a key stands twice"),
        (b"{nonsense}", "header is not JSON"),
        (b"\xff\xfe\xfd", "header is not JSON"),
        (b"[" * 100_000, "header is not JSON"),
    ],
)
def test_refuses_header_bytes(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(SafetensorsError, match=message):
        read_header(write(tmp_path, struct.pack("<Q", len(data)) + data))


def test_refuses_huge_header_without_reading_it(tmp_path: Path) -> None:
    with pytest.raises(SafetensorsError, match="header of 8388609 bytes is over 8388608"):
        read_header(write(tmp_path, struct.pack("<Q", (8 << 20) + 1)))


def test_tensors_may_stand_in_any_order_in_the_header(tmp_path: Path) -> None:
    header = {"b": entry(8, 16), "none": entry(8, 8, shape=[0, 7]), "a": entry(0, 8)}
    assert [t.name for t in read_header(write(tmp_path, encode_raw(header, bytes(16))))] == ["a", "none", "b"]


@pytest.mark.parametrize("twice", [b'{"a":%s,"a":%s}', b'{"a":{"dtype":"U8",%s,%s}}'])
def test_refuses_a_key_that_stands_twice(tmp_path: Path, twice: bytes) -> None:
    part = json.dumps(entry(0, 4)).encode() if twice.startswith(b'{"a":%') else b'"shape":[4]'
    body = twice % (part, part)
    with pytest.raises(SafetensorsError, match="a key stands twice"):
        read_header(write(tmp_path, struct.pack("<Q", len(body)) + body + bytes(4)))


@pytest.mark.parametrize(
    "body", [b"[" * 50_000, b'{"a":' * 50_000, b'{"a":' + b"1" * 5000 + b"}", b'{"a":"\xff"}']
)
def test_refuses_a_header_that_is_too_much_for_a_reader(tmp_path: Path, body: bytes) -> None:
    with pytest.raises(SafetensorsError, match="header is not JSON"):
        read_header(write(tmp_path, struct.pack("<Q", len(body)) + body))


def test_refuses_a_hundred_thousand_tensors_and_one(tmp_path: Path) -> None:
    nothing = {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}
    body = json.dumps({f"{n:x}": nothing for n in range(100_001)}, separators=(",", ":")).encode()
    with pytest.raises(SafetensorsError, match="100001 tensors are over 100000"):
        read_header(write(tmp_path, struct.pack("<Q", len(body)) + body))


def test_the_largest_header_costs_bounded_memory(tmp_path: Path) -> None:
    body = b'{"__metadata__":[' + b"[]," * 2_790_000 + b"[]]}"
    path = write(tmp_path, struct.pack("<Q", len(body)) + body)
    tracemalloc.start()
    try:
        with pytest.raises(SafetensorsError, match="__metadata__ is not a map of texts"):
            read_header(path)
        assert tracemalloc.get_traced_memory()[1] < 256 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("dtype", ["F64", "F32", "F16", "BF16"])
def test_knows_which_rows_and_columns_are_zero(tmp_path: Path, dtype: str) -> None:
    rows = 100_000  # several chunks
    values = [0.0, -0.0, 0.0] * rows
    values[3 * 70_000 + 1] = 2.0**-14
    header = {"t": {"dtype": dtype, "shape": [rows, 3], "data_offsets": [0, len(pack(dtype, values))]}}
    read = read_header(write(tmp_path, encode_raw(header, pack(dtype, values))))[0]
    assert [not any_nonzero_in_columns(read, columns) for columns in ([0], [1], [2], [0, 2], [0, 1])] == [
        True, False, True, True, False
    ]  # fmt: skip
    few = {"t": {"dtype": dtype, "shape": [3, 2], "data_offsets": [0, len(pack(dtype, [0.0] * 6))]}}
    read = read_header(write(tmp_path, encode_raw(few, pack(dtype, [0.0, 1.0, 0.0, -0.0, 3.0, 0.0]))))[0]
    assert nonzero_rows(read) == [0, 2]


@pytest.mark.parametrize("dtype", ["F64", "F32", "F16", "BF16", "I64", "U8"])
def test_knows_zero(tmp_path: Path, dtype: str) -> None:
    assert is_zero(tensor(tmp_path, dtype, pack(dtype, [0] * 9)))
    assert not is_zero(tensor(tmp_path, dtype, pack(dtype, [0] * 8 + [1])))


@pytest.mark.parametrize("dtype", ["F64", "F32", "F16", "BF16"])
def test_minus_zero_is_zero_and_tiny_is_not(tmp_path: Path, dtype: str) -> None:
    assert is_zero(tensor(tmp_path, dtype, pack(dtype, [-0.0, 0.0])))
    tiny = b"\x01" + bytes(len(pack(dtype, [0.0])) - 1)
    assert not is_zero(tensor(tmp_path, dtype, pack(dtype, [0.0]) + tiny))


@pytest.mark.parametrize("dtype", ["F64", "F32", "F16", "BF16"])
def test_knows_nan_and_infinity(tmp_path: Path, dtype: str) -> None:
    largest = {"F64": 1.7e308, "F32": 3.3e38, "F16": 65504.0, "BF16": 3.3e38}[dtype]
    assert is_finite(tensor(tmp_path, dtype, pack(dtype, [0.0, 1.0, -largest, largest])))
    for wrong in (math.nan, math.inf, -math.inf):
        assert not is_finite(tensor(tmp_path, dtype, pack(dtype, [1.0, wrong])))


def test_integers_are_finite(tmp_path: Path) -> None:
    assert is_finite(tensor(tmp_path, "U8", b"\xff" * 8))


@pytest.mark.parametrize("dtype", ["F64", "F32", "F16", "BF16"])
@pytest.mark.parametrize("base_dtype", ["F64", "F32", "F16", "BF16"])
def test_same_values_in_another_type_are_the_same(tmp_path: Path, dtype: str, base_dtype: str) -> None:
    values = [0.0, 1.0, -2.5, 0.15625]  # exact in every type
    base = tensor(tmp_path, base_dtype, pack(base_dtype, values), name="base")
    assert same_values(tensor(tmp_path, dtype, pack(dtype, values)), base)
    assert not same_values(tensor(tmp_path, dtype, pack(dtype, [0.0, 1.0, -2.5, 0.3125])), base)


@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_widened_values_differ_by_any_byte(tmp_path: Path, place: int) -> None:
    count = 3_000_000  # several chunks
    base = tensor(tmp_path, "BF16", bytes(2 * count), name="base")
    data = bytearray(4 * count)
    data[-4 + place] = 1
    assert not same_values(tensor(tmp_path, "F32", bytes(data)), base)


@pytest.mark.parametrize(("value", "top"), [(1.00390625, 0x3F80), (1.01171875, 0x3F82), (1.005, 0x3F81)])
def test_narrowing_rounds_to_nearest_even(tmp_path: Path, value: float, top: int) -> None:
    base = tensor(tmp_path, "F32", pack("F32", [value]), name="base")
    assert same_values(tensor(tmp_path, "BF16", struct.pack("<H", top)), base)


def test_a_value_too_large_for_the_type_is_another_value(tmp_path: Path) -> None:
    base = tensor(tmp_path, "F32", pack("F32", [1e30]), name="base")
    assert not same_values(tensor(tmp_path, "F16", pack("F16", [65504.0])), base)


def test_integers_and_floats_are_not_compared(tmp_path: Path) -> None:
    base = tensor(tmp_path, "F32", pack("F32", [0.0, 0.0]), name="base")
    assert not same_values(tensor(tmp_path, "I64", pack("I64", [0, 0])), base)


def test_values_are_compared_across_chunks(tmp_path: Path) -> None:
    count = 200_000  # F32 against BF16 goes in chunks of 65,536 values
    base = tensor(tmp_path, "BF16", bytes(2 * count), name="base")
    data = bytearray(4 * count)
    assert same_values(tensor(tmp_path, "F32", bytes(data)), base)
    data[-1] = 0x40
    assert not same_values(tensor(tmp_path, "F32", bytes(data)), base)


def test_a_file_that_shrinks_while_read_is_refused(tmp_path: Path) -> None:
    t = tensor(tmp_path, "F32", bytes(64))
    t.path.write_bytes(t.path.read_bytes()[:-4])
    with pytest.raises(SafetensorsError, match="became shorter"):
        is_zero(t)


def test_header_helper_writes_what_the_format_says() -> None:
    data = encode_file({"t": ("U8", [1], [7])})
    length = struct.unpack("<Q", data[:8])[0]
    assert json.loads(data[8 : 8 + length]) == {"t": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}
