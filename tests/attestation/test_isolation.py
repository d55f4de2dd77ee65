"""What is demanded of a claim about walls, and what its own facts may not contradict."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest

from attestation.claims import Kind
from attestation.errors import MalformedError
from attestation.isolation import (
    MAX_FACTS,
    MOUNTED_FIRST,
    TIERS,
    caveats,
    check_measured,
    contradictions,
    told,
    ways_out,
)
from attestation.predicates import ISOLATION, check_predicate
from attestation.statement import Statement, Subject

# Facts of one driver alone, and objects whose keys are not ours.
FREE = {("platform",), ("cgroup_limits",), ("limits",), ("inside", "status"), ("after", "usage")}
FREE_KEYS = {"write_tries", "connect_tries", "network_bytes", "interfaces"}


@pytest.fixture
def walls(packs: ModuleType) -> dict[str, Any]:
    made: dict[str, Any] = packs.measured_walls()
    return made


def with_fact(walls: Mapping[str, Any], path: str, value: object) -> dict[str, Any]:
    """`walls` with another value at `path` ("seccomp.mode")."""
    name, _, rest = path.partition(".")
    return {**walls, name: with_fact(walls[name], rest, value) if rest else value}


def demanded(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every field that must be there."""
    for name, value in node.items() if isinstance(node, Mapping) else ():
        if (*path, name) in FREE:
            continue
        yield (*path, name)
        if name not in FREE_KEYS:
            yield from demanded(value, (*path, name))


def without(node: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    name, *rest = path
    if rest:
        return {**node, name: without(node[name], tuple(rest))}
    return {key: value for key, value in node.items() if key != name}


def behind_gvisor(walls: Mapping[str, Any]) -> dict[str, Any]:
    """`walls` as of gVisor: its kernel is nobody, and another process opens the guest's files."""
    sentry, gofer, nobody, own = (
        [1900000512] * 4,
        [1900000001] * 4,
        [65534, 1900000512, 1],
        [0, 1900000001, 1],
    )
    seccomp = {name: value for name, value in walls["seccomp"].items() if name != "wanted_sha256"}
    ids = {"uids": sentry, "gids": sentry, "uid_map": [nobody], "gid_map": [nobody]}
    remarks = ["gVisor's kernel alone keeps pids", "/dev takes files of the guest, up to memory_bytes"]
    made = {**walls, **ids, "driver": "gvisor", "tier": 3, "seccomp": seccomp, "unenforced": remarks}
    maps = {"uids": gofer, "gids": gofer, "uid_map": [own, nobody], "gid_map": [nobody, own]}
    return {**made, "gofer": {**made, **maps}}


def test_takes_whole_walls(walls: dict[str, Any]) -> None:
    check_measured(walls, "measured")
    assert list(contradictions(walls)) == []


def test_refuses_walls_that_lack_any_field_and_says_which(walls: dict[str, Any]) -> None:
    paths = list(demanded(walls))
    assert len(paths) > 60
    for path in paths:
        above = ".".join(("measured", *path[:-1]))
        with pytest.raises(MalformedError, match=rf"^{above}: lacks \['{path[-1]}'\]$"):
            check_measured(without(walls, path), "measured")


def test_refuses_any_field_of_another_type_and_says_which(walls: dict[str, Any]) -> None:
    for path in demanded(walls):
        where = ".".join(path)
        with pytest.raises(MalformedError, match=rf"^measured\.{where}: expected "):
            check_measured(with_fact(walls, where, 0.5), "measured")


def test_refuses_an_unknown_field_of_what_was_counted_at_the_end(walls: dict[str, Any]) -> None:
    with pytest.raises(MalformedError, match=r"measured\.after: unknown fields \['extra'\]"):
        check_measured(with_fact(walls, "after.extra", 1), "measured")


def test_keeps_what_a_driver_measures_beside(walls: dict[str, Any]) -> None:
    check_measured({**walls, "sentry": {"mounts": [], "files": {"pipe": 3}}}, "measured")


@pytest.mark.parametrize(
    ("path", "value", "told_so"),
    [
        ("driver", "fake", "one of bubblewrap, oci, gvisor"),
        ("driver_version", "", "a text of 1 to"),
        ("tier", -1, "an integer of at least 0"),
        ("profile", "root", "one of strict, champion"),
        ("image", "sha256:" + "ab" * 32, "64 lower-case hexadecimal digits"),
        ("inputs_mounted", "later", "one of after the first measurement, before the measurement"),
        ("cgroup", "v3", "one of v1, v2, none"),
        ("cgroup_limits", {"memory_bytes": None}, "an integer or a text"),
        ("uids", [], "at least one"),
        ("uid_map", [], "at least one"),
        ("mounts", [], "at least one"),
        ("capabilities.CapEff", "0", "16 lower-case hexadecimal digits"),
        ("seccomp.sha256_is", "hoped", "one of measured, claimed, not read"),
        ("inside.connect_tries", {}, "at least one"),
        ("after.survivors", True, "an integer of at least 0"),
        ("after.network_bytes", {"lo": {"sent_bytes": 1}}, "lacks"),
        ("after.network_bytes", {"lo": {"received_bytes": -1, "sent_bytes": 1}}, "at least 0"),
        ("after.usage", {"cpu_ms": "7"}, "an integer"),
        ("after.out_of_memory", "", "a text of 1 to"),
        ("measured_at", "2026-11-21", "expected"),
        ("released_at", None, "expected"),
        ("unenforced", [1], "a text"),
    ],
)
def test_refuses_facts_out_of_range(walls: dict[str, Any], path: str, value: object, told_so: str) -> None:
    with pytest.raises(MalformedError, match=rf"^measured\.{path}.*{told_so}"):
        check_measured(with_fact(walls, path, value), "measured")


@pytest.mark.parametrize("driver", TIERS)
def test_knows_every_driver_with_and_without_an_image(walls: dict[str, Any], driver: str) -> None:
    of_driver = behind_gvisor(walls) if driver == "gvisor" else {**walls, "driver": driver}
    for image in (None, "ab" * 32):
        made = {**of_driver, "tier": TIERS[driver], "image": image}
        check_measured(made, "measured")
        assert list(contradictions(made)) == []


def test_takes_a_filter_that_nobody_could_read_and_kernels_that_count_none(walls: dict[str, Any]) -> None:
    seccomp = {**walls["seccomp"], "filters": -1, "sha256": None, "sha256_is": "not read"}
    check_measured({**walls, "seccomp": seccomp}, "measured")


def test_refuses_walls_with_a_violation_and_repeats_it(packs: ModuleType) -> None:
    predicate = packs.base_statements({Kind.APPROVAL: b""})[Kind.ISOLATION_TRAIN]().predicate
    spoiled = with_fact(predicate, "measured.violations", ["eth0 is there"])
    statement = Statement(
        subjects=(Subject(name="model", sha256="ab" * 32),), predicate_type=ISOLATION, predicate=spoiled
    )
    with pytest.raises(MalformedError, match=r"predicate\.measured\.violations: .*found \['eth0 is there'\]"):
        check_predicate(statement)
    check_predicate(replace(statement, predicate=predicate))


def test_refuses_more_facts_than_anybody_reads(walls: dict[str, Any]) -> None:
    with pytest.raises(MalformedError, match=rf"at most {MAX_FACTS} values"):
        check_measured({**walls, "sentry": [0] * MAX_FACTS}, "measured")
    with pytest.raises(MalformedError, match=r"measured\.sentry\[0\]\.name: expected a text of at most 4096"):
        check_measured({**walls, "sentry": [{"name": "x" * 4097}]}, "measured")
    with pytest.raises(MalformedError, match=r"measured\.sentry: expected a text of at most 4096"):
        check_measured({**walls, "sentry": {"x" * 4097: 1}}, "measured")


MOVED = {"received_bytes": 1, "sent_bytes": 0}
STILL = {"received_bytes": 0, "sent_bytes": 0}


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        ("tier", 3, "tier is 3, but bubblewrap is of tier 1"),
        ("network_bytes", {"eth0": MOVED}, "1 bytes passed the network interface eth0"),
        ("inside.interfaces", {"lo": STILL, "eth0": MOVED}, "1 bytes passed the network interface eth0"),
        ("inside.interfaces", {"lo": STILL, "tun0": STILL}, "there was the network interface tun0"),
        ("after.network_bytes", {"lo": STILL, "eth0": MOVED}, "1 bytes passed the network interface eth0"),
        ("interfaces", ["eth0", "lo"], "there was the network interface eth0"),
        ("routes", 2, "2 network routes led out"),
        (
            "inside.connect_tries",
            {"192.0.2.1": "CONNECTED"},
            "a connection to 192.0.2.1 from inside was CONNECTED",
        ),
        ("inside.write_tries", {"/": "WRITTEN"}, "a write to / from inside was WRITTEN"),
        ("after.survivors", 1, "1 processes of the guest lived"),
    ],
)
def test_finds_what_whole_walls_cannot_have_been(
    walls: dict[str, Any], path: str, value: object, sentence: str
) -> None:
    spoiled = with_fact(walls, path, value)
    check_measured(spoiled, "measured")  # well-formed, and not true
    assert sentence in next(contradictions(spoiled))


def test_an_interface_that_came_and_moved_nothing_is_no_leak(walls: dict[str, Any]) -> None:
    """Kernels give new network namespaces tunnels of their own, which are down and lead nowhere."""
    made = with_fact(walls, "after.network_bytes", {"lo": MOVED, "sit0": STILL})
    assert list(contradictions(made)) == []


def test_tells_driver_tier_root_order_and_network_in_one_line(walls: dict[str, Any]) -> None:
    assert told(walls) == (
        "bubblewrap (bubblewrap 0.8.0), tier 1 of 3, profile champion, in the shipped environment; inputs mounted"
        " after the first measurement; 0 bytes passed any network interface but lo (84 on lo, its own)"
    )
    other = {**walls, "image": "ab" * 32, "gpus": ["GPU-1", "GPU-2"], "inputs_mounted": MOUNTED_FIRST}
    assert "in image abababababababab…, 2 GPUs; inputs mounted before the measurement;" in told(other)


def test_bytes_that_nobody_could_count_are_not_told_as_none(walls: dict[str, Any]) -> None:
    uncounted = with_fact(walls, "after.network_bytes", {})
    assert "0 bytes" not in told(uncounted)
    assert "bytes not counted at the end" in told(uncounted)
    assert list(caveats(uncounted, guest="training")) == [
        "Counters: after training this host did not tell how many bytes had passed its network interfaces."
    ]


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        (
            "unenforced",
            ["cpu_millis", "pids: per user id only"],
            "Limits: around training, bubblewrap left unenforced: cpu_millis, pids: per user id only.",
        ),
        (
            "inputs_mounted",
            MOUNTED_FIRST,
            "Order: inputs of training were mounted before its walls had been measured.",
        ),
        ("after.remnants", ["mount x"], "Clean-up: training left behind mount x."),
    ],
)
def test_says_what_a_reader_must_not_forget(
    walls: dict[str, Any], path: str, value: object, sentence: str
) -> None:
    assert list(caveats(walls, guest="training")) == []
    assert list(caveats(with_fact(walls, path, value), guest="training")) == [sentence]


def test_says_once_for_each_driver_what_was_a_way_out(walls: dict[str, Any]) -> None:
    gvisor = {**walls, "driver": "gvisor", "tier": 3, "gpus": ["GPU-1"]}
    assert list(ways_out(walls, walls)) == [
        "Escape: bubblewrap is tier 1 of 3. A flaw of the host's kernel is a way out."
    ]
    assert list(ways_out(gvisor, walls)) == [
        "Escape: bubblewrap is tier 1 of 3. A flaw of the host's kernel is a way out.",
        "Escape: gvisor is tier 3 of 3. A flaw of gVisor's kernel and then of the host's is a way out.",
        "GPUs: their driver is the host's. A flaw of it is a way out.",
    ]
