"""What runsc is told: ids, limits and mounts as ordered, and the filter that every driver has."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runner.sandbox.cgroup import Group
from runner.sandbox.gvisor_bundle import ALLOWLIST, encode_config, guest_filter
from runner.sandbox.gvisor_keeper import id_map, ids
from runner.sandbox.identity import POOL_SIZE, Identity
from runner.sandbox.walls import Stage
from runner.spec import Gpu, Image, Limits, Profile, SandboxSpec

RULES: Mapping[str, Any] = json.loads(ALLOWLIST.read_bytes())
LIMITS = Limits(wall_clock_s=1.0, pids=77, open_files=88, file_bytes=99, tmp_bytes=111, shm_bytes=222)
SPEC = SandboxSpec(
    job_id="job",
    argv=("/bin/true",),
    env={"A": "b=c"},
    cwd="/workspace",
    mounts=(),
    output_target="/app/checkpoints",
    limits=LIMITS,
    image=Image(tree="/tree", manifest_sha256="00"),
)
STAGE = Stage(
    spec=SPEC,
    name="assay-1-2-job",
    root="/mnt/root",
    scratch=Path("/mnt/scratch"),
    identity=Identity(user_id=1_900_000_007, is_own=True),
    group=Group(version="v1"),
    program=b"",
    command=("/busybox-gate", "sh"),
    environment={"A": "b=c", "PATH": "/bin"},
)
CHAMPION = replace(STAGE, spec=replace(SPEC, profile=Profile.CHAMPION))


def config(stage: Stage) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(encode_config(stage))
    return found


def mounts(stage: Stage) -> dict[str, dict[str, Any]]:
    return {mount["destination"]: mount for mount in config(stage)["mounts"]}


def test_the_process_is_the_gate_with_nothing_but_what_was_ordered() -> None:
    process = config(STAGE)["process"]
    assert process["args"] == ["/busybox-gate", "sh"]
    assert process["env"] == ["A=b=c", "PATH=/bin"]
    assert (process["cwd"], process["user"]) == ("/workspace", {"uid": 1000, "gid": 1000})
    assert (process["capabilities"], process["noNewPrivileges"], process["terminal"]) == ({}, True, False)
    limits = {limit["type"]: (limit["soft"], limit["hard"]) for limit in process["rlimits"]}
    assert limits == {
        "RLIMIT_CORE": (0, 0),
        "RLIMIT_FSIZE": (99, 99),
        "RLIMIT_NOFILE": (88, 88),
        "RLIMIT_NPROC": (77, 77),
    }


def test_without_a_group_memory_is_bounded_by_process() -> None:
    limits = config(replace(STAGE, group=Group(version="none")))["process"]["rlimits"]
    assert {"type": "RLIMIT_AS", "hard": LIMITS.memory_bytes, "soft": LIMITS.memory_bytes} in limits


def test_a_strict_guest_has_a_read_only_root_and_sized_memory_file_systems() -> None:
    assert config(STAGE)["root"] == {"path": "/mnt/root", "readonly": True}
    found = mounts(STAGE)
    assert set(found) == {"/proc", "/dev", "/dev/shm", "/tmp", "/app/checkpoints"}
    assert "size=111" in found["/tmp"]["options"]
    assert {"size=222", "noexec"} <= set(found["/dev/shm"]["options"])
    assert found["/app/checkpoints"]["source"] == "/mnt/scratch/shown0"
    assert all({"nosuid"} <= set(mount["options"]) for mount in found.values())


def test_a_champion_writes_to_its_root_and_has_its_tmp_there() -> None:
    assert config(CHAMPION)["root"]["readonly"] is False
    assert config(CHAMPION)["process"]["user"] == {"uid": 0, "gid": 0}
    tmp = mounts(CHAMPION)["/tmp"]
    assert (tmp["type"], tmp["source"]) == ("bind", "/mnt/scratch/shown1")
    assert "noexec" not in tmp["options"]


def test_granted_devices_are_named_and_no_others() -> None:
    gpu = Gpu(uuid="GPU-1", nodes=("/dev/null",))
    devices = config(replace(STAGE, spec=replace(SPEC, gpus=(gpu,))))["linux"]["devices"]
    assert [(d["path"], d["type"], d["major"], d["minor"]) for d in devices] == [("/dev/null", "c", 1, 3)]
    assert config(STAGE)["linux"]["devices"] == []


def test_no_id_of_the_guest_is_one_of_the_hosts() -> None:
    strict, champion = ids(STAGE), ids(CHAMPION)
    assert id_map(STAGE) == (
        (0, strict.gofer, 1), (1000, 1_900_000_007, 1), (65534, strict.sentry, 1),
    )  # fmt: skip
    assert id_map(CHAMPION) == ((0, 1_900_000_007, 1), (65534, champion.sentry, 1))
    assert len({strict.guest, strict.gofer, strict.sentry}) == 3
    assert min(strict.gofer, strict.sentry) - 1_900_000_007 >= POOL_SIZE  # no other guest's


def verdict(name: str, arguments: tuple[int, ...] = ()) -> str:
    """What a filter of runsc's says to a call: the first rule that fits, else the default."""
    words = guest_filter(RULES)
    for rule in words["syscalls"]:
        if name in rule["names"] and all(_fits(one, arguments) for one in rule.get("args", ())):
            return str(rule["action"])
    return str(words["defaultAction"])


def _fits(comparison: Mapping[str, Any], arguments: tuple[int, ...]) -> bool:
    value: int = arguments[comparison["index"]]
    if comparison["op"] == "SCMP_CMP_MASKED_EQ":
        return value & int(comparison["value"]) == int(comparison["valueTwo"])
    assert comparison["op"] == "SCMP_CMP_EQ"
    return value == int(comparison["value"])


ENOSYS, EPERM, ALLOW = "SCMP_ACT_TRACE", "SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW"


def test_every_call_of_the_list_has_the_verdict_of_the_list() -> None:
    assert {verdict(name) for name in RULES["allow"]} == {ALLOW}
    assert {verdict(name) for name in RULES["deny_eperm"]} == {EPERM}
    assert verdict("a_call_of_tomorrow") == ENOSYS


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("clone", (0x11,), ALLOW),  # a fork
        ("clone", (0x3D0F00,), ALLOW),  # a thread
        ("clone", (0x10000000,), EPERM),  # a user namespace
        ("clone", (0x20000 | 0x11,), EPERM),  # a mount namespace
        ("clone3", (0,), ENOSYS),
        ("personality", (0,), ALLOW),
        ("personality", (0xFFFFFFFF,), ALLOW),
        ("personality", (0x0040000,), EPERM),
        ("socket", (1, 1, 0), ALLOW),
        ("socket", (2, 0x80001, 6), ALLOW),  # SOCK_STREAM | SOCK_CLOEXEC
        ("socket", (16, 3, 0), ALLOW),  # NETLINK_ROUTE
        ("socket", (16, 3, 15), ENOSYS),
        ("socket", (40, 1, 0), ENOSYS),  # AF_VSOCK
        ("socket", (2, 3, 1), ENOSYS),  # raw
    ],
)
def test_calls_are_told_apart_by_their_arguments(
    name: str, arguments: tuple[int, ...], expected: str
) -> None:
    assert verdict(name, arguments) == expected


def test_nothing_that_could_undo_the_trace_is_allowed() -> None:
    """ENOSYS is said by "ask the tracer": with a tracer of the guest's own it would be a yes."""
    assert {verdict(name) for name in ("ptrace", "seccomp", "process_vm_writev")} == {EPERM}
