"""Reads the loss curve of a champion's files in a child that can do little and not for long.

What is covered: time, memory and size of the answer; as root, the child is a user that owns nothing; it has no open
file but the folder and its answer, writes none and starts no process.
What is not covered: the readers themselves; without root the child is the caller, with the same limits.
"""

import math
import os
import resource
import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from runner import linux
from runner.loss_files import find_losses
from runner.losses import MAX_FILE_BYTES, CurveError, Losses, encode_losses, parse_losses
from runner.sandbox.identity import Identity, claim_identity, release_identity
from runner.sandbox.launch import become

DEADLINE_S: Final = 20.0  # all that is looked at takes some seconds
MEMORY_BYTES: Final = 1 << 30  # the largest file that is read, as the worst JSON, takes half of it
CHUNK_BYTES: Final = 1 << 16
_NOTHING: Final = b"null"


def losses_of(
    folder: Path, *, deadline_s: float = DEADLINE_S, find: Callable[[Path], Losses | None] = find_losses
) -> Losses | None:
    """The curve that `find` finds in the harvested `folder`; None if there is none.

    Raises CurveError if the child did not answer within its limits, SandboxUnavailableError if there is no user for
    it, OSError.
    """
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        identity = claim_identity()
        try:
            data = _asked(opened, identity, deadline_s=deadline_s, find=find)
        finally:
            release_identity(identity)
    finally:
        os.close(opened)
    return None if data == _NOTHING else parse_losses(data)


def _asked(
    folder: int, identity: Identity, *, deadline_s: float, find: Callable[[Path], Losses | None]
) -> bytes:
    """The child's answer; the child is dead afterwards."""
    answer, tell = os.pipe2(os.O_CLOEXEC)
    parent = os.getpid()
    try:
        child = linux.fork_bound()
    except OSError:
        os.close(answer)
        os.close(tell)
        raise
    if child == 0:
        try:
            _confine(folder, tell, identity, cpu_s=math.ceil(deadline_s))
            linux.die_with_parent(parent)  # a change of ids has cleared it
            found = find(Path())
            _write(tell, _NOTHING if found is None else encode_losses(found))
        finally:
            os._exit(0)  # no exit handler of ours runs twice, no traceback quotes the champion
    os.close(tell)
    try:
        return _received(answer, deadline=time.monotonic() + deadline_s)
    finally:
        os.close(answer)
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _confine(folder: int, tell: int, identity: Identity, *, cpu_s: int) -> None:
    # By the open folder: the folders above it are not for this user.
    os.fchdir(folder)
    for path in list(Path("/proc/self/fd").iterdir()):
        if int(path.name) > 2 and int(path.name) != tell:
            with suppress(OSError):
                os.close(int(path.name))
    become(identity)
    wanted = {
        resource.RLIMIT_AS: MEMORY_BYTES,
        resource.RLIMIT_CPU: cpu_s,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NPROC: 0,
        resource.RLIMIT_CORE: 0,
    }
    for kind, value in wanted.items():
        hard = resource.getrlimit(kind)[1]
        most = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (most, most))


def _write(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def _received(answer: int, *, deadline: float) -> bytes:
    """All that is said until the other end is closed. Raises CurveError."""
    data = bytearray()
    while (left_s := deadline - time.monotonic()) > 0:
        if not select.select([answer], [], [], left_s)[0]:
            continue
        chunk = os.read(answer, CHUNK_BYTES)
        if not chunk:
            break
        data += chunk
        if len(data) > MAX_FILE_BYTES:
            raise CurveError(f"the curve has more than {MAX_FILE_BYTES} bytes")
    else:
        raise CurveError("the files with curves were not read in time")
    if not data:
        raise CurveError("the files with curves took more time or memory to read than they may")
    return bytes(data)
