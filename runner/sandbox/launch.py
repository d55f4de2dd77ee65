"""Starting bubblewrap around the gate, with nothing handed down but what the guest may have.

What is covered: all options through a file descriptor and an empty environment, so that neither shows host
paths or secrets; host ids, groups, resource limits and no_new_privs set before bubblewrap runs. The gate is
the host's own shell: it blocks on its standard input until the walls are measured.
What is not covered: a guest image with a shell of its own; the gate would have to be a static program there.
"""

import json
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
from runner.errors import SandboxUnavailableError
from runner.sandbox import cgroup
from runner.sandbox.identity import Identity
from runner.sandbox.measure import MASKED
from runner.sandbox.rootfs import GUEST_ID, guest_environment
from runner.spec import Limits, SandboxSpec

MAX_USER_NAMESPACES = "user/max_user_namespaces"
START_DEADLINE_S = 20.0
PAUSE_S = 0.001
# The gate reads one line, then becomes the guest; a closed pipe is a refusal.
GATE = 'IFS= read -r _ || exit 125; exec "$@" </dev/null'
WALLS = (
    "--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts",
    "--unshare-cgroup-try", "--disable-userns", "--die-with-parent", "--new-session",
    "--cap-drop", "ALL", "--uid", str(GUEST_ID), "--gid", str(GUEST_ID), "--hostname", "runner",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """Process ids on the host, and our ends of the pipes."""

    bwrap: int
    first: int  # process 1 of the guest's pid namespace; when it is gone, the kernel has ended all the rest
    first_start_time: int | None
    gate: int
    release: int
    output: int


def options(spec: SandboxSpec, *, root: str, output: str, info: int, seccomp: int) -> list[str]:
    """bubblewrap's options, without the command."""
    limits = spec.limits
    chosen = [*WALLS, "--ro-bind", root, "/", "--proc", "/proc"]
    for name in MASKED:
        if Path("/proc", name).exists():
            chosen += ["--ro-bind", "/dev/null", f"/proc/{name}"]
    chosen += ["--dev", "/dev"]
    chosen += ["--perms", "1777", "--size", str(limits.tmp_bytes), "--tmpfs", "/tmp"]  # noqa: S108
    chosen += ["--perms", "1777", "--size", str(limits.shm_bytes), "--tmpfs", "/dev/shm"]  # noqa: S108
    chosen += ["--bind", output, spec.output_target, "--remount-ro", "/dev"]
    for name, value in guest_environment(spec).items():
        chosen += ["--setenv", name, value]
    return [*chosen, "--chdir", spec.cwd, "--info-fd", str(info), "--seccomp", str(seccomp)]


def start(
    spec: SandboxSpec,
    *,
    bwrap: str,
    root: str,
    output: str,
    program: bytes,
    identity: Identity,
    group: cgroup.Group,
) -> Started:
    """Start the guest up to its gate.

    Raises SandboxUnavailableError with bubblewrap's own words if it does not get there in time.
    """
    info_read, info_write = os.pipe2(os.O_CLOEXEC)
    release_read, release_write = os.pipe2(os.O_CLOEXEC)
    output_read, output_write = os.pipe2(os.O_CLOEXEC)
    seccomp = memory_file(program)
    chosen = options(spec, root=root, output=output, info=info_write, seccomp=seccomp)
    arguments = memory_file(b"".join(part.encode() + b"\0" for part in chosen))
    command = [bwrap, "--args", str(arguments), "--", "/bin/sh", "-c", GATE, "gate", *spec.argv]
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        try:
            linux.die_with_parent(parent)
            os.dup2(release_read, 0)
            os.dup2(output_write, 1)
            os.dup2(output_write, 2)
            _enter(spec.limits, identity=identity, group=group)
            exec_clean(command, keep=(info_write, seccomp, arguments))
        except OSError as error:
            os.write(2, f"the sandbox could not be entered: {error}\n".encode())
        finally:
            os._exit(126)
    for descriptor in (info_write, release_read, output_write, seccomp, arguments):
        os.close(descriptor)
    try:
        first = _first_process(info_read, child, output_read)
        gate = _gate_process(first, child, output_read)
    except SandboxUnavailableError:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    finally:
        os.close(info_read)
    return Started(
        bwrap=child,
        first=first,
        first_start_time=linux.start_time(first),
        gate=gate,
        release=release_write,
        output=output_read,
    )


def explain(said: str, *, sysctl: Callable[[str], str | None]) -> str:
    """Why a trial failed and what to do, in one sentence; `said` are bubblewrap's own words."""
    if sysctl(MAX_USER_NAMESPACES) == "0":
        return "user namespaces are off (user.max_user_namespaces is 0); set it to 10000 with sysctl"
    if sysctl("kernel/unprivileged_userns_clone") == "0":
        return "unprivileged user namespaces are off; set kernel.unprivileged_userns_clone to 1 with sysctl"
    if sysctl("kernel/apparmor_restrict_unprivileged_userns") == "1":
        return (
            "AppArmor forbids bubblewrap to make user namespaces; "
            "load a profile for it with the rule 'userns,' (see apparmor.d, bwrap-userns-restrict)"
        )
    return f"bubblewrap cannot make a sandbox here: {said or 'it did not say why'}"


def read_sysctl(name: str) -> str | None:
    """A kernel setting, or None where this kernel lacks it."""
    try:
        return Path("/proc/sys", name).read_text().strip()
    except OSError:
        return None


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


def _enter(limits: Limits, *, identity: Identity, group: cgroup.Group) -> None:
    group.join(os.getpid())
    set_limits(limits, bounded_by_group=group.version != "none")
    become(identity)


def _first_process(info: int, child: int, output: int) -> int:
    """The id of the guest's process 1, told by bubblewrap when the namespaces stand."""
    deadline = time.monotonic() + START_DEADLINE_S
    told = b""
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([info], [], [], left)[0]:
            break
        chunk = os.read(info, 4096)
        told += chunk
        with suppress(ValueError, KeyError):
            return int(json.loads(told)["child-pid"])
        if not chunk:
            break
    raise SandboxUnavailableError(_last_words(child, output))


def _gate_process(first: int, child: int, output: int) -> int:
    """The gate's process id, once it has become the shell and sleeps on its pipe."""
    deadline = time.monotonic() + START_DEADLINE_S
    children = Path(f"/proc/{first}/task/{first}/children")
    while time.monotonic() < deadline:
        with suppress(OSError, IndexError):
            gate = int(children.read_text().split()[0])
            if Path(f"/proc/{gate}/comm").read_text() == "sh\n" and _waits(gate):
                return gate
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            break
        time.sleep(PAUSE_S)
    raise SandboxUnavailableError(_last_words(child, output))


def _waits(pid: int) -> bool:
    """Whether the shell sleeps in read(0, …): its loader is done, nothing but the gate is open."""
    try:
        words = Path(f"/proc/{pid}/syscall").read_text().split()
    except PermissionError:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"
    return len(words) > 2 and words[0] in {"0", "63"} and words[1] == "0x0"


def _last_words(child: int, output: int) -> str:
    """Why bubblewrap gave up, in its own words."""
    os.set_blocking(output, False)
    try:
        said = os.read(output, 4096).decode(errors="replace").strip()
    except BlockingIOError:
        said = ""
    return explain(said, sysctl=read_sysctl)
