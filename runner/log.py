"""A guest's output as it is kept: read from a pipe, cut into lines, rid of secrets, timed, bounded.

What is covered: output without end or faster than it can be looked at (it is counted, and its end is kept); a full
disk; a kill at any instruction.
What is not covered: the order of what different processes of the guest print within one read.
"""

import fcntl
import os
import re
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from runner.log_kept import KeptLog
from runner.log_lines import LineCutter
from runner.scrub import Scrubber

CHUNK_BYTES: Final = 256 << 10
PIPE_BYTES: Final = 1 << 20  # Linux: the most that an ordinary user may ask for
MAX_LINE_BYTES: Final = 16 << 10
MAX_PENDING_BYTES: Final = 4 << 20
FLUSH_NS: Final = 500_000_000
LOOK_BYTES: Final = 32 << 10  # between two looks at the clock
STATE_NS: Final = 1_000_000_000  # a line that is overwritten is kept once a second
BUDGET_NS: Final = 100_000_000  # for looking at lines in one call: the caller has deadlines to keep
FINISH_NS: Final = 2_000_000_000  # for all that is left at the end

_TIME: Final = re.compile(rb"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z ", re.MULTILINE)


def _no_reader(_: bytes) -> None:
    return


@dataclass(slots=True, kw_only=True)
class GuestLog:
    """Drains `source`, a non-blocking pipe, into `stdout.log` (open as `target`) of the open `folder`.

    `drain` never blocks and never raises for the disk's sake: what cannot be kept is counted. Call it also when
    nothing can be read, so that what was held back is written. `on_lines` gets scrubbed lines without their times.
    """

    source: int
    target: int
    folder: int
    cap_bytes: int
    scrubber: Scrubber = field(default_factory=Scrubber)
    on_lines: Callable[[bytes], None] = _no_reader
    now_ns: Callable[[], int] = time.time_ns
    total_bytes: int = 0
    total_lines: int = 0
    is_open: bool = True
    failure: str | None = None  # why nothing is kept any more
    _kept: KeptLog = field(init=False)
    _cutter: LineCutter = field(init=False)
    _pending: deque[tuple[int, bytes]] = field(
        init=False, default_factory=deque
    )  # read at, not yet looked at
    _pending_bytes: int = field(init=False, default=0)
    _max_pending_bytes: int = field(init=False)
    _skipped_bytes: int = field(init=False, default=0)
    _skipped_lines: int = field(init=False, default=0)
    _flushed_ns: int = field(init=False, default=0)
    _state_ns: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self._kept = KeptLog(target=self.target, folder=self.folder, cap_bytes=self.cap_bytes)
        ring_bytes = self._kept.ring_bytes
        self._max_pending_bytes = max(2 * CHUNK_BYTES, min(ring_bytes, MAX_PENDING_BYTES))
        max_line_bytes = min(MAX_LINE_BYTES, ring_bytes // 4)
        self._cutter = LineCutter(self.scrubber, max_line_bytes=max_line_bytes)
        with suppress(OSError):  # no pipe, or the user's share of pipes is used up
            fcntl.fcntl(self.source, fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    def drain(self) -> None:
        """Take what is there; a closed pipe ends the log, not the guest."""
        self._take()
        self._look(self.now_ns())

    def finish(self) -> None:
        """Take the rest after every writer is dead, put the log together, and flush.

        What there is no time to look at is counted; the very end is looked at in any case.
        """
        deadline_ns = time.monotonic_ns() + FINISH_NS
        while time.monotonic_ns() < deadline_ns and self._take():
            self._look(self.now_ns())
        for _ in range(PIPE_BYTES // CHUNK_BYTES + 1):  # no more: a writer that outlived SIGKILL has no end
            if not self._take():
                break
        self._look_at_all(budget_ns=deadline_ns - time.monotonic_ns())
        if self._pending:
            self._skip_to_end()
            self._look_at_all(budget_ns=BUDGET_NS)
        self._keep(self._cutter.end(), self.now_ns())
        try:
            self._kept.close()
        except OSError as error:
            self.failure = self.failure or error.strerror

    def facts(self) -> dict[str, int]:
        """What the log leaves to be said, as integers."""
        return {
            "log_lines": self.total_lines,
            "log_left_out_bytes": self._kept.left_out_bytes,
            "log_scrubbed": self.scrubber.count,
            "log_unwritten": int(self.failure is not None),
        }

    def _take(self) -> bool:
        """Read once, if something is there."""
        try:
            chunk = os.read(self.source, CHUNK_BYTES) if self.is_open else b""
        except BlockingIOError:
            return False
        self.is_open = bool(chunk)
        self.total_bytes += len(chunk)
        if chunk:
            self._pending.append((self.now_ns(), chunk))
            self._pending_bytes += len(chunk)
        self._skip_oldest()
        return self.is_open

    def _skip_oldest(self) -> None:
        """Let the oldest of what waits go, unseen; the head ends there."""
        while self._pending_bytes > self._max_pending_bytes:
            self._skip(self._pending.popleft()[1])

    def _skip_to_end(self) -> None:
        """Let all that waits go, unseen, but for its last LOOK_BYTES."""
        read_ns, last = self._pending.pop()
        while self._pending:
            self._skip(self._pending.popleft()[1])
        self._skip(last[:-LOOK_BYTES])
        self._pending.append((read_ns, last[-LOOK_BYTES:]))

    def _skip(self, chunk: bytes) -> None:
        self._pending_bytes -= len(chunk)
        self._skipped_bytes += len(chunk)
        self._skipped_lines += chunk.count(b"\n")

    def _look(self, now_ns: int) -> None:
        if self._kept.is_head_open or abs(now_ns - self._flushed_ns) >= FLUSH_NS:
            self._look_at_all(budget_ns=BUDGET_NS)
            self._flushed_ns = now_ns

    def _look_at_all(self, *, budget_ns: int) -> None:
        """Look at what waits, and at one piece of it however late it is."""
        if self._skipped_bytes:
            self._close_gap()
        began = time.monotonic_ns()
        while self._pending:
            read_ns, chunk = self._pending.popleft()
            piece, rest = chunk[:LOOK_BYTES], chunk[LOOK_BYTES:]
            self._pending_bytes -= len(piece)
            if rest:
                self._pending.appendleft((read_ns, rest))
            is_due = abs(read_ns - self._state_ns) >= STATE_NS
            if is_due:
                self._state_ns = read_ns
            self._keep(self._cutter.feed(piece, is_due=is_due), read_ns)
            if time.monotonic_ns() - began > budget_ns:
                break

    def _close_gap(self) -> None:
        skipped = self._skipped_bytes + self._cutter.after_gap()
        lines = self._skipped_lines + 1  # the one that the gap breaks off ends behind it
        self.total_lines += lines
        self._write(lambda: self._kept.skip(skipped, lines=lines))
        self._skipped_bytes = self._skipped_lines = 0

    def _keep(self, lines: bytes, at_ns: int) -> None:
        if not lines:
            return
        self.total_lines += lines.count(b"\n")
        self.on_lines(lines)
        prefix = _timestamp(at_ns)
        timed = prefix + lines[:-1].replace(b"\n", b"\n" + prefix) + b"\n"
        self._write(lambda: self._kept.append(timed))

    def _write(self, write: Callable[[], None]) -> None:
        if self.failure is not None:
            return
        try:
            write()
        except OSError as error:
            self.failure = error.strerror or "unknown"  # the guest goes on: it is drained and counted


def without_times(kept: bytes) -> bytes:
    """The lines of a kept log as the guest printed them."""
    return _TIME.sub(b"", kept)


def _timestamp(at_ns: int) -> bytes:
    seconds, rest = divmod(at_ns, 1_000_000_000)
    at = datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z ").encode()
