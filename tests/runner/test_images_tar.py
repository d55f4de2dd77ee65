"""The reader of layers: one reading of every archive, or none."""

import io
import tarfile

import pytest

from runner.images.errors import ImageError
from runner.images.tar import MAX_HEADER_BYTES, Entry, Kind, TarReader
from tests.runner.image_layers import MTIME, Item, file, folder, hard_link, layer, link


def read(tar: bytes) -> list[tuple[Entry, bytes]]:
    reader = TarReader(io.BytesIO(tar))
    return [(entry, b"".join(reader.chunks())) for entry in reader]


def header(kind: bytes, *, size: int = 0, **fields: object) -> bytes:
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, size
    for name, value in fields.items():
        setattr(info, name, value)
    return info.tobuf(tarfile.GNU_FORMAT)


def pax(records: bytes) -> bytes:
    """An extended header, and a file that it describes."""
    padded = records + bytes(-len(records) % 512)
    return header(tarfile.XHDTYPE, size=len(records)) + padded + header(tarfile.REGTYPE) + bytes(1024)


def test_entries_are_read_as_python_wrote_them() -> None:
    items = [folder("d/", 0o700, owner=7), file("f", b"abc", mode=0o640), link("l", "f"), hard_link("h", "f")]
    found = read(layer(*items))
    assert [(e.name, e.kind, content) for e, content in found] == [
        (b"d", Kind.FOLDER, b""),
        (b"f", Kind.FILE, b"abc"),
        (b"l", Kind.LINK, b""),
        (b"h", Kind.HARD_LINK, b""),
    ]
    assert (found[0][0].attributes.mode, found[0][0].attributes.user_id) == (0o700, 7)
    assert (found[1][0].attributes.modified_s, found[2][0].target) == (MTIME, b"f")


@pytest.mark.parametrize("shape", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_are_read_in_both_ways_of_writing_them(shape: int) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=shape) as tar:
        info = tarfile.TarInfo("n" * 300)
        info.type, info.linkname = tarfile.SYMTYPE, "t" * 300
        tar.addfile(info)
    ((entry, _),) = read(out.getvalue())
    assert (entry.name, entry.target) == (b"n" * 300, b"t" * 300)


def test_an_entry_is_skipped_when_nobody_reads_it() -> None:
    reader = TarReader(io.BytesIO(layer(file("a", bytes(3000)), file("b"))))
    assert [entry.name for entry in reader] == [b"a", b"b"]


def test_numbers_of_an_extended_header_win() -> None:
    ((entry, _),) = read(layer(file("x", pax={"uid": "70000", "gid": "80000", "mtime": "12.75"})))
    assert (entry.attributes.user_id, entry.attributes.group_id) == (70000, 80000)
    assert entry.attributes.modified_s == 12


@pytest.mark.parametrize(("text", "seconds"), [("-5", 0), ("99999999999", (1 << 32) - 1)])
def test_times_that_no_file_system_knows_are_brought_near(text: str, seconds: int) -> None:
    ((entry, _),) = read(layer(file("x", pax={"mtime": text})))
    assert entry.attributes.modified_s == seconds


@pytest.mark.parametrize("key", ["uid", "gid", "size", "mtime"])
@pytest.mark.parametrize("text", ["1e3", " 1", "0x10", "1_0", "٣", ""])
def test_numbers_that_are_none_are_refused(key: str, text: str) -> None:
    record = f"{key}={text}\n".encode()
    length = len(record) + (2 if len(record) < 8 else 3)
    with pytest.raises(ImageError, match=f"a pax header says {key}"):
        read(pax(b"%d " % length + record))


@pytest.mark.parametrize(
    "records",
    [
        b"5 a=b\n",
        b"99 a=b\n",
        b"6 a=b\n7",
        b"06 a=b\n",
        b"6  a=b",
        b"6 a=bx",
        b"6 aab\n",
        b"8 a\0b=c\n",
        b"x\n",
        b"-6 a=b\n",
    ],
)
def test_an_extended_header_with_two_readings_is_refused(records: bytes) -> None:
    with pytest.raises(ImageError, match="a pax header that has no one reading"):
        read(pax(records))


@pytest.mark.parametrize(
    ("tar", "message"),
    [
        (header(b"S"), "a kind of entry that is not taken"),
        (header(b"g"), "a kind of entry that is not taken"),
        (header(b"M"), "a kind of entry that is not taken"),
        (layer(Item(name="x", pax={"GNU.sparse.major": "1"})), "a kind of entry that is not taken"),
        (layer(Item(name="x", pax={"path": "a\0b"})), "has a NUL in its name or target"),
        (layer(Item(name="x", pax={"linkpath": "a\0b"})), "has a NUL in its name or target"),
        (header(b"0", size=1 << 40), "ends early"),
        (header(b"0", size=-1), "size -1, wanted 0 to"),
        (header(b"0", uid=-1), "uid -1, wanted 0 to 4294967294"),
        (header(b"x", size=MAX_HEADER_BYTES + 1), "a header of 1048577 bytes"),
        (header(b"L", size=1 << 60), "a header of"),
        (header(b"x", size=-5), "a header of -5 bytes"),
        (header(b"L", size=4) + b"name" + bytes(508), "ends after an extended header"),
        (header(b"0")[:-100], "truncated header"),
        (b"x" * 512, "no tar header"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_no_container_tool_writes_is_refused(tar: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        read(tar)
