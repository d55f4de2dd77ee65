"""Reads layers, which are tar archives, from front to back in little memory.

What is covered: header checksums; lengths, names and numbers over the limits; entries that end early; kinds of
entry that no container tool writes (sparse files, global headers, multi-volume parts).
What is not covered: what a name means; whoever unpacks must resolve it. `tournament_sync.images.tar` reads for
another purpose, without owners and modes, and is out of the runner's reach.
"""

import re
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from runner.images.errors import ImageError

MAX_HEADER_BYTES = 1 << 20  # of one extended header; names have at most 4096 bytes on Linux
MAX_ID = (1 << 32) - 2  # the highest user or group id that the kernel takes
CHUNK_BYTES = 1 << 20
_BLOCK = tarfile.BLOCKSIZE
_RECORD = re.compile(rb"([1-9][0-9]{0,7}) ")
_NUMBER = re.compile(rb"[0-9]{1,19}")
_TIME = re.compile(rb"(-?[0-9]{1,11})(?:\.[0-9]*)?")


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
class Attributes:
    """What a file has beside its content. `mode` is as written, special bits included."""

    mode: int
    user_id: int
    group_id: int
    modified_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry; `target` is what a link names. Names are bytes, as Linux has them."""

    name: bytes
    kind: Kind
    size_bytes: int
    target: bytes
    attributes: Attributes


class TarReader:
    """The entries of one layer, in order, each readable until the next one is asked for."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._left = 0  # of the current entry, padding not counted
        self._padding = 0

    def __iter__(self) -> Iterator[Entry]:
        """Raises ImageError at whatever has more than one reading, or none."""
        while True:
            self._skip()
            extended: dict[bytes, bytes] = {}
            while (header := self._header()) is not None and header.type in _EXTENDED:
                extended |= _EXTENDED[header.type](self._extension(header.size))
            if header is None:
                if extended:
                    raise ImageError("ends after an extended header")
                return
            yield self._entry(header, extended)

    def chunks(self) -> Iterator[bytes]:
        """The bytes of the current entry."""
        while self._left:
            chunk = self._take(min(self._left, CHUNK_BYTES))
            self._left -= len(chunk)
            yield chunk

    def _entry(self, header: tarfile.TarInfo, extended: Mapping[bytes, bytes]) -> Entry:
        name = extended.get(b"path", _bytes(header.name))
        target = extended.get(b"linkpath", _bytes(header.linkname))
        if b"\0" in name or b"\0" in target:
            raise ImageError(f"{name[:200]!r} has a NUL in its name or target")
        kind = _KINDS.get(header.type)
        if kind is None or any(key.startswith(b"GNU.sparse.") for key in extended):
            raise ImageError(f"{name[:200]!r} is a kind of entry that is not taken")
        size = _number(extended, b"size", header.size)
        # Only files have bytes; other readers also ignore what a header says about the rest.
        self._left = size if kind is Kind.FILE else 0
        self._padding = -self._left % _BLOCK
        return Entry(
            name=name,
            kind=kind,
            size_bytes=self._left,
            target=target,
            attributes=Attributes(
                mode=header.mode,
                user_id=_number(extended, b"uid", header.uid, limit=MAX_ID),
                group_id=_number(extended, b"gid", header.gid, limit=MAX_ID),
                modified_s=_time(extended, header.mtime),
            ),
        )

    def _header(self) -> tarfile.TarInfo | None:
        block = self._stream.read(_BLOCK)
        if not block or block == bytes(_BLOCK):
            return None
        try:
            return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.TarError as error:
            raise ImageError(f"no tar header where one is due: {error}") from error

    def _extension(self, size: int) -> bytes:
        if not 0 <= size <= MAX_HEADER_BYTES:
            raise ImageError(f"a header of {size} bytes, wanted at most {MAX_HEADER_BYTES}")
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
        if len(data) != size:
            raise ImageError("ends early")
        return data


def _pax(data: bytes) -> dict[bytes, bytes]:
    """POSIX pax records, each "length key=value\\n"."""
    records, at = {}, 0
    while at < len(data):
        length = _RECORD.match(data, at)
        end = at + int(length[1]) if length else 0
        if length is None or not length.end() < end <= len(data) or data[end - 1 : end] != b"\n":
            raise ImageError("a pax header that has no one reading")
        key, separator, value = data[length.end() : end - 1].partition(b"=")
        if not separator or b"\0" in key:
            raise ImageError("a pax header that has no one reading")
        records[key] = value
        at = end
    return records


_EXTENDED: Mapping[bytes, Callable[[bytes], dict[bytes, bytes]]] = {
    tarfile.XHDTYPE: _pax,
    tarfile.GNUTYPE_LONGNAME: lambda data: {b"path": data.partition(b"\0")[0]},
    tarfile.GNUTYPE_LONGLINK: lambda data: {b"linkpath": data.partition(b"\0")[0]},
}


def _number(extended: Mapping[bytes, bytes], key: bytes, header: int, *, limit: int = 1 << 62) -> int:
    text = extended.get(key)
    if text is not None and not _NUMBER.fullmatch(text):
        raise ImageError(f"a pax header says {key.decode()} {text[:40]!r}")
    number = header if text is None else int(text)
    if not 0 <= number <= limit:
        raise ImageError(f"an entry has {key.decode()} {number}, wanted 0 to {limit}")
    return number


def _time(extended: Mapping[bytes, bytes], header: float) -> int:
    """Whole seconds since 1970; what is before is 0, and what no file system knows is 2106."""
    text = extended.get(b"mtime")
    if text is not None and not (parts := _TIME.fullmatch(text)):
        raise ImageError(f"a pax header says mtime {text[:40]!r}")
    return min(max(int(parts[1]) if text is not None and parts else int(header), 0), (1 << 32) - 1)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
