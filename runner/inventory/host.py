"""CPUs, memory, kernel, cgroups, disk and container runtimes of this node.

What is covered: what is there, and the versions of runtimes as they tell them themselves.
What is not covered: CPU quotas of the group that this process is in; whether a runtime works, which each sandbox
driver tries itself.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# By the name under which people know them: the program.
RUNTIMES = {"bubblewrap": "bwrap", "podman": "podman", "crun": "crun", "runc": "runc", "runsc": "runsc"}
PROGRAM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
VERSION_DEADLINE_S = 10.0
MAX_VERSION_BYTES = 4096
_VERSION = re.compile(r"\d+(?:\.\d+)+[A-Za-z0-9.+~-]*|release-\d{8}(?:\.\d+)?")
_MEMORY_LIMITS = ("memory.max", "memory.limit_in_bytes")  # cgroup v2, v1


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What every job on this node shares."""

    name: str
    kernel: str
    architecture: str
    cpus: int  # that this process may use
    memory_bytes: int  # of the machine, or of the group that this process is in if that has less
    cgroup: str  # "v2", "hybrid", "v1" or "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """The file system that a folder is on."""

    path: str
    total_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerRuntime:
    """A program that makes sandboxes; `problem` says why there is no version, else None."""

    name: str
    path: str | None
    version: str | None
    problem: str | None


def read_host(*, root: Path = Path("/")) -> Host:
    """The host as this process sees it. Raises OSError if /proc is not there."""
    about = os.uname()
    limits = (*_group_limits(root), _memory_total(root / "proc/meminfo"))
    return Host(
        name=about.nodename,
        kernel=about.release,
        architecture=about.machine,
        cpus=len(os.sched_getaffinity(0)),
        memory_bytes=min(limits),
        cgroup=_cgroup_version(root / "sys/fs/cgroup"),
    )


def read_disk(folder: Path) -> Disk:
    """The disk that `folder` is on. Raises OSError."""
    usage = shutil.disk_usage(folder)
    return Disk(path=str(folder), total_bytes=usage.total, free_bytes=usage.free)


def read_runtimes(*, path: str = PROGRAM_PATH) -> tuple[ContainerRuntime, ...]:
    """Each runtime in RUNTIMES, there or not. Starts those that are there, for a moment."""
    return tuple(_runtime(name, program, path) for name, program in RUNTIMES.items())


def _memory_total(meminfo: Path) -> int:
    line = next(line for line in meminfo.read_text().splitlines() if line.startswith("MemTotal:"))
    return int(line.split()[1]) << 10


def _group_limits(root: Path) -> Iterator[int]:
    """Memory limits of the groups that this process is in, from its own up to the topmost."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, place = line.split(":", 2)
        if controllers in ("", "memory"):
            folder = root / "sys/fs/cgroup" / controllers
            group = folder / place.lstrip("/")
            for one in (group, *group.parents):
                yield from _limit_of(one)
                if one == folder:
                    break


def _limit_of(group: Path) -> Iterator[int]:
    for name in _MEMORY_LIMITS:
        try:
            text = (group / name).read_text().strip()
        except OSError:
            continue
        if text.isdecimal():  # "max" is no limit
            yield int(text)


def _cgroup_version(folder: Path) -> str:
    if (folder / "cgroup.controllers").exists():
        return "v2"
    if (folder / "unified" / "cgroup.controllers").exists():
        return "hybrid"
    return "v1" if (folder / "memory").is_dir() else "none"


def _runtime(name: str, program: str, path: str) -> ContainerRuntime:
    found = shutil.which(program, path=path)
    if found is None:
        return ContainerRuntime(name=name, path=None, version=None, problem=f"{program} is not installed")
    try:
        said = subprocess.run(
            [found, "--version"],
            env={"PATH": PROGRAM_PATH, "LANG": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            timeout=VERSION_DEADLINE_S,
            check=True,
        ).stdout[:MAX_VERSION_BYTES]
    except (OSError, subprocess.SubprocessError) as error:
        return ContainerRuntime(name=name, path=found, version=None, problem=f"unknown: {error}")
    version = _VERSION.search(said.decode(errors="replace"))
    if version is None:
        return ContainerRuntime(name=name, path=found, version=None, problem="unknown: it tells no version")
    return ContainerRuntime(name=name, path=found, version=version[0].removeprefix("release-"), problem=None)
