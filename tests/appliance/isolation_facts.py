"""What was measured of good walls: the facts of a real guest behind bubblewrap, shortened."""

import copy
from typing import Any

from appliance.isolation_report import Found, Purpose

MOMENT = "2026-11-21T02:00:00Z"
ASKED = {"memory_bytes": 268435456, "pids": 64, "cpu_quota_us": 200000}
_RO, _RW = ["nodev", "nosuid", "relatime", "ro"], ["nodev", "nosuid", "relatime", "rw"]
_ZERO = "0000000000000000"
_GOOD: dict[str, Any] = {
    "driver": "bubblewrap",
    "driver_version": "bubblewrap 0.8.0",
    "tier": 1,
    "profile": "strict",
    "image": None,
    "gpus": [],
    "inputs_mounted": "after the first measurement",
    "host": {
        "kernel": "6.18.44",
        "machine": "x86_64",
        "cpu": "a processor",
        "security_modules": "not shown by this host",
        "lockdown": "not shown by this host",
        "io_uring_disabled": "0",
    },
    "cgroup": "v1",
    "cgroup_joined": True,
    "cgroup_limits": {**ASKED, "cpu_period_us": 100000, "devices": "c 1:3 rw"},
    "own_user_id": True,
    "uids": [1900000001] * 4,
    "gids": [1900000001] * 4,
    "groups": [],
    "uid_map": [[1000, 1900000001, 1]],
    "gid_map": [[1000, 1900000001, 1]],
    "capabilities": dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), _ZERO),
    "no_new_privs": True,
    "seccomp": {
        "mode": 2,
        "filters": 1,
        "sha256": "9b" * 32,
        "sha256_is": "measured",
        "wanted_sha256": "9b" * 32,
    },
    "namespaces": {
        "compared_with": "the host's first process",
        "own": dict.fromkeys(("cgroup", "ipc", "mnt", "net", "pid", "user", "uts"), True),
    },
    "mounts": [
        {"target": "/", "filesystem": "tmpfs", "flags": _RO, "size_bytes": 67108864, "inodes": 16384},
        {"target": "/dev/null", "filesystem": "devtmpfs", "flags": ["nosuid", "rw"]},
        {"target": "/dev/shm", "filesystem": "tmpfs", "flags": _RW, "size_bytes": 1 << 24, "inodes": 99},
        {"target": "/out", "filesystem": "ext4", "flags": _RW, "size_bytes": 1 << 30, "inodes": 256},
        {"target": "/proc", "filesystem": "proc", "flags": _RW, "size_bytes": 0, "inodes": 0},
    ],
    "interfaces": ["lo"],
    "network_bytes": {"lo": {"received_bytes": 0, "sent_bytes": 0}},
    "routes": 0,
    "limits": {"core_bytes": 0, "open_files": 4096},
    "open_files": [0, 1, 2],
    "environment_names": ["HOME", "PATH"],
    "devices": ["c 1:3 /dev/null"],
    "oom_score_adj": 0,
    "gate": "/busybox-gate",
    "same_process": True,
    "inside": {
        "status": {"CapEff": _ZERO},
        "interfaces": {"lo": {"received_bytes": 0, "sent_bytes": 0}},
        "write_tries": {"/": "refused", "/usr": "refused"},
        "connect_tries": dict.fromkeys(("192.0.2.1", "169.254.169.254", "2001:db8::1"), "refused"),
    },
    "measured_at": MOMENT,
    "released_at": MOMENT,
    "after": {
        "ended_at": MOMENT,
        "out_of_memory": None,
        "remnants": [],
        "network_bytes": {"lo": {"received_bytes": 42, "sent_bytes": 42}},
        "usage": {"cpu_ms": 7},
        "survivors": 0,
    },
    "unenforced": [],
    "violations": [],
}


def good_facts() -> dict[str, Any]:
    """A copy that a test may change."""
    return copy.deepcopy(_GOOD)


def gvisor_facts(**changes: object) -> dict[str, Any]:
    """Good facts as of gVisor, where two processes stand for the guest; with `changes` of what opens its files."""
    facts = good_facts()
    filtered = {"mode": 2, "filters": 1, "sha256": "ab" * 32, "sha256_is": "measured"}
    sentry, gofer, guest = 1900000512, 1900000256, 1900000001
    nobody, own = [65534, sentry, 1], [0, gofer, 1]
    alike = ("own_user_id", "groups", "no_new_privs", "namespaces", "interfaces", "routes", "cgroup_joined")
    facts |= {
        "driver": "gvisor",
        "tier": 3,
        "seccomp": filtered,
        "uids": [sentry] * 4,
        "gids": [sentry] * 4,
        "uid_map": [nobody],
        "gid_map": [nobody],
        "mounts": [m for m in facts["mounts"] if not m["target"].startswith(("/dev", "/proc"))],
        "environment_names": [],
        "devices": [],
        "unenforced": ["gVisor's kernel alone keeps pids"],
    }
    facts["gofer"] = {
        **{name: facts[name] for name in alike},
        "uids": [gofer] * 4,
        "gids": [gofer] * 4,
        "uid_map": [own, [1000, guest, 1], nobody],
        "gid_map": [own, [1000, guest, 1], nobody],
        "capabilities": {**facts["capabilities"], "CapEff": "000000000004001f"},
        "seccomp": filtered,
        **changes,
    }
    return facts


def facts_with(path: str, value: object) -> dict[str, Any]:
    """Good facts with what stands at `path` ("seccomp.mode") replaced."""
    facts = good_facts()
    *above, name = path.split(".")
    place = facts
    for part in above:
        place = place[part]
    place[name] = value
    return facts


def facts_without(path: str) -> dict[str, Any]:
    """Good facts without what stands at `path`."""
    facts = good_facts()
    *above, name = path.split(".")
    place = facts
    for part in above:
        place = place[part]
    del place[name]
    return facts


def found_with(facts: dict[str, Any], **changes: Any) -> Found:  # Any: fields of Found
    """`facts` as they are found of a champion whose claim is signed."""
    wanted: dict[str, Any] = {
        "purpose": Purpose.TRAIN,
        "facts": facts,
        "is_signed": True,
        "source": "signed claim isolation-train",
        "asked": ASKED,
    }
    return Found(**{**wanted, **changes})
