"""The tar reader says what Python's own says, in bounded memory, and refuses what has no one reading."""

import io
import tarfile
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tournament_sync.images import tar_of
from tournament_sync.errors import BuildError
from tournament_sync.images.tar import MAX_HEADER_BYTES, Entry, Kind, TarReader


def entries(data: bytes) -> list[Entry]:
    return list(TarReader(io.BytesIO(data), where="T"))


def header(name: str = "a", *, size: int = 0, **fields: object) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    for field, value in fields.items():
        setattr(info, field, value)
    return info.tobuf(tarfile.GNU_FORMAT)


def pax(*records: bytes, size: int | None = None) -> bytes:
    data = b"".join(records)
    return header(type=tarfile.XHDTYPE, size=len(data) if size is None else size) + padded(data)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def resigned(block: bytes, change: Callable[[bytearray], None]) -> bytes:
    """A header with a field changed and its checksum right again."""
    changed = bytearray(block)
    change(changed)
    changed[148:156] = b"        "
    changed[148:156] = f"{sum(changed):06o}\0 ".encode()
    return bytes(changed)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_reads_what_python_writes(form: int) -> None:
    long = "d/" + "x" * 90 + "/" + "y" * 40
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for name, kind, content, target in [
            ("d", tarfile.DIRTYPE, b"", ""),
            (long, tarfile.REGTYPE, b"content" * 200, ""),
            ("link", tarfile.SYMTYPE, b"", "../elsewhere"),
            ("hard", tarfile.LNKTYPE, b"", "link"),
            ("pipe", tarfile.FIFOTYPE, b"", ""),
        ]:
            info = tarfile.TarInfo(name)
            info.type, info.size, info.linkname = kind, len(content), target
            tar.addfile(info, io.BytesIO(content))
    reader = TarReader(io.BytesIO(out.getvalue()), where="T")
    found = [(one.name.rstrip("/"), one.kind, one.target, reader.content(limit=10_000)) for one in reader]
    assert found == [
        ("d", Kind.FOLDER, "", b""),
        (long, Kind.FILE, "", b"content" * 200),
        ("link", Kind.LINK, "../elsewhere", b""),
        ("hard", Kind.HARD_LINK, "link", b""),
        ("pipe", Kind.SPECIAL, "", b""),
    ]


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=200).filter(
                lambda name: not name.endswith("/")
            ),
            st.binary(max_size=1500),
        ),
        max_size=5,
    )
)
def test_every_written_archive_is_read_back_with_offsets(files: list[tuple[str, bytes]]) -> None:
    data = tar_of(files)
    assert [(one.name, data[one.offset : one.offset + one.size_bytes]) for one in entries(data)] == files


def test_gives_no_content_over_the_limit_and_goes_on() -> None:
    reader = TarReader(io.BytesIO(tar_of({"big": b"x" * 600, "next": b"y"})), where="T")
    assert [reader.content(limit=599) for _ in reader] == [None, b"y"]


def test_only_files_have_bytes_whatever_a_header_says() -> None:
    """Go's reader, by which layers are unpacked, skips the size of a link too."""
    data = header("l", size=700, type=tarfile.SYMTYPE, linkname="t") + header("f", size=1) + padded(b"z")
    assert [(one.name, one.size_bytes) for one in entries(data)] == [("l", 0), ("f", 1)]


def test_reads_the_size_from_an_extended_header() -> None:
    data = pax(b"9 size=2\n") + header("f", size=0) + padded(b"ab")
    assert entries(data)[0].size_bytes == 2


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"x" * 512, "T: no tar header at byte 0"),
        (header() + b"x" * 100, "T: no tar header at byte 512"),
        (header("f", size=600) + b"x" * 512, "T: ends early, at byte 1024"),
        (header("f", size=5) + b"12345", "T: ends early, at byte 517"),
        (header(type=tarfile.GNUTYPE_SPARSE), "T: 'a' is a kind of entry that is not taken"),
        (header(type=tarfile.CONTTYPE), "T: 'a' is a kind of entry that is not taken"),
        (header(type=tarfile.XGLTYPE), "T: 'a' is a kind of entry that is not taken"),
        (pax(b"22 GNU.sparse.major=1\n") + header(), "T: 'a' is a kind of entry that is not taken"),
        (pax(size=MAX_HEADER_BYTES + 1), "T: a header of 1048577 bytes is over the limit of 1048576"),
        (header(type=tarfile.GNUTYPE_LONGNAME, size=1 << 40), "T: a header of .* bytes is over the limit"),
        (pax(b"9 size=1\n"), "T: ends after an extended header"),
        (pax(b"9 size=1\n", size=9)[:600], "T: ends early"),
        (pax(b"11 size=-1\n") + header(), "T: a pax header says size '-1'"),
        (pax(b"12 size=1_0\n") + header(), "T: a pax header says size '1_0'"),
        (pax(b"8 size=1\n") + header(), "T: a pax header that has no one reading"),
        (pax(b"20 size=1\n") + header(), "T: a pax header that has no one reading"),
        (pax(b"0 a=b\n") + header(), "T: a pax header that has no one reading"),
        (pax(b"a=b\n") + header(), "T: a pax header that has no one reading"),
        (pax(b"5 ab\n") + header(), "T: a pax header that has no one reading"),
        (pax(b"7 a\0=b\n") + header(), "T: a pax header that has no one reading"),
        (pax(b"99999999999 a=b\n") + header(), "T: a pax header that has no one reading"),
    ],
)
def test_refuses_an_archive_without_one_reading(data: bytes, message: str) -> None:
    with pytest.raises(BuildError, match=message):
        entries(data)


def test_refuses_a_negative_size() -> None:
    def negative(block: bytearray) -> None:
        block[124:136] = b"\xff" * 12  # base 256, the GNU way

    with pytest.raises(BuildError, match="T: an entry at byte 0 has a negative size"):
        entries(resigned(header("f"), negative))


@given(st.data())
def test_a_changed_byte_is_read_or_refused_and_nothing_else(data: st.DataObject) -> None:
    files: dict[str, bytes | str] = {"a" * 120: b"x" * 700, "ü": b"", "l": "t"}
    archive = bytearray(tar_of(files))
    at = data.draw(st.integers(0, len(archive) - 1))
    archive[at] ^= data.draw(st.integers(1, 255))
    try:
        entries(bytes(archive))
    except BuildError as error:
        assert str(error).startswith("T: ")
