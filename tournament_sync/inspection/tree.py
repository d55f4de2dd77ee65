"""The files of a stored tree, each opened once and never through a link."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MAX_ENTRIES = 100_000  # the intake takes fewer; more is a fault that the report tells
MAX_READ_BYTES = 16 << 20  # of a longer file only the head is read
HEAD_BYTES = 64 << 10


class TooManyEntriesError(Exception):
    """The tree has more entries than an inspection looks at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeFile:
    """One entry. `data` is the whole file, or its head if it is longer than MAX_READ_BYTES.

    `is_regular` is false for links and devices; they have no data.
    """

    path: str  # below the tree, with /
    size_bytes: int
    is_executable: bool
    is_regular: bool
    data: bytes

    @property
    def is_whole(self) -> bool:
        return len(self.data) == self.size_bytes

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """Lower case, with its dot; "" if it has none."""
        stem, dot, end = self.name.rpartition(".")
        return f".{end.lower()}" if dot and stem else ""


def read_tree(tree: Path) -> Iterator[TreeFile]:
    """All entries of `tree` that are no folders, in one order. Raises TooManyEntriesError, OSError."""
    count = 0
    pending = list(_listed(tree, ""))
    while pending:
        path, shown, is_folder = pending.pop()
        count += 1
        if count > MAX_ENTRIES:
            raise TooManyEntriesError(f"the tree has more than {MAX_ENTRIES} entries")
        if is_folder:
            pending.extend(_listed(path, f"{shown}/"))
        else:
            yield _read(path, shown)


def _listed(folder: str | Path, prefix: str) -> list[tuple[str, str, bool]]:
    """(path, path below the tree, is a folder) of what is in `folder`, last first: the caller pops."""
    with os.scandir(folder) as entries:
        found = [
            (entry.path, prefix + _printable(entry.name), entry.is_dir(follow_symlinks=False))
            for entry in entries
        ]
    return sorted(found, reverse=True)


def _printable(name: str) -> str:
    # The intake takes no other names than UTF-8; a report has to be able to spell whatever comes.
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def _read(path: str | Path, shown: str) -> TreeFile:
    try:
        # Without O_NONBLOCK a pipe that nobody writes to would block for ever.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return _special(path, shown)
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            return _special(path, shown)
        size = status.st_size
        data = os.read(handle, size if size <= MAX_READ_BYTES else HEAD_BYTES)
    finally:
        os.close(handle)
    return TreeFile(
        path=shown,
        size_bytes=size,
        is_executable=bool(status.st_mode & stat.S_IXUSR),
        is_regular=True,
        data=data,
    )


def _special(path: str | Path, shown: str) -> TreeFile:
    """A link, pipe, socket or device. Raises OSError for a regular file that could not be opened."""
    if stat.S_ISREG(os.lstat(path).st_mode):
        raise PermissionError(f"{shown}: the file is there and cannot be read")
    return TreeFile(path=shown, size_bytes=0, is_executable=False, is_regular=False, data=b"")
