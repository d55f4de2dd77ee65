"""Data get the walls that their classification asks for, or the order is refused: never others, never weaker."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from appliance.domain import ChosenWalls, Classification, Order, Run, RunState
from appliance.errors import InvalidOrderError, PolicyError
from appliance.isolation_policy import (
    MAX_POLICY_BYTES,
    Defaults,
    check_placement,
    choose_walls,
    demand_of,
    driver_of,
    evaluation_driver_of,
    load_isolation_policy,
    parse_isolation_policy,
)
from attestation.digest import sha256_hex
from runner.errors import SandboxUnavailableError
from runner.isolation_demand import TIERS, shortfalls
from runner.sandbox.measure import unenforced
from tests.appliance.isolation_facts import good_facts

POLICIES = Path(__file__).parents[2] / "policies"
SHIPPED = (POLICIES / "isolation" / "tiers.json").read_bytes()
POLICY = load_isolation_policy(POLICIES)


def changed(change: str, value: object, *, of: Classification | None = None) -> bytes:
    """The shipped file with one field of the whole, or of a classification, replaced; left out if None."""
    whole = json.loads(SHIPPED)
    place = whole if of is None else whole["classifications"][of.rank]
    place[change] = value
    if value is None:
        del place[change]
    return json.dumps(whole).encode()


def run_with(walls: ChosenWalls | None, *, asked: str | None = None) -> Run:
    moment = datetime(2026, 11, 21, tzinfo=UTC)
    return Run(
        id="run-1",
        order=Order(
            champion="c" * 64,
            base_model="b" * 64,
            dataset="d" * 64,
            hours_to_complete=1,
            driver=asked,
            walls=walls,
        ),
        state=RunState.SUBMITTED,
        version=0,
        submitted_by="ada",
        submitted_at=moment,
        updated_at=moment,
    )


def chosen(classification: Classification, asked: str | None = None, **defaults: str) -> ChosenWalls:
    return choose_walls(POLICY, classification, asked=asked, defaults=Defaults(**defaults))


def gives_all(driver: str) -> None:
    """A host on which every driver works."""


# The shipped rules.


def test_shipped_rules_name_the_digest_of_their_file() -> None:
    assert POLICY.sha256 == sha256_hex(SHIPPED)


def test_shipped_rules_ask_for_an_own_kernel_around_restricted_data_only() -> None:
    tiers = {name: requirement.demand.min_tier for name, requirement in POLICY.requirements.items()}
    assert tiers == {"public": 1, "internal": 1, "confidential": 1, "restricted": 3}


def test_shipped_rules_let_confidential_data_on_hosts_with_control_groups_only() -> None:
    forbidden = POLICY.requirements[Classification.CONFIDENTIAL].demand.forbidden_unenforced
    assert {"cpu_millis", "memory_bytes", "devices", "swap"} <= set(forbidden)
    assert POLICY.requirements[Classification.RESTRICTED].demand.needs_measured_filter


def test_shipped_rules_have_a_reason_for_every_driver_and_classification() -> None:
    assert set(POLICY.driver_reasons) == set(TIERS)
    assert all(requirement.reason for requirement in POLICY.requirements.values())


def test_the_compliance_guide_says_what_the_shipped_rules_say() -> None:
    guide = (POLICIES.parent / "docs" / "compliance.md").read_text()
    for requirement in POLICY.requirements.values():
        (line,) = [row for row in guide.splitlines() if row.startswith(f"| `{requirement.classification}`")]
        _, least, single_processes, read_back = (cell.strip() for cell in line.strip("|").split("|"))
        assert least.startswith(f"tier {requirement.demand.min_tier}, ")
        assert single_processes.startswith("no") == bool(requirement.demand.forbidden_unenforced)
        assert read_back == ("yes" if requirement.demand.needs_measured_filter else "no")


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_confidential_data_stay_off_hosts_that_bound_neither_devices_nor_swap(version: str) -> None:
    facts = good_facts() | {"cgroup": version, "cgroup_limits": {}, "host": {"swap": "areas: 1"}}
    facts |= {"unenforced": list(unenforced(facts))}
    demands = {name: one.demand for name, one in POLICY.requirements.items()}
    assert shortfalls(facts, demands[Classification.INTERNAL]) == ()
    told = "\n".join(shortfalls(facts, demands[Classification.CONFIDENTIAL]))
    assert "must not be: devices: " in told
    assert "must not be: swap: " in told


# The choice.


def test_who_asks_for_nothing_gets_the_settings_drivers() -> None:
    walls = chosen(Classification.INTERNAL, driver="oci", evaluation_driver="gvisor")
    assert (walls.driver, walls.evaluation_driver) == ("oci", "gvisor")
    assert walls.policy_sha256 == POLICY.sha256


def test_a_default_that_is_too_weak_is_raised() -> None:
    walls = chosen(Classification.RESTRICTED)
    assert (walls.driver, walls.evaluation_driver) == ("gvisor", "gvisor")


@pytest.mark.parametrize("asked", TIERS)
def test_who_asks_for_enough_gets_exactly_that_around_both_jobs(asked: str) -> None:
    walls = chosen(Classification.PUBLIC, asked, driver="gvisor")
    assert (walls.driver, walls.evaluation_driver) == (asked, asked)


@pytest.mark.parametrize("asked", ["bubblewrap", "oci", "none", "BUBBLEWRAP", "", "x" * 200])
def test_who_asks_for_less_is_refused_and_told_what_will_do(asked: str) -> None:
    with pytest.raises(InvalidOrderError, match="restricted data needs tier 3 or higher") as refused:
        chosen(Classification.RESTRICTED, asked)
    assert (refused.value.checked, refused.value.wanted) == ("driver", "gvisor")
    assert (refused.value.found or "").startswith((asked[:10], repr(asked)[:10]))


def test_an_evaluation_is_never_behind_weaker_walls_than_training() -> None:
    for asked, low in pairwise(["gvisor", "oci", "bubblewrap"]):
        assert chosen(Classification.PUBLIC, asked, evaluation_driver=low).evaluation_driver == asked


# What a run asks of its sandbox.


def test_a_run_has_the_drivers_and_the_demand_it_was_ordered_with() -> None:
    run = run_with(chosen(Classification.RESTRICTED))
    assert (driver_of(run), evaluation_driver_of(run)) == ("gvisor", "gvisor")
    assert demand_of(run) == POLICY.requirements[Classification.RESTRICTED].demand


def test_a_run_of_an_older_home_is_behind_bubblewrap_with_nothing_demanded() -> None:
    run = run_with(None)
    assert (driver_of(run), evaluation_driver_of(run), demand_of(run)) == ("bubblewrap", "bubblewrap", None)
    check_placement(run, policy=POLICY, check_driver=gives_all)


@pytest.mark.parametrize("kept", ["", "{}", '{"min_tier":1}', "\ud800"])
def test_a_demand_that_was_changed_is_not_read_as_none(kept: str) -> None:
    walls = replace(chosen(Classification.RESTRICTED), demand=kept)
    with pytest.raises(PolicyError, match="run run-1"):
        demand_of(run_with(walls))


# Placement.


def test_a_host_that_gives_both_drivers_may_have_the_run() -> None:
    asked: list[str] = []
    run = run_with(chosen(Classification.PUBLIC, evaluation_driver="gvisor"))
    check_placement(run, policy=POLICY, check_driver=asked.append)
    assert asked == ["bubblewrap", "gvisor"]


@pytest.mark.parametrize("missing", ["bubblewrap", "gvisor"])
def test_a_host_without_a_driver_is_told_with_the_fix_and_no_other_driver_is_tried(missing: str) -> None:
    tried: list[str] = []

    def check(driver: str) -> None:
        tried.append(driver)
        if driver == missing:
            raise SandboxUnavailableError(f"{driver} is not there; install the package '{driver}'")

    run = run_with(chosen(Classification.PUBLIC, evaluation_driver="gvisor"))
    with pytest.raises(InvalidOrderError, match=r"no others are taken instead: .*install the package"):
        check_placement(run, policy=POLICY, check_driver=check)
    assert set(tried) <= {"bubblewrap", "gvisor"}


def test_a_run_that_waited_while_the_rules_were_made_stricter_is_not_placed() -> None:
    stricter = parse_isolation_policy(changed("min_tier", 3, of=Classification.CONFIDENTIAL))
    run = run_with(chosen(Classification.CONFIDENTIAL))
    with pytest.raises(InvalidOrderError, match=r"was changed after the run was ordered.*submit it again"):
        check_placement(run, policy=stricter, check_driver=gives_all)


def test_other_words_for_the_same_rules_change_nothing() -> None:
    reworded = parse_isolation_policy(changed("reason", "said otherwise", of=Classification.PUBLIC))
    assert reworded.sha256 != POLICY.sha256
    check_placement(run_with(chosen(Classification.PUBLIC)), policy=reworded, check_driver=gives_all)


# The file.


def test_no_rules_are_no_permission(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"tiers\.json cannot be read: No such file.*copy the one"):
        load_isolation_policy(tmp_path)


def _with_drivers(change: dict[str, Any]) -> bytes:
    rows = json.loads(SHIPPED)["drivers"]
    return changed("drivers", [{**rows[0], **change}, *rows[1:]])


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"{", "not JSON"),
        (b"[]", "the file has list"),
        (b" " * (MAX_POLICY_BYTES + 1), "over the limit"),
        (SHIPPED.replace(b'"version": 1,', b'"version": 1, "version": 1,'), "isolation policy"),
        (changed("version", 2), "version is 2"),
        (changed("version", True), "version is True"),
        (changed("more", 1), "the file has .*more"),
        (changed("drivers", None), "the file has classifications, version"),
        (changed("drivers", {}), "drivers is no list"),
        (changed("drivers", json.loads(SHIPPED)["drivers"][1:]), "wanted exactly"),
        (changed("drivers", json.loads(SHIPPED)["drivers"] * 2), "wanted exactly"),
        (_with_drivers({"tier": 3}), "wanted exactly"),
        (_with_drivers({"tier": True}), "wanted exactly"),
        (_with_drivers({"driver": "podman"}), "wanted exactly"),
        (_with_drivers({"driver": ["bubblewrap"]}), "wanted exactly"),
        (_with_drivers({"reason": ""}), "bubblewrap: reason"),
        (_with_drivers({"reason": "a\x1b[2J"}), "bubblewrap: reason"),
        (changed("classifications", []), "wanted public, internal, confidential, restricted"),
        (
            changed("classifications", json.loads(SHIPPED)["classifications"][::-1]),
            "wanted public, internal, confidential, restricted",
        ),
        (changed("classification", "secret", of=Classification.PUBLIC), "'secret' is no classification"),
        (changed("classification", ["public"], of=Classification.PUBLIC), "is no classification"),
        (changed("min_tier", 4, of=Classification.RESTRICTED), "restricted: .*min_tier is 4"),
        (changed("min_tier", None, of=Classification.RESTRICTED), "a classification has"),
        (changed("reason", 1, of=Classification.PUBLIC), "public: reason"),
        (changed("min_tier", 2, of=Classification.PUBLIC), "internal asks for less than public: min_tier"),
        (
            changed("forbidden_unenforced", [], of=Classification.RESTRICTED),
            "restricted asks for less than confidential: forbidden_unenforced",
        ),
        (
            changed("needs_measured_filter", True, of=Classification.PUBLIC),
            "internal asks for less than public: needs_measured_filter",
        ),
    ],
    ids=lambda value: "file" if isinstance(value, bytes) else value,
)
def test_rules_that_are_not_exactly_understood_are_refused(data: bytes, told: str) -> None:
    with pytest.raises(PolicyError, match=told):
        parse_isolation_policy(data)


def test_a_site_may_ask_for_more_than_the_shipped_rules() -> None:
    stricter = parse_isolation_policy(changed("needs_measured_filter", True, of=Classification.CONFIDENTIAL))
    assert stricter.requirements[Classification.CONFIDENTIAL].demand.needs_measured_filter
