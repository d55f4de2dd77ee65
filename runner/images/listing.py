"""What is in an unpacked tree, one record a path in one order, so that later changes are found and named.

    <kind> <mode, octal> <size> <SHA-256 of content or link target, or -> <path> NUL

What is covered: every file, folder and link, with mode, size and content.
What is not covered: owners and times, which differ between hosts and users.
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice, zip_longest
from pathlib import Path

from runner.images.errors import ImageError

_CHUNK_BYTES = 1 << 20
_BATCH = 4096  # files handed to the threads at once
_THREADS = min(4, os.cpu_count() or 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The records, sorted by path, and what they add up to."""

    records: bytes
    entries: int
    size_bytes: int

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.records).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    name: bytes
    path: bytes  # on this host
    mode: int
    size_bytes: int


def list_tree(tree: Path) -> Listing:
    """What is in `tree` now, each file read. Raises ImageError for what cannot be read or has no place there."""
    base = os.fsencode(tree)
    lines: list[tuple[bytes, bytes]] = []
    size_bytes = 0
    try:
        found = _walk(base)
        with ThreadPoolExecutor(max_workers=_THREADS) as threads:
            while batch := list(islice(found, _BATCH)):
                lines += threads.map(_record, batch)
                size_bytes += sum(one.size_bytes for one in batch)
    except OSError as error:
        raise ImageError(f"{error.filename!r} of an image cannot be read: {error.strerror}") from error
    lines.sort()
    return Listing(records=b"".join(line for _, line in lines), entries=len(lines), size_bytes=size_bytes)


def first_difference(was: bytes, now: bytes) -> str:
    """The first path in which two lists of records differ; they do."""
    for old, new in zip_longest(was.split(b"\0"), now.split(b"\0"), fillvalue=b""):
        if old != new:
            paths = [one.split(b" ", 4)[4] for one in (old, new) if one.count(b" ") >= 4]
            return os.fsdecode(min(paths, default=b"its list")).encode(errors="backslashreplace").decode()
    return "its list"


def _walk(base: bytes) -> Iterator[_Found]:
    pending = [b""]
    yield _Found(name=b".", path=base, mode=os.lstat(base).st_mode, size_bytes=0)
    while pending:
        folder = pending.pop()
        with os.scandir(base + b"/" + folder) as entries:
            for entry in entries:
                name = folder + b"/" + entry.name if folder else entry.name
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    pending.append(name)
                is_file = stat.S_ISREG(status.st_mode)
                yield _Found(
                    name=name,
                    path=entry.path,
                    mode=status.st_mode,
                    size_bytes=status.st_size if is_file else 0,
                )


def _record(found: _Found) -> tuple[bytes, bytes]:
    """The path, to sort by, and its record."""
    if stat.S_ISREG(found.mode):
        kind, digest = "file", _sha256(found.path)
    elif stat.S_ISLNK(found.mode):
        kind, digest = "link", hashlib.sha256(os.readlink(found.path)).hexdigest()  # noqa: PTH115  bytes
    elif stat.S_ISDIR(found.mode):
        kind, digest = "folder", "-"
    else:
        raise ImageError(f"{os.fsdecode(found.name)!r} is no file, folder or link; none other was unpacked")
    head = f"{kind} {stat.S_IMODE(found.mode):o} {found.size_bytes} {digest} ".encode()
    return found.name, head + found.name + b"\0"


def _sha256(path: bytes) -> str:
    digest = hashlib.sha256()
    # Not through a link and not waiting for a pipe, should the file have been swapped since it was listed.
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(handle, "rb", buffering=0) as file:  # noqa: PTH123  # a descriptor, not a path
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
