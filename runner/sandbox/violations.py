"""In which ways measured walls are weaker than asked: pure rules over the facts of `measure` and the gate.

What is covered: every fact that an order or a driver's own list of expectations speaks of; anything mounted,
open or set beside it counts as a hole.
What is not covered: what nobody measured; `unenforced` tells of that.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runner.sandbox import cgroup
from runner.sandbox.gate import ADDRESSES
from runner.sandbox.measure import strange_groups
from runner.sandbox.walls import Facts, Stage, StagedMount
from runner.spec import Profile

# An ext4 volume rounds its inodes up to whole blocks per group, and has a little more room than asked.
INODE_SLACK = 8192
SIZE_SLACK_PERMILLE = 50
SIZE_SLACK_BYTES = 4 << 20
_PLAIN_DEVICES = frozenset({"1:3", "1:5", "1:7", "1:8", "1:9", "5:0", "5:1", "5:2"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a driver mounts beside what is staged, and which variables it adds."""

    kernel_mounts: frozenset[str]
    writable: frozenset[str]
    devices: frozenset[str]  # mounts of device nodes, which must not be nodev
    masked: frozenset[str] = frozenset()  # hidden parts of /proc and /sys
    variables: frozenset[str] = frozenset({"PWD", "SHLVL"})
    below: tuple[str, ...] = field(default=())  # anything below these, read-only


def violations_of(facts: Facts, stage: Stage, expected: Expected) -> tuple[str, ...]:
    """Every way in which the walls around a process are weaker than asked; empty when none is."""
    found = [
        *_identity(facts, stage),
        *_kernel(facts),
        *_reach(facts, stage, expected),
        *_mounts(facts["mounts"], stage, expected),
        *limit_violations(facts, stage),
        *_devices(facts, stage),
    ]
    if not facts["same_process"]:
        found.append("the measured process was replaced while it was measured")
    return tuple(found)


def inside_violations(inside: Facts, *, tried: Sequence[str]) -> tuple[str, ...]:
    """What the gate could do from inside and must not, and what it did not even try."""
    writes, connects = inside["write_tries"], inside["connect_tries"]
    found = [f"no write to {path} was tried from inside" for path in tried if path not in writes]
    found += [f"no connection to {a} was tried from inside" for a in ADDRESSES if a not in connects]
    found += [
        f"a write to {path} from inside succeeded; it must be read-only"
        for path, result in writes.items()
        if result != "refused"
    ]
    found += [
        f"a connection to {address} from inside succeeded; there must be no network"
        for address, result in connects.items()
        if result != "refused"
    ]
    if strangers := sorted(set(inside["interfaces"]) - {"lo"}):
        found.append(f"from inside the network interfaces {', '.join(strangers)} are seen; wanted lo alone")
    return tuple(found)


def limit_violations(facts: Facts, stage: Stage) -> list[str]:
    """Resource limits and the control group's, as read back, against those asked."""
    limits, found = stage.spec.limits, []
    wanted = {"core_bytes": 0, "file_bytes": limits.file_bytes, "open_files": limits.open_files}
    if facts["cgroup"] == "none":
        wanted |= {"processes": limits.pids, "address_space_bytes": limits.memory_bytes}
    for name, most in wanted.items():
        value = facts["limits"].get(name, -1)
        if not 0 <= value <= most:
            found.append(f"limit {name} is {value}; wanted at most {most}")
    return [*found, *group_violations(facts, stage)]


def group_violations(facts: Facts, stage: Stage) -> list[str]:
    """The control group's limits as read back, against those asked."""
    limits, found = stage.spec.limits, []
    if facts["cgroup"] != "none" and not facts["cgroup_joined"]:
        found.append("the guest is not in its control group")
    quota_us = limits.cpu_millis * cgroup.CPU_PERIOD_US // 1000
    wanted = {
        "v1": {"memory_bytes": limits.memory_bytes, "pids": limits.pids, "cpu_quota_us": quota_us},
        "v2": {"memory_bytes": limits.memory_bytes, "pids": limits.pids},
        "none": {},
    }[facts["cgroup"]]
    for name, most in wanted.items():
        value = facts["cgroup_limits"].get(name, -1)
        if not isinstance(value, int) or not 0 < value <= most:
            found.append(f"control group limit {name} is {value}; wanted at most {most}")
    if facts["cgroup"] == "v2":
        told = facts["cgroup_limits"].get("cpu_quota_and_period_us", "not told")
        if told != f"{quota_us} {cgroup.CPU_PERIOD_US}":
            wanted_cpu = f"{quota_us} {cgroup.CPU_PERIOD_US}"
            found.append(f"control group limit cpu_quota_and_period_us is {told}; wanted {wanted_cpu}")
    return [*found, *_swap(facts, stage), *_device_rules(facts, stage)]


def _swap(facts: Facts, stage: Stage) -> list[str]:
    """Where the kernel counts swap: none beside the memory. Where it does not, `unenforced` tells."""
    told, memory_bytes = facts["cgroup_limits"], stage.spec.limits.memory_bytes
    both = told.get("memory_and_swap_bytes", memory_bytes)
    found = []
    if facts["cgroup"] == "v1" and (not isinstance(both, int) or not 0 < both <= memory_bytes):
        found.append(f"control group limit memory_and_swap_bytes is {both}; wanted at most {memory_bytes}")
    if facts["cgroup"] == "v2" and told.get("swap_bytes", 0) != 0:
        found.append(f"control group limit swap_bytes is {told['swap_bytes']}; wanted 0")
    return found


def _device_rules(facts: Facts, stage: Stage) -> list[str]:
    """What version 1 lets members open, against what was granted; making nodes is granted to nobody."""
    granted = {f"c {number} rw" for number in (*cgroup.ALLOWED_DEVICES, *stage.group.devices)}
    rules = str(facts["cgroup_limits"].get("devices", "")).splitlines()
    return [
        f"the control group lets it open the devices {rule}; they were not granted"
        for rule in rules
        if rule not in granted
    ]


def _identity(facts: Facts, stage: Stage) -> list[str]:
    found = []
    if 0 in facts["uids"] or 0 in facts["gids"]:
        found.append(f"host ids are uid {facts['uids']}, gid {facts['gids']}; none may be 0")
    strangers = strange_groups(facts)
    if strangers and (facts["own_user_id"] or 0 in strangers):
        found.append(f"supplementary groups {strangers} are left")
    for kind in ("uid_map", "gid_map"):
        rows = facts[kind]
        if len(rows) != 1 or rows[0][0] != stage.guest_id or rows[0][1] == 0 or rows[0][2] != 1:
            found.append(f"{kind} is {rows}; wanted one id, {stage.guest_id}, that is not root outside")
    for name, value in facts["capabilities"].items():
        if int(value, 16):
            found.append(f"{name} is {value}; wanted none")
    return found


def _kernel(facts: Facts) -> list[str]:
    found = []
    if not facts["no_new_privs"]:
        found.append("no_new_privs is not set")
    seccomp = facts["seccomp"]
    if seccomp["mode"] != 2 or seccomp["filters"] == 0:
        found.append(
            f"seccomp mode is {seccomp['mode']} with {seccomp['filters']} filters; wanted 2 with a filter"
        )
    if seccomp["sha256"] != seccomp["wanted_sha256"]:
        found.append(f"the loaded filter is {seccomp['sha256']}; wanted {seccomp['wanted_sha256']}")
    for name, differs in facts["namespaces"]["own"].items():
        if not differs:
            found.append(f"the {name} namespace is the host's")
    return found


def _reach(facts: Facts, stage: Stage, expected: Expected) -> list[str]:
    found = []
    if facts["interfaces"] not in ([], ["lo"]):
        found.append(f"network interfaces are {facts['interfaces']}; wanted lo alone")
    if facts["routes"]:
        found.append(f"{facts['routes']} network routes lead out; wanted none")
    if facts["open_files"] != [0, 1, 2]:
        found.append(f"open files are {facts['open_files']}; wanted 0, 1 and 2")
    known = {*stage.environment, *expected.variables}
    if extra := sorted(set(facts["environment_names"]) - known):
        found.append(f"the environment also has {', '.join(extra)}")
    if facts["oom_score_adj"] < 0:
        found.append(f"oom_score_adj is {facts['oom_score_adj']}; wanted at least 0")
    return found


def _mounts(mounts: list[Mapping[str, Any]], stage: Stage, expected: Expected) -> list[str]:
    found = []
    gpu_nodes = {node for gpu in stage.spec.gpus for node in gpu.nodes}
    sized = {m.target: m for m in _sized(stage)}
    writable = {m.target for m in stage.mounts if m.writable} | set(sized) | expected.writable
    devices = expected.devices | gpu_nodes
    known = {
        *(m.target for m in stage.mounts),
        *sized,
        *expected.kernel_mounts,
        *expected.masked,
        *devices,
        "/",
    }
    below = (*expected.below, *(m.target for m in stage.mounts if not m.writable))
    if stage.spec.gpus:
        below = (*below, "/sys")
    for mount in mounts:
        target, flags = mount["target"], mount["flags"]
        if target not in known and not any(target == top or target.startswith(top + "/") for top in below):
            found.append(f"{target} is mounted and was not asked for")
        if "ro" not in flags and target not in writable and target not in devices:
            found.append(f"{target} is writable")
        if "nosuid" not in flags and target not in devices:
            found.append(f"{target} honours setuid files")
        if "nodev" not in flags and target not in devices:
            found.append(f"{target} honours device files")
    by_target = {m["target"]: m for m in mounts}
    for target, wanted in sized.items():
        found += _size(by_target.get(target), wanted)
    return found


def _sized(stage: Stage) -> list[StagedMount]:
    """Every mount that must have a quota: staged ones, the walls' own, and a champion's root."""
    limits = stage.spec.limits
    found = [m for m in stage.mounts if m.size_bytes is not None]
    found.append(StagedMount(target="/dev/shm", writable=True, size_bytes=limits.shm_bytes))  # noqa: S108
    if stage.spec.profile is Profile.STRICT:
        found.append(StagedMount(target="/tmp", writable=True, size_bytes=limits.tmp_bytes))  # noqa: S108
    else:
        found.append(
            StagedMount(target="/", writable=True, size_bytes=limits.root_bytes, inodes=limits.root_inodes)
        )
    return found


def _size(mount: Mapping[str, Any] | None, wanted: StagedMount) -> list[str]:
    if mount is None:
        return [f"{wanted.target} is not a mount of its own"]
    assert wanted.size_bytes is not None
    found = []
    most = wanted.size_bytes + wanted.size_bytes * SIZE_SLACK_PERMILLE // 1000 + SIZE_SLACK_BYTES
    if not 0 < mount.get("size_bytes", -1) <= most:
        found.append(f"{wanted.target} holds {mount.get('size_bytes', -1)} bytes; wanted at most {most}")
    if wanted.inodes is not None and not 0 < mount.get("inodes", -1) <= wanted.inodes + INODE_SLACK:
        most_inodes = wanted.inodes + INODE_SLACK
        found.append(f"{wanted.target} holds {mount.get('inodes', -1)} files; wanted at most {most_inodes}")
    return found


def _devices(facts: Facts, stage: Stage) -> list[str]:
    """Nodes that are neither the plain ones, nor pseudo-terminals, nor granted GPUs."""
    granted = {node for gpu in stage.spec.gpus for node in gpu.nodes}
    found = []
    for node in facts["devices"]:
        kind, number, path = node.split(" ", 2)
        if kind == "c" and (number in _PLAIN_DEVICES or number.startswith("136:") or path in granted):
            continue
        found.append(f"the device {node} is there; it was not granted")
    return found
