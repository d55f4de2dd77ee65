"""One control group per guest: limits that are read back, a kill that reaches everyone, facts after the end.

What is covered: version 1 and hybrid hosts (memory with swap where the kernel counts it, pids, cpu, devices,
freezer, the unified tree for `cgroup.kill`) and version 2 where a subtree is delegated.
What is not covered: hosts that let us make no group. There the version is `none`, the driver falls back to
resource limits, and the claim says so. Device rules under version 2 need BPF and are not set. Version 2 was
written by its documentation and tested on a model of its files only.
"""

import os
import re
import signal
import stat
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from runner.errors import SandboxUnavailableError
from runner.linux import start_time
from runner.spec import Limits

CPU_PERIOD_US = 100_000
REMOVE_ATTEMPTS = 100
PAUSE_S = 0.01
# null zero full random urandom tty, ptmx, pseudo-terminals
ALLOWED_DEVICES = ("1:3", "1:5", "1:7", "1:8", "1:9", "5:0", "5:2", "136:*")

_ESSENTIAL_V1 = ("memory", "pids", "cpu")
_OPTIONAL_V1 = ("devices", "freezer", "cpuacct", "unified")
_NEEDED_V2 = frozenset(_ESSENTIAL_V1)
_OWNED = re.compile(r"assay-(\d+)-(\d+)-.+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The folders of one guest's group by controller; `unified` is the version 2 tree."""

    version: str  # "v1", "v2" or "none"
    folders: Mapping[str, Path] = field(default_factory=dict)
    devices: tuple[str, ...] = ()  # `major:minor` of those granted beside ALLOWED_DEVICES

    def join(self, pid: int) -> None:
        """Move process `pid` into the group."""
        for folder in set(self.folders.values()):
            (folder / "cgroup.procs").write_text(str(pid))

    def processes(self) -> list[int]:
        """The living members, as seen from here."""
        pids: set[int] = set()
        for folder in set(self.folders.values()):
            with suppress(OSError):
                pids.update(int(line) for line in (folder / "cgroup.procs").read_text().split())
        return sorted(pids)

    def kill(self) -> None:
        """SIGKILL every member, also those that are just being forked."""
        with suppress(OSError, KeyError):
            (self.folders["unified"] / "cgroup.kill").write_text("1")
        frozen = self._freeze("FROZEN")
        for pid in self.processes():
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if frozen:
            self._freeze("THAWED")

    def read_back(self) -> dict[str, int | str]:
        """The limits as the kernel states them; -1 is "no limit"."""
        limits: dict[str, int | str] = {}
        for name, (controller, file) in _READ_BACK[self.version].items():
            text = self._read(controller, file)
            if text is not None:
                limits[name] = int(text) if re.fullmatch(r"-?\d+", text) else text
        return limits

    def out_of_memory_kills(self) -> int:
        """How often the kernel killed a member for memory."""
        controller, file = {"v1": ("memory", "memory.oom_control"), "v2": ("unified", "memory.events")}.get(
            self.version, ("", "")
        )
        return _number_after("oom_kill", self._read(controller, file) or "") or 0

    def usage(self) -> dict[str, int]:
        """Peak memory and CPU time so far, as far as this host tells."""
        facts = {
            "memory_peak_bytes": self._integer("memory", "memory.max_usage_in_bytes")
            or self._integer("unified", "memory.peak"),
            "cpu_ms": _milliseconds(
                nanoseconds=self._integer("cpuacct", "cpuacct.usage"),
                microseconds=_number_after("usage_usec", self._read("unified", "cpu.stat") or ""),
            ),
            "oom_kills": self.out_of_memory_kills() if self.version != "none" else None,
            "forks_refused": _number_after(
                "max", self._read("pids", "pids.events") or self._read("unified", "pids.events") or ""
            ),
        }
        return {name: value for name, value in facts.items() if value is not None}

    def remove(self) -> None:
        """Remove the empty group; a member that is still being reaped is waited for, shortly."""
        for folder in set(self.folders.values()):
            for _ in range(REMOVE_ATTEMPTS):
                try:
                    folder.rmdir()
                except FileNotFoundError:
                    break
                except OSError:
                    time.sleep(PAUSE_S)
                else:
                    break

    def _freeze(self, state: str) -> bool:
        folder = self.folders.get("freezer")
        if folder is None:
            return False
        with suppress(OSError):
            (folder / "freezer.state").write_text(state)
            return True
        return False

    def _integer(self, controller: str, file: str) -> int | None:
        text = self._read(controller, file)
        return int(text) if text and text.isdigit() else None

    def _read(self, controller: str, file: str) -> str | None:
        folder = self.folders.get(controller)
        try:
            return (folder / file).read_text().strip() if folder else None
        except OSError:
            return None


_READ_BACK: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "v1": {
        "memory_bytes": ("memory", "memory.limit_in_bytes"),
        "memory_and_swap_bytes": ("memory", "memory.memsw.limit_in_bytes"),
        "pids": ("pids", "pids.max"),
        "cpu_quota_us": ("cpu", "cpu.cfs_quota_us"),
        "cpu_period_us": ("cpu", "cpu.cfs_period_us"),
        "devices": ("devices", "devices.list"),
    },
    "v2": {
        "memory_bytes": ("unified", "memory.max"),
        "swap_bytes": ("unified", "memory.swap.max"),
        "pids": ("unified", "pids.max"),
        "cpu_quota_and_period_us": ("unified", "cpu.max"),
    },
    "none": {},
}


def owner_prefix(pid: int) -> str:
    """Start of the names of everything that the runner `pid` makes outside its own namespaces."""
    return f"assay-{pid}-{start_time(pid)}-"


def locate(*, membership: str, mountinfo: str) -> dict[str, Path]:
    """This process's own folder in each hierarchy, from /proc/self/cgroup and /proc/self/mountinfo.

    The version 2 tree is called `unified`.
    """
    own: dict[str, str] = {}
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(",") if controllers else ["unified"]:
            own[controller] = path
    found: dict[str, Path] = {}
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ", 2)
        root, point = left.split(" ")[3:5]
        names = {"cgroup": options.split(","), "cgroup2": ["unified"]}.get(kind, [])
        for name in names:
            if name in own:
                inside = os.path.relpath(own[name], root)
                found.setdefault(name, Path(point) if inside.startswith("..") else Path(point, inside))
    return found


def host_folders() -> dict[str, Path]:
    """`locate` for this process."""
    return locate(
        membership=Path("/proc/self/cgroup").read_text(), mountinfo=Path("/proc/self/mountinfo").read_text()
    )


def create(name: str, limits: Limits, *, parents: Mapping[str, Path], devices: Sequence[str] = ()) -> Group:
    """A group called `name` with `limits` set; version `none` when the host does not let us.

    `devices` are character devices, `major:minor`, that members may open beside ALLOWED_DEVICES.
    """
    if all(controller in parents for controller in _ESSENTIAL_V1):
        return _create_v1(name, limits, parents=parents, devices=devices)
    if "unified" in parents:
        return _create_v2(name, limits, parent=parents["unified"])
    return Group(version="none")


def numbers_of(nodes: Sequence[str]) -> tuple[str, ...]:
    """`major:minor` of the character devices `nodes`. Raises SandboxUnavailableError for what is none."""
    found = []
    for node in nodes:
        try:
            facts = Path(node).stat()
        except OSError as error:
            raise SandboxUnavailableError(
                f"the granted device {node} is not there: {error.strerror}"
            ) from error
        if not stat.S_ISCHR(facts.st_mode):
            raise SandboxUnavailableError(f"the granted device {node} is no character device")
        found.append(f"{os.major(facts.st_rdev)}:{os.minor(facts.st_rdev)}")
    return tuple(found)


def sweep(parents: Mapping[str, Path]) -> int:
    """Kill and remove our own groups whose maker is dead; returns how many folders went.

    Runners that share control groups must share a pid namespace: a number of another one looks dead.
    """
    removed = 0
    for parent in {*parents.values(), *(p.parent for p in parents.values())}:
        for folder in sorted(parent.glob("assay-*-*-*")):
            match = _OWNED.fullmatch(folder.name)
            if match is None or start_time(int(match[1])) == int(match[2]):
                continue
            if folder.stat().st_uid != os.geteuid():
                continue
            _empty_and_remove(folder)
            removed += 1
    return removed


def remove_named(name: str, *, parents: Mapping[str, Path]) -> None:
    """Kill and remove what is left of the group `name`; nothing is left after an orderly end."""
    folders = {p / name for p in (*parents.values(), *(p.parent for p in parents.values()))}
    for folder in folders:
        if folder.is_dir():
            _empty_and_remove(folder)


def _empty_and_remove(folder: Path) -> None:
    group = Group(version="v1", folders={"unified": folder})
    for _ in range(REMOVE_ATTEMPTS):
        if not group.processes():
            break
        group.kill()
        time.sleep(PAUSE_S)
    group.remove()


def _create_v1(name: str, limits: Limits, *, parents: Mapping[str, Path], devices: Sequence[str]) -> Group:
    folders: dict[str, Path] = {}
    try:
        for controller in (*_ESSENTIAL_V1, *_OPTIONAL_V1):
            if controller in parents:
                (parents[controller] / name).mkdir(exist_ok=True)
                folders[controller] = parents[controller] / name
        (folders["memory"] / "memory.limit_in_bytes").write_text(str(limits.memory_bytes))
        with suppress(
            OSError
        ):  # kernels without swap accounting lack the file; the claim then lacks the line
            (folders["memory"] / "memory.memsw.limit_in_bytes").write_text(str(limits.memory_bytes))
        (folders["pids"] / "pids.max").write_text(str(limits.pids))
        (folders["cpu"] / "cpu.cfs_period_us").write_text(str(CPU_PERIOD_US))
        quota_us = limits.cpu_millis * CPU_PERIOD_US // 1000
        (folders["cpu"] / "cpu.cfs_quota_us").write_text(str(quota_us))
        if "devices" in folders:
            (folders["devices"] / "devices.deny").write_text("a")
            for device in (*ALLOWED_DEVICES, *devices):
                (folders["devices"] / "devices.allow").write_text(f"c {device} rw")
    except OSError:
        Group(version="v1", folders=folders).remove()
        return Group(version="none")
    return Group(version="v1", folders=folders, devices=tuple(devices))


def _create_v2(name: str, limits: Limits, *, parent: Path) -> Group:
    # A service with a delegated subtree sits in a leaf of it; its siblings are ours to make.
    for candidate in (parent, parent.parent):
        try:
            available = set((candidate / "cgroup.controllers").read_text().split())
            if not available >= _NEEDED_V2:
                continue
            (candidate / "cgroup.subtree_control").write_text("+memory +pids +cpu")
            folder = candidate / name
            folder.mkdir(exist_ok=True)
        except OSError:
            continue
        group = Group(version="v2", folders={"unified": folder})
        try:
            (folder / "memory.max").write_text(str(limits.memory_bytes))
            with suppress(OSError):  # no swap accounting
                (folder / "memory.swap.max").write_text("0")
            (folder / "pids.max").write_text(str(limits.pids))
            (folder / "cpu.max").write_text(f"{limits.cpu_millis * CPU_PERIOD_US // 1000} {CPU_PERIOD_US}")
        except OSError:
            group.remove()
            continue
        return group
    return Group(version="none")


def _number_after(word: str, text: str) -> int | None:
    match = re.search(rf"^{word} (\d+)$", text, re.MULTILINE)
    return int(match[1]) if match else None


def _milliseconds(*, nanoseconds: int | None, microseconds: int | None) -> int | None:
    if nanoseconds is not None:
        return nanoseconds // 1_000_000
    return None if microseconds is None else microseconds // 1000
