"""The default walls: bubblewrap, around a root that the holder has staged.

What is covered: own namespaces of every kind with no network, a system-call filter, no capabilities, no new
privileges, a powerless user id; options travel through a file descriptor and the environment is empty, so that
neither shows host paths or secrets.
What is not covered: flaws of the shared kernel or GPU driver, timing channels between guests, root on the host.
"""

import json
import os
import select
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from runner import linux
from runner.errors import SandboxUnavailableError
from runner.sandbox import measure
from runner.sandbox.held import HeldSandbox
from runner.sandbox.identity import claim_identity, release_identity
from runner.sandbox.launch import become, last_words, memory_file, open_pipes, set_limits, spawn, trial
from runner.sandbox.processes import ask_processes_to_end
from runner.sandbox.seccomp import load_filter
from runner.sandbox.violations import Expected, violations_of
from runner.sandbox.walls import Facts, Stage, Started
from runner.spec import Profile

NAME = "bubblewrap"
MAX_USER_NAMESPACES = "user/max_user_namespaces"
START_DEADLINE_S = 20.0
PAUSE_S = 0.001
WALLS = (
    "--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts",
    "--unshare-cgroup-try", "--disable-userns", "--die-with-parent", "--new-session",
    "--cap-drop", "ALL", "--hostname", "runner",
)  # fmt: skip


class BubblewrapWalls:
    """The walls `bubblewrap`; see the port for the contract."""

    def __init__(self, bwrap: str = "bwrap") -> None:
        """`bwrap` is a path, or a name to look up in the usual folders."""
        self._bwrap = bwrap

    @property
    def name(self) -> str:
        """See the port."""
        return NAME

    @property
    def mounts_late(self) -> bool:
        """See the port."""
        return True

    def check(self) -> str:
        """See the port; takes some milliseconds, as it tries the walls on `/bin/true`."""
        load_filter()
        bwrap = self._find()
        if read_sysctl(MAX_USER_NAMESPACES) == "0":
            raise SandboxUnavailableError(explain("", sysctl=read_sysctl))
        identity = claim_identity()
        try:
            options = [*WALLS, "--ro-bind", "/", "/", "--proc", "/proc", "--", "/bin/true"]
            status, said = trial([bwrap, *options], identity=identity)
            if status != 0:
                raise SandboxUnavailableError(explain(said, sysctl=read_sysctl))
            return self.version()
        finally:
            release_identity(identity)

    def version(self) -> str:
        """See the port; no namespace is made for it, so that a kill leaves none behind."""
        return trial([self._find(), "--version"], identity=None)[1]

    def start(self, stage: Stage) -> Started:
        """See the port."""
        pipes = open_pipes()
        info_read, info_write = os.pipe2(os.O_CLOEXEC)
        seccomp = memory_file(stage.program)
        chosen = options(stage, info=info_write, seccomp=seccomp)
        arguments = memory_file(b"".join(part.encode() + b"\0" for part in chosen))

        def prepare() -> None:
            stage.group.join(os.getpid())
            set_limits(stage.spec.limits, bounded_by_group=stage.group.version != "none")
            become(stage.identity)

        command = [self._find(), "--args", str(arguments), "--", *stage.command]
        child = spawn(command, pipes=pipes, keep=(info_write, seccomp, arguments), prepare=prepare)
        pipes.close_theirs()
        for descriptor in (info_write, seccomp, arguments):
            os.close(descriptor)
        try:
            first = _first_process(info_read, pipes.output_read)
            gate = _gate_process(first, child, pipes.output_read)
        except SandboxUnavailableError:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            pipes.close_ours()
            raise
        finally:
            os.close(info_read)
        return Started(
            child=child,
            first=first,
            first_start_time=linux.start_time(first),
            gate=gate,
            release=pipes.release_write,
            output=pipes.output_read,
            walls=frozenset({child, first}),
        )

    def input_root(self, started: Started, stage: Stage) -> tuple[int, str]:
        """See the port."""
        return started.gate, ""

    def measure(self, started: Started, stage: Stage) -> Facts:
        """See the port."""
        return measure.process_facts(started.gate, stage)

    def violations(self, facts: Facts, stage: Stage) -> tuple[str, ...]:
        """See the port."""
        return violations_of(facts, stage, EXPECTED)

    def unenforced(self, facts: Facts, stage: Stage) -> tuple[str, ...]:
        """See the port."""
        return measure.unenforced(facts)

    def ask_to_end(self, started: Started, stage: Stage) -> None:
        """See the port."""
        ask_processes_to_end(started, stage)

    def _find(self) -> str:
        found = shutil.which(self._bwrap, path="/usr/local/bin:/usr/bin:/bin")
        if found is None:
            raise SandboxUnavailableError(
                f"{self._bwrap} is not there; install the operating system's package 'bubblewrap'"
            )
        return found


# What bubblewrap mounts beside what is staged. Devices are the host's own nodes, bound one by one.
EXPECTED = Expected(
    kernel_mounts=frozenset({"/proc", "/dev", "/dev/pts"}),
    writable=frozenset({"/proc", "/dev/pts"}),
    devices=frozenset({"/dev/pts", "/dev/ptmx", *(f"/dev/{name}" for name in measure.DEVICES)}),
    masked=frozenset(f"/proc/{name}" for name in measure.MASKED),
)


def BubblewrapSandbox(bwrap: str = "bwrap") -> HeldSandbox:  # noqa: N802  a class to its callers
    """The driver `bubblewrap`."""
    return HeldSandbox(BubblewrapWalls(bwrap))


def options(stage: Stage, *, info: int, seccomp: int) -> list[str]:
    """bubblewrap's options, without the command."""
    spec, limits = stage.spec, stage.spec.limits
    chosen = [*WALLS, "--uid", str(stage.guest_id), "--gid", str(stage.guest_id)]
    chosen += ["--bind", stage.root, "/", "--proc", "/proc"]
    for name in measure.MASKED:
        if Path("/proc", name).exists():
            chosen += ["--ro-bind", "/dev/null", f"/proc/{name}"]
    chosen += ["--dev", "/dev"]
    if spec.profile is Profile.STRICT:
        chosen += ["--perms", "1777", "--size", str(limits.tmp_bytes), "--tmpfs", "/tmp"]  # noqa: S108
    chosen += ["--perms", "1777", "--size", str(limits.shm_bytes), "--tmpfs", "/dev/shm"]  # noqa: S108
    for gpu in spec.gpus:
        for node in gpu.nodes:
            chosen += ["--dev-bind", node, node]
    if spec.gpus:
        chosen += ["--ro-bind", "/sys", "/sys"]
    chosen += ["--remount-ro", "/dev"]
    for name, value in stage.environment.items():
        chosen += ["--setenv", name, value]
    return [*chosen, "--chdir", spec.cwd, "--info-fd", str(info), "--seccomp", str(seccomp)]


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


def _first_process(info: int, output: int) -> int:
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
    raise SandboxUnavailableError(explain(last_words(output), sysctl=read_sysctl))


def _gate_process(first: int, child: int, output: int) -> int:
    """The gate's process id, as soon as bubblewrap has started it."""
    deadline = time.monotonic() + START_DEADLINE_S
    children = Path(f"/proc/{first}/task/{first}/children")
    while time.monotonic() < deadline:
        with suppress(OSError, IndexError):
            return int(children.read_text().split()[0])
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            break
        time.sleep(PAUSE_S)
    raise SandboxUnavailableError(explain(last_words(output), sysctl=read_sysctl))
