"""The worker's loop: every run to its end, nothing lost to what stands in the way, nothing left behind."""

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine

from appliance.domain import RunState
from appliance.errors import HomeError
from appliance.store.engine import open_database
from appliance.worker import sequence_pending, work
from audit.errors import LogStateError
from audit.log import AuditLog
from runner.errors import LauncherError
from runner.launcher.fake import FakeLauncher
from runner.spec import SandboxSpec
from tests.appliance.world import RUN_ID, World, trains


def after(rounds: int) -> Callable[[], bool]:
    """Stops the loop after so many rounds."""
    left = iter(range(rounds))
    return lambda: next(left, None) is None


def test_runs_go_to_their_end_one_after_another(world: World) -> None:
    for number in range(3):
        world.submit(f"run-{number}")
        world.clock.pass_s(1)
    work(world.ports, poll_interval_s=0, should_stop=after(40))
    assert [world.run(f"run-{number}").state for number in range(3)] == [RunState.LOGGED] * 3
    assert world.fsck() == ()


def test_the_last_event_is_in_the_log_too(world: World) -> None:
    world.submit()
    work(world.ports, poll_interval_s=0, should_stop=after(20))
    assert world.ports.log.receipt(world.events()[-1].encode()) is not None


def test_stops_when_told_before_anything_is_done(world: World) -> None:
    world.submit()
    work(world.ports, poll_interval_s=0, should_stop=lambda: True)
    assert world.run().state is RunState.SUBMITTED


def test_a_step_that_is_hindered_is_told_and_put_off(world: World, caplog: pytest.LogCaptureFixture) -> None:
    tried = []

    class Broken(FakeLauncher):
        def submit(self, spec: SandboxSpec) -> None:
            tried.append(spec.job_id)
            raise LauncherError("no process could be made")

    world.submit()
    broken = replace(world.ports, launcher=Broken(world.launcher.root, trains))
    work(broken, poll_interval_s=0, should_stop=after(10))
    assert tried == [RUN_ID]  # once, and not again before RETRY_AFTER_S
    assert world.run().state is RunState.PLACED
    assert "cannot go on, will be tried again: no process could be made" in caplog.text
    work(world.ports, poll_interval_s=0, should_stop=after(20))
    assert world.run().state is RunState.LOGGED


def test_a_hindered_run_holds_up_no_other(world: World) -> None:
    world.submit("run-1")
    world.settle("run-1")
    world.clock.pass_s(1)
    world.submit("run-2")
    for _ in range(30):
        if world.run("run-2").state is RunState.ATTESTED:
            break
        world.advance("run-2")
    world.clock.pass_s(1)
    world.submit("run-3")
    hindrance = world.appliance.home.evidence_dir / "run-2"
    hindrance.symlink_to("nowhere")  # its name is taken, and by nothing
    work(world.ports, poll_interval_s=0, should_stop=after(20))
    assert world.run("run-2").state is RunState.ATTESTED
    assert world.run("run-3").state is RunState.LOGGED
    hindrance.unlink()
    work(world.ports, poll_interval_s=0, should_stop=after(3))
    assert world.run("run-2").state is RunState.LOGGED


def test_a_cancellation_that_comes_in_between_is_no_error(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    class Rude(FakeLauncher):
        def poll(self, job_id: str) -> object:  # type: ignore[override]  # the same facts
            facts = FakeLauncher.poll(self, job_id)
            if world.run().state is RunState.RUNNING:
                world.cancel()
            return facts

    world.submit()
    rude = replace(world.ports, launcher=Rude(world.launcher.root, trains))  # type: ignore[arg-type]
    work(rude, poll_interval_s=0, should_stop=after(20))
    assert world.run().state is RunState.CANCELLED
    assert [r.message for r in caplog.records if r.levelno >= logging.ERROR] == []


def test_a_database_that_cannot_be_read_is_tried_again(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blank = tmp_path / "blank.db"
    engine: Engine = open_database(blank)
    engine.dispose()
    blank.write_bytes(b"not a database at all, not even nearly" * 99)
    work(replace(world.ports, engine=engine), poll_interval_s=0, should_stop=after(2))
    assert "runs cannot be read, will be tried again" in caplog.text


@pytest.mark.parametrize("error", [LogStateError("forked"), HomeError("locked"), OSError("no space left")])
def test_a_log_that_cannot_be_extended_is_told_and_stops_nothing(
    world: World, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    class Broken(AuditLog):
        def __init__(self) -> None:
            pass

        def sequence(self, now: datetime) -> int:
            raise error

    sequence_pending(replace(world.ports, log=Broken()))
    assert f"audit log cannot be extended, will be tried again: {error}" in caplog.text


def test_what_a_killed_worker_was_building_is_removed(world: World) -> None:
    home = world.appliance.home
    left = [home.jobs_dir / ".finalise-x", home.evidence_dir / ".building-run-1", home.jobs_dir / ".new-y"]
    for folder in left:
        (folder / "model").mkdir(parents=True)
    kept = [home.jobs_dir / "run-1", home.evidence_dir / "run-1"]
    for folder in kept:
        folder.mkdir()
    work(world.ports, poll_interval_s=0, should_stop=lambda: True)
    assert [folder for folder in left if folder.exists()] == []
    assert [folder for folder in kept if not folder.exists()] == []


def test_one_worker_a_home(world: World) -> None:
    home = world.appliance.home
    with home.worker_lock(), pytest.raises(HomeError, match="another worker is running"), home.worker_lock():
        pass
    with home.worker_lock():
        pass
