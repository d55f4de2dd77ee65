"""A log of bounded size as two files: its head grows in `stdout.log`, its tail turns in the ring `stdout.tail`.

At the end head, one line on what was left out, and tail are put together in `stdout.log`. Places in the log are
counted in what was kept of it, so they mean the same before and after that, and while the middle is lost.

What is covered: a kill at any instruction. What was written stays readable, and `assemble` may be run again.
What is not covered: a host that loses power may lose what the kernel had not written yet.
"""

import os
import struct
import zlib
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, Self

from runner.errors import SpecError

HEAD_NAME: Final = "stdout.log"
TAIL_NAME: Final = "stdout.tail"
MIN_CAP_BYTES: Final = 4096
COPY_BYTES: Final = 1 << 20
LOOK_BYTES: Final = 32 << 10

_MARKER_BYTES: Final = 128  # reserved for the line on what was left out
_PLACE: Final = 128  # the ring begins behind its state
_STATE: Final = struct.Struct("<8s7QI")
_MAGIC: Final = b"assaylog"


@dataclass(frozen=True, slots=True, kw_only=True)
class TailState:
    """What the ring holds: places `start` to `end` of the log; `start` begins a line. 0 for `marker_bytes`: none.

    Once `is_assembled` it is in `stdout.log`, behind `head_bytes` of head and `marker_bytes` of marker.
    """

    head_bytes: int
    ring_bytes: int
    start: int
    end: int
    lines: int = 0  # that came behind the head
    marker_bytes: int = 0
    is_assembled: bool = False

    def encode(self) -> bytes:
        """As it stands in the file."""
        numbers = (self.head_bytes, self.ring_bytes, self.start, self.end, self.lines, self.marker_bytes)
        body = _STATE.pack(_MAGIC, *numbers, int(self.is_assembled), 0)[:-4]
        return body + struct.pack("<I", zlib.crc32(body))

    @classmethod
    def parse(cls, data: bytes) -> Self | None:
        """The state in `data`; None if it is torn or none at all."""
        if len(data) != _STATE.size:
            return None
        magic, head, ring, start, end, lines, marker, assembled, check = _STATE.unpack(data)
        if magic != _MAGIC or check != zlib.crc32(data[:-4]) or not head <= start <= end or not ring:
            return None
        return cls(
            head_bytes=head,
            ring_bytes=ring,
            start=start,
            end=end,
            lines=lines,
            marker_bytes=marker,
            is_assembled=bool(assembled),
        )


class KeptLog:
    """Keeps lines within a cap. Raises OSError from every method, as its files do."""

    def __init__(self, *, target: int, folder: int, cap_bytes: int) -> None:
        """`target` is the empty `stdout.log` in `folder`, open for writing; both stay the caller's."""
        if cap_bytes < MIN_CAP_BYTES:
            raise SpecError(
                f"a log of {cap_bytes} bytes is below {MIN_CAP_BYTES}: it could not hold its ends"
            )
        self._target, self._folder = target, folder
        self._head_room = cap_bytes // 2
        self.ring_bytes = cap_bytes - self._head_room - _MARKER_BYTES
        self._head_bytes = 0
        self._tail: int | None = None
        self._state: TailState | None = None
        with suppress(FileNotFoundError):
            os.unlink(TAIL_NAME, dir_fd=folder)  # of an earlier attempt at the same job

    @property
    def is_head_open(self) -> bool:
        """Whether lines still go to the head."""
        return self._state is None

    @property
    def left_out_bytes(self) -> int:
        """How much of the log is in neither end."""
        return 0 if self._state is None else self._state.start - self._state.head_bytes

    def append(self, lines: bytes) -> None:
        """Add whole `lines`: to the head while there is room, then to the ring."""
        if self._state is None:
            lines = self._append_head(lines)
        if lines:
            self._append_tail(lines)

    def skip(self, size_bytes: int, *, lines: int) -> None:
        """Note that so much could not even be looked at; the ring starts anew behind it."""
        state = self._tail_state()
        end = state.end + size_bytes
        self._put(replace(state, start=end, end=end, lines=state.lines + lines))

    def close(self) -> None:
        """Put the ends together and have all of it on the disk."""
        os.fsync(self._target)
        if self._tail is not None:
            os.close(self._tail)
            self._tail = None
            assemble(self._folder)

    def _append_head(self, lines: bytes) -> bytes:
        """Returns the lines for which there is no room."""
        room = self._head_room - self._head_bytes
        fitting = len(lines) if len(lines) <= room else lines.rfind(b"\n", 0, room) + 1
        _write_at(self._target, lines[:fitting], self._head_bytes)
        self._head_bytes += fitting
        return lines[fitting:]

    def _append_tail(self, lines: bytes) -> None:
        state = self._tail_state()
        count, end = lines.count(b"\n"), state.end + len(lines)
        start = max(state.start, end - state.ring_bytes)
        if start > state.start:
            start = self._line_behind(start, lines, state)
            # Before its bytes are overwritten: a reader that finds its place behind `start` read them whole.
            self._put(replace(state, start=start, end=max(start, state.end)))
        kept = lines[-state.ring_bytes :]
        _write_ring(self._tail_file(), kept, end - len(kept), state)
        self._put(replace(state, start=start, end=end, lines=state.lines + count))

    def _line_behind(self, place: int, lines: bytes, state: TailState) -> int:
        """Where the first line behind `place` begins, in the ring or in the new `lines`."""
        while place < state.end:
            old = read_ring(self._tail_file(), place - 1, min(state.end, place - 1 + LOOK_BYTES), state)
            if (found := old.find(b"\n")) >= 0:
                return place + found
            place += len(old)
        new = place - state.end
        return place if new == 0 else state.end + lines.find(b"\n", new - 1) + 1

    def _tail_state(self) -> TailState:
        if self._state is None:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
            self._tail = os.open(TAIL_NAME, flags, 0o644, dir_fd=self._folder)
            head = self._head_bytes
            self._put(TailState(head_bytes=head, ring_bytes=self.ring_bytes, start=head, end=head))
        assert self._state is not None
        return self._state

    def _tail_file(self) -> int:
        assert self._tail is not None
        return self._tail

    def _put(self, state: TailState) -> None:
        _write_at(self._tail_file(), state.encode(), 0)
        self._state = state


def assemble(folder: int) -> bool:
    """Put the log in the open `folder` together, however far that came before; False if there is no ring.

    Also for a log whose writer was killed. Only when nobody writes it any more.
    """
    try:
        tail = os.open(TAIL_NAME, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=folder)
    except FileNotFoundError:
        return False
    try:
        state = read_state(tail)
        if state is None:
            return False
        if not state.is_assembled:
            log = os.open(HEAD_NAME, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=folder)
            try:
                state = _copy_tail(log, tail, state)
            finally:
                os.close(log)
            _write_at(tail, state.encode(), 0)
            os.fsync(tail)
        os.ftruncate(tail, _PLACE)
        return True
    finally:
        os.close(tail)


def marker(size_bytes: int, *, lines: int | None = None) -> bytes:
    """The line that stands for what was left out. Lines of the guest begin with a time, so none is like it."""
    counted = "" if lines is None else f" in {lines} lines"
    return b"[%d bytes%b left out here]\n" % (size_bytes, counted.encode())


def read_state(tail: int) -> TailState | None:
    """The state of the open ring; None if it is not whole, which a writer may repair at once."""
    return TailState.parse(os.pread(tail, _STATE.size, 0))


def read_ring(tail: int, start: int, end: int, state: TailState) -> bytes:
    """Places `start` to `end`; valid only if they are still behind the ring's `start` afterwards."""
    read = b""
    while start < end:
        at = (start - state.head_bytes) % state.ring_bytes
        piece = os.pread(tail, min(end - start, state.ring_bytes - at), _PLACE + at)
        if not piece:
            break  # it was assembled meanwhile
        read += piece
        start += len(piece)
    return read


def _copy_tail(log: int, tail: int, state: TailState) -> TailState:
    """Write marker and tail behind the head, the same whenever it is done; returns the state that says so."""
    kept_lines, place = 0, state.start
    while piece := read_ring(tail, place, min(state.end, place + COPY_BYTES), state):
        kept_lines += piece.count(b"\n")
        place += len(piece)
    left_out = state.start - state.head_bytes
    line = marker(left_out, lines=state.lines - kept_lines) if left_out else b""
    _write_at(log, line, state.head_bytes)
    place, target = state.start, state.head_bytes + len(line)
    while piece := read_ring(tail, place, min(state.end, place + COPY_BYTES), state):
        _write_at(log, piece, target + place - state.start)
        place += len(piece)
    os.fsync(log)
    return replace(state, marker_bytes=len(line), is_assembled=True)


def _write_ring(tail: int, data: bytes, start: int, state: TailState) -> None:
    view = memoryview(data)
    while view:
        at = (start - state.head_bytes) % state.ring_bytes
        piece = view[: state.ring_bytes - at]
        _write_at(tail, piece, _PLACE + at)
        start += len(piece)
        view = view[len(piece) :]


def _write_at(descriptor: int, data: bytes | memoryview, place: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, place)
        place += written
        view = view[written:]
