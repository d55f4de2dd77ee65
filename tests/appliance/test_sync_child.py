"""Scheduled syncs run beside the worker: it waits for none of them, and nothing of them stays behind."""

import logging
import signal
import subprocess
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine, update

from appliance.assembly import Appliance
from appliance.domain import RunState
from appliance.errors import SettingsError
from appliance.schedule import add_source
from appliance.store import sources, tables
from appliance.store.engine import open_database, reading
from appliance.sync_child import CHECK_EVERY_S, RETRY_AFTER_S, ScheduledSync
from appliance.sync_due import main
from appliance.worker import work
from tests.appliance.test_worker import after
from tests.appliance.world import PROPOSER, World


@dataclass
class Child:
    """A process that ends when a test says so."""

    code: int | None = None
    is_killed: bool = False

    def poll(self) -> int | None:
        return self.code

    def kill(self) -> None:
        self.is_killed, self.code = True, -9

    def wait(self) -> int:
        assert self.code is not None
        return self.code


@dataclass
class Yard:
    """Starts children, and has a clock of its own."""

    world: World
    children: list[Child] = field(default_factory=list)
    now_s: float = 0.0
    error: OSError | None = None

    def start(self, home: Path) -> "subprocess.Popen[bytes]":
        assert home == self.world.appliance.home.root
        if self.error is not None:
            raise self.error
        self.children.append(Child())
        return self.children[-1]  # type: ignore[return-value]  # what is used of a process

    def scheduled(self, world: World | None = None) -> ScheduledSync:
        ports = (world or self.world).ports
        return ScheduledSync(ports, start=self.start, clock_s=lambda: self.now_s)


@pytest.fixture
def yard(world: World) -> Yard:
    add_source(world.appliance, location="/nowhere", root=b"root", interval_s=60, actor=PROPOSER)
    return Yard(world)


def test_a_child_is_started_when_a_source_is_due_and_only_one(yard: Yard) -> None:
    scheduled = yard.scheduled()
    for _ in range(5):
        scheduled.tend()
        yard.now_s += CHECK_EVERY_S
    assert len(yard.children) == 1


def test_nothing_is_started_while_nothing_is_due(world: World) -> None:
    yard = Yard(world)
    yard.scheduled().tend()
    assert yard.children == []


def test_the_database_is_asked_now_and_then_only(yard: Yard) -> None:
    scheduled = yard.scheduled()
    scheduled.tend()
    yard.children[0].code = 0
    yard.now_s = CHECK_EVERY_S - 1
    scheduled.tend()
    assert len(yard.children) == 1
    yard.now_s = CHECK_EVERY_S
    scheduled.tend()  # the source is due as before: this child did nothing
    assert len(yard.children) == 2


def test_a_child_that_failed_is_told_and_not_started_again_at_once(
    yard: Yard, caplog: pytest.LogCaptureFixture
) -> None:
    scheduled = yard.scheduled()
    scheduled.tend()
    yard.children[0].code = 1
    scheduled.tend()
    yard.now_s = RETRY_AFTER_S - 1
    scheduled.tend()
    assert len(yard.children) == 1
    assert "scheduled sync ended with 1" in caplog.text
    yard.now_s = RETRY_AFTER_S
    scheduled.tend()
    assert len(yard.children) == 2


def test_a_child_that_cannot_be_started_is_told(yard: Yard, caplog: pytest.LogCaptureFixture) -> None:
    yard.error = OSError("no processes left")
    yard.scheduled().tend()
    assert "scheduled sync cannot be started, will be tried again: no processes left" in caplog.text


def test_a_database_that_cannot_be_read_is_told(
    yard: Yard, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blank = tmp_path / "blank.db"
    engine: Engine = open_database(blank)
    engine.dispose()
    blank.write_bytes(b"not a database at all, not even nearly" * 99)
    broken = replace(yard.world, ports=replace(yard.world.ports, engine=engine))
    yard.scheduled(broken).tend()
    assert "sources cannot be read, will be tried again" in caplog.text


def test_stopping_ends_the_child(yard: Yard) -> None:
    scheduled = yard.scheduled()
    scheduled.stop()  # none yet
    scheduled.tend()
    scheduled.stop()
    assert yard.children[0].is_killed


def test_a_child_that_ended_is_not_killed(yard: Yard) -> None:
    scheduled = yard.scheduled()
    scheduled.tend()
    yard.children[0].code = 0
    scheduled.stop()
    assert not yard.children[0].is_killed


# The child itself.


def test_a_dead_feed_keeps_no_run_waiting(world: World) -> None:
    """With a real child, which the worker ends when it is stopped."""
    add_source(world.appliance, location="/nowhere", root=b"root", interval_s=60, actor=PROPOSER)
    world.submit()
    work(world.ports, poll_interval_s=0, should_stop=after(20))
    assert world.run().state is RunState.LOGGED


def test_the_child_gives_itself_a_limit_and_takes_it_back(appliance: Appliance) -> None:
    assert main([str(appliance.home.root)], {}) == 0
    assert signal.alarm(0) == 0
    with pytest.raises(SettingsError):
        main([str(appliance.home.root)], {"ASSAY_NONSENSE": "1"})
    assert signal.alarm(0) == 0


def test_the_child_syncs_what_is_due_and_says_how_it_went(
    appliance: Appliance, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    add_source(appliance, location="/nowhere", root=b"root", interval_s=60, actor=PROPOSER)
    with appliance.engine.begin() as conn:  # the child has a clock of its own
        conn.execute(update(tables.sync_source).values(next_at=datetime(2020, 1, 1, tzinfo=UTC)))
    assert main([str(appliance.home.root)], {}) == 0
    with reading(appliance.engine) as conn:
        (source,) = sources.list_sources(conn)
    assert source.failures == 1
    assert str(source.last_result).startswith("failed: ")
    assert f"source=/nowhere {source.last_result}" in caplog.text
    assert not logging.getLogger("httpx").isEnabledFor(logging.INFO)  # a line for each request helps nobody
