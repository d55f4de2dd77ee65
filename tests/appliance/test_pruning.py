"""Once a run is logged its harvest goes, whatever the worker was doing; nothing else does."""

from pathlib import Path

from appliance.domain import RunState
from appliance.pruning import forget_harvest, forget_harvests
from appliance.worker import work
from tests.appliance.world import RUN_ID, World


def harvests(world: World) -> list[Path]:
    return sorted(world.ports.home.jobs_dir.glob("*/harvest"))


def test_a_logged_run_keeps_its_logs_and_no_harvest(world: World) -> None:
    world.submit()
    assert world.settle().state is RunState.LOGGED
    forget_harvest(world.run(), world.ports)
    assert harvests(world) == []
    assert (world.ports.launcher.job_dir(RUN_ID) / "stdout.log").is_file()
    assert (world.ports.launcher.job_dir(RUN_ID) / "exit.json").is_file()


def test_a_worker_that_starts_finishes_what_a_crash_left(world: World) -> None:
    world.submit()
    world.settle()
    assert len(harvests(world)) == 2
    stops = iter([True])
    work(world.ports, poll_interval_s=0.05, should_stop=lambda: next(stops))
    assert harvests(world) == []


def test_folders_that_are_no_runs_stay(world: World) -> None:
    (world.ports.home.jobs_dir / "stranger" / "harvest").mkdir(parents=True)
    forget_harvests(world.ports)
    assert [folder.parent.name for folder in harvests(world)] == ["stranger"]
