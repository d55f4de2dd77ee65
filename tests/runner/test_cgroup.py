"""Groups are found, limited, read back, and swept when their maker is dead."""

import os
from pathlib import Path

import pytest

from runner.errors import SandboxUnavailableError
from runner.linux import start_time
from runner.sandbox import cgroup
from runner.sandbox.cgroup import numbers_of
from tests.runner.guests import limits

HYBRID_MEMBERSHIP = "5:devices:/\n4:memory:/svc/x\n2:cpu,cpuacct:/svc\n0::/svc\n"
HYBRID_MOUNTS = (
    "30 25 0:26 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "31 25 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "32 25 0:28 /svc /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
    "33 25 0:29 / /tmp rw - tmpfs tmpfs rw\n"
)
V2_FILES = {"cgroup.controllers": "cpu io memory pids", "cgroup.subtree_control": "", "cgroup.procs": ""}


def test_locates_every_hierarchy_of_a_hybrid_host() -> None:
    assert cgroup.locate(membership=HYBRID_MEMBERSHIP, mountinfo=HYBRID_MOUNTS) == {
        "cpu": Path("/sys/fs/cgroup/cpu,cpuacct/svc"),
        "cpuacct": Path("/sys/fs/cgroup/cpu,cpuacct/svc"),
        "memory": Path("/sys/fs/cgroup/memory/svc/x"),
        "unified": Path("/sys/fs/cgroup/unified"),
    }


def test_a_group_outside_the_mounted_part_falls_back_to_its_top() -> None:
    mounts = "31 25 0:27 /other /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    found = cgroup.locate(membership="4:memory:/svc\n", mountinfo=mounts)
    assert found == {"memory": Path("/sys/fs/cgroup/memory")}


def test_version_1_limits_are_written(tmp_path: Path) -> None:
    for controller in ("memory", "pids", "cpu", "devices"):
        (tmp_path / controller).mkdir()
    parents = {name: tmp_path / name for name in ("memory", "pids", "cpu", "devices")}
    group = cgroup.create("assay-1-2-x", limits(cpu_millis=1500), parents=parents)
    assert group.version == "v1"
    read = group.read_back()
    assert (read["memory_bytes"], read["pids"], read["cpu_quota_us"]) == (256 << 20, 64, 150_000)


def test_version_2_limits_are_written_in_the_first_delegated_folder(tmp_path: Path) -> None:
    own = tmp_path / "service" / "leaf"
    own.mkdir(parents=True)
    for name, text in V2_FILES.items():
        (own.parent / name).write_text(text)
    group = cgroup.create("assay-1-2-x", limits(), parents={"unified": own})
    assert group.folders == {"unified": own.parent / "assay-1-2-x"}
    assert (own.parent / "cgroup.subtree_control").read_text() == "+memory +pids +cpu"
    assert group.read_back() == {
        "memory_bytes": 256 << 20,
        "swap_bytes": 0,
        "pids": 64,
        "cpu_quota_and_period_us": "200000 100000",
    }


def test_version_2_facts_are_read(tmp_path: Path) -> None:
    (tmp_path / "memory.events").write_text("oom 3\noom_kill 2\n")
    (tmp_path / "memory.peak").write_text("4096\n")
    (tmp_path / "cpu.stat").write_text("usage_usec 7000\n")
    (tmp_path / "pids.events").write_text("max 5\n")
    group = cgroup.Group(version="v2", folders={"unified": tmp_path})
    assert group.usage() == {"memory_peak_bytes": 4096, "cpu_ms": 7, "oom_kills": 2, "forks_refused": 5}


def test_a_host_that_lets_us_make_no_group_is_told_as_none(tmp_path: Path) -> None:
    parents = {name: tmp_path / "missing" / name for name in ("memory", "pids", "cpu")}
    assert cgroup.create("assay-1-2-x", limits(), parents=parents).version == "none"
    assert cgroup.create("assay-1-2-x", limits(), parents={}).version == "none"
    assert cgroup.create("assay-1-2-x", limits(), parents={"unified": tmp_path}).version == "none"


def test_sweeps_the_groups_of_dead_makers_only(tmp_path: Path) -> None:
    me = f"assay-{os.getpid()}-{start_time(os.getpid())}-mine"
    reused = f"assay-{os.getpid()}-1-reused-number"
    for name in (me, reused, "assay-999999999-1-dead", "assay-of-somebody", "other"):
        (tmp_path / name).mkdir()
    assert cgroup.sweep({"memory": tmp_path}) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([me, "assay-of-somebody", "other"])


@pytest.mark.sandbox
@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes control groups here")
def test_the_kernel_states_the_limits_that_were_set() -> None:
    parents = cgroup.host_folders()
    group = cgroup.create(cgroup.owner_prefix(os.getpid()) + "test", limits(), parents=parents)
    try:
        if group.version == "none":
            pytest.skip("this host lets root make no control group")
        assert group.read_back()["memory_bytes"] == 256 << 20
        assert group.read_back()["pids"] == 64
    finally:
        group.remove()
    assert not any(folder.exists() for folder in group.folders.values())


def test_granted_devices_are_told_by_their_numbers() -> None:
    assert numbers_of(["/dev/null", "/dev/zero"]) == ("1:3", "1:5")


@pytest.mark.parametrize(
    ("node", "message"), [("/dev/nvidia-none", "is not there"), ("/etc", "is no character device")]
)
def test_a_granted_device_that_is_none_is_refused(node: str, message: str) -> None:
    with pytest.raises(SandboxUnavailableError, match=message):
        numbers_of([node])
