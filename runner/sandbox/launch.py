"""Starting a program of walls with nothing handed down but what it may have.

What is covered: resource limits, control group, ids, groups, no_new_privs, open files and signals of the child
before the program runs; the pipes between us and the gate.
What is not covered: what the program does with it; that is measured.
"""

import os
import resource
import select
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from runner import linux
from runner.sandbox.identity import Identity
from runner.spec import Limits

TRIAL_DEADLINE_S = 20.0
CHUNK_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipes:
    """Both ends of the guest's standard files; close `theirs` once the child has them."""

    release_read: int
    release_write: int
    output_read: int
    output_write: int

    def close_theirs(self) -> None:
        """Our child has them now; while we hold them we would never see their end."""
        os.close(self.release_read)
        os.close(self.output_write)

    def close_ours(self) -> None:
        """The guest will not be."""
        os.close(self.release_write)
        os.close(self.output_read)


def open_pipes() -> Pipes:
    """New pipes, none of them inheritable."""
    release_read, release_write = os.pipe2(os.O_CLOEXEC)
    output_read, output_write = os.pipe2(os.O_CLOEXEC)
    return Pipes(
        release_read=release_read,
        release_write=release_write,
        output_read=output_read,
        output_write=output_write,
    )


def spawn(
    command: Sequence[str],
    *,
    pipes: Pipes,
    keep: Sequence[int],
    prepare: Callable[[], None],
) -> int:
    """Fork, `prepare` the child and become `command`; the child dies with us. Returns its process id."""
    parent = os.getpid()
    child = os.fork()
    if child:
        return child
    try:
        linux.die_with_parent(parent)
        os.dup2(pipes.release_read, 0)
        os.dup2(pipes.output_write, 1)
        os.dup2(pipes.output_write, 2)
        prepare()
        linux.die_with_parent(parent)  # a change of ids has cleared it
        exec_clean(command, keep=keep)
    except OSError as error:
        os.write(2, f"the sandbox could not be entered: {error}\n".encode())
    finally:
        os._exit(126)


def become(identity: Identity) -> None:
    """Drop to `identity` for good; no program gives anything back."""
    if identity.is_own:
        os.setgroups([])
        os.setresgid(identity.user_id, identity.user_id, identity.user_id)
        os.setresuid(identity.user_id, identity.user_id, identity.user_id)
        linux.set_dumpable()
    linux.set_no_new_privs()


def set_limits(limits: Limits, *, bounded_by_group: bool) -> None:
    """Resource limits of the calling process; never raises one above what we have ourselves."""
    wanted = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: limits.file_bytes,
        resource.RLIMIT_NOFILE: limits.open_files,
    }
    if not bounded_by_group:
        wanted |= {resource.RLIMIT_NPROC: limits.pids, resource.RLIMIT_AS: limits.memory_bytes}
    for kind, value in wanted.items():
        hard = resource.getrlimit(kind)[1]
        most = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (most, most))


def exec_clean(command: Sequence[str], *, keep: Sequence[int]) -> None:
    """Become `command` with an empty environment, standard files and `keep` open, nothing else."""
    for descriptor in keep:
        os.set_inheritable(descriptor, True)
    for path in list(Path("/proc/self/fd").iterdir()):
        if int(path.name) > 2 and int(path.name) not in keep:
            with suppress(OSError):
                os.close(int(path.name))
    for number in range(1, signal.NSIG):
        with suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.execve(command[0], list(command), {})  # noqa: S606


def memory_file(data: bytes) -> int:
    """An open file with `data`, at its start, that has no name anywhere."""
    descriptor = os.memfd_create("assay", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(data)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def last_words(output: int) -> str:
    """What a program said before it gave up."""
    os.set_blocking(output, False)
    with suppress(BlockingIOError):
        return os.read(output, CHUNK_BYTES).decode(errors="replace").strip()
    return ""


def trial(command: Sequence[str], *, identity: Identity | None) -> tuple[int, str]:
    """Run `command` for a moment, as a guest's user id if one is given: wait status and words."""
    said, tell = os.pipe2(os.O_CLOEXEC)
    child = linux.fork_bound()
    if child == 0:
        os._exit(_try_and_reap(command, tell=tell, identity=identity))
    os.close(tell)
    words = b""
    deadline = time.monotonic() + TRIAL_DEADLINE_S
    while (left := deadline - time.monotonic()) > 0 and select.select([said], [], [], left)[0]:
        chunk = os.read(said, CHUNK_BYTES)
        if not chunk:
            break
        words += chunk
    else:
        os.kill(child, signal.SIGKILL)
    os.close(said)
    _, status = os.waitpid(child, 0)
    return status, words.decode(errors="replace").strip()


def _try_and_reap(command: Sequence[str], *, tell: int, identity: Identity | None) -> int:
    """Run `command` and wait for it and all it leaves behind: some programs end before their own children."""
    linux.adopt_orphans()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        try:
            os.dup2(memory_file(b""), 0)
            os.dup2(tell, 1)
            os.dup2(tell, 2)
            if identity is not None:
                become(identity)
            linux.die_with_parent(parent)
            exec_clean(command, keep=())
        finally:
            os._exit(126)
    os.close(tell)
    code = 126
    with suppress(ChildProcessError):
        while True:
            pid, status = os.wait()
            if pid == child:
                code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code
