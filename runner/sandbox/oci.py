"""The walls `oci`: a container of podman and crun, around a root that the holder has staged.

What is covered: own namespaces of every kind with no network, a system-call filter, no capabilities, no new
privileges, a powerless user id; podman itself is root in a user namespace only, keeps its records in the
holder's scratch folder and dies with it, so that nothing of a container is left on the host.
What is not covered: flaws of the shared kernel or GPU driver, timing channels between guests, root on the host.
The guest is process 1 of its container, as upstream: it gets SIGTERM only if it asked for it. podman and conmon
count as the guest's memory and processes. GPUs by the Container Device Interface were not run on a real one.
runc is not used: it needs control groups of its own, and cannot map a single id that is not 0.
"""

import os
import resource
import shutil
import signal
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from runner import linux
from runner.errors import SandboxUnavailableError
from runner.sandbox import measure, oci_files, oci_options, oci_trial
from runner.sandbox.held import HeldSandbox
from runner.sandbox.launch import last_words, open_pipes, trial
from runner.sandbox.oci_keeper import ENV, Program, start_kept
from runner.sandbox.oci_options import HIDDEN, READ_ONLY
from runner.sandbox.processes import ask_processes_to_end, descendants
from runner.sandbox.seccomp import load_filter
from runner.sandbox.violations import Expected, violations_of
from runner.sandbox.walls import Facts, Stage, Started

NAME = "oci"
START_DEADLINE_S = 30.0
PAUSE_S = 0.004
_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
_CONMON_PATH = f"/usr/libexec/podman:/usr/local/libexec/podman:/usr/lib/podman:{_PATH}"

# What the container has beside what is staged. HOSTNAME is set by podman and cannot be left out.
EXPECTED = Expected(
    kernel_mounts=frozenset(
        {"/proc", "/dev", "/dev/pts", "/sys", "/sys/fs/cgroup", "/run", "/run/.containerenv", "/etc/hostname"}
    ),
    writable=frozenset({"/proc", "/dev/pts"}),
    # These are not judged by their flags there, but below.
    devices=frozenset({"/dev/pts", *(f"/dev/{name}" for name in measure.DEVICES)}) | HIDDEN | READ_ONLY,
    variables=frozenset({"HOSTNAME"}),
)
# What a vendor's description of devices adds: its driver's files, read-only, and words for its own libraries.
# Sockets of its daemons (/run/nvidia-persistenced) are a way out and stay unexpected: describe the devices without.
EXPECTED_WITH_GPUS = replace(
    EXPECTED,
    variables=EXPECTED.variables | {"NVIDIA_VISIBLE_DEVICES", "NVIDIA_CTK_LIBCUDA_DIR"},
    below=("/usr", "/lib", "/lib64", "/opt", "/etc", "/proc/driver/nvidia"),
)


class OciWalls:
    """The walls `oci`; see the port for the contract."""

    def __init__(self, podman: str = "podman", crun: str = "crun") -> None:
        """Each is a path, or a name to look up in the usual folders."""
        self._podman = podman
        self._crun = crun

    @property
    def name(self) -> str:
        """See the port."""
        return NAME

    @property
    def mounts_late(self) -> bool:
        """See the port."""
        return True

    def check(self) -> str:
        """See the port; takes as long as a guest that does nothing, because it runs one."""
        load_filter()
        versions = self._versions()
        oci_trial.try_walls(_Untried(self._podman, self._crun))
        return versions

    def version(self) -> str:
        """See the port."""
        return self._versions()

    def start(self, stage: Stage) -> Started:
        """See the port."""
        programs = self._find()
        oci_files.write_files(stage)
        oci_files.make_points(stage)
        program = Program(
            command=oci_options.command(programs, stage),
            environment=oci_options.environment(stage),
            terminals=stage.scratch / "terminals",
        )
        pipes = open_pipes()
        try:
            child = start_kept(program, stage, pipes=pipes)
        finally:
            pipes.close_theirs()
        try:
            gate = _await_gate(child, stage, pipes.output_read)
            keeper = _only_child(child)
            if stage.group.version == "none":
                _bound_memory(gate, stage.spec.limits.memory_bytes)
        except SandboxUnavailableError:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            pipes.close_ours()
            raise
        return Started(
            child=child,
            first=keeper,
            first_start_time=linux.start_time(keeper),
            gate=gate,
            release=pipes.release_write,
            output=pipes.output_read,
            walls=frozenset({child, keeper, *descendants(keeper)} - {gate} - descendants(gate)),
        )

    def input_root(self, started: Started, stage: Stage) -> tuple[int, str]:
        """See the port."""
        return started.gate, ""

    def measure(self, started: Started, stage: Stage) -> Facts:
        """See the port. What podman says of its container is not asked for: only the kernel is."""
        expected = _expected(stage).variables - set(stage.environment)
        found = _environment(started.gate)
        facts = measure.process_facts(started.gate, stage)
        mounted = {mount["target"] for mount in facts["mounts"]}
        return {
            **facts,
            "shown": sorted(
                f"/proc/{n}" for n in measure.MASKED if _shows(n) and f"/proc/{n}" not in mounted
            ),
            "walls_user_ids": sorted({uid for pid in started.walls for uid in _user_ids(pid)}),
            "environment_as_asked": {n: v for n, v in found.items() if n not in expected}
            == dict(stage.environment),
        }

    def violations(self, facts: Facts, stage: Stage) -> tuple[str, ...]:
        """See the port."""
        found = [*violations_of(facts, stage, _expected(stage))]
        found += [
            f"{mount['target']} is writable"
            for mount in facts["mounts"]
            if mount["target"] in HIDDEN | READ_ONLY and "ro" not in mount["flags"]
        ]
        found += [f"{path} is shown" for path in facts["shown"]]
        if 0 in facts["walls_user_ids"]:
            found.append("podman has the user id 0 of the host; wanted an unused one")
        if not facts["environment_as_asked"]:
            found.append("the environment is not what was asked for")
        return tuple(found)

    def unenforced(self, facts: Facts, stage: Stage) -> tuple[str, ...]:
        """See the port."""
        return measure.unenforced(facts)

    def ask_to_end(self, started: Started, stage: Stage) -> None:
        """See the port."""
        ask_processes_to_end(started, stage)

    def _find(self) -> oci_options.Programs:
        return oci_options.Programs(
            podman=_find(self._podman, path=_PATH),
            crun=_find(self._crun, path=_PATH),
            conmon=_find("conmon", path=_CONMON_PATH),
        )

    def _versions(self) -> str:
        programs = self._find()
        return ", ".join(_version(p) for p in (programs.podman, programs.crun, programs.conmon))


class _Untried(OciWalls):
    """The walls on trial: nobody has seen yet whether they work."""

    def check(self) -> str:
        return self._versions()


def OciSandbox(podman: str = "podman", crun: str = "crun") -> HeldSandbox:  # noqa: N802  a class to its callers
    """The driver `oci`."""
    return HeldSandbox(OciWalls(podman, crun))


def _expected(stage: Stage) -> Expected:
    return EXPECTED_WITH_GPUS if stage.spec.gpus else EXPECTED


def _find(program: str, *, path: str) -> str:
    found = shutil.which(program, path=path)
    if found is None:
        raise SandboxUnavailableError(
            f"{program} is not there; install the operating system's package '{program}'"
        )
    return found


def _version(program: str) -> str:
    """`podman 4.3.1` of `podman version 4.3.1`."""
    status, said = trial([ENV, "-i", "HOME=/", program, "--version"], identity=None)
    if status != 0 or not said:
        raise SandboxUnavailableError(f"{program} does not tell its version: {said or 'it said nothing'}")
    return f"{Path(program).name} {said.splitlines()[0].split()[-1]}"


def _await_gate(child: int, stage: Stage, output: int) -> int:
    """The gate's process id, as soon as it is the program that was asked for."""
    deadline = time.monotonic() + START_DEADLINE_S
    name = Path(stage.command[0]).name[:15]  # TASK_COMM_LEN
    while time.monotonic() < deadline:
        for pid in descendants(child):
            with suppress(OSError):
                if Path(f"/proc/{pid}/comm").read_text() == f"{name}\n" and _is_first_inside(pid):
                    return pid
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            break
        time.sleep(PAUSE_S)
    raise SandboxUnavailableError(oci_trial.explain(last_words(output)))


def _is_first_inside(pid: int) -> bool:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return any(line.startswith("NSpid:") and line.split()[-1] == "1" for line in lines)


def _bound_memory(gate: int, memory_bytes: int) -> None:
    """Without a control group: bound the guest alone, as podman itself could not live with the limit."""
    with suppress(OSError):  # measured afterwards
        resource.prlimit(gate, resource.RLIMIT_AS, (memory_bytes, memory_bytes))


def _shows(name: str) -> bool:
    return Path("/proc", name).exists()


def _only_child(pid: int) -> int:
    with suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
    raise SandboxUnavailableError("podman ended while its guest was at the gate")


def _user_ids(pid: int) -> set[int]:
    """Real, effective, saved and file system ids of a process, which may be gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("Uid:"):
                return {int(word) for word in line.split()[1:]}
    return set()


def _environment(pid: int) -> dict[str, str]:
    entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    pairs = (os.fsdecode(entry).partition("=") for entry in entries if entry)
    return {name: value for name, _, value in pairs}
