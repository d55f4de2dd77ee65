"""Each way in which walls can be weaker than asked is a violation of its own."""

import copy
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runner.errors import SandboxUnavailableError
from runner.sandbox.bubblewrap import EXPECTED
from runner.sandbox.cgroup import ALLOWED_DEVICES, Group
from runner.sandbox.gate import ADDRESSES, REASONS, gate_command, parse_report
from runner.sandbox.identity import Identity
from runner.sandbox.measure import NAMESPACES, NO_SWAP, group_remarks, host_facts, unenforced
from runner.sandbox.violations import inside_violations, violations_of
from runner.sandbox.walls import Stage, StagedMount
from runner.spec import Gpu, Limits, Profile, Runtime, SandboxSpec

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
STAGE = Stage(
    spec=SPEC,
    name="assay-1-2-job",
    root="/mnt/root",
    scratch=Path("/mnt/scratch"),
    identity=Identity(user_id=4242, is_own=True),
    group=Group(version="v1"),
    program=b"",
    command=("/busybox-gate",),
    environment={"HF_HOME": "/tmp", "HOME": "/tmp", "PATH": "/usr/bin"},
    mounts=(
        StagedMount(target="/usr", writable=False),
        StagedMount(
            target="/out", writable=True, size_bytes=LIMITS.output_bytes, inodes=LIMITS.output_inodes
        ),
    ),
)
RULES = "\n".join(f"c {number} rw" for number in ALLOWED_DEVICES)
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
        "cgroup_limits": {
            "memory_bytes": LIMITS.memory_bytes,
            "memory_and_swap_bytes": LIMITS.memory_bytes,
            "pids": LIMITS.pids,
            "cpu_quota_us": 200_000,
            "devices": RULES,
        },
        "devices": ["c 1:3 /dev/null", "c 136:0 /dev/pts/0"],
        "oom_score_adj": 0,
        "same_process": True,
    }


def violations(measured: Mapping[str, Any], stage: Stage = STAGE) -> tuple[str, ...]:
    return violations_of(measured, stage, EXPECTED)


def test_good_walls_have_no_violation() -> None:
    assert violations(good()) == ()
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
        ("cgroup_limits.memory_and_swap_bytes", LIMITS.memory_bytes + 1, "limit memory_and_swap_bytes is"),
        ("cgroup_limits.memory_and_swap_bytes", -1, "limit memory_and_swap_bytes is -1"),
        ("cgroup_limits.memory_and_swap_bytes", "max", "limit memory_and_swap_bytes is max"),
        ("cgroup_limits.devices", "a *:* rwm", "open the devices a *:* rwm"),
        ("cgroup_limits.devices", f"{RULES}\nb 8:0 rw", "open the devices b 8:0 rw"),
        ("cgroup_limits.devices", f"{RULES}\nc 195:0 rw", "open the devices c 195:0 rw"),
        ("cgroup_limits.devices", "c 1:3 rwm", "open the devices c 1:3 rwm"),
        ("devices", ["c 10:229 /dev/fuse"], "the device c 10:229 /dev/fuse is there"),
        ("devices", ["b 259:0 /dev/null"], "the device b 259:0 /dev/null is there"),
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
    assert any(message in found for found in violations(measured)), violations(measured)


def test_without_control_groups_the_limits_stand_on_resource_limits() -> None:
    measured = {**good(), "cgroup": "none", "cgroup_joined": False, "cgroup_limits": {}}
    assert "limit processes is -1; wanted at most 4096" in violations(measured)
    measured["limits"] |= {"processes": 4096, "address_space_bytes": LIMITS.memory_bytes}
    assert violations(measured) == ()
    assert "cpu_millis" in unenforced(measured)


@pytest.mark.parametrize("told", ["max", 1, -1])
def test_swap_that_version_two_lets_a_guest_have_is_a_violation(told: str | int) -> None:
    limits = {"memory_bytes": LIMITS.memory_bytes, "pids": LIMITS.pids, "swap_bytes": told}
    limits["cpu_quota_and_period_us"] = "200000 100000"
    measured = {**good(), "cgroup": "v2", "cgroup_limits": limits}
    assert violations(measured) == (f"control group limit swap_bytes is {told}; wanted 0",)
    limits["swap_bytes"] = 0
    assert violations(measured) == ()
    assert [remark.partition(":")[0] for remark in unenforced(measured)] == ["devices"]


@pytest.mark.parametrize("version", ["v1", "v2", "none"])
def test_a_host_without_device_rules_and_swap_accounting_is_told(version: str) -> None:
    measured = {**good(), "cgroup": version, "cgroup_limits": {}, "host": {"swap": "areas: 1"}}
    assert [remark.partition(":")[0] for remark in group_remarks(measured)] == ["devices", "swap"]
    assert set(group_remarks(measured)) <= set(unenforced(measured))


def test_a_host_that_has_no_swap_needs_no_bound_of_it_and_one_that_does_not_tell_does() -> None:
    limits = {"devices": RULES}
    assert group_remarks({"cgroup_limits": limits, "host": {"swap": NO_SWAP}}) == ()
    for host in ({}, {"swap": "not shown by this host"}):
        (remark,) = group_remarks({"cgroup_limits": limits, "host": host})
        assert remark.startswith("swap: ")


def test_whether_the_host_has_swap_is_looked_up() -> None:
    has_swap = len(Path("/proc/swaps").read_text().splitlines()) > 1
    assert (host_facts()["swap"] != NO_SWAP) == has_swap


def test_what_an_ordinary_user_cannot_enforce_is_told() -> None:
    measured = {**good(), "own_user_id": False, "groups": [4242, 27]}
    assert violations(measured) == ()
    assert unenforced(measured) == (
        "user id: the guest's is the runner's own",
        "groups: an ordinary user cannot drop [27]",
    )


def test_a_filter_that_was_not_measured_is_told() -> None:
    measured = good()
    measured["seccomp"]["sha256_is"] = "claimed"
    assert violations(measured) == ()
    assert unenforced(measured) == ("seccomp filter: its digest was not measured",)


def champion() -> tuple[dict[str, Any], Stage]:
    """Good walls of a champion: user id 0 inside, a writable root of its size."""
    measured = good()
    measured["uid_map"] = measured["gid_map"] = [[0, 4242, 1]]
    root = measured["mounts"][0]
    root |= {"flags": WRITABLE, "size_bytes": LIMITS.root_bytes, "inodes": LIMITS.root_inodes}
    measured["mounts"] = [m for m in measured["mounts"] if m["target"] != "/tmp"]
    return measured, replace(STAGE, spec=replace(SPEC, profile=Profile.CHAMPION))


def test_a_champions_writable_root_is_no_violation() -> None:
    measured, stage = champion()
    assert violations(measured, stage) == ()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("size_bytes", LIMITS.root_bytes * 2, "/ holds 17179869184 bytes"),
        ("inodes", LIMITS.root_inodes * 2, "/ holds 400000 files"),
        ("flags", ["nodev", "rw"], "/ honours setuid files"),
    ],
)
def test_a_champions_root_has_a_quota_and_flags(name: str, value: object, message: str) -> None:
    measured, stage = champion()
    measured["mounts"][0][name] = value
    assert any(message in found for found in violations(measured, stage))


def test_a_champion_that_is_root_outside_is_a_violation() -> None:
    measured, stage = champion()
    measured["uid_map"] = [[0, 0, 1]]
    assert any("uid_map is" in found for found in violations(measured, stage))


def test_a_granted_device_is_expected_and_another_is_not() -> None:
    spec = replace(SPEC, gpus=(Gpu(uuid="GPU-1", nodes=("/dev/nvidia0",)),))
    stage = replace(STAGE, spec=spec, group=Group(version="v1", devices=("195:0",)))
    measured = good()
    measured["cgroup_limits"]["devices"] = f"{RULES}\nc 195:0 rw"
    measured["devices"] = ["c 195:0 /dev/nvidia0"]
    assert violations(measured, stage) == ()
    measured["devices"] = ["c 195:1 /dev/nvidia1"]
    assert violations(measured, stage) == ("the device c 195:1 /dev/nvidia1 is there; it was not granted",)


REPORT = b"""gate: status Uid 0 0 0 0
gate: uid_map 0 4242 1
gate: interface lo: 12 0 0 0 0 0 0 0 34 0 0 0 0 0 0 0
gate: connect 192.0.2.1 refused
gate: write /cache refused
gate: why /cache read-only
gate: ready
"""


def test_the_gates_report_is_read() -> None:
    inside = parse_report(REPORT)
    assert inside["interfaces"] == {"lo": {"received_bytes": 12, "sent_bytes": 34}}
    assert inside["uid_map"] == [0, 4242, 1]
    assert (inside["connect_tries"], inside["write_tries"]) == (
        {"192.0.2.1": "refused"},
        {"/cache": "refused"},
    )


@pytest.mark.parametrize("reason", REASONS)
def test_why_a_write_was_refused_is_read(reason: str) -> None:
    inside = parse_report(REPORT.replace(b"read-only", reason.encode()))
    assert (inside["write_tries"], inside["write_reasons"]) == ({"/cache": "refused"}, {"/cache": reason})


@pytest.mark.parametrize("line", [b"why /cache because", b"why /cache"])
def test_a_reason_that_the_gate_does_not_know_is_malformed(line: bytes) -> None:
    with pytest.raises(SandboxUnavailableError, match="report is malformed"):
        parse_report(REPORT.replace(b"why /cache read-only", line))


def test_the_gate_tells_a_closed_folder_from_one_that_does_not_take_the_file(tmp_path: Path) -> None:
    script = gate_command(("/bin/true",))[3].partition("while IFS")[0]
    asked = f'{script} try_writes "$@"'
    argv = ["busybox", "sh", "-c", asked, "gate", str(tmp_path), str(tmp_path / "none"), "/sys/fs/none"]
    said = subprocess.run(argv, capture_output=True, check=True)
    inside = parse_report(said.stdout)
    assert inside["write_tries"][str(tmp_path)] == "WRITTEN"
    assert inside["write_reasons"] == {str(tmp_path / "none"): "other", "/sys/fs/none": "other"}
    assert (said.stderr, list(tmp_path.iterdir())) == (b"", [])


@pytest.mark.parametrize(
    ("good_line", "bad_line", "message"),
    [
        (b"/cache refused", b"/cache WRITTEN", "a write to /cache from inside succeeded"),
        (b"192.0.2.1 refused", b"192.0.2.1 CONNECTED", "a connection to 192.0.2.1 from inside succeeded"),
        (b"interface lo:", b"interface eth0:", "interfaces eth0 are seen"),
        (b"gate: write /cache refused\n", b"", "no write to /cache was tried"),
    ],
)
def test_what_the_gate_could_do_is_a_violation(good_line: bytes, bad_line: bytes, message: str) -> None:
    inside = parse_report(REPORT.replace(good_line, bad_line))
    assert any(message in found for found in inside_violations(inside, tried=("/cache",)))


def test_a_connection_that_was_not_tried_is_a_violation() -> None:
    inside = parse_report(REPORT)
    found = inside_violations(inside, tried=("/cache",))
    missing = [address for address in ADDRESSES if address != "192.0.2.1"]
    assert found == tuple(f"no connection to {address} was tried from inside" for address in missing)


@pytest.mark.parametrize("told", ["max 100000", "400000 100000", None])
def test_a_processor_quota_of_version_two_that_is_not_as_asked_is_a_violation(told: str | None) -> None:
    limits = {"memory_bytes": LIMITS.memory_bytes, "pids": LIMITS.pids, "cpu_quota_and_period_us": told}
    measured = {**good(), "cgroup": "v2", "cgroup_limits": limits}
    assert any("cpu_quota_and_period_us is" in found for found in violations(measured))
    measured["cgroup_limits"] = {**limits, "cpu_quota_and_period_us": "200000 100000"}
    assert violations(measured) == ()
