"""Each way in which gVisor's walls can be weaker than asked is a violation of its own."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runner.sandbox.cgroup import Group
from runner.sandbox.gvisor_facts import OWN_TASKS, allow_tasks, tasks_of, unenforced
from runner.sandbox.gvisor_flags import as_arguments, flags_for, read_flags
from runner.sandbox.gvisor_keeper import id_map, ids
from runner.sandbox.gvisor_probes import DISCLOSED, DISCLOSED_TO_CHAMPIONS, disclosed
from runner.sandbox.gvisor_violations import violations_of
from runner.sandbox.identity import Identity
from runner.sandbox.measure import NAMESPACES
from runner.sandbox.walls import Stage, StagedMount
from runner.selfcheck import EXPECTATIONS
from runner.spec import Image, Limits, Profile, SandboxSpec

LIMITS = Limits(wall_clock_s=1.0)
SPEC = SandboxSpec(
    job_id="job",
    argv=("true",),
    env={},
    cwd="/tmp",
    mounts=(),
    output_target="/out",
    limits=LIMITS,
    image=Image(tree="/tree", manifest_sha256="00"),
)
OUTPUT = StagedMount(
    target="/out", writable=True, size_bytes=LIMITS.output_bytes, inodes=LIMITS.output_inodes
)
STAGE = Stage(
    spec=SPEC,
    name="assay-1-2-job",
    root="/mnt/root",
    scratch=Path("/mnt/scratch"),
    identity=Identity(user_id=4242, is_own=True),
    group=Group(version="v1"),
    program=b"",
    command=("/busybox-gate",),
    environment={},
    mounts=(StagedMount(target="/usr", writable=False), OUTPUT),
)
CHAMPION = replace(STAGE, spec=replace(SPEC, profile=Profile.CHAMPION))
READ_ONLY = ["nodev", "nosuid", "relatime", "ro"]
WRITABLE = ["nodev", "nosuid", "relatime", "rw"]
FLAGS = flags_for("systrap", has_gpus=False)


def process(user_id: int, maps: list[list[int]], capabilities: str) -> dict[str, Any]:
    sets = dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), "0000000000000000")
    return {
        "own_user_id": True,
        "uids": [user_id] * 4,
        "gids": [user_id] * 4,
        "groups": [],
        "uid_map": copy.deepcopy(maps),
        "gid_map": copy.deepcopy(maps),
        "capabilities": {**sets, "CapEff": capabilities},
        "no_new_privs": True,
        "seccomp": {"mode": 2, "filters": 1, "sha256": "ab", "sha256_is": "measured"},
        "namespaces": {"compared_with": "the host's first process", "own": dict.fromkeys(NAMESPACES, True)},
        "interfaces": ["lo"],
        "routes": 0,
        "limits": {"core_bytes": 0},
        "oom_score_adj": 0,
        "environment_names": [],
        "same_process": True,
        "flags": dict(FLAGS),
    }


def mount(target: str, flags: list[str], size_bytes: int = 0, inodes: int = 0) -> dict[str, Any]:
    return {"target": target, "flags": list(flags), "size_bytes": size_bytes, "inodes": inodes}


def good(stage: Stage = STAGE) -> dict[str, Any]:
    own = ids(stage)
    is_champion = stage.spec.profile is Profile.CHAMPION
    root = (
        mount("/", WRITABLE, LIMITS.root_bytes, LIMITS.root_inodes) if is_champion else mount("/", READ_ONLY)
    )
    return {
        **process(own.sentry, [[65534, own.sentry, 1]], "0000000000000000"),
        "cgroup": "v1",
        "cgroup_joined": True,
        "cgroup_limits": {
            "memory_bytes": LIMITS.memory_bytes,
            "pids": tasks_of(LIMITS),
            "memory_and_swap_bytes": LIMITS.memory_bytes,
            "cpu_quota_us": 200_000,
            "devices": "c 1:3 rw",
        },
        "mounts": [
            root,
            mount("/usr", READ_ONLY),
            mount("/usr/below", READ_ONLY),
            mount("/out", WRITABLE, LIMITS.output_bytes, LIMITS.output_inodes),
            *([{**root, "target": "/tmp"}] if is_champion else []),
        ],
        "open_files": [0, 1, 2],
        "platform": "systrap",
        "sentry": {"mounts": [mount("/", ["ro", "relatime"])], "files": {"file": 1, "socket": 9}},
        "gofer": {
            **process(own.gofer, [list(row) for row in id_map(stage)], "000000000004001f"),
            "cgroup_joined": True,
        },
    }


@pytest.mark.parametrize("stage", [STAGE, CHAMPION])
def test_good_walls_have_no_violation(stage: Stage) -> None:
    assert violations_of(good(stage), stage) == ()


OF_EACH = [
    ("uids", [0, 4242, 4242, 4242], "uids are"),
    ("uids", [4243] * 4, "uids are"),
    ("gids", [0] * 4, "gids are"),
    ("groups", [6], "left in the groups"),
    ("uid_map", [[0, 0, 4294967295]], "uid_map is"),
    ("gid_map", [[65534, 0, 1]], "gid_map is"),
    ("capabilities.CapEff", "0000000000200000", "CapEff is 0000000000200000"),
    ("capabilities.CapBnd", "000001ffffffffff", "CapBnd is"),
    ("no_new_privs", False, "no_new_privs is not set"),
    ("seccomp.mode", 0, "seccomp mode is 0"),
    ("seccomp.filters", 0, "with 0 filters"),
    *((f"namespaces.own.{kind}", False, f"{kind} namespace is the host's") for kind in NAMESPACES),
    ("interfaces", ["eth0", "lo"], "network interfaces"),
    ("routes", 1, "network interfaces"),
    ("oom_score_adj", -1000, "oom_score_adj is -1000"),
    ("limits.core_bytes", -1, "may leave a core file"),
    ("same_process", False, "replaced while it was measured"),
    ("flags.network", "host", "flag network is host; wanted none"),
    ("flags.directfs", "true", "flag directfs is true; wanted false"),
    ("flags.oci-seccomp", "false", "flag oci-seccomp is false"),
    ("flags.profile", "true", "flag profile is true; wanted not set"),
    ("flags.platform", "kvm", "flag platform is kvm"),
    ("flags.nvproxy", "true", "flag nvproxy is true; wanted not set"),
]
OF_THE_WHOLE = [
    ("platform", "kvm", "the platform is kvm; wanted one of systrap, ptrace"),
    ("open_files", [0, 1, 2, 3], "open files are"),
    ("environment_names", ["TOKEN"], "environment has TOKEN"),
    ("sentry.files", {"folder": 2}, "holds 2 folders of the host"),
    ("sentry.files", {"device": 1}, "holds 1 devices of the host"),
    ("sentry.mounts.0.flags", ["relatime"], "the sentry sees /; wanted an empty, read-only root"),
    ("sentry.mounts.0.target", "/etc", "the sentry sees /etc"),
    ("cgroup_joined", False, "not in its control group"),
    ("gofer.cgroup_joined", False, "the gofer is not in the guest's control group"),
    ("cgroup_limits.memory_bytes", LIMITS.memory_bytes * 2, "control group limit memory_bytes"),
    ("cgroup_limits.pids", tasks_of(LIMITS) + 1, "control group limit pids"),
    ("cgroup_limits.cpu_quota_us", -1, "control group limit cpu_quota_us is -1"),
    ("mounts.0.flags", WRITABLE, "/ is writable"),
    ("mounts.1.flags", WRITABLE, "/usr is writable"),
    ("mounts.1.target", "/home", "/home is mounted and was not asked for"),
    ("mounts.1.target", "/usrlocal", "/usrlocal is mounted and was not asked for"),
    ("mounts.3.flags", ["nodev", "rw"], "/out is not nosuid"),
    ("mounts.3.flags", ["nosuid", "rw"], "/out is not nodev"),
    ("mounts.3.size_bytes", LIMITS.output_bytes * 2, "/out holds"),
    ("mounts.3.size_bytes", 0, "/out holds 0 bytes"),
    ("mounts.3.inodes", LIMITS.output_inodes * 2, "/out holds 40000 files"),
    ("mounts.3.target", "/usr/out", "/out is not a mount of its own"),
]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        *((path, value, f"the sentry.*{m}|{m} on the sentry") for path, value, m in OF_EACH),
        *((f"gofer.{path}", value, f"the gofer.*{m}|{m} on the gofer") for path, value, m in OF_EACH),
        *OF_THE_WHOLE,
    ],
)
def test_each_weaker_wall_is_a_violation(path: str, value: object, message: str) -> None:
    facts = good()
    _set(facts, path, value)
    with pytest.raises(AssertionError, match=message):
        raise AssertionError("\n".join(violations_of(facts, STAGE)))


@pytest.mark.parametrize(("place", "target"), [("mounts.0", "/"), ("mounts.4", "/tmp")])
def test_a_champions_root_and_tmp_have_its_quota(place: str, target: str) -> None:
    facts = good(CHAMPION)
    _set(facts, f"{place}.size_bytes", 1 << 50)
    assert f"{target} holds {1 << 50} bytes" in "\n".join(violations_of(facts, CHAMPION))


def _set(facts: Any, path: str, value: object) -> None:
    *folders, last = (int(part) if part.isdigit() else part for part in path.split("."))
    for part in folders:
        facts = facts[part]
    facts[last] = value


def test_what_is_left_to_gvisors_kernel_is_told() -> None:
    assert unenforced(good(), STAGE) == (
        "gVisor's kernel alone keeps shm_bytes and tmp_bytes, pids, open_files, file_bytes and the guest's own filter",
    )
    assert unenforced(good(CHAMPION), CHAMPION)[-1] == "/dev takes files of the guest, up to memory_bytes"


def test_without_a_group_and_without_read_filters_that_is_told() -> None:
    facts = {**good(), "cgroup": "none", "cgroup_joined": False, "cgroup_limits": {}}
    facts["seccomp"]["sha256_is"] = facts["gofer"]["seccomp"]["sha256_is"] = "not read"
    assert unenforced(facts, STAGE)[:7] == (
        "cpu_millis",
        "memory_bytes: per process only",
        "pids: by gVisor's kernel only",
        "devices: no control group bounds which are opened, only what stands in /dev",
        "swap: this host has or may have some, and no control group bounds it",
        "seccomp filter: the digest of the sentry's was not measured",
        "seccomp filter: the digest of the gofer's was not measured",
    )


def test_a_group_that_lets_the_sentry_open_every_device_or_swap_is_a_violation() -> None:
    facts = good()
    facts["cgroup_limits"] |= {"devices": "a *:* rwm", "memory_and_swap_bytes": LIMITS.memory_bytes * 2}
    found = "\n".join(violations_of(facts, STAGE))
    assert "open the devices a *:* rwm" in found
    assert "control group limit memory_and_swap_bytes is" in found


def test_the_group_has_room_for_the_sentry_beside_the_guest(tmp_path: Path) -> None:
    few, many = replace(LIMITS, pids=8), replace(LIMITS, pids=1 << 30)
    assert OWN_TASKS < tasks_of(few) < tasks_of(LIMITS) < tasks_of(many) <= 4_194_304
    allow_tasks(Group(version="v1", folders={"pids": tmp_path}), few)
    assert (tmp_path / "pids.max").read_text() == str(tasks_of(few))
    allow_tasks(Group(version="none"), few)


def test_flags_are_read_back_as_they_were_given() -> None:
    words = [
        "runsc-sandbox",
        "--root=/x",
        "--log=/y",
        "--log-fd=3",
        *as_arguments(FLAGS),
        "boot",
        "--pidns=true",
    ]
    assert read_flags("\0".join(words).encode() + b"\0") == FLAGS
    assert read_flags(b"runsc\0--debug\0boot\0") == {"debug": "true"}


def test_every_disclosed_probe_exists_and_champions_have_more_of_them() -> None:
    assert set(disclosed(Profile.CHAMPION)) == {*DISCLOSED, *DISCLOSED_TO_CHAMPIONS} <= set(EXPECTATIONS)
    assert disclosed(Profile.STRICT) == DISCLOSED
