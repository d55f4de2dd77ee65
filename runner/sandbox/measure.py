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
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from runner import linux
from runner.sandbox import cgroup
from runner.sandbox.walls import Stage

NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
DEVICES = ("full", "null", "random", "tty", "urandom", "zero")
MASKED = ("config.gz", "kallsyms", "key-users", "keys", "kpagecount", "sched_debug", "timer_list")

NO_SWAP = "none"
MAX_NET_DEV_BYTES = 4096  # what one write to a pipe takes whole
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


def process_facts(pid: int, stage: Stage) -> dict[str, Any]:
    """The isolation facts of process `pid`, as strings, integers, booleans, lists and objects."""
    proc = Path(f"/proc/{pid}")
    started = linux.start_time(pid)
    status = _status(proc)
    return {
        "own_user_id": stage.identity.is_own,
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
            **_filter(pid, stage.program),
        },
        "namespaces": namespaces(proc),
        "mounts": _mounts(proc),
        "interfaces": _interfaces(proc),
        "network_bytes": network_bytes(pid),
        "routes": _routes(proc),
        "limits": _limits(proc),
        "open_files": sorted(int(path.name) for path in (proc / "fd").iterdir()),
        "environment_names": _environment_names(proc),
        "devices": _device_nodes(proc),
        "oom_score_adj": int((proc / "oom_score_adj").read_text()),
        "gate": str((proc / "exe").readlink()),
        # The same process from first to last read; a reused number would differ.
        "same_process": started is not None and linux.start_time(pid) == started,
    }


def group_facts(pid: int, group: cgroup.Group) -> dict[str, Any]:
    """The control group as the kernel states it, and whether process `pid` is in it."""
    return {
        "cgroup": group.version,
        "cgroup_joined": pid in group.processes(),
        "cgroup_limits": group.read_back(),
    }


def host_facts() -> dict[str, Any]:
    """The kernel that host and guest share, and the processor under it."""
    facts: dict[str, Any] = {"kernel": platform.release(), "machine": platform.machine(), "cpu": _cpu_model()}
    for name, path in _HOST_FACTS.items():
        try:
            facts[name] = Path(path).read_text().strip()
        except OSError:
            facts[name] = "not shown by this host"
    facts["swap"] = _swap()
    return facts


def network_bytes(pid: int) -> dict[str, dict[str, int]]:
    """Bytes received and sent by interface in the network namespace of process `pid`; empty if it is gone."""
    try:
        return _network_bytes(Path(f"/proc/{pid}/net/dev").read_text())
    except OSError:
        return {}


def bytes_of_namespace(namespace: int) -> dict[str, dict[str, int]]:
    """`network_bytes` of the open network namespace, which may have no process any more; closes it.

    Empty if this host does not let us look.
    """
    said, tell = os.pipe2(os.O_CLOEXEC)
    child = linux.fork_bound()
    if child == 0:
        try:
            linux.enter_namespace(namespace)
            os.write(tell, Path("/proc/self/net/dev").read_bytes()[:MAX_NET_DEV_BYTES])
        except OSError:
            pass
        finally:
            os._exit(0)
    os.close(tell)
    os.close(namespace)
    text = os.read(said, MAX_NET_DEV_BYTES).decode()
    os.close(said)
    os.waitpid(child, 0)
    return _network_bytes(text)


def unenforced(measured: Mapping[str, Any]) -> tuple[str, ...]:
    """What this host, or the runner's lack of rights, leaves unenforced or unseen; no violation, but told."""
    missing: tuple[str, ...] = ()
    if measured["cgroup"] == "none":
        missing += ("cpu_millis", "memory_bytes: per process only", "pids: per user id only")
    missing += group_remarks(measured)
    if not measured["own_user_id"]:
        missing += ("user id: the guest's is the runner's own",)
        if strangers := strange_groups(measured):
            missing += (f"groups: an ordinary user cannot drop {strangers}",)
    if measured["seccomp"]["sha256_is"] != "measured":
        missing += ("seccomp filter: its digest was not measured",)
    return missing


def group_remarks(measured: Mapping[str, Any]) -> tuple[str, ...]:
    """What the guest's control group does not bound here; a host without swap has none to bound."""
    told = measured["cgroup_limits"]
    remarks: tuple[str, ...] = ()
    if "devices" not in told:
        remarks += ("devices: no control group bounds which are opened, only what stands in /dev",)
    has_swap = measured.get("host", {}).get("swap") != NO_SWAP
    if has_swap and not {"memory_and_swap_bytes", "swap_bytes"} & set(told):
        remarks += ("swap: this host has or may have some, and no control group bounds it",)
    return remarks


def strange_groups(measured: Mapping[str, Any]) -> list[int]:
    """Supplementary groups beside the guest's own."""
    return sorted(set(measured["groups"]) - set(measured["gids"]))


def _status(proc: Path) -> dict[str, str]:
    pairs = (line.partition(":") for line in (proc / "status").read_text().splitlines())
    return {name: value.strip() for name, _, value in pairs}


def _integers(text: str) -> list[int]:
    return [int(word) for word in text.split()]


def _network_bytes(text: str) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for line in text.splitlines()[2:]:
        name, _, numbers = line.partition(":")
        words = numbers.split()
        with suppress(ValueError, IndexError):
            found[name.strip()] = {"received_bytes": int(words[0]), "sent_bytes": int(words[8])}
    return found


def _swap() -> str:
    """Whether memory of a guest can be written to a disk by the kernel."""
    try:
        areas = Path("/proc/swaps").read_text().splitlines()[1:]
    except OSError:
        return "not shown by this host"
    return f"areas: {len(areas)}" if areas else NO_SWAP


def _cpu_model() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return "not shown by this host"


def _device_nodes(proc: Path) -> list[str]:
    """Device nodes below the guest's /dev as `kind major:minor path`."""
    found = []
    root = str(proc / "root" / "dev")
    for folder, _, names in os.walk(root):
        for name in names:
            path = f"{folder}/{name}"
            with suppress(OSError):
                facts = os.lstat(path)
                kind = "c" if stat.S_ISCHR(facts.st_mode) else "b" if stat.S_ISBLK(facts.st_mode) else ""
                if kind:
                    number = f"{os.major(facts.st_rdev)}:{os.minor(facts.st_rdev)}"
                    found.append(f"{kind} {number} {path[len(root) - 4 :]}")
    return sorted(found)


def _filter(pid: int, program: bytes) -> dict[str, Any]:
    """The digest of the loaded filter: measured if the kernel lets us read it, else what we handed over."""
    wanted = hashlib.sha256(program).hexdigest()
    try:
        loaded = hashlib.sha256(linux.seccomp_filter(pid)).hexdigest()
    except OSError:
        return {"sha256": wanted, "sha256_is": "claimed", "wanted_sha256": wanted}
    return {"sha256": loaded, "sha256_is": "measured", "wanted_sha256": wanted}


def namespaces(proc: Path) -> dict[str, Any]:
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
