"""The default driver: bubblewrap, one guest at a time per call, on this machine.

What is covered: own namespaces of every kind with no network, a read-only root, a quota on every writable
place, a system-call filter, no capabilities, a powerless user id, control groups; the walls are measured
before the guest's first instruction.
What is not covered: flaws of the shared kernel, GPUs, timing channels between guests, root on the host. On a
host without usable control groups memory and CPU totals are not bounded, and the claim says so.
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
from pathlib import Path
from typing import Any

from runner.errors import SandboxUnavailableError, SpecError
from runner.sandbox import cgroup
from runner.sandbox.holder import CANCEL, ENDED, GO, MALFORMED, MEASURED, Order, describe, hold
from runner.sandbox.identity import claim_identity
from runner.sandbox.launch import (
    MAX_USER_NAMESPACES,
    WALLS,
    become,
    exec_clean,
    explain,
    memory_file,
    read_sysctl,
)
from runner.sandbox.port import Isolation
from runner.sandbox.reap import DEADLINE_S as HARVEST_DEADLINE_S
from runner.sandbox.rootfs import check_layout
from runner.sandbox.seccomp import load_filter
from runner.spec import Exit, ExitReason, SandboxSpec, parse_exit

TICK_S = 0.1
TRIAL_DEADLINE_S = 20.0
SLACK_S = 300.0  # start, deaths and answers around the guest's own time
_JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class BubblewrapSandbox:
    """The driver `bubblewrap`; see the port for the contract."""

    def __init__(self, bwrap: str = "bwrap") -> None:
        """`bwrap` is a path, or a name to look up in the usual folders."""
        self._bwrap = bwrap

    @property
    def name(self) -> str:
        """See the port."""
        return "bubblewrap"

    def check(self) -> None:
        """See the port; takes some milliseconds, as it tries the walls on `/bin/true`."""
        load_filter()
        bwrap = self._find()
        if read_sysctl(MAX_USER_NAMESPACES) == "0":
            raise SandboxUnavailableError(explain("", sysctl=read_sysctl))
        status, said = _trial(bwrap, [*WALLS, "--ro-bind", "/", "/", "--proc", "/proc", "--", "/bin/true"])
        if status != 0:
            raise SandboxUnavailableError(explain(said, sysctl=read_sysctl))

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
        bwrap = self._find()
        order = Order(
            spec=spec,
            job_dir=job_dir.absolute(),
            group_name=cgroup.owner_prefix(os.getpid()) + spec.job_id,
            bwrap=bwrap,
            bwrap_version=_trial(bwrap, ["--version"])[1],
            program=load_filter(),
        )
        ours, theirs = socket.socketpair()
        runner_pid = os.getpid()
        holder = os.fork()
        if holder == 0:
            ours.close()
            hold(order, theirs, runner_pid=runner_pid)
        theirs.close()
        with ours:
            try:
                return _follow(order, ours, on_measured=on_measured, should_cancel=should_cancel)
            finally:
                with suppress(ProcessLookupError):
                    os.kill(holder, signal.SIGKILL)  # it has ended, or must
                os.waitpid(holder, 0)
                cgroup.remove_named(order.group_name, parents=cgroup.host_folders())

    def _find(self) -> str:
        found = shutil.which(self._bwrap, path="/usr/local/bin:/usr/bin:/bin")
        if found is None:
            raise SandboxUnavailableError(
                f"{self._bwrap} is not there; install the operating system's package 'bubblewrap'"
            )
        return found


def _follow(
    order: Order,
    holder: socket.socket,
    *,
    on_measured: Callable[[Isolation], None],
    should_cancel: Callable[[], bool],
) -> Exit:
    """Relay between the holder and our caller until there is an end."""
    limits = order.spec.limits
    deadline = time.monotonic() + limits.wall_clock_s + limits.grace_s + HARVEST_DEADLINE_S + SLACK_S
    received = b""
    released = cancelled = False
    while time.monotonic() < deadline:
        if released and not cancelled and should_cancel():
            cancelled = True
            _send(holder, CANCEL)
        if not select.select([holder], [], [], TICK_S)[0]:
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


def _trial(bwrap: str, arguments: list[str]) -> tuple[int, str]:
    """Run bubblewrap as a guest's user id with nothing else around it: wait status and words."""
    said, tell = os.pipe2(os.O_CLOEXEC)
    identity = claim_identity()
    child = os.fork()
    if child == 0:
        try:
            os.dup2(memory_file(b""), 0)
            os.dup2(tell, 1)
            os.dup2(tell, 2)
            become(identity)
            exec_clean([bwrap, *arguments], keep=())
        finally:
            os._exit(126)
    os.close(tell)
    words = b""
    deadline = time.monotonic() + TRIAL_DEADLINE_S
    while (left := deadline - time.monotonic()) > 0 and select.select([said], [], [], left)[0]:
        chunk = os.read(said, 4096)
        if not chunk:
            break
        words += chunk
    else:
        os.kill(child, signal.SIGKILL)
    os.close(said)
    _, status = os.waitpid(child, 0)
    if identity.lock is not None:
        os.close(identity.lock)
    return status, words.decode(errors="replace").strip()
