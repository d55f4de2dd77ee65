"""Facts that walls which call themselves whole cannot have: each driver's exact shape, held against a claim. Pure.

What is covered: ids, privileges, filters, namespaces, mounts, devices, open files, tries, control group, remarks.
What is not covered: what only the order tells, such as the amounts of the limits and the names of variables.
"""

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

# Any, in the whole module: what was measured is plain JSON, its shape checked before.
Measured = Mapping[str, Any]

# Whom a guest tries to reach before its first instruction, and must not: the runner's gate has the same.
ADDRESSES: Final = ("192.0.2.1", "169.254.169.254", "2001:db8::1")
OUTPUTS: Final = frozenset({"/app/checkpoints", "/out"})  # of a champion, of an evaluation
_NODES: Final = frozenset(
    {"/dev/pts", "/dev/ptmx", *(f"/dev/{n}" for n in ("full", "null", "random", "tty", "urandom", "zero"))}
)
_GPU_NODES: Final = "/dev/nvidia"
_NUMBERS: Final = frozenset({"1:3", "1:5", "1:7", "1:8", "1:9", "5:0", "5:1", "5:2"})
_TERMINALS: Final = "136:"
# What no file of the host lies in, with the file system that it must be of.
_OWN_MEMORY: Final = MappingProxyType({"/proc": "proc", "/dev/shm": "tmpfs"})  # noqa: S108  the guest's own
_OF_KERNEL: Final = ("/proc/", "/sys/", "/dev/")
# CAP_CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID, SYS_CHROOT: over the guest's own three ids alone.
_GOFER_CAPABILITIES: Final = 0x4001F
_NOBODY_INSIDE: Final = 65_534
_GUEST_ID: Final = MappingProxyType({"champion": 0, "strict": 1000})
_FILTERED: Final = 2
_PROCESSOR: Final = MappingProxyType({"v1": "cpu_quota_us", "v2": "cpu_quota_and_period_us"})


def weaknesses(measured: Measured) -> Iterator[str]:
    """Every way in which `measured` says that a wall was not whole, a sentence each."""
    inside = _GUEST_ID[measured["profile"]]
    if measured["driver"] == "gvisor":
        gofer = measured["gofer"]
        yield from _process(measured, "sentry", capabilities=0)
        yield from _process(gofer, "gofer", capabilities=_GOFER_CAPABILITIES)
        yield from _gvisor_maps(measured, gofer, guest_id=inside)
        if measured["cgroup"] != "none" and not gofer["cgroup_joined"]:
            yield "the gofer was not in the control group"
    else:
        yield from _process(measured, "guest", capabilities=0)
        for ids, kind in (("uids", "uid_map"), ("gids", "gid_map")):
            yield from _map(measured, "guest", kind, wanted=[[inside, measured[ids][0], 1]])
    yield from weak_mounts(measured)
    yield from weak_devices(measured["devices"], has_gpus=bool(measured["gpus"]))
    if measured["open_files"] != [0, 1, 2]:
        yield f"open files were {measured['open_files']}; wanted 0, 1 and 2"
    yield from _inside(measured)
    yield from _group(measured)
    for remark in _wanted_remarks(measured):
        if not any(told.startswith(remark) for told in measured["unenforced"]):
            yield f"what was left unenforced does not tell of {remark!r}, which the facts do"


def weak_mounts(measured: Measured) -> Iterator[str]:
    """Mounts that can be written and are not the guest's own, or honour set-user-id files or device files."""
    driver, mounts = measured["driver"], measured["mounts"]
    root: Measured = next((mount for mount in mounts if mount["target"] == "/"), {})
    if not root:
        yield "/ is not mounted"
    for mount in mounts:
        target, flags = mount["target"], mount["flags"]
        is_gpu = bool(measured["gpus"]) and target.startswith(_GPU_NODES)
        if driver != "gvisor" and (target in _NODES or is_gpu):
            continue  # must be written, must be a device; what it may be, `weak_devices` says
        if ("ro" not in flags or "rw" in flags) and not _is_own(mount, measured, root=root):
            yield f"{target} was writable"
        if driver == "oci" and target.startswith(("/proc/", "/sys/")):
            continue  # crun hides these without flags
        yield from (f"{target} was not {flag}" for flag in ("nosuid", "nodev") if flag not in flags)


def weak_devices(devices: Iterable[str], *, has_gpus: bool) -> Iterator[str]:
    """Device nodes that are neither plain ones, nor terminals, nor of a GPU where one was granted."""
    for node in devices:
        kind, _, rest = node.partition(" ")
        number, _, path = rest.partition(" ")
        is_plain = number in _NUMBERS or number.startswith(_TERMINALS)
        if kind != "c" or not (is_plain or (has_gpus and path.startswith(_GPU_NODES))):
            yield f"there was the device {node}, which was not granted"


def _is_own(mount: Measured, measured: Measured, *, root: Measured) -> bool:
    target, kind = mount["target"], mount.get("filesystem")
    if target in OUTPUTS:
        return True
    if measured["driver"] != "gvisor" and target in _OWN_MEMORY:
        return bool(kind == _OWN_MEMORY[target])
    if measured["profile"] == "strict":
        return bool(target == "/tmp" and kind == "tmpfs" and measured["driver"] != "gvisor")  # noqa: S108
    # A champion's root and copies of what it may change lie on one volume, which has its quota.
    has_quota = all(mount.get(name) == root.get(name) for name in ("size_bytes", "inodes"))
    return bool(kind == "overlay" and has_quota and not target.startswith(_OF_KERNEL))


def _process(facts: Measured, who: str, *, capabilities: int) -> Iterator[str]:
    for kind in ("uids", "gids"):
        if len(set(facts[kind])) != 1 or 0 in facts[kind]:
            yield f"the {who}'s {kind} on the host were {facts[kind]}; wanted one that is not 0"
    strangers = _strange_groups(facts)
    if 0 in strangers or (strangers and facts["own_user_id"]):
        yield f"the {who} was left in the groups {strangers}"
    for name, value in sorted(facts["capabilities"].items()):
        if int(value, 16) & ~capabilities:
            yield f"the {who}'s {name} was {value}; wanted at most {capabilities:x}"
    if not facts["no_new_privs"]:
        yield f"no_new_privs was not set on the {who}"
    yield from _filter(facts["seccomp"], who)
    for name, is_own in sorted(facts["namespaces"]["own"].items()):
        if is_own is not True:
            yield f"the {who}'s {name} namespace was the host's"
    if set(facts["interfaces"]) - {"lo"} or facts["routes"]:
        yield f"the {who} had the network interfaces {facts['interfaces']}; wanted lo alone"


def _filter(seccomp: Measured, who: str) -> Iterator[str]:
    mode, filters = seccomp["mode"], seccomp["filters"]
    if mode != _FILTERED or filters == 0:
        yield f"the {who}'s seccomp mode was {mode} with {filters} filters; wanted {_FILTERED} with a filter"
    loaded = seccomp["sha256"]
    # gVisor's filters are its own: there is none that was wanted.
    if loaded != seccomp.get("wanted_sha256", loaded):
        yield f"the {who}'s filter was {loaded}; wanted {seccomp['wanted_sha256']}"
    if loaded is None and seccomp["sha256_is"] != "not read":
        yield f"the {who}'s filter is called {seccomp['sha256_is']}, but is not told"


def _map(facts: Measured, who: str, kind: str, *, wanted: list[list[int]]) -> Iterator[str]:
    if sorted(facts[kind]) != sorted(wanted) or any(row[1] == 0 for row in wanted):
        yield f"the {who}'s {kind} was {facts[kind]}; wanted {wanted}, and 0 nowhere outside"


def _gvisor_maps(sentry: Measured, gofer: Measured, *, guest_id: int) -> Iterator[str]:
    """The sentry is nobody alone; the gofer is root of a few ids: its own, the sentry's and the guest's."""
    for ids, kind in (("uids", "uid_map"), ("gids", "gid_map")):
        nobody, own = [_NOBODY_INSIDE, sentry[ids][0], 1], [0, gofer[ids][0], 1]
        yield from _map(sentry, "sentry", kind, wanted=[nobody])
        guests = [row for row in gofer[kind] if guest_id and row[:1] == [guest_id]][:1]
        wanted_guest = [[guest_id, guests[0][1] if guests[0][1:] else 0, 1]] if guests else []
        if guest_id and not guests:
            yield f"the gofer's {kind} does not have the guest's {guest_id}"
        yield from _map(gofer, "gofer", kind, wanted=[own, nobody, *wanted_guest])
        if sentry[ids][0] == gofer[ids][0]:
            yield f"sentry and gofer had the same {ids}"


def _inside(measured: Measured) -> Iterator[str]:
    inside = measured["inside"]
    for address in ADDRESSES:
        if address not in inside["connect_tries"]:
            yield f"no connection to {address} was tried from inside"
    if not inside["write_tries"]:
        yield "no write was tried from inside"
    elif measured["profile"] == "strict" and "/" not in inside["write_tries"]:
        yield "no write to / was tried from inside"
    wanted = {"NoNewPrivs": "1", "Seccomp": "2"}
    for name, value in sorted(inside["status"].items()):
        if value != wanted.get(name, "0" * 16 if name.startswith("Cap") else value):
            yield f"from inside, {name} was {value}"


def _group(measured: Measured) -> Iterator[str]:
    version, limits = measured["cgroup"], measured["cgroup_limits"]
    if version == "none":
        return
    if not measured["cgroup_joined"]:
        yield "the guest was not in its control group"
    for name in ("memory_bytes", "pids", _PROCESSOR[version]):
        if not _is_bound(limits.get(name)):
            yield f"the control group's {name} was {limits.get(name, 'not told')}; wanted a limit"


def _is_bound(value: object) -> bool:
    if isinstance(value, str):  # "quota period"
        return value.partition(" ")[0].isdecimal()
    return isinstance(value, int) and value > 0


def _wanted_remarks(measured: Measured) -> Iterator[str]:
    """Beginnings of the remarks that the facts imply."""
    is_gvisor = measured["driver"] == "gvisor"
    if measured["cgroup"] == "none":
        yield from ("cpu_millis", "memory_bytes", "pids")
    if not measured["own_user_id"]:
        yield "user id"
        if _strange_groups(measured):
            yield "groups"
    if measured["seccomp"]["sha256_is"] != "measured":
        yield "seccomp filter: the digest of the sentry's" if is_gvisor else "seccomp filter"
    if is_gvisor:
        yield "gVisor's kernel alone"
        if measured["gofer"]["seccomp"]["sha256_is"] != "measured":
            yield "seccomp filter: the digest of the gofer's"
        if measured["profile"] == "champion":
            yield "/dev takes files"


def _strange_groups(facts: Measured) -> list[int]:
    return sorted(set(facts["groups"]) - set(facts["gids"]))
