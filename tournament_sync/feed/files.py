"""Files that a crash leaves whole or absent: written beside, flushed, renamed.

A `.part` file is what a crash left; the next call replaces it, and no reader takes it for a file.
"""

import fcntl
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tournament_sync.errors import PublishError

_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """A file that was copied, and what was read while it was."""

    path: Path
    sha256: str
    size_bytes: int


def write_file(path: Path, data: bytes) -> None:
    """Replace `path` by `data`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    with _new(part) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    put_file(part, path)


def copy_file(source: Path, part: Path, *, max_bytes: int) -> Copied:
    """Copy the regular file `source` to `part`, flushed. Raises PublishError over the limit.

    Whatever happens to `source` meanwhile, the digest is that of the copy.
    """
    part.parent.mkdir(parents=True, exist_ok=True)
    digest, size_bytes = hashlib.sha256(), 0
    # Neither following a link nor waiting for a pipe.
    handle = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file, _new(part) as out:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise PublishError(f"{source} is no regular file")
        while chunk := file.read(_READ_BYTES):
            size_bytes += len(chunk)
            if size_bytes > max_bytes:
                raise PublishError(f"{source} is over the limit of {max_bytes} bytes")
            digest.update(chunk)
            out.write(chunk)
        out.flush()
        os.fsync(out.fileno())
    return Copied(path=part, sha256=digest.hexdigest(), size_bytes=size_bytes)


def _new(part: Path) -> BinaryIO:
    """A new file in place of what a crash, or whoever had the stick before, left there: a link is not followed."""
    part.unlink(missing_ok=True)
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    return os.fdopen(handle, "wb")


def put_file(part: Path, path: Path) -> None:
    """Rename `part` to `path`, and make that last."""
    part.replace(path)
    handle = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder against other publishers on this host; a crash releases it."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
