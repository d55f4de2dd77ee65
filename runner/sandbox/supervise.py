"""Watching one released guest to its end: log, deadline, cancellation, death of everything that is its.

What is covered: a log that never ends or never closes, guests that ignore or stop on signals, daemons. Every
wait has a deadline.
What is not covered: a process that the kernel itself cannot end (stuck in a driver) is counted as a survivor.
"""

import os
import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from runner import linux
from runner.log import GuestLog
from runner.meter import Meter
from runner.sandbox import cgroup
from runner.sandbox.processes import send
from runner.sandbox.walls import Started
from runner.spec import ExitReason, Limits

TICK_S = 0.1
PAUSE_S = 0.002
DEATH_DEADLINE_S = 20.0


@dataclass(slots=True, kw_only=True)
class Watch:
    """One released guest. `status` is the child's wait status once it ended."""

    started: Started
    group: cgroup.Group
    limits: Limits
    log: GuestLog
    meter: Meter
    is_cancelled: Callable[[], bool]
    ask_to_end: Callable[[], None]
    status: int | None = None
    _poll: select.poll = field(default_factory=select.poll)

    @property
    def code(self) -> int | None:
        """The guest's exit code; None while it runs and when it was killed together with its walls."""
        if self.status is None or not os.WIFEXITED(self.status):
            return None
        return os.WEXITSTATUS(self.status)

    def until_end(self) -> ExitReason:
        """Wait for the guest's end by itself, by its deadline or by cancellation."""
        deadline = time.monotonic() + self.limits.wall_clock_s
        ended = os.pidfd_open(self.started.child)
        self._poll.register(ended, select.POLLIN)
        self._poll.register(self.log.source, select.POLLIN)
        try:
            return self._until_end(deadline)
        finally:
            os.close(ended)

    def _until_end(self, deadline: float) -> ExitReason:
        reason = ExitReason.EXITED
        while not self._reaped():
            if self.is_cancelled():
                reason = ExitReason.CANCELLED
                break
            if (left := deadline - time.monotonic()) <= 0:
                reason = ExitReason.TIMEOUT
                break
            self._tick(left)
        if self.status is None:
            self._ask_to_end()
        return reason

    def kill_all(self) -> int:
        """Kill everything; returns how many processes are alive when the deadline has passed."""
        deadline = time.monotonic() + DEATH_DEADLINE_S
        while time.monotonic() < deadline:
            self.group.kill()
            if self._first_is_alive():
                send(self.started.first, signal.SIGKILL)
            if not self._reaped():
                send(self.started.child, signal.SIGKILL)
            self.log.drain()
            if not self._living():
                break
            time.sleep(PAUSE_S)
        return self._living()

    def _tick(self, left_s: float) -> None:
        self._poll.poll(min(left_s, TICK_S) * 1000)
        self.meter.tick(time.monotonic())
        if self.log.is_open:
            self.log.drain()  # also when nothing can be read: lines that wait are written then
            if not self.log.is_open:
                self._poll.unregister(self.log.source)  # a closed log would wake us for ever

    def _living(self) -> int:
        """Processes of the guest or its walls that are not dead; at least 1 while we cannot be sure."""
        walls = int(self._first_is_alive()) + int(not self._reaped())
        return max(len(self.group.processes()), walls)

    def _first_is_alive(self) -> bool:
        started = self.started
        with suppress(ChildProcessError):  # ours only once our child is gone
            os.waitpid(started.first, os.WNOHANG)
        return started.first_start_time is not None and (
            linux.start_time(started.first) == started.first_start_time
        )

    def _reaped(self) -> bool:
        if self.status is None:
            pid, status = os.waitpid(self.started.child, os.WNOHANG)
            if pid:
                self.status = status
        return self.status is not None

    def _ask_to_end(self) -> None:
        """SIGTERM to the guest's processes but not to its walls, then some time to go."""
        self.ask_to_end()
        deadline = time.monotonic() + self.limits.grace_s
        while not self._reaped() and (left := deadline - time.monotonic()) > 0:
            self._tick(left)
