"""The processes around podman: in a pid namespace of their own, and nobody on the host.

    holder ─► child (waits) ─► keeper, pid 1 ─► podman, conmon ─► the guest in namespaces of its own

What is covered: when the keeper ends, however violently, the kernel ends podman, conmon and the guest; the keeper
ends with podman and with the child, the child with the holder. podman, conmon and the runtime have root's rights
only in a user namespace whose ids are unused ones of the host.
What is not covered: what podman makes there; that is measured.
"""

import os
import re
import resource
import select
import signal
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from runner import linux
from runner.errors import SandboxUnavailableError
from runner.sandbox.identity import POOL_SIZE
from runner.sandbox.launch import Pipes, exec_clean
from runner.sandbox.walls import Stage

CLONE_NEWPID = 0x20000000
ENV = "/usr/bin/env"
# podman reads the files that its environment names, but conmon does not hand that on to podman's clean-up.
_CONFIGURATION = ("/etc/containers", "/usr/share/containers", "/usr/local/share/containers")
_DEVICES_IN_RUN = re.compile(r"cdi$|nvidia")
_HYBRID = Path("/sys/fs/cgroup/unified")


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A command, its whole environment, and a folder for the guest's pseudo-terminals."""

    command: Sequence[str]
    environment: Mapping[str, str]
    terminals: Path


def keeper_id(stage: Stage) -> int:
    """The host's user id of podman, conmon and the runtime: one beside the pool, or an ordinary user's only one."""
    return stage.identity.user_id + POOL_SIZE if stage.identity.is_own else stage.identity.user_id


def id_map(stage: Stage) -> tuple[tuple[int, int, int], ...]:
    """podman's user namespace: inside, outside, count."""
    keeper = (0, keeper_id(stage), 1)
    return (keeper, (1, stage.identity.user_id, 1)) if stage.identity.is_own else (keeper,)


def guest_id_inside(stage: Stage) -> int:
    """The guest's user id in podman's user namespace."""
    return 1 if stage.identity.is_own else 0


def start_kept(program: Program, stage: Stage, *, pipes: Pipes) -> int:
    """Start the child with all that is below it; returns its process id.

    Raises SandboxUnavailableError if it cannot have its user namespace.
    """
    apart_read, apart_write = os.pipe2(os.O_CLOEXEC)
    mapped_read, mapped_write = os.pipe2(os.O_CLOEXEC)
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        os.close(apart_read)
        os.close(mapped_write)
        _guarded(
            lambda: _be_child(
                program, stage, pipes=pipes, parent=parent, apart=apart_write, mapped=mapped_read
            )
        )
    os.close(apart_write)
    os.close(mapped_read)
    try:
        if os.read(apart_read, 1):
            _write_maps(child, stage)
            os.write(mapped_write, b"1")
    except OSError as error:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise SandboxUnavailableError(
            f"the user namespace for podman cannot be made: {error.strerror}; "
            f"map the user ids up to {keeper_id(stage)} into this container"
        ) from error
    finally:
        os.close(apart_read)
        os.close(mapped_write)
    return child


def _write_maps(child: int, stage: Stage) -> None:
    lines = "".join(f"{inside} {outside} {count}\n" for inside, outside, count in id_map(stage))
    if not stage.identity.is_own:
        Path(f"/proc/{child}/setgroups").write_text("deny")
    for kind in ("uid_map", "gid_map"):
        # One write: a map is set once and as a whole.
        Path(f"/proc/{child}/{kind}").write_text(lines)


def _be_child(program: Program, stage: Stage, *, pipes: Pipes, parent: int, apart: int, mapped: int) -> int:
    linux.die_with_parent(parent)
    for source, target in ((pipes.release_read, 0), (pipes.output_write, 1), (pipes.output_write, 2)):
        os.dup2(source, target)
    # The lock stays: the id is not free before everything here is dead.
    _close_all_but({0, 1, 2, apart, mapped, stage.identity.lock})
    stage.group.join(os.getpid())
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if stage.identity.is_own:
        os.setgroups([])
    linux.unshare(linux.CLONE_NEWUSER)
    os.write(apart, b"1")
    if not os.read(mapped, 1):
        return 126
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    linux.set_dumpable()
    linux.set_no_new_privs()
    linux.die_with_parent(parent)  # the change of ids has cleared it
    linux.unshare(linux.CLONE_NEWNS | CLONE_NEWPID)
    return _keep_apart(program)


def _keep_apart(program: Program) -> int:
    """Fork the keeper into the new pid namespace and wait for its end."""
    alive_read, alive_write = os.pipe2(os.O_CLOEXEC)
    keeper = os.fork()
    if keeper == 0:
        os.close(alive_write)
        _guarded(lambda: _be_keeper(program, alive=alive_read))
    os.close(alive_read)
    _leave_standard_files()
    _, status = os.waitpid(keeper, 0)
    return _as_code(status)


def _be_keeper(program: Program, *, alive: int) -> int:
    """Run podman and reap what it leaves: it waits for conmon, which is not its child, to be gone."""
    linux.die_with_parent(0)  # a parent in another pid namespace is 0
    if select.select([alive], [], [], 0)[0]:
        return 126  # it had ended before it could take us along
    _mount_own(program)
    podman = os.fork()
    if podman == 0:
        _guarded(lambda: _become(program))
    _leave_standard_files()
    while True:
        ended, status = os.wait()
        # Nobody but conmon becomes ours; without it podman would wait for a word of the guest's end.
        if ended == podman or os.WIFSIGNALED(status):
            return _as_code(status)


def _mount_own(program: Program) -> None:
    linux.mount("", "/", flags=linux.MS_REC | linux.MS_PRIVATE)
    plain = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
    linux.mount("proc", "/proc", kind="proc", flags=plain)
    options = "newinstance,ptmxmode=0666,mode=0620"
    flags = linux.MS_NOSUID | linux.MS_NOEXEC
    linux.mount("devpts", str(program.terminals), kind="devpts", flags=flags, options=options)
    for folder in _CONFIGURATION:
        if Path(folder).is_dir():
            linux.mount(
                "tmpfs", folder, kind="tmpfs", flags=plain | linux.MS_RDONLY, options="size=4k,mode=0755"
            )
    _cover_run(flags=plain)
    if _HYBRID.is_dir():
        # crun refuses a host with both versions of control groups, although it is to touch neither.
        linux.mount("tmpfs", str(_HYBRID), kind="tmpfs", flags=plain, options="size=4k,mode=0755")


def _cover_run(*, flags: int) -> None:
    """Give the runtime a /run of its own: its records go there, and the host's sockets are not podman's.

    What describes devices stays, and what those descriptions name.
    """
    kept = [path for path in Path("/run").iterdir() if path.is_dir() and _DEVICES_IN_RUN.match(path.name)]
    opened = {path: os.open(path, linux.O_PATH | os.O_CLOEXEC) for path in kept}
    linux.mount("tmpfs", "/run", kind="tmpfs", flags=flags, options="size=16m,mode=0755")
    for path, folder in opened.items():
        path.mkdir()
        linux.mount(f"/proc/self/fd/{folder}", str(path), flags=linux.MS_BIND | linux.MS_REC)
        os.close(folder)


def _become(program: Program) -> int:
    variables = [f"{name}={value}" for name, value in program.environment.items()]
    exec_clean([ENV, "-i", *variables, *program.command], keep=())
    return 126


def _close_all_but(kept: Set[int | None]) -> None:
    """Nobody here becomes another program, which would close them: the holder's ends must be its alone."""
    for path in list(Path("/proc/self/fd").iterdir()):
        if int(path.name) not in kept:
            with suppress(OSError):  # the folder that was just read
                os.close(int(path.name))


def _leave_standard_files() -> None:
    """Open nothing of the guest's: it alone, and podman, see the end of its pipes."""
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)


def _as_code(status: int) -> int:
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def _guarded(act: Callable[[], int]) -> None:
    """Be a process that does nothing but `act`."""
    try:
        os._exit(act())
    except OSError as error:
        os.write(2, f"podman could not be started: {error}\n".encode())
    finally:
        os._exit(126)
