"""Each way in which walls can be weaker than asked is a violation of its own."""

import copy
from typing import Any

import pytest

from runner.sandbox.measure import NAMESPACES, unenforced, violations
from runner.spec import Limits, Runtime, SandboxSpec

SPEC = SandboxSpec(
    job_id="job",
    argv=("true",),
    env={"HF_HOME": "/tmp"},
    cwd="/tmp",
    mounts=(),
    output_target="/out",
    limits=Limits(wall_clock_s=1.0),
    runtime=Runtime(python_prefix="/usr", site_packages="/venv", python_version="3.11"),
)
LIMITS = SPEC.limits
READ_ONLY = ["nodev", "nosuid", "relatime", "ro"]
WRITABLE = ["nodev", "nosuid", "relatime", "rw"]


def good() -> dict[str, Any]:
    def mount(target: str, flags: list[str], size_bytes: int = 0, inodes: int = 0) -> dict[str, Any]:
        facts = {"target": target, "filesystem": "tmpfs", "flags": list(flags)}
        return {**facts, "size_bytes": size_bytes, "inodes": inodes}

    return {
        "own_user_id": True,
        "uids": [4242] * 4,
        "gids": [4242] * 4,
        "groups": [],
        "uid_map": [[1000, 4242, 1]],
        "gid_map": [[1000, 4242, 1]],
        "capabilities": dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), "0000000000000000"),
        "no_new_privs": True,
        "seccomp": {"mode": 2, "filters": 1, "sha256": "ab", "sha256_is": "measured", "wanted_sha256": "ab"},
        "namespaces": {"compared_with": "the host's first process", "own": dict.fromkeys(NAMESPACES, True)},
        "mounts": [
            mount("/", READ_ONLY),
            mount("/usr", READ_ONLY),
            mount("/dev", READ_ONLY),
            mount("/dev/null", ["nosuid", "rw"]),
            mount("/proc", WRITABLE),
            mount("/out", WRITABLE, LIMITS.output_bytes, LIMITS.output_inodes),
            mount("/tmp", WRITABLE, LIMITS.tmp_bytes),
            mount("/dev/shm", WRITABLE, LIMITS.shm_bytes),
        ],
        "interfaces": ["lo"],
        "routes": 0,
        "limits": {"core_bytes": 0, "file_bytes": LIMITS.file_bytes, "open_files": LIMITS.open_files},
        "open_files": [0, 1, 2],
        "environment_names": ["HF_HOME", "HOME", "PATH", "PWD"],
        "cgroup": "v1",
        "cgroup_joined": True,
        "cgroup_limits": {"memory_bytes": LIMITS.memory_bytes, "pids": LIMITS.pids, "cpu_quota_us": 200_000},
        "oom_score_adj": 0,
        "same_process": True,
    }


def test_good_walls_have_no_violation() -> None:
    assert violations(good(), SPEC) == ()
    assert unenforced(good()) == ()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("uids", [0, 4242, 4242, 4242], "none may be 0"),
        ("gids", [4242, 0, 4242, 4242], "none may be 0"),
        ("groups", [0, 6], "supplementary groups"),
        ("groups", [6], "supplementary groups"),
        ("uid_map", [[1000, 0, 1]], "uid_map is"),
        ("uid_map", [[0, 0, 4294967295]], "uid_map is"),
        ("gid_map", [[1000, 4242, 2]], "gid_map is"),
        ("capabilities.CapEff", "0000000000000400", "CapEff is 0000000000000400"),
        ("capabilities.CapBnd", "000001ffffffffff", "CapBnd is"),
        ("no_new_privs", False, "no_new_privs is not set"),
        ("seccomp.mode", 0, "seccomp mode is 0"),
        ("seccomp.filters", 0, "wanted 2 with a filter"),
        ("seccomp.sha256", "cd", "the loaded filter is cd"),
        *((f"namespaces.own.{kind}", False, f"the {kind} namespace is the host's") for kind in NAMESPACES),
        ("mounts.1.flags", WRITABLE, "/usr is writable"),
        ("mounts.0.flags", WRITABLE, "/ is writable"),
        ("mounts.2.flags", WRITABLE, "/dev is writable"),
        ("mounts.5.flags", ["nodev", "rw"], "/out honours setuid files"),
        ("mounts.5.flags", ["nosuid", "rw"], "/out honours device files"),
        ("mounts.5.size_bytes", LIMITS.output_bytes * 2, "/out holds"),
        ("mounts.5.size_bytes", 0, "/out holds 0 bytes"),
        ("mounts.5.inodes", LIMITS.output_inodes * 2, "/out holds 40000 files"),
        ("mounts.6.size_bytes", LIMITS.tmp_bytes * 2, "/tmp holds"),
        ("mounts.7.target", "/run/shm", "/dev/shm is not a mount of its own"),
        ("mounts.1.target", "/home", "/home is mounted and was not asked for"),
        ("interfaces", ["eth0", "lo"], "network interfaces are"),
        ("routes", 1, "1 network routes lead out"),
        ("open_files", [0, 1, 2, 7], "open files are"),
        ("environment_names", ["PATH", "VAULT_TOKEN"], "the environment also has VAULT_TOKEN"),
        ("oom_score_adj", -1000, "oom_score_adj is -1000"),
        ("limits.core_bytes", -1, "limit core_bytes is -1"),
        ("limits.open_files", 1 << 20, "limit open_files is"),
        ("limits.file_bytes", -1, "limit file_bytes is -1"),
        ("cgroup_joined", False, "not in its control group"),
        ("cgroup_limits.memory_bytes", LIMITS.memory_bytes * 2, "control group limit memory_bytes"),
        ("cgroup_limits.pids", "max", "control group limit pids is max"),
        ("cgroup_limits.cpu_quota_us", -1, "control group limit cpu_quota_us is -1"),
        ("same_process", False, "replaced while it was measured"),
    ],
)
def test_each_weaker_wall_is_a_violation(path: str, value: object, message: str) -> None:
    measured = copy.deepcopy(good())
    place: Any = measured
    *folders, last = (int(part) if part.isdigit() else part for part in path.split("."))
    for part in folders:
        place = place[part]
    place[last] = value
    assert any(message in found for found in violations(measured, SPEC)), violations(measured, SPEC)


def test_without_control_groups_the_limits_stand_on_resource_limits() -> None:
    measured = {**good(), "cgroup": "none", "cgroup_joined": False, "cgroup_limits": {}}
    assert "limit processes is -1; wanted at most 4096" in violations(measured, SPEC)
    measured["limits"] |= {"processes": 4096, "address_space_bytes": LIMITS.memory_bytes}
    assert violations(measured, SPEC) == ()
    assert "cpu_millis" in unenforced(measured)


def test_what_an_ordinary_user_cannot_enforce_is_told() -> None:
    measured = {**good(), "own_user_id": False, "groups": [4242, 27]}
    assert violations(measured, SPEC) == ()
    assert unenforced(measured) == (
        "user id: the guest's is the runner's own",
        "groups: an ordinary user cannot drop [27]",
    )


def test_a_filter_that_was_not_measured_is_told() -> None:
    measured = good()
    measured["seccomp"]["sha256_is"] = "claimed"
    assert violations(measured, SPEC) == ()
    assert unenforced(measured) == ("seccomp filter: its digest was not measured",)
