"""Folders as tar streams of known length, and pieces of a guest's log: neither follows a link."""

import os
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.errors import ArtifactError
from runner.errors import RunnerError
from runner.log_reading import read_kept

CHUNK_BYTES: Final = 256 << 10
MAX_LOG_BYTES: Final = 64 << 10  # of log in one answer
_END: Final = bytes(2 * tarfile.BLOCKSIZE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """A tar archive that is about to be sent: the same folder gives the same bytes."""

    files: tuple[tuple[Path, tarfile.TarInfo], ...]

    @property
    def size_bytes(self) -> int:
        return sum(len(_header(info)) + info.size + _padding(info) for _, info in self.files) + len(_END)

    def stream(self) -> Iterator[bytes]:
        """The archive's bytes. Raises ArtifactError if a file is no longer as it was listed."""
        for path, info in self.files:
            yield _header(info)
            yield from _content(path, info.size)
            yield bytes(_padding(info))
        yield _END


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPiece:
    """Some text of a log, and where the next piece starts."""

    text: str
    next_offset: int
    is_last: bool


def list_archive(folder: Path, *, name: str, mtime: int) -> Archive:
    """The regular files below `folder` as an archive of the folder `name`.

    Raises ArtifactError if the folder is missing or holds anything but folders and regular files.
    """
    if not folder.is_dir():
        raise ArtifactError(f"{folder.name}: proved but missing on disk; restore it from a backup")
    files = []
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            continue
        if not stat.S_ISREG(mode):
            raise ArtifactError(f"{path.relative_to(folder)}: not a regular file")
        info = tarfile.TarInfo(f"{name}/{path.relative_to(folder)}")
        info.size, info.mode, info.mtime = path.lstat().st_size, 0o644, mtime
        files.append((path, info))
    return Archive(files=tuple(files))


def read_log(folder: Path, *, offset: int) -> LogPiece:
    """The text of the log in a job's `folder` from byte `offset` on, at most 64 KiB; whole characters, mostly.

    Offsets stay good while the log grows, loses its middle and is put together. Bytes that are no UTF-8 become
    U+FFFD. A log that is not there yet is empty.
    """
    try:
        piece = read_kept(folder, offset=offset, max_bytes=MAX_LOG_BYTES)
    except RunnerError as error:
        raise ArtifactError(str(error)) from error
    # A line on what was left out stands for more bytes than it has.
    is_plain = piece.next_offset - offset == len(piece.data)
    split = 0 if piece.is_last or not is_plain else _split_bytes(piece.data)
    return LogPiece(
        text=piece.data[: len(piece.data) - split].decode("utf-8", errors="replace"),
        next_offset=piece.next_offset - split,
        is_last=piece.is_last,
    )


def _split_bytes(piece: bytes) -> int:
    """How many bytes at the end of `piece` begin a character that goes on behind it."""
    for back in range(1, min(3, len(piece)) + 1):
        byte = piece[-back]
        if byte & 0b1100_0000 == 0b1000_0000:
            continue  # a following byte; the first one is further ahead
        needed = 2 if byte >> 5 == 0b110 else 3 if byte >> 4 == 0b1110 else 4 if byte >> 3 == 0b11110 else 1
        return back if needed > back else 0
    return 0


def _content(path: Path, size: int) -> Iterator[bytes]:
    left = size
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
        while left and (chunk := file.read(min(left, CHUNK_BYTES))):
            left -= len(chunk)
            yield chunk
        if left or file.read(1):
            raise ArtifactError(f"{path.name} changed while it was sent")


def _header(info: tarfile.TarInfo) -> bytes:
    return info.tobuf(tarfile.PAX_FORMAT)


def _padding(info: tarfile.TarInfo) -> int:
    return -info.size % tarfile.BLOCKSIZE
