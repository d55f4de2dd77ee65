"""What policy chose for a run is what its jobs are started with; nobody takes it back by changing a row."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from appliance.domain import Classification, Run, RunState
from appliance.isolation_policy import Defaults, choose_walls, load_isolation_policy
from appliance.isolation_source import find_walls
from appliance.store.engine import reading
from audit.event import EventKind
from runner.errors import SandboxUnavailableError
from runner.spec import parse_spec
from tests.appliance.isolation_facts import good_facts
from tests.appliance.world import RUN_ID, World

POLICIES = Path(__file__).parents[2] / "policies"
POLICY = load_isolation_policy(POLICIES)


@pytest.fixture
def world(world: World) -> World:
    """The world, whose jobs measure good walls."""
    world.launcher.isolation = good_facts()
    return world


def submit(
    world: World, classification: Classification = Classification.RESTRICTED, evaluation_driver: str = "oci"
) -> Run:
    defaults = Defaults(evaluation_driver=evaluation_driver)
    walls = choose_walls(POLICY, classification, asked=None, defaults=defaults)
    return world.submit(walls=walls)


def place(world: World) -> None:
    submit(world)
    world.advance()
    assert world.run().state is RunState.PLACED


@pytest.mark.parametrize(
    ("classification", "drivers"),
    [(Classification.RESTRICTED, ("gvisor", "gvisor")), (Classification.PUBLIC, ("bubblewrap", "oci"))],
)
def test_both_jobs_are_started_with_what_was_chosen(
    world: World, classification: Classification, drivers: tuple[str, str]
) -> None:
    submit(world, classification)
    while world.run().state is not RunState.EVALUATED:
        world.advance()
    for job, driver in zip((RUN_ID, f"{RUN_ID}-evaluate"), drivers, strict=True):
        spec = parse_spec((world.launcher.job_dir(job) / "job.json").read_bytes())
        assert (spec.driver, spec.demand) == (driver, POLICY.requirements[classification].demand)
    (placed,) = [event for event in world.events() if event.kind is EventKind.RUN_PLACED]
    assert (placed.detail["driver"], placed.detail["evaluation_driver"]) == drivers


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("UPDATE run_walls SET driver = 'bubblewrap'", "driver is bubblewrap, the log says gvisor"),
        ("UPDATE run_walls SET evaluation_driver = 'oci'", "evaluation_driver is oci, the log says gvisor"),
        (
            "UPDATE run_walls SET classification = 'public'",
            "classification is public, the log says restricted",
        ),
        ("UPDATE run_walls SET demand = '{}'", "isolation_demand is {}, the log says"),
        ("UPDATE run_walls SET policy_sha256 = ''", "isolation_policy is , the log says"),
        ("DELETE FROM run_walls", "is None, the log says"),
    ],
)
def test_walls_that_were_changed_in_the_database_start_nothing(
    world: World, statement: str, told: str
) -> None:
    place(world)
    with world.ports.engine.begin() as conn:
        conn.execute(text(statement))
    run = world.settle()
    assert run.state is RunState.FAILED
    assert told in (run.reason or "")
    assert world.launcher.poll(run.id) is None


def test_a_host_without_the_driver_fails_the_run_before_anything_starts(world: World) -> None:
    def check(driver: str) -> None:
        raise SandboxUnavailableError(f"{driver} is not there; install it")

    submit(world)
    world.advance(ports=replace(world.ports, check_driver=check))
    run = world.run()
    assert run.state is RunState.FAILED
    assert "cannot put up the walls gvisor, and no others are taken instead: gvisor is not there" in (
        run.reason or ""
    )
    assert world.launcher.poll(run.id) is None


def test_a_run_that_waited_while_the_rules_became_stricter_fails(world: World, tmp_path: Path) -> None:
    raw = json.loads((POLICIES / "isolation" / "tiers.json").read_text())
    for row in raw["classifications"]:
        row["min_tier"] = max(row["min_tier"], 2)
    (tmp_path / "isolation").mkdir()
    (tmp_path / "isolation" / "tiers.json").write_text(json.dumps(raw))
    submit(world, Classification.PUBLIC)
    world.advance(ports=replace(world.ports, isolation=lambda: load_isolation_policy(tmp_path)))
    assert "was changed after the run was ordered" in (world.run().reason or "")


def test_times_and_counters_of_the_end_are_signed_with_the_walls(world: World) -> None:
    submit(world, Classification.PUBLIC, evaluation_driver="bubblewrap")
    run = world.settle()
    assert run.state is RunState.LOGGED
    assert world.verify()
    with reading(world.ports.engine) as conn:
        for found in find_walls(conn, run, home=world.appliance.home):
            assert found.is_signed
            assert found.facts["measured_at"]
            assert {"ended_at", "network_bytes", "usage", "survivors"} <= set(found.facts["after"])
