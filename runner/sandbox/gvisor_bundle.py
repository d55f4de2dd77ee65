"""What runsc is told about one guest: the OCI bundle's config.json.

What is covered: command, environment, ids, no capabilities, resource limits, mounts with sizes, and the same
system-call filter that guests of other drivers have, applied by gVisor's own kernel.
What is not covered: control groups; ours is around everything that runsc starts. runsc's filters know one error
only, EPERM; ENOSYS is said by `SCMP_ACT_TRACE`, which without a tracer is just that, and ptrace is refused.
"""

import json
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from runner import linux
from runner.sandbox import rootfs
from runner.sandbox.idmap import clone_mapped
from runner.sandbox.walls import Stage
from runner.spec import Gpu, Limits, Profile

OCI_VERSION = "1.0.2"
HOSTNAME = "runner"
ALLOWLIST = Path(__file__).with_name("seccomp_allowlist.json")
_NAMESPACES = ("pid", "network", "ipc", "uts", "mount", "cgroup")
_ENOSYS, _EPERM, _ALLOW = "SCMP_ACT_TRACE", "SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW"


def make_bundle(stage: Stage, *, owner: int) -> None:
    """Make bundle and state folder in `stage.scratch`, as `owner`'s, and what the bundle mounts."""
    for folder in (stage.scratch, stage.scratch / "bundle", stage.scratch / "state"):
        folder.mkdir(mode=0o700, exist_ok=True)
        os.chown(folder, owner, owner)
    for number, target in enumerate(shown(stage)):
        _show(stage, target, stage.scratch / f"shown{number}")
    config = stage.scratch / "bundle" / "config.json"
    config.write_bytes(encode_config(stage))
    config.chmod(0o644)


def shown(stage: Stage) -> tuple[str, ...]:
    """What gets a mount of its own inside; the rest of the root is seen through the root's gofer."""
    # On an empty /tmp runsc mounts memory without a limit, unless something is mounted there.
    temporary = () if stage.spec.profile is Profile.STRICT else ("/tmp",)  # noqa: S108  the guest's own
    return (stage.spec.output_target, *temporary)


def encode_config(stage: Stage) -> bytes:
    """The config.json of `stage`."""
    config = {
        "ociVersion": OCI_VERSION,
        "process": _process(stage),
        "root": {"path": stage.root, "readonly": stage.spec.profile is Profile.STRICT},
        "hostname": HOSTNAME,
        "mounts": _mounts(stage),
        "linux": {
            "namespaces": [{"type": kind} for kind in _NAMESPACES],
            "seccomp": guest_filter(json.loads(ALLOWLIST.read_bytes())),
            "devices": _devices(stage.spec.gpus),
        },
    }
    return json.dumps(config, indent=1, sort_keys=True).encode()


def guest_filter(rules: Mapping[str, Any]) -> dict[str, Any]:
    """`rules` of the allow-list in OCI's words, as runsc understands them."""
    calls: list[dict[str, Any]] = []
    for rule in rules["conditional"]:
        names = [rule["syscall"]]
        for alternative in rule["allow_if_any"]:
            args = [_comparison(comparison) for comparison in alternative]
            calls.append({"names": names, "action": _ALLOW, "args": args})
        if rule["else"] == "EPERM":  # anything else is the default
            calls.append({"names": names, "action": _EPERM})
    calls.append({"names": list(rules["allow"]), "action": _ALLOW})
    calls.append({"names": list(rules["deny_eperm"]), "action": _EPERM})
    return {"defaultAction": _ENOSYS, "syscalls": calls}


def guest_limits(limits: Limits, *, bounded_by_group: bool) -> dict[str, int]:
    """Resource limits that gVisor's kernel enforces on the guest."""
    wanted = {
        "RLIMIT_CORE": 0,
        "RLIMIT_FSIZE": limits.file_bytes,
        "RLIMIT_NOFILE": limits.open_files,
        "RLIMIT_NPROC": limits.pids,
    }
    return wanted if bounded_by_group else {**wanted, "RLIMIT_AS": limits.memory_bytes}


def _process(stage: Stage) -> dict[str, Any]:
    limits = guest_limits(stage.spec.limits, bounded_by_group=stage.group.version != "none")
    return {
        "terminal": False,
        "user": {"uid": stage.guest_id, "gid": stage.guest_id},
        "args": list(stage.command),
        "env": [f"{name}={value}" for name, value in stage.environment.items()],
        "cwd": stage.spec.cwd,
        "capabilities": {},
        "noNewPrivileges": True,
        "rlimits": [{"type": kind, "hard": value, "soft": value} for kind, value in limits.items()],
    }


def _mounts(stage: Stage) -> list[dict[str, Any]]:
    limits = stage.spec.limits
    mounts = [
        _mount("/proc", "proc", "nosuid", "nodev", "noexec"),
        # Read-only it would refuse writing to /dev/null, unlike Linux.
        _mount("/dev", "tmpfs", "nosuid", "noexec"),
        _tmpfs("/dev/shm", limits.shm_bytes, "noexec"),  # noqa: S108  the guest's own
    ]
    if stage.spec.profile is Profile.STRICT:
        mounts.append(_tmpfs("/tmp", limits.tmp_bytes))  # noqa: S108  the guest's own
    for number, target in enumerate(shown(stage)):
        noexec = ("noexec",) if target == stage.spec.output_target else ()
        mount = _mount(target, "bind", "rw", "nosuid", "nodev", *noexec)
        mounts.append({**mount, "source": f"{stage.scratch}/shown{number}"})
    return mounts


def _devices(gpus: Iterable[Gpu]) -> list[dict[str, Any]]:
    found = []
    for node in sorted({node for gpu in gpus for node in gpu.nodes}):
        facts = os.stat(node)  # noqa: PTH116  the granted device, by its own name
        assert stat.S_ISCHR(facts.st_mode), node
        number = {"major": os.major(facts.st_rdev), "minor": os.minor(facts.st_rdev)}
        found.append({"path": node, "type": "c", **number, "fileMode": 0o666, "uid": 0, "gid": 0})
    return found


def _show(stage: Stage, target: str, point: Path) -> None:
    """Mount what is at `target` in the root at `point` too: no link of the root is followed on the way."""
    root = os.open(stage.root, linux.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    source = rootfs.open_point(root, target)
    point.mkdir()
    place = os.open(point, linux.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    tree = clone_mapped(source, user_namespace=None, writable=True)
    linux.attach_tree(tree, place)
    for descriptor in (root, source, place, tree):
        os.close(descriptor)


def _tmpfs(target: str, size_bytes: int, *options: str) -> dict[str, Any]:
    return _mount(target, "tmpfs", "rw", "nosuid", "nodev", f"size={size_bytes}", "mode=1777", *options)


def _mount(target: str, kind: str, *options: str) -> dict[str, Any]:
    return {"destination": target, "type": kind, "source": kind, "options": list(options)}


def _comparison(comparison: Mapping[str, Any]) -> dict[str, Any]:
    if comparison["op"] == "MASKED_EQ":
        mask, value = comparison["mask"], comparison["value"]
        return {"index": comparison["index"], "op": "SCMP_CMP_MASKED_EQ", "value": mask, "valueTwo": value}
    return {"index": comparison["index"], "op": "SCMP_CMP_EQ", "value": comparison["value"]}
