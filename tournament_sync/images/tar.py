"""Reads tar archives from front to back, as the container tools' own reader does, in little memory.

Covered: header checksums, lengths and names over the limits, entries that end early, kinds of entry that no
container tool writes (sparse files, global headers, multi-volume parts).
Not covered: what a name means. Nothing is unpacked here; whoever uses names must check them.
"""

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from tournament_sync.errors import BuildError

MAX_HEADER_BYTES = 1 << 20  # of one extended header; names have at most 4096 bytes on Linux
_READ_BYTES = 1 << 20
_BLOCK = tarfile.BLOCKSIZE


class Readable(Protocol):
    """What bytes are read from; fewer than asked for only at the end."""

    def read(self, size: int, /) -> bytes: ...


class Kind(StrEnum):
    """What an entry is."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "symbolic link"
    HARD_LINK = "hard link"
    SPECIAL = "device or pipe"


_KINDS = {
    tarfile.REGTYPE: Kind.FILE,
    tarfile.AREGTYPE: Kind.FILE,
    tarfile.DIRTYPE: Kind.FOLDER,
    tarfile.SYMTYPE: Kind.LINK,
    tarfile.LNKTYPE: Kind.HARD_LINK,
    tarfile.CHRTYPE: Kind.SPECIAL,
    tarfile.BLKTYPE: Kind.SPECIAL,
    tarfile.FIFOTYPE: Kind.SPECIAL,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry. `offset` is where its bytes begin in the stream, `target` what a link names."""

    name: str
    kind: Kind
    size_bytes: int
    offset: int
    target: str


class TarReader:
    """The entries of one archive, in order, each readable until the next one is asked for."""

    def __init__(self, stream: Readable, *, where: str) -> None:
        self._stream = stream
        self._where = where  # named in every error
        self._at = 0
        self._left = 0  # of the current entry, padding not counted
        self._padding = 0

    def __iter__(self) -> Iterator[Entry]:
        """Raises BuildError at whatever has more than one reading, or none."""
        while True:
            self._skip()
            extended: dict[str, str] = {}
            while (header := self._header()) is not None and header.type in _EXTENDED:
                extended |= _EXTENDED[header.type](self._extension(header.size), self._where)
            if header is None:
                if extended:
                    raise BuildError(f"{self._where}: ends after an extended header")
                return
            yield self._entry(header, extended)

    def chunks(self) -> Iterator[bytes]:
        """The bytes of the current entry."""
        while self._left:
            chunk = self._take(min(self._left, _READ_BYTES))
            self._left -= len(chunk)
            yield chunk

    def content(self, *, limit: int) -> bytes | None:
        """All bytes of the current entry, None if they are more than `limit`."""
        return b"".join(self.chunks()) if self._left <= limit else None

    def _entry(self, header: tarfile.TarInfo, extended: dict[str, str]) -> Entry:
        kind = _KINDS.get(header.type)
        if kind is None or any(key.startswith("GNU.sparse.") for key in extended):
            raise BuildError(f"{self._where}: {header.name[:200]!r} is a kind of entry that is not taken")
        size = _size(extended["size"], self._where) if "size" in extended else header.size
        # Only files have bytes; other readers also ignore what a header says about the rest.
        self._left = size if kind is Kind.FILE else 0
        self._padding = -self._left % _BLOCK
        return Entry(
            name=extended.get("path", header.name),
            kind=kind,
            size_bytes=self._left,
            offset=self._at,
            target=extended.get("linkpath", header.linkname),
        )

    def _header(self) -> tarfile.TarInfo | None:
        block = self._stream.read(_BLOCK)
        self._at += len(block)
        if not block or block == bytes(_BLOCK):
            return None
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.TarError as error:
            raise BuildError(
                f"{self._where}: no tar header at byte {self._at - len(block)}: {error}"
            ) from error
        if header.size < 0:
            raise BuildError(f"{self._where}: an entry at byte {self._at - len(block)} has a negative size")
        return header

    def _extension(self, size: int) -> bytes:
        if size > MAX_HEADER_BYTES:
            raise BuildError(
                f"{self._where}: a header of {size} bytes is over the limit of {MAX_HEADER_BYTES}"
            )
        data = self._take(size)
        self._take(-size % _BLOCK)
        return data

    def _skip(self) -> None:
        for _ in self.chunks():
            pass
        self._take(self._padding)
        self._padding = 0

    def _take(self, size: int) -> bytes:
        data = self._stream.read(size) if size else b""
        self._at += len(data)
        if len(data) != size:
            raise BuildError(f"{self._where}: ends early, at byte {self._at}")
        return data


def _pax(data: bytes, where: str) -> dict[str, str]:
    """POSIX pax records, each "length key=value\\n"."""
    records, stream = {}, io.BytesIO(data)
    while stream.tell() < len(data):
        begin = stream.tell()
        digits = bytearray()
        while (byte := stream.read(1)).isdigit() and len(digits) < 8:
            digits += byte
        end = begin + int(digits or b"0")
        if byte != b" " or not stream.tell() < end <= len(data) or data[end - 1 : end] != b"\n":
            raise BuildError(f"{where}: a pax header that has no one reading")
        key, separator, value = data[stream.tell() : end - 1].partition(b"=")
        if not separator or b"\0" in key:
            raise BuildError(f"{where}: a pax header that has no one reading")
        records[_text(key)] = _text(value)
        stream.seek(end)
    return records


def _long_name(data: bytes, _where: str) -> dict[str, str]:
    return {"path": _text(data.partition(b"\0")[0])}


def _long_link(data: bytes, _where: str) -> dict[str, str]:
    return {"linkpath": _text(data.partition(b"\0")[0])}


_EXTENDED = {
    tarfile.XHDTYPE: _pax,
    tarfile.GNUTYPE_LONGNAME: _long_name,
    tarfile.GNUTYPE_LONGLINK: _long_link,
}


def _size(text: str, where: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise BuildError(f"{where}: a pax header says size {text[:40]!r}")
    return int(text)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
