"""Lays one layer of an image onto a tree, and holds what it read against the digest that the image names.

What is covered: gzip and plain tar; names that climb, sizes, counts and depths over the limits; a disk that runs
full; whiteouts of lower layers, wherever they stand in theirs; devices and pipes are left out and counted. Nothing
of a layer counts before its digest was found right: the caller throws the tree away otherwise.
What is not covered: zstd, which the standard library cannot read.

Source: OCI image specification, layer.md.
"""

import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

from runner.images.errors import ImageError
from runner.images.tar import CHUNK_BYTES, Entry, Kind, Readable, TarReader
from runner.images.tree import Parts, Tree

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
# Bytes of a layer between two looks at the disk. Of empty folders, which take most for their size, these make 1 GiB.
_LOOK_BYTES = 32 << 20
_WHITEOUT, _META, _OPAQUE = b".wh.", b".wh..wh.", b".wh..wh..opq"


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerBlob:
    """Where a layer lies: `size_bytes` at `offset` of the file `path`, which may be a whole archive."""

    path: Path
    offset: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UnpackLimits:
    """What an image may be, all layers together. Real training images have 300,000 files and 20 GiB."""

    max_layers: int = 127  # overlay file systems take no more
    max_bytes: int = 256 << 30
    max_entries: int = 2_000_000
    max_depth: int = 128
    reserve_bytes: int = 2 << 30  # of its file system that an image leaves to everybody else


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """How much a layer was, to be taken off the limits of the next; `skipped` are devices and pipes."""

    size_bytes: int
    entries: int
    skipped: int


def apply_layer(tree: Tree, blob: LayerBlob, *, diff_id: str, limits: UnpackLimits) -> Applied:
    """Lay the layer of that digest onto `tree`. Raises ImageError, and then the tree is of no use."""
    where = f"layer sha256:{diff_id}"
    try:
        with _opened(blob) as source:
            look = partial(check_room, tree, limits=limits)
            stream = _Measured(source, limit=limits.max_bytes, look=look)
            entries, skipped = _apply(tree, stream, limits=limits)
            while stream.read(CHUNK_BYTES):
                pass  # what follows the end of the archive is part of the digest
    except ImageError as error:
        raise ImageError(f"{where}: {error}") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ImageError(f"{where}: cannot be unpacked: {error}") from error
    except OSError as error:
        raise ImageError(f"{where}: {blob.path} cannot be read: {error.strerror}") from error
    if (found := stream.digest.hexdigest()) != diff_id:
        raise ImageError(f"{where}: unpacks to sha256:{found}")
    return Applied(size_bytes=stream.size_bytes, entries=entries, skipped=skipped)


def check_room(tree: Tree, *, limits: UnpackLimits, size_bytes: int = 0) -> None:
    """Refuse to write `size_bytes` more where the reserve would not stay. Raises ImageError."""
    free = tree.free_bytes()
    if free < size_bytes + limits.reserve_bytes:
        raise ImageError(
            f"the file system of the images has {free} bytes free, wanted at least {size_bytes} for what is still"
            f" to be written and {limits.reserve_bytes} in reserve"
        )


def parts_of(name: bytes, *, limits: UnpackLimits) -> Parts:
    """`name` as parts, seen from the root. Raises ImageError for one that climbs or is too deep."""
    parts = tuple(part for part in name.split(b"/") if part not in (b"", b"."))
    if b".." in parts:
        raise ImageError("a name that climbs out of its folder")
    if len(parts) > limits.max_depth:
        raise ImageError(f"lies in more than {limits.max_depth - 1} folders")
    return parts


def _apply(tree: Tree, stream: Readable, *, limits: UnpackLimits) -> tuple[int, int]:
    """Entries, and those of them that were left out."""
    tree.begin_layer()
    reader = TarReader(stream)
    entries = skipped = 0
    for entry in reader:
        entries += 1
        if entries > limits.max_entries:
            raise ImageError(f"more than the {limits.max_entries} entries that are left for it")
        try:
            skipped += not _lay(tree, entry, reader, limits=limits)
        except ImageError as error:
            raise ImageError(f"{entry.name[:200]!r}: {error}") from error
        except gzip.BadGzipFile:
            raise  # an OSError without a number, and not of the tree
        except OSError as error:
            raise ImageError(f"{entry.name[:200]!r}: {os.strerror(error.errno or 0)}") from error
    return entries, skipped


def _lay(tree: Tree, entry: Entry, reader: TarReader, *, limits: UnpackLimits) -> bool:
    """Whether the entry is in the tree now, or has done what it stands for."""
    parts = parts_of(entry.name, limits=limits)
    if parts and parts[-1].startswith(_WHITEOUT):
        return _hide(tree, parts)
    match entry.kind:
        case Kind.FOLDER:
            tree.folder(parts, entry.attributes)
        case Kind.FILE:
            tree.file(parts, entry.attributes, reader.chunks())
        case Kind.LINK:
            tree.link(parts, entry.attributes, target=entry.target)
        case Kind.HARD_LINK:
            tree.hard_link(parts, target=parts_of(entry.target, limits=limits))
        case Kind.SPECIAL:
            tree.clear(parts)  # it is none of what was there; runtimes make their own /dev
            return False
    return True


def _hide(tree: Tree, parts: Parts) -> bool:
    if parts[-1] == _OPAQUE:
        tree.hide_content(parts[:-1])
        return True
    if parts[-1].startswith(_META):
        return False  # of a storage driver long gone; means nothing to others
    name = parts[-1].removeprefix(_WHITEOUT)
    if name in (b"", b".", b".."):
        raise ImageError("a whiteout of no name")
    tree.hide((*parts[:-1], name))
    return True


@contextmanager
def _opened(blob: LayerBlob) -> Iterator[Readable]:
    """The tar of a layer, decompressed."""
    with blob.path.open("rb") as file:
        part = io.BufferedReader(_Part(file, offset=blob.offset, size_bytes=blob.size_bytes), CHUNK_BYTES)
        head = part.peek(len(_ZSTD))[: len(_ZSTD)]
        if head == _ZSTD:
            raise ImageError("is compressed with zstd, which is not taken; build it with gzip or without")
        if not head.startswith(_GZIP):
            yield part
            return
        with gzip.GzipFile(fileobj=part, mode="rb") as stream:
            yield stream


class _Measured:
    """Reads on, hashes and counts what was read."""

    def __init__(self, stream: Readable, *, limit: int, look: Callable[[], None]) -> None:
        """`look` is called now and then, and raises if it must not go on."""
        self._stream, self._limit = stream, limit
        self._look, self._next_look = look, 0
        self.digest = hashlib.sha256()
        self.size_bytes = 0

    def read(self, size: int, /) -> bytes:
        data = self._stream.read(size)
        self.digest.update(data)
        self.size_bytes += len(data)
        if self.size_bytes > self._limit:
            raise ImageError(f"unpacks to more than the {self._limit} bytes that are left for it")
        if self.size_bytes >= self._next_look:
            self._look()
            self._next_look = self.size_bytes + _LOOK_BYTES
        return data


class _Part(io.RawIOBase):
    """A part of a file, as a file."""

    def __init__(self, file: IO[bytes], *, offset: int, size_bytes: int) -> None:
        self._file, self._at, self._end = file, offset, offset + size_bytes

    def readable(self) -> bool:
        return True

    # Any: typeshed's Buffer has no name before Python 3.12.
    def readinto(self, buffer: Any) -> int:
        data = os.pread(self._file.fileno(), min(len(buffer), self._end - self._at), self._at)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
