"""Pieces of a kept log by place, while it is written, after it ended, and after its writer was killed.

What is covered: places that mean the same through all of that; a middle that is lost while somebody reads it.
What is not covered: what the bytes are. They are a guest's: escape them before a terminal or a page shows them.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from runner.errors import HarvestError
from runner.log_kept import HEAD_NAME, TAIL_NAME, TailState, marker, read_ring, read_state

ATTEMPTS: Final = 16  # a writer overtakes a reader this often only if it writes faster than memory
MAX_MARKER_BYTES: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptPiece:
    """Some of a log, and the place where the next piece starts."""

    data: bytes
    next_offset: int
    is_last: bool


def read_kept(folder: Path, *, offset: int, max_bytes: int) -> KeptPiece:
    """At most `max_bytes` of the log in `folder` from place `offset` on; a log not there yet is empty.

    A lost middle is one line that says so. Raises HarvestError if the log cannot be read or is no regular file.
    """
    try:
        with _opened(folder / HEAD_NAME) as head:
            if head is None:
                return KeptPiece(data=b"", next_offset=0, is_last=True)
            for _ in range(ATTEMPTS):
                with _opened(folder / TAIL_NAME) as tail:
                    piece = _read_head(folder, head, offset, max_bytes) if tail is None else None
                    if tail is not None and (state := read_state(tail)) is not None:
                        piece = _read_both(head, tail, state, offset=offset, max_bytes=max_bytes)
                    if piece is not None:
                        return piece
    except OSError as error:
        raise HarvestError(f"{HEAD_NAME} cannot be read: {error.strerror}") from error
    raise HarvestError(f"{TAIL_NAME} is not whole, or written faster than it can be read")


def _read_head(folder: Path, head: int, offset: int, max_bytes: int) -> KeptPiece | None:
    """From a log that has no ring; None if it got one meanwhile."""
    size = os.fstat(head).st_size
    start = min(offset, size)
    data = os.pread(head, min(max_bytes, size - start), start)
    with _opened(folder / TAIL_NAME) as tail:
        if tail is not None:
            return None
    return KeptPiece(data=data, next_offset=start + len(data), is_last=start + len(data) >= size)


def _read_both(head: int, tail: int, state: TailState, *, offset: int, max_bytes: int) -> KeptPiece | None:
    """From a log with a ring; None if the place was overwritten or moved meanwhile."""
    offset = min(offset, state.end)
    if offset < state.head_bytes:
        data = os.pread(head, min(max_bytes, state.head_bytes - offset), offset)
        after = offset + len(data)
    elif offset < state.start:
        data, after = _marker(head, offset, state), state.start
    else:
        after = min(state.end, offset + max_bytes)
        data = _read_tail(head, tail, state, offset, after)
        now = read_state(tail)
        if now is None or now.start > offset or now.is_assembled != state.is_assembled:
            return None
    return KeptPiece(data=data, next_offset=after, is_last=after >= state.end)


def _read_tail(head: int, tail: int, state: TailState, start: int, end: int) -> bytes:
    if not state.is_assembled:
        return read_ring(tail, start, end, state)
    return os.pread(head, end - start, state.head_bytes + state.marker_bytes + start - state.start)


def _marker(head: int, offset: int, state: TailState) -> bytes:
    if state.is_assembled and offset == state.head_bytes and state.marker_bytes <= MAX_MARKER_BYTES:
        return os.pread(head, state.marker_bytes, state.head_bytes)
    return marker(state.start - offset)


@contextmanager
def _opened(path: Path) -> Iterator[int | None]:
    """The open regular file; None if there is none. An empty ring is about to be made, or never was."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        yield None
        return
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise HarvestError(f"{path.name} is not a regular file")
        yield None if path.name == TAIL_NAME and not facts.st_size else descriptor
    finally:
        os.close(descriptor)
