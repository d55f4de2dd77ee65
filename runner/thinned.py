"""JSON lines in a file of bounded size: when it is full it is thinned out, so that it always spans everything.

What is covered: a kill at any instruction; a reader sees whole records of one state or the next, and perhaps a last
line that is not finished, which it leaves out.
What is not covered: records that thinning makes no smaller in number; then the oldest go.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from runner.errors import HarvestError

Record = Mapping[str, object]

ROOM: Final = 0.6  # of the cap, at most, after thinning: or it would be done again at once


class ThinnedLines:
    """Appends records to `name` in the open `folder`. Raises OSError, as its file does."""

    def __init__(
        self, *, folder: int, name: str, cap_bytes: int, thin: Callable[[Sequence[Record]], Sequence[Record]]
    ) -> None:
        self._folder, self._name, self._cap_bytes, self._thin = folder, name, cap_bytes, thin
        self._file = self._open(os.O_TRUNC)
        self._size_bytes = 0
        self.thinnings = 0

    def append(self, record: Record) -> None:
        """Add one; it is in the file when this returns."""
        line = _encode(record)
        if self._size_bytes + len(line) > self._cap_bytes:
            self._thin_out()
        self._size_bytes += os.write(self._file, line)

    def close(self) -> None:
        """Have all of it on the disk."""
        os.fsync(self._file)
        os.close(self._file)

    def _thin_out(self) -> None:
        records: Sequence[Record] = parse_lines(os.pread(self._file, self._cap_bytes, 0))
        lines = [_encode(record) for record in records]
        while sum(map(len, lines)) > ROOM * self._cap_bytes:
            thinned = self._thin(records)
            records = thinned if len(thinned) < len(records) else records[len(records) // 2 + 1 :]
            lines = [_encode(record) for record in records]
            self.thinnings += 1
        part = f"{self._name}.part"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        with os.fdopen(os.open(part, flags, 0o644, dir_fd=self._folder), "wb") as file:
            file.write(b"".join(lines))
            file.flush()
            os.fsync(file.fileno())
        os.rename(part, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        os.close(self._file)
        self._file = self._open(0)
        self._size_bytes = sum(map(len, lines))

    def _open(self, flags: int) -> int:
        wanted = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | flags
        return os.open(self._name, wanted, 0o644, dir_fd=self._folder)


def read_lines(path: Path, *, max_bytes: int) -> list[Record]:
    """The whole records in the file; none if there is none. Raises HarvestError."""
    try:
        with os.fdopen(
            os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb"
        ) as file:
            return parse_lines(file.read(max_bytes))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise HarvestError(f"{path.name} cannot be read: {error.strerror}") from error


def parse_lines(data: bytes) -> list[Record]:
    """The records in `data`, without a last one that is not finished and without what is none."""
    found: list[Record] = []
    for line in data.split(b"\n")[:-1]:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            found.append(record)
    return found


def _encode(record: Record) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"
