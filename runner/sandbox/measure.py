"""What the walls around a guest really are, read from outside before its first instruction.

What is covered: ids, capabilities, no_new_privs, the system-call filter, namespaces, mounts with flags and
sizes, network, resource limits, open files, names of the environment, control group limits as read back.
What is not covered: a compromised kernel or root on the host can lie to us; only hardware attestation would
tell. Namespaces are compared with the host's first process where we may look, else with the runner's own.
"""

import hashlib
import os
import platform
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner import linux
from runner.sandbox import cgroup
from runner.sandbox.rootfs import GUEST_ID
from runner.spec import SandboxSpec

NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
DEVICES = ("full", "null", "random", "tty", "urandom", "zero")
MASKED = ("config.gz", "kallsyms", "key-users", "keys", "kpagecount", "sched_debug", "timer_list")

_CAPABILITY_SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
_HOST_FACTS = {
    "unprivileged_bpf_disabled": "/proc/sys/kernel/unprivileged_bpf_disabled",
    "io_uring_disabled": "/proc/sys/kernel/io_uring_disabled",
    "lockdown": "/sys/kernel/security/lockdown",
    "security_modules": "/sys/kernel/security/lsm",
}
_RLIMITS = {
    "Max core file size": "core_bytes",
    "Max file size": "file_bytes",
    "Max open files": "open_files",
    "Max processes": "processes",
    "Max address space": "address_space_bytes",
    "Max locked memory": "locked_memory_bytes",
}
# An ext4 volume rounds its inodes up to whole blocks per group, and has a little more room than asked.
INODE_SLACK = 8192
SIZE_SLACK_PERMILLE = 50
SIZE_SLACK_BYTES = 4 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """Where to look: the gate process, the group around it, the filter that it should carry."""

    pid: int
    group: cgroup.Group
    filter: bytes
    driver_version: str
    has_own_user_id: bool


def measure(guest: Guest) -> dict[str, Any]:
    """The isolation facts of `guest`, as strings, integers, booleans, lists and objects."""
    proc = Path(f"/proc/{guest.pid}")
    started = linux.start_time(guest.pid)
    status = _status(proc)
    facts: dict[str, Any] = {
        "driver": "bubblewrap",
        "driver_version": guest.driver_version,
        "host": _host(),
        "own_user_id": guest.has_own_user_id,
        "uids": _integers(status["Uid"]),
        "gids": _integers(status["Gid"]),
        "groups": _integers(status["Groups"]),
        "uid_map": [_integers(line) for line in (proc / "uid_map").read_text().splitlines()],
        "gid_map": [_integers(line) for line in (proc / "gid_map").read_text().splitlines()],
        "capabilities": {name: status[name] for name in _CAPABILITY_SETS},
        "no_new_privs": status["NoNewPrivs"] == "1",
        "seccomp": {
            "mode": int(status["Seccomp"]),
            "filters": int(status.get("Seccomp_filters", "-1")),
            **_filter(guest),
        },
        "namespaces": _namespaces(proc),
        "mounts": _mounts(proc),
        "interfaces": _interfaces(proc),
        "routes": _routes(proc),
        "limits": _limits(proc),
        "open_files": sorted(int(path.name) for path in (proc / "fd").iterdir()),
        "environment_names": _environment_names(proc),
        "cgroup": guest.group.version,
        "cgroup_joined": guest.pid in guest.group.processes(),
        "cgroup_limits": guest.group.read_back(),
        "oom_score_adj": int((proc / "oom_score_adj").read_text()),
        "gate": str((proc / "exe").readlink()),
        # The same process from first to last read; a reused number would differ.
        "same_process": started is not None and linux.start_time(guest.pid) == started,
    }
    return facts


def unenforced(measured: Mapping[str, Any]) -> tuple[str, ...]:
    """What this host, or the runner's lack of rights, leaves unenforced or unseen; no violation, but told."""
    missing: tuple[str, ...] = ()
    if measured["cgroup"] == "none":
        missing += ("cpu_millis", "memory_bytes: per process only", "pids: per user id only")
    if not measured["own_user_id"]:
        missing += ("user id: the guest's is the runner's own",)
        if strangers := _strange_groups(measured):
            missing += (f"groups: an ordinary user cannot drop {strangers}",)
    if measured["seccomp"]["sha256_is"] != "measured":
        missing += ("seccomp filter: its digest was not measured",)
    return missing


def violations(measured: Mapping[str, Any], spec: SandboxSpec) -> tuple[str, ...]:
    """Every way in which the measured walls are weaker than `spec` asks; empty when none is."""
    found = [
        *_identity_violations(measured),
        *_kernel_violations(measured),
        *_reach_violations(measured, spec),
        *_mount_violations(measured["mounts"], spec),
        *_limit_violations(measured, spec),
    ]
    if not measured["same_process"]:
        found.append("the measured process was replaced while it was measured")
    return tuple(found)


def _strange_groups(measured: Mapping[str, Any]) -> list[int]:
    return sorted(set(measured["groups"]) - set(measured["gids"]))


def _identity_violations(measured: Mapping[str, Any]) -> list[str]:
    found = []
    if 0 in measured["uids"] or 0 in measured["gids"]:
        found.append(f"host ids are uid {measured['uids']}, gid {measured['gids']}; none may be 0")
    strangers = _strange_groups(measured)
    if strangers and (measured["own_user_id"] or 0 in strangers):
        found.append(f"supplementary groups {strangers} are left")
    for kind in ("uid_map", "gid_map"):
        rows = measured[kind]
        if len(rows) != 1 or rows[0][0] != GUEST_ID or rows[0][1] == 0 or rows[0][2] != 1:
            found.append(f"{kind} is {rows}; wanted one id, {GUEST_ID}, that is not root outside")
    for name, value in measured["capabilities"].items():
        if int(value, 16):
            found.append(f"{name} is {value}; wanted none")
    return found


def _kernel_violations(measured: Mapping[str, Any]) -> list[str]:
    found = []
    if not measured["no_new_privs"]:
        found.append("no_new_privs is not set")
    seccomp = measured["seccomp"]
    if seccomp["mode"] != 2 or seccomp["filters"] == 0:
        found.append(
            f"seccomp mode is {seccomp['mode']} with {seccomp['filters']} filters; wanted 2 with a filter"
        )
    if seccomp["sha256"] != seccomp["wanted_sha256"]:
        found.append(f"the loaded filter is {seccomp['sha256']}; wanted {seccomp['wanted_sha256']}")
    for name, differs in measured["namespaces"]["own"].items():
        if not differs:
            found.append(f"the {name} namespace is the host's")
    return found


def _reach_violations(measured: Mapping[str, Any], spec: SandboxSpec) -> list[str]:
    found = []
    if measured["interfaces"] not in ([], ["lo"]):
        found.append(f"network interfaces are {measured['interfaces']}; wanted lo alone")
    if measured["routes"]:
        found.append(f"{measured['routes']} network routes lead out; wanted none")
    if measured["open_files"] != [0, 1, 2]:
        found.append(f"open files are {measured['open_files']}; wanted 0, 1 and 2")
    known = {"PATH", "HOME", "LANG", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "PWD", *spec.env}
    if extra := sorted(set(measured["environment_names"]) - known):
        found.append(f"the environment also has {', '.join(extra)}")
    if measured["oom_score_adj"] < 0:
        found.append(f"oom_score_adj is {measured['oom_score_adj']}; wanted at least 0")
    return found


def _mount_violations(mounts: list[Mapping[str, Any]], spec: SandboxSpec) -> list[str]:
    found = []
    sizes = {
        spec.output_target: (spec.limits.output_bytes, spec.limits.output_inodes),
        "/tmp": (spec.limits.tmp_bytes, None),  # noqa: S108  the guest's own
        "/dev/shm": (spec.limits.shm_bytes, None),  # noqa: S108  the guest's own
    }
    writable_anyhow = {"/proc", "/dev/pts", *(f"/dev/{name}" for name in DEVICES)}
    devices = {"/dev/pts", *(f"/dev/{name}" for name in (*DEVICES, "ptmx"))}
    expected = ["/usr", "/opt/python", "/opt/venv", "/proc", *(m.target for m in spec.mounts)]
    for mount in mounts:
        target, flags = mount["target"], mount["flags"]
        if target not in (*sizes, *devices, "/", "/dev") and not any(
            target == top or target.startswith(top + "/") for top in expected
        ):
            found.append(f"{target} is mounted and was not asked for")
        if "ro" not in flags and target not in (*sizes, *writable_anyhow):
            found.append(f"{target} is writable")
        if "nosuid" not in flags:
            found.append(f"{target} honours setuid files")
        if "nodev" not in flags and target not in devices:
            found.append(f"{target} honours device files")
    by_target = {m["target"]: m for m in mounts}
    for target, (size_bytes, inodes) in sizes.items():
        found += _size_violations(by_target.get(target), target, size_bytes=size_bytes, inodes=inodes)
    return found


def _size_violations(
    mount: Mapping[str, Any] | None, target: str, *, size_bytes: int, inodes: int | None
) -> list[str]:
    if mount is None:
        return [f"{target} is not a mount of its own"]
    found = []
    most = size_bytes + size_bytes * SIZE_SLACK_PERMILLE // 1000 + SIZE_SLACK_BYTES
    if not 0 < mount["size_bytes"] <= most:
        found.append(f"{target} holds {mount['size_bytes']} bytes; wanted at most {most}")
    if inodes is not None and not 0 < mount["inodes"] <= inodes + INODE_SLACK:
        found.append(f"{target} holds {mount['inodes']} files; wanted at most {inodes + INODE_SLACK}")
    return found


def _limit_violations(measured: Mapping[str, Any], spec: SandboxSpec) -> list[str]:
    found = []
    wanted = {
        "core_bytes": 0,
        "file_bytes": spec.limits.file_bytes,
        "open_files": spec.limits.open_files,
    }
    if measured["cgroup"] == "none":
        wanted |= {"processes": spec.limits.pids, "address_space_bytes": spec.limits.memory_bytes}
    elif not measured["cgroup_joined"]:
        found.append("the guest is not in its control group")
    for name, most in wanted.items():
        value = measured["limits"].get(name, -1)
        if not 0 <= value <= most:
            found.append(f"limit {name} is {value}; wanted at most {most}")
    quota_us = spec.limits.cpu_millis * cgroup.CPU_PERIOD_US // 1000
    group_wanted = {
        "v1": {"memory_bytes": spec.limits.memory_bytes, "pids": spec.limits.pids, "cpu_quota_us": quota_us},
        "v2": {"memory_bytes": spec.limits.memory_bytes, "pids": spec.limits.pids},
        "none": {},
    }[measured["cgroup"]]
    for name, most in group_wanted.items():
        value = measured["cgroup_limits"].get(name, -1)
        if not isinstance(value, int) or not 0 < value <= most:
            found.append(f"control group limit {name} is {value}; wanted at most {most}")
    return found


def _status(proc: Path) -> dict[str, str]:
    pairs = (line.partition(":") for line in (proc / "status").read_text().splitlines())
    return {name: value.strip() for name, _, value in pairs}


def _integers(text: str) -> list[int]:
    return [int(word) for word in text.split()]


def _host() -> dict[str, str]:
    facts = {"kernel": platform.release(), "machine": platform.machine()}
    for name, path in _HOST_FACTS.items():
        try:
            facts[name] = Path(path).read_text().strip()
        except OSError:
            facts[name] = "not shown by this host"
    return facts


def _filter(guest: Guest) -> dict[str, Any]:
    """The digest of the loaded filter: measured if the kernel lets us read it, else what we handed over."""
    wanted = hashlib.sha256(guest.filter).hexdigest()
    try:
        loaded = hashlib.sha256(linux.seccomp_filter(guest.pid)).hexdigest()
    except OSError:
        return {"sha256": wanted, "sha256_is": "claimed", "wanted_sha256": wanted}
    return {"sha256": loaded, "sha256_is": "measured", "wanted_sha256": wanted}


def _namespaces(proc: Path) -> dict[str, Any]:
    reference, name = Path("/proc/1/ns"), "the host's first process"
    if not _readable_link(reference / "net"):
        reference, name = Path("/proc/self/ns"), "the runner"
    own = {kind: (proc / "ns" / kind).readlink() != (reference / kind).readlink() for kind in NAMESPACES}
    return {"compared_with": name, "own": own}


def _readable_link(path: Path) -> bool:
    with suppress(OSError):
        path.readlink()
        return True
    return False


def _mounts(proc: Path) -> list[dict[str, Any]]:
    """Target, kind, flags and size of each mount; sources are host paths and stay out."""
    found = []
    for line in (proc / "mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        target, flags = left.split(" ")[4:6]
        target = re.sub(r"\\(\d{3})", lambda m: chr(int(m[1], 8)), target)
        kind, _, options = right.split(" ", 2)
        facts: dict[str, Any] = {"target": target, "filesystem": kind, "flags": sorted(flags.split(","))}
        if "ro" in options.split(",") and "ro" not in facts["flags"]:
            facts["flags"] = sorted({*facts["flags"], "ro"} - {"rw"})
        with suppress(OSError):
            size = os.statvfs(f"{proc}/root{target}")
            facts |= {"size_bytes": size.f_blocks * size.f_frsize, "inodes": size.f_files}
        found.append(facts)
    return sorted(found, key=lambda m: str(m["target"]))


def _interfaces(proc: Path) -> list[str]:
    lines = (proc / "net/dev").read_text().splitlines()[2:]
    return sorted(line.partition(":")[0].strip() for line in lines)


def _routes(proc: Path) -> int:
    """Routes of both families that do not end in the guest's own loopback."""
    four = (proc / "net/route").read_text().splitlines()[1:]
    six: list[str] = []
    with suppress(FileNotFoundError):
        six = (proc / "net/ipv6_route").read_text().splitlines()
    return sum(line.split()[0] != "lo" for line in four) + sum(line.split()[-1] != "lo" for line in six)


def _limits(proc: Path) -> dict[str, int]:
    """Hard limits; -1 is none."""
    found = {}
    for line in (proc / "limits").read_text().splitlines():
        for title, name in _RLIMITS.items():
            if line.startswith(title):
                hard = line[len(title) :].split()[1]
                found[name] = -1 if hard == "unlimited" else int(hard)
    return found


def _environment_names(proc: Path) -> list[str]:
    entries = (proc / "environ").read_bytes().split(b"\0")
    return sorted({entry.partition(b"=")[0].decode(errors="backslashreplace") for entry in entries if entry})
