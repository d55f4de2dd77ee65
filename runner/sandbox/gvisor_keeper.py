"""The process around runsc: the first one of its own user, pid, network and mount namespaces.

runsc is never started with an id that means anything to the host. Inside the user namespace there are two ids:
the guest's, which owns the guest's files, and 0, which runsc runs as; both are unused ones outside.

    holder ─► child (waits) ─► keeper (pid 1 inside) ─► runsc run ─► sentry, gofer

What is covered: when the keeper ends, however violently, the kernel ends runsc, sentry, gofer and the guest;
the keeper ends with the child, the child with the holder. SIGTERM to the keeper is passed to the guest by runsc.
What is not covered: what runsc does inside; that is measured.
"""

import os
import resource
import select
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from runner import linux
from runner.errors import SandboxUnavailableError
from runner.sandbox.identity import POOL_SIZE
from runner.sandbox.launch import Pipes, exec_clean
from runner.sandbox.walls import Stage

CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
APART = linux.CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET
NOBODY = 65_534  # as whom runsc starts its sentry
_SIGNALS = (signal.SIGTERM, signal.SIGCHLD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ids:
    """Who is who on the host."""

    guest: int  # owns the guest's files
    gofer: int  # runs as; runsc itself too
    sentry: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Commands:
    """What the keeper runs: the guest, and what passes SIGTERM to its processes."""

    run: Sequence[str]
    ask_to_end: Sequence[str]


def ids(stage: Stage) -> Ids:
    """The host's user and group ids: the guest's from its pool, the others beside the pool."""
    guest = stage.identity.user_id
    return Ids(
        guest=guest, gofer=guest + POOL_SIZE if stage.guest_id else guest, sentry=guest + 2 * POOL_SIZE
    )


def id_map(stage: Stage) -> tuple[tuple[int, int, int], ...]:
    """The user namespace's map: inside, outside, count."""
    own = ids(stage)
    guest = () if stage.guest_id == 0 else ((stage.guest_id, own.guest, 1),)
    return ((0, own.gofer, 1), *guest, (NOBODY, own.sentry, 1))


def start_kept(commands: Commands, stage: Stage, *, pipes: Pipes) -> int:
    """Start the child with all that is below it; returns its process id.

    Raises SandboxUnavailableError if it cannot have its user namespace.
    """
    alone_read, alone_write = os.pipe2(os.O_CLOEXEC)
    mapped_read, mapped_write = os.pipe2(os.O_CLOEXEC)
    parent = os.getpid()
    child = linux.fork_bound()
    if child == 0:
        os.close(alone_read)
        os.close(mapped_write)
        _be_child(commands, stage, pipes=pipes, parent=parent, alone=alone_write, mapped=mapped_read)
    os.close(alone_write)
    os.close(mapped_read)
    try:
        if os.read(alone_read, 1):
            _write_maps(child, stage)
            os.write(mapped_write, b"1")
    except OSError as error:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise SandboxUnavailableError(
            f"the user namespace for gVisor cannot be made: {error.strerror}; "
            f"map the user ids up to {ids(stage).sentry} into this container"
        ) from error
    finally:
        os.close(alone_read)
        os.close(mapped_write)
    return child


def _write_maps(child: int, stage: Stage) -> None:
    lines = "".join(f"{inside} {outside} {count}\n" for inside, outside, count in id_map(stage))
    for kind in ("uid_map", "gid_map"):
        # One write: a map is set once and as a whole.
        Path(f"/proc/{child}/{kind}").write_text(lines)


def _be_child(
    commands: Commands, stage: Stage, *, pipes: Pipes, parent: int, alone: int, mapped: int
) -> None:
    try:
        os.dup2(pipes.release_read, 0)
        for target in (1, 2):
            # Each an opening of its own: of a shared one gVisor makes stdout non-blocking, and a full pipe fails.
            os.dup2(os.open(f"/proc/self/fd/{pipes.output_write}", os.O_WRONLY | os.O_CLOEXEC), target)
        _close_others({alone, mapped})
        stage.group.join(os.getpid())
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.setgroups([])
        linux.unshare(linux.CLONE_NEWUSER)
        os.write(alone, b"1")
        if os.read(mapped, 1):
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
            linux.set_dumpable()
            linux.set_no_new_privs()
            linux.die_with_parent(parent)  # the change of ids has cleared it
            linux.unshare(APART)
            os._exit(_keep_apart(commands))
    except OSError as error:
        os.write(2, f"gVisor could not be started: {error}\n".encode())
    finally:
        os._exit(126)


def _close_others(kept: set[int]) -> None:
    """Close every file but the standard ones and `kept`: an end of a pipe that we hold never ends."""
    for path in list(Path("/proc/self/fd").iterdir()):
        if int(path.name) > 2 and int(path.name) not in kept:
            with suppress(OSError):
                os.close(int(path.name))


def _keep_apart(commands: Commands) -> int:
    """Fork the keeper into the new pid namespace and wait for its end."""
    alive_read, alive_write = os.pipe2(os.O_CLOEXEC)
    keeper = os.fork()
    if keeper == 0:
        os.close(alive_write)
        _guarded(lambda: _be_keeper(commands, alive=alive_read))
    os.close(alive_read)
    _, status = os.waitpid(keeper, 0)
    return _as_code(status)


def _be_keeper(commands: Commands, *, alive: int) -> int:
    linux.die_with_parent(0)  # a parent in another pid namespace is 0
    if select.select([alive], [], [], 0)[0]:
        return 126  # it had ended before it could take us along
    linux.mount("", "/", flags=linux.MS_REC | linux.MS_PRIVATE)
    flags = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
    linux.mount("proc", "/proc", kind="proc", flags=flags)
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    runsc = _fork_exec(commands.run)
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for descriptor in (0, 1, 2):  # the guest's alone from here on
        os.dup2(null, descriptor)
    while True:
        if signal.sigwait(_SIGNALS) == signal.SIGTERM:
            _fork_exec(commands.ask_to_end)
            continue
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == runsc:
                return _as_code(ended[1])


def _fork_exec(command: Sequence[str]) -> int:
    child = os.fork()
    if child == 0:
        _guarded(lambda: exec_clean(command, keep=()))
    return child


def _guarded(act: Callable[[], int | None]) -> None:
    """Be a process that does nothing but `act`."""
    try:
        os._exit(act() or 0)
    except OSError as error:
        os.write(2, f"gVisor could not be started: {error}\n".encode())
    finally:
        os._exit(126)


def _as_code(status: int) -> int:
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
