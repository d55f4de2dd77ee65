"""A sandbox whose guests are held by a process of their own, whatever the walls are.

What is covered: an order that bends the walls is refused; the guest is released only after its walls were
measured and the caller has written that down; nothing of it is left when `run` returns.
What is not covered: see the walls.
"""

import json
import os
import re
import select
import shutil
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from runner.errors import SandboxUnavailableError, SpecError
from runner.sandbox import cgroup
from runner.sandbox.holder import CANCEL, ENDED, GO, MALFORMED, MEASURED, Order, describe, hold
from runner.sandbox.layout import check_layout
from runner.sandbox.port import Isolation
from runner.sandbox.reap import DEADLINE_S as HARVEST_DEADLINE_S
from runner.sandbox.reap import PARTIAL, read_end
from runner.sandbox.remnants import IMAGES, await_none
from runner.sandbox.seccomp import load_filter
from runner.sandbox.walls import Walls
from runner.spec import Exit, ExitReason, SandboxSpec, parse_exit

TICK_S = 0.1
SLACK_S = 300.0  # start, deaths and answers around the guest's own time
_JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class HeldSandbox:
    """The sandbox of some walls; see the port for the contract."""

    def __init__(self, walls: Walls) -> None:
        """One driver: its walls."""
        self._walls = walls
        self._version: str | None = None

    @property
    def name(self) -> str:
        """See the port."""
        return self._walls.name

    def check(self) -> None:
        """See the port. What a host gives once is not asked for again by this object."""
        if self._version is None:
            self._version = self._walls.check()

    def run(
        self,
        spec: SandboxSpec,
        *,
        job_dir: Path,
        on_measured: Callable[[Isolation], None],
        should_cancel: Callable[[], bool],
    ) -> Exit:
        """See the port."""
        if not _JOB_ID.fullmatch(spec.job_id):
            raise SpecError(f"job id {spec.job_id!r} is not a plain name")
        check_layout(spec)
        if self._version is None:
            self._version = self._walls.version()
        order = Order(
            spec=spec,
            job_dir=job_dir.absolute(),
            name=cgroup.owner_prefix(os.getpid()) + spec.job_id,
            walls=self._walls,
            version=self._version,
            program=load_filter(),
        )
        ours, theirs = socket.socketpair()
        runner_pid = os.getpid()
        holder = os.fork()
        if holder == 0:
            ours.close()
            hold(order, theirs, runner_pid=runner_pid)
        theirs.close()
        alive = os.pidfd_open(holder)
        with ours:
            try:
                ended = _follow(order, ours, alive, on_measured=on_measured, should_cancel=should_cancel)
            finally:
                with suppress(ProcessLookupError):
                    os.kill(holder, signal.SIGKILL)  # it has ended, or must
                os.waitpid(holder, 0)
                os.close(alive)
                cgroup.remove_named(order.name, parents=cgroup.host_folders())
                for image in IMAGES:  # of a holder that was killed before it had mounted them
                    (order.job_dir / image).unlink(missing_ok=True)
                shutil.rmtree(order.job_dir / PARTIAL, ignore_errors=True)
        left = await_none(order.name, job_dir=order.job_dir, parents=cgroup.host_folders())
        if ended.reason is ExitReason.LOST:
            ended = read_end(order.job_dir) or ended  # its holder was killed after the last that counts
        return replace(ended, remnants=left)


def _follow(
    order: Order,
    holder: socket.socket,
    alive: int,
    *,
    on_measured: Callable[[Isolation], None],
    should_cancel: Callable[[], bool],
) -> Exit:
    """Relay between the holder and our caller until there is an end; `alive` is the holder's pidfd."""
    limits = order.spec.limits
    deadline = time.monotonic() + limits.wall_clock_s + limits.grace_s + HARVEST_DEADLINE_S + SLACK_S
    received = b""
    released = cancelled = False
    while time.monotonic() < deadline:
        if released and not cancelled and should_cancel():
            cancelled = True
            _send(holder, CANCEL)
        # Not the socket alone: a child that outlives a killed holder would keep it open.
        ready = select.select([holder.fileno(), alive], [], [], TICK_S)[0]
        if ready == [alive]:
            break
        if not ready:
            continue
        chunk = holder.recv(1 << 16)
        if not chunk:
            break
        received += chunk
        while b"\n" in received:
            line, _, received = received.partition(b"\n")
            message = json.loads(line)
            if message["kind"] == MEASURED:
                on_measured(message["value"])
                _send(holder, GO)
                released = True
            else:
                return _end(message["kind"], message["value"])
    return _lost()


def _end(kind: str, value: Any) -> Exit:
    if kind == ENDED:
        return parse_exit(json.dumps(value).encode())
    if kind == MALFORMED:
        raise SpecError(value)
    raise SandboxUnavailableError(value)


def _lost() -> Exit:
    return Exit(
        reason=ExitReason.LOST,
        code=None,
        message=describe(ExitReason.LOST, code=None, limits_s=0, found=()),
        measured_at=None,
        released_at=None,
        ended_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        usage={},
        survivors=0,
        log_bytes_total=0,
        rejected={},
    )


def _send(holder: socket.socket, letter: bytes) -> None:
    with suppress(BrokenPipeError):
        holder.sendall(letter)
