"""Facts that contradict whole walls: each is well-formed, and each is refused."""

from types import ModuleType
from typing import Any

import pytest

from attestation.errors import MalformedError
from attestation.isolation import check_measured, contradictions
from attestation.weak_walls import ADDRESSES
from runner.sandbox import gate, gvisor_violations
from tests.attestation.test_isolation import behind_gvisor, with_fact

SAFE = ["nodev", "nosuid", "ro"]
ROOT = {"target": "/", "filesystem": "overlay", "flags": SAFE}


@pytest.fixture
def walls(packs: ModuleType) -> dict[str, Any]:
    made: dict[str, Any] = packs.measured_walls()
    return made


def mounted(target: str, filesystem: str = "ext4", *flags: str) -> list[dict[str, Any]]:
    return [ROOT, {"target": target, "filesystem": filesystem, "flags": list(flags)}]


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("uids", [0] * 4, "uids on the host were"),
        ("gids", [7, 0, 7, 7], "gids on the host were"),
        ("groups", [27], "left in the groups"),
        ("uid_map", [[0, 0, 1]], "uid_map was"),
        ("uid_map", [[0, 1900000001, 65536]], "uid_map was"),
        ("gid_map", [[0, 1900000001, 1], [1, 0, 1]], "gid_map was"),
        ("capabilities.CapBnd", "0000000000000001", "CapBnd was"),
        ("no_new_privs", False, "no_new_privs was not set"),
        ("seccomp.mode", 0, "seccomp mode was 0"),
        ("seccomp.filters", 0, "with 0 filters"),
        ("seccomp.wanted_sha256", "ab" * 32, "filter was"),
        ("seccomp.sha256_is", "claimed", "'seccomp filter'"),
        ("namespaces.own.net", False, "net namespace was the host's"),
        ("mounts", mounted("/srv", "ext4", "nodev", "nosuid", "rw"), "/srv was writable"),
        ("mounts", mounted("/srv", "ext4", "nodev", "nosuid", "ro", "rw"), "/srv was writable"),
        ("mounts", mounted("/proc", "ext4", "nodev", "nosuid", "rw"), "/proc was writable"),
        ("mounts", mounted("/usr", "ext4", "nosuid", "ro"), "/usr was not nodev"),
        ("mounts", mounted("/usr", "ext4", "nodev", "ro"), "/usr was not nosuid"),
        ("mounts", mounted("/proc/keys", "tmpfs", "ro"), "/proc/keys was not nosuid"),
        ("mounts", mounted("/usr", "ext4", *SAFE)[1:], "/ is not mounted"),
        ("devices", ["b 8:0 /dev/sda"], "/dev/sda, which was not granted"),
        ("devices", ["c 195:0 /dev/nvidia0"], "/dev/nvidia0, which was not granted"),
        ("open_files", [0, 1, 2, 9], "open files were"),
        ("cgroup_joined", False, "not in its control group"),
        ("cgroup_limits", {}, "control group's memory_bytes was not told"),
        ("inside.write_tries", {}, "no write was tried"),
        ("profile", "strict", "uid_map was"),
        ("inside.connect_tries", {"192.0.2.1": "refused"}, "no connection to 169.254.169.254 was tried"),
        ("inside.status", {"CapEff": "1"}, "from inside, CapEff was 1"),
        ("cgroup", "none", "'cpu_millis'"),
        ("own_user_id", False, "'user id'"),
    ],
)
@pytest.mark.parametrize("driver", ["bubblewrap"])
def test_refuses_facts_that_contradict_whole_walls(
    walls: dict[str, Any], driver: str, path: str, value: object, told: str
) -> None:
    spoiled = with_fact({**walls, "driver": driver}, path, value)
    check_measured(spoiled, "measured")
    assert told in "\n".join(contradictions(spoiled))


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("uids", [0] * 4, "sentry's uids"),
        ("uid_map", [[0, 1900000512, 1]], "sentry's uid_map"),
        ("capabilities.CapEff", "000000000004001f", "sentry's CapEff"),
        ("mounts", mounted("/proc", "proc", "nodev", "nosuid", "rw"), "/proc was writable"),
        ("gofer.uids", [0] * 4, "gofer's uids"),
        ("gofer.uid_map", [[0, 0, 4294967295]], "gofer's uid_map"),
        ("gofer.capabilities.CapEff", "000001ffffffffff", "gofer's CapEff"),
        ("gofer.no_new_privs", False, "not set on the gofer"),
        ("gofer.seccomp.mode", 0, "gofer's seccomp mode"),
        ("gofer.seccomp.sha256_is", "not read", "the digest of the gofer's"),
        ("gofer.namespaces.own.mnt", False, "gofer's mnt namespace"),
        ("gofer.interfaces", ["eth0"], "gofer had the network interfaces"),
        ("gofer.cgroup_joined", False, "gofer was not in the control group"),
        ("unenforced", [], '"gVisor\'s kernel alone"'),
    ],
)
def test_refuses_facts_that_contradict_the_shape_of_gvisor(
    walls: dict[str, Any], path: str, value: object, told: str
) -> None:
    made = behind_gvisor(walls)
    assert list(contradictions(made)) == []
    spoiled = with_fact(made, path, value)
    check_measured(spoiled, "measured")
    assert told in "\n".join(contradictions(spoiled))


def test_refuses_gvisor_of_which_one_process_is_not_told(walls: dict[str, Any]) -> None:
    made = behind_gvisor(walls)
    del made["gofer"]
    with pytest.raises(MalformedError, match=r"measured: lacks \['gofer'\]"):
        check_measured(made, "measured")


def test_a_champion_s_copies_lie_on_the_volume_of_its_root(walls: dict[str, Any]) -> None:
    flags = ["nodev", "nosuid", "rw"]
    own = {"filesystem": "overlay", "flags": flags, "size_bytes": 8, "inodes": 9}
    made = {**walls, "mounts": [{"target": "/", **own}, {"target": "/workspace", **own}]}
    assert list(contradictions(made)) == []
    other = {**made, "mounts": [{"target": "/", **own}, {"target": "/workspace", **own, "size_bytes": 7}]}
    assert list(contradictions(other)) == ["/workspace was writable"]


def test_what_the_runner_tries_and_allows_is_what_a_reader_demands() -> None:
    assert ADDRESSES == gate.ADDRESSES
    assert gvisor_violations.GOFER_CAPABILITIES == 0x4001F
