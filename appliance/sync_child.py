"""Scheduled syncs in a process of their own, so that a dead or endless source never keeps a run waiting.

The worker starts one when a source is due, at most one at a time, and does not wait for it. The child
(appliance.sync_due) gives itself a limit, so that it ends even if the worker was killed.
"""

import logging
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from appliance.errors import ApplianceError
from appliance.ports import Ports
from appliance.store import sources
from appliance.store.engine import reading

log = logging.getLogger(__name__)

CHECK_EVERY_S: Final = 30.0
RETRY_AFTER_S: Final = 300.0  # when a child could not do its work at all

Start = Callable[[Path], "subprocess.Popen[bytes]"]


def start_child(home: Path) -> "subprocess.Popen[bytes]":
    """`python -m appliance.sync_due HOME`, which inherits the worker's settings and its log."""
    command = [sys.executable, "-m", "appliance.sync_due", str(home)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)


class ScheduledSync:
    """Looks now and then whether a source is due, and has a child sync it. Never waits, never raises."""

    def __init__(
        self, ports: Ports, *, start: Start = start_child, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._ports, self._start, self._clock_s = ports, start, clock_s
        self._child: subprocess.Popen[bytes] | None = None
        self._look_at_s = 0.0

    def tend(self) -> None:
        """Reap a child that ended; start one if a source is due and none runs."""
        if self._child is not None:
            code = self._child.poll()
            if code is None:
                return
            if code != 0:
                log.error("scheduled sync ended with %d, will be tried again in %d s", code, RETRY_AFTER_S)
                self._look_at_s = self._clock_s() + RETRY_AFTER_S
            self._child = None
        if self._clock_s() < self._look_at_s:
            return
        self._look_at_s = self._clock_s() + CHECK_EVERY_S
        if self._is_due():
            self._begin()

    def stop(self) -> None:
        """End the child, if one runs: what it had not recorded is taken again another time."""
        if self._child is not None and self._child.poll() is None:
            self._child.kill()
            self._child.wait()

    def _is_due(self) -> bool:
        try:
            with reading(self._ports.engine) as connection:
                return bool(sources.due(connection, self._ports.clock.now()))
        except ApplianceError as error:
            log.error("sources cannot be read, will be tried again: %s", error)
            return False

    def _begin(self) -> None:
        try:
            self._child = self._start(self._ports.home.root)
        except OSError as error:
            log.error("scheduled sync cannot be started, will be tried again: %s", error)
