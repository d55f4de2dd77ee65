"""Each wall is judged by its own facts: one that is bad breaks it, one that is missing is never good."""

import pytest

from appliance.isolation_walls import Section, State, Wall, judge_walls
from appliance.measured_facts import NOT_TOLD
from attestation.isolation import check_measured
from tests.appliance.isolation_facts import ASKED, facts_with, facts_without, good_facts, gvisor_facts

NOBODY, PRIVILEGES, CALLS, VIEW = (
    "Nobody on the host",
    "No privileges",
    "Few system calls",
    "A view of its own",
)
FILES, NETWORK, LIMITS = "Only what it was given", "No network", "Limits that bite"
DEVICES, MEASURED = "Only granted devices", "Measured in place"
ALL = (NOBODY, PRIVILEGES, CALLS, VIEW, FILES, NETWORK, LIMITS, DEVICES, MEASURED)


def judged(facts: dict[str, object]) -> dict[str, Wall]:
    return {wall.name: wall for wall in judge_walls(facts, asked=ASKED)}


def rows(wall: Wall) -> dict[str, str]:
    return {row.name: row.value for row in wall.rows}


def test_good_facts_are_nine_walls_that_held() -> None:
    walls = judged(good_facts())
    assert tuple(walls) == ALL
    assert {wall.state for wall in walls.values()} == {State.HELD}


def test_good_facts_are_a_claim_as_it_is_signed() -> None:
    check_measured(good_facts(), "measured")


def test_every_section_of_the_screen_has_a_wall() -> None:
    assert {wall.section for wall in judged(good_facts()).values()} == set(Section)


def test_nothing_told_is_nothing_held() -> None:
    walls = judged({})
    assert {wall.state for wall in walls.values()} == {State.NOT_TOLD}
    for wall in walls.values():
        assert "not told" in wall.sentence
        assert {row.value for row in wall.rows if "asked" not in row.value} == {NOT_TOLD}


@pytest.mark.parametrize(
    ("path", "wall"),
    [
        ("uids", NOBODY),
        ("gids", NOBODY),
        ("groups", NOBODY),
        ("uid_map", NOBODY),
        ("gid_map", NOBODY),
        ("own_user_id", NOBODY),
        ("capabilities", PRIVILEGES),
        ("capabilities.CapAmb", PRIVILEGES),
        ("no_new_privs", PRIVILEGES),
        ("seccomp", CALLS),
        ("seccomp.mode", CALLS),
        ("seccomp.sha256", CALLS),
        ("seccomp.sha256_is", CALLS),
        ("namespaces", VIEW),
        ("namespaces.own", VIEW),
        ("namespaces.own.net", VIEW),
        ("mounts", FILES),
        ("inside.write_tries", FILES),
        ("interfaces", NETWORK),
        ("routes", NETWORK),
        ("inside.connect_tries", NETWORK),
        ("cgroup", LIMITS),
        ("cgroup_joined", LIMITS),
        ("cgroup_limits", LIMITS),
        ("cgroup_limits.memory_bytes", LIMITS),
        ("cgroup_limits.pids", LIMITS),
        ("cgroup_limits.cpu_quota_us", LIMITS),
        ("open_files", DEVICES),
        ("gpus", DEVICES),
        ("devices", DEVICES),
        ("gate", MEASURED),
        ("same_process", MEASURED),
        ("inside", MEASURED),
    ],
)
def test_a_missing_fact_is_not_told_and_so_is_one_of_another_shape(path: str, wall: str) -> None:
    for facts in (facts_without(path), facts_with(path, None), facts_with(path, 7.5)):
        assert judged(facts)[wall].state is not State.HELD
    assert judged(facts_without(path))[wall].state is State.NOT_TOLD


@pytest.mark.parametrize("odd", [None, True, 0, "x", [], {}, [[]], [{}], {"a": None}, [None], "\x1b[2J"])
def test_whatever_a_fact_is_the_screen_stands(odd: object) -> None:
    for path in good_facts():
        assert len(judge_walls(facts_with(path, odd), asked=ASKED)) == len(ALL)


@pytest.mark.parametrize(
    ("path", "value", "wall", "told"),
    [
        ("uids", [0, 0, 0, 0], NOBODY, "administrator"),
        ("gids", [5, 0, 5, 5], NOBODY, "administrator"),
        ("groups", [0], NOBODY, "administrator"),
        ("uid_map", [[0, 0, 1]], NOBODY, "administrator"),
        ("gid_map", [[1000, 7, 1], [0, 0, 1]], NOBODY, "administrator"),
        ("capabilities.CapBnd", "0000000000000001", PRIVILEGES, "privilege"),
        ("no_new_privs", False, PRIVILEGES, "privilege"),
        ("seccomp.mode", 0, CALLS, "any system call"),
        ("seccomp.filters", 0, CALLS, "any system call"),
        ("seccomp.sha256", "0" * 64, CALLS, "Another filter"),
        ("namespaces.own.net", False, VIEW, "shared the host's view of: net"),
        ("inside.write_tries", {"/": "refused", "/usr": "WRITTEN"}, FILES, "must not: /usr"),
        ("mounts", [{"target": "/usr", "flags": ["ro"]}], FILES, "weaker than it must be"),
        ("inside.connect_tries", {"192.0.2.1": "CONNECTED"}, NETWORK, "succeeded: 192.0.2.1"),
        ("interfaces", ["eth0", "lo"], NETWORK, "besides its own loopback"),
        ("routes", 1, NETWORK, "besides its own loopback"),
        ("after.network_bytes", {"eth0": {"sent_bytes": 1}}, NETWORK, "besides its own loopback"),
        ("cgroup_joined", False, LIMITS, "none held it"),
        ("cgroup_limits.memory_bytes", ASKED["memory_bytes"] + 1, LIMITS, "asked for: memory_bytes"),
        ("cgroup_limits.pids", -1, LIMITS, "asked for: pids"),
        ("open_files", [0, 1, 2, 9], DEVICES, "open file of the host"),
        ("same_process", False, MEASURED, "took the place"),
    ],
)
def test_a_bad_fact_breaks_its_wall_and_no_other(path: str, value: object, wall: str, told: str) -> None:
    walls = judged(facts_with(path, value))
    assert [name for name, found in walls.items() if found.state is State.BROKEN] == [wall]
    assert told in walls[wall].sentence


@pytest.mark.parametrize(
    ("path", "value", "wall", "told"),
    [
        ("own_user_id", False, NOBODY, "as whom the appliance itself runs"),
        ("seccomp.sha256_is", "claimed", CALLS, "was not read back"),
        ("cgroup", "none", LIMITS, "all of them together were not"),
    ],
)
def test_what_a_host_cannot_give_holds_partly(path: str, value: object, wall: str, told: str) -> None:
    found = judged(facts_with(path, value))[wall]
    assert found.state is State.PARTLY
    assert told in found.sentence


def test_processor_time_counts_as_limited_in_the_words_of_either_control_group() -> None:
    second = facts_with(
        "cgroup_limits", {"memory_bytes": 9, "pids": 9, "cpu_quota_and_period_us": "200000 100000"}
    )
    assert judged(second | {"cgroup": "v2"})[LIMITS].state is State.HELD
    free = facts_with(
        "cgroup_limits", {"memory_bytes": 9, "pids": 9, "cpu_quota_and_period_us": "max 100000"}
    )
    assert judged(free | {"cgroup": "v2"})[LIMITS].state is State.NOT_TOLD


def test_a_champion_that_calls_itself_root_is_told_to_be_somebody_else_outside() -> None:
    wall = judged(facts_with("uid_map", [[0, 1900000001, 1]]))[NOBODY]
    assert wall.state is State.HELD
    assert wall.sentence == (
        "It was user 1900000001 of this machine, who owns nothing there, whatever it called itself."
    )


def test_mounts_are_told_with_the_room_of_what_can_be_written() -> None:
    told = rows(judged(good_facts())[FILES])
    assert told["/"] == "read-only"
    assert told["/out"] == "writable, room 1073741824 (1.00 GiB), files 256"
    assert told["of the kernel"] == "/dev/null, /proc"


def test_network_is_told_with_tries_and_bytes_before_and_after() -> None:
    told = rows(judged(good_facts())[NETWORK])
    assert told["connections tried from inside"] == (
        "169.254.169.254 refused, 192.0.2.1 refused, 2001:db8::1 refused"
    )
    assert told["bytes before"] == "lo received_bytes 0, sent_bytes 0"
    assert told["bytes after"] == "lo received_bytes 42, sent_bytes 42"
    assert rows(judged(facts_without("after"))[NETWORK])["bytes after"] == NOT_TOLD


def test_limits_are_told_as_asked_and_as_found() -> None:
    told = rows(judged(good_facts())[LIMITS])
    assert told["memory_bytes"] == "asked 268435456 (0.25 GiB), found 268435456 (0.25 GiB)"
    assert told["pids"] == "asked 64, found 64"
    without = {wall.name: wall for wall in judge_walls(good_facts(), asked=None)}
    assert rows(without[LIMITS])["pids"] == "asked not told, found 64"


def test_gpus_are_told_one_by_one() -> None:
    wall = judged(facts_with("gpus", ["GPU-1", {"uuid": "GPU-2", "mig": False}]))[DEVICES]
    assert wall.sentence.startswith("It had 2 GPUs, 1 device nodes")
    assert (rows(wall)["GPU 1"], rows(wall)["GPU 2"]) == ("GPU-1", "mig no, uuid GPU-2")


# Behind gVisor two processes stand for the guest: its kernel, and what opens its files.


def test_good_facts_of_both_are_nine_walls_that_held() -> None:
    walls = judged(gvisor_facts())
    assert {wall.state for wall in walls.values()} == {State.HELD}
    assert walls[CALLS].sentence.startswith("A kernel of its own answered its calls")
    assert rows(walls[PRIVILEGES])["capabilities of what opens its files"].count("4001f") == 1


@pytest.mark.parametrize(
    ("name", "value", "wall"),
    [
        ("uids", [0], NOBODY),
        ("uid_map", [[0, 0, 1]], NOBODY),
        ("no_new_privs", False, PRIVILEGES),
        ("seccomp", {"mode": 0}, CALLS),
    ],
)
def test_a_bad_fact_of_what_opens_its_files_breaks_the_wall(name: str, value: object, wall: str) -> None:
    walls = judged(gvisor_facts(**{name: value}))
    assert [found for found in walls if walls[found].state is State.BROKEN] == [wall]


def test_what_opens_its_files_must_be_told() -> None:
    walls = judged({**gvisor_facts(), "gofer": None})
    untold = [name for name, wall in walls.items() if wall.state is State.NOT_TOLD]
    assert untold == [NOBODY, PRIVILEGES, CALLS]


def test_a_filter_of_gvisor_that_was_not_read_holds_partly() -> None:
    unread = {"mode": 2, "filters": 1, "sha256": None, "sha256_is": "not read"}
    assert judged(gvisor_facts(seccomp=unread))[CALLS].state is State.PARTLY


def test_room_for_the_walls_own_tasks_is_no_broken_limit() -> None:
    group = {**ASKED, "pids": 1300}
    facts = gvisor_facts() | {"cgroup_limits": group}
    assert judged(facts)[LIMITS].state is State.BROKEN
    wall = judged(facts | {"cgroup_wanted": {"pids": 1300}})[LIMITS]
    assert wall.state is State.HELD
    assert rows(wall)["pids"] == "asked 64, found 1300"
    assert rows(wall)["pids, with the walls' own"] == "1300"


def test_parts_of_proc_that_a_runtime_hides_need_no_flags() -> None:
    hidden = {"target": "/proc/keys", "filesystem": "devtmpfs", "flags": ["relatime", "ro"]}
    facts = facts_with("driver", "oci") | {"tier": 2}
    assert judged(facts | {"mounts": [*facts["mounts"], hidden]})[FILES].state is State.HELD
    for place in ("/procs", "/device", "/dev/shm", "/usr"):
        mounts = [*facts["mounts"], hidden | {"target": place}]
        assert judged(facts | {"mounts": mounts})[FILES].state is State.BROKEN


# What was called held and was not.

WRITABLE = {"target": "/srv", "filesystem": "ext4", "flags": ["nodev", "nosuid", "rw"]}
HONOURS_DEVICES = {"target": "/usr", "filesystem": "ext4", "flags": ["nosuid", "ro"]}


@pytest.mark.parametrize(
    ("path", "value", "wall", "told"),
    [
        ("after.survivors", 5, LIMITS, "5 of its processes lived"),
        ("after.remnants", ["volume x"], FILES, "left on the host: volume x"),
        ("mounts", [*good_facts()["mounts"], WRITABLE], FILES, "/srv was writable"),
        ("mounts", [*good_facts()["mounts"], HONOURS_DEVICES], FILES, "/usr was not nodev"),
        ("devices", ["b 8:0 /dev/sda"], DEVICES, "b 8:0 /dev/sda"),
        ("devices", ["c 195:0 /dev/nvidia0"], DEVICES, "/dev/nvidia0"),
        ("environment_names", ["PATH", "AWS_SECRET_ACCESS_KEY"], DEVICES, "AWS_SECRET_ACCESS_KEY"),
        ("environment_as_asked", False, DEVICES, "another environment"),
        ("limits.core_bytes", -1, LIMITS, "image of its memory"),
        ("inside.interfaces", {"lo": {}, "eth0": {}}, NETWORK, "besides its own loopback"),
        ("cgroup_wanted", {"memory_bytes": 10**15}, LIMITS, ""),
    ],
)
def test_what_was_found_beside_breaks_its_wall_alone(path: str, value: object, wall: str, told: str) -> None:
    facts = facts_with(path, value)
    if path == "cgroup_wanted":
        facts["cgroup_limits"]["memory_bytes"] = 10**15
    walls = judged(facts)
    assert [name for name, found in walls.items() if found.state is State.BROKEN] == [wall]
    assert told in walls[wall].sentence


@pytest.mark.parametrize(
    ("path", "value", "wall"),
    [
        ("limits", {}, LIMITS),
        ("after.survivors", None, LIMITS),
        ("after.remnants", None, FILES),
        ("after.network_bytes", None, NETWORK),
        ("inside.interfaces", None, NETWORK),
        ("inside.connect_tries", {"192.0.2.1": "refused"}, NETWORK),
        ("inside.write_tries", {"/usr": "refused"}, FILES),
        ("profile", None, FILES),
        ("open_files", [], DEVICES),
        ("environment_names", None, DEVICES),
    ],
)
def test_what_nobody_looked_at_is_not_told(path: str, value: object, wall: str) -> None:
    walls = judged(facts_with(path, value))
    assert [name for name, found in walls.items() if found.state is not State.HELD] in (
        [wall],
        [wall, LIMITS],
    )
    assert walls[wall].state is State.NOT_TOLD


def test_a_read_only_folder_to_which_nothing_was_written_is_not_told() -> None:
    folder = {"target": "/in/tuned", "filesystem": "ext4", "flags": ["nodev", "nosuid", "ro"]}
    facts = good_facts()
    facts["mounts"].append(folder)
    assert judged(facts)[FILES].state is State.NOT_TOLD
    facts["inside"]["write_tries"]["/in/tuned"] = "refused"
    assert judged(facts)[FILES].state is State.HELD


def test_limits_of_which_nobody_knows_what_was_asked_are_not_told() -> None:
    facts = facts_with("cgroup_limits.memory_bytes", 10**15)
    walls = {wall.name: wall.state for wall in judge_walls(facts, asked=None)}
    assert (walls[LIMITS], walls[DEVICES]) == (State.NOT_TOLD, State.NOT_TOLD)


def test_bytes_that_a_host_did_not_count_hold_partly() -> None:
    assert judged(facts_with("after.network_bytes", {}))[NETWORK].state is State.PARTLY


def test_more_processor_time_than_asked_is_found_in_the_words_of_either_control_group() -> None:
    second = {"memory_bytes": 9, "pids": 9, "cpu_quota_and_period_us": "200001 100000"}
    assert judged(facts_with("cgroup_limits", second) | {"cgroup": "v2"})[LIMITS].state is State.BROKEN


def test_a_variable_that_was_not_ordered_breaks_the_wall_if_the_order_is_known() -> None:
    facts = facts_with("environment_names", ["PATH", "GPG_KEY"])
    for environment, state in (
        (None, State.HELD),
        (frozenset({"GPG_KEY"}), State.HELD),
        (frozenset(), State.BROKEN),
    ):
        walls = judge_walls(facts, asked=ASKED, environment=environment)
        assert next(wall.state for wall in walls if wall.name == DEVICES) is state
