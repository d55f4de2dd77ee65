"""What the pipeline reserves before a run starts, keeps over crashes, and gives back at its end."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.domain import Run, RunState
from appliance.errors import HomeError, StaleRunError
from appliance.pipeline import advance, place
from appliance.ports import Ports
from appliance.room import Room
from appliance.store import reservations
from appliance.store.engine import reading
from appliance.store.reservations import Reservation
from appliance.waiting import Capacity
from runner.inventory.node import Node
from tests.appliance.rooms import SMALL, FixedNode, big_room, unit
from tests.appliance.test_pipeline import refuse
from tests.appliance.world import RUN_ID, World, job
from tests.runner.fake_nvml import GIB

RESERVED = ("gpus", "memory_bytes", "cpu_millis", "shm_bytes", "disk_bytes")


@pytest.fixture
def node() -> FixedNode:
    return FixedNode(big_room(unit("GPU-0"), unit("GPU-1")))


@pytest.fixture
def ports(world: World, node: FixedNode) -> Ports:
    """Two runs at once on a node with two GPUs; jobs go on until a test lets them end."""
    world.launcher.holds = True
    capacity = Capacity(max_parallel_runs=2, needed_free_bytes=0, node=node)
    return replace(world.ports, capacity=capacity)


def held(world: World) -> dict[str, tuple[str, ...]]:
    with reading(world.ports.engine) as conn:
        return {one.run_id: one.gpus for one in reservations.list_held(conn)}


def settle(world: World, ports: Ports, run_id: str = RUN_ID) -> Run:
    for _ in range(20):
        before = world.run(run_id)
        world.advance(run_id, ports=ports)
        if world.run(run_id).state.is_final or (
            world.run(run_id) == before and world.advance(run_id, ports=ports) is None
        ):
            break
    return world.run(run_id)


def test_gpus_and_memory_are_reserved_before_anything_starts(world: World, ports: Ports) -> None:
    world.submit()
    placed = world.advance(ports=ports)
    assert placed is not None
    assert placed.state is RunState.PLACED
    assert held(world) == {RUN_ID: ("GPU-0",)}
    assert world.launcher.poll(RUN_ID) is None


def test_the_log_says_what_was_reserved_and_why(world: World, ports: Ports) -> None:
    world.submit()
    world.advance(ports=ports)
    detail = dict(world.events()[-1].detail)
    assert (detail["job"], detail["python"], detail["packages"]) == (RUN_ID, "3.11.9", "9" * 64)
    assert {name: detail[name] for name in RESERVED} == {
        "gpus": "GPU-0",
        "memory_bytes": 110 * GIB,
        "cpu_millis": 24_000,
        "shm_bytes": 8 * GIB,
        "disk_bytes": 0,
    }
    assert str(detail["why"]).endswith(" parameters: at most 4 billion, so 1 GPU")
    assert world.fsck() == ()


def test_a_node_without_gpus_runs_as_before(world: World, ports: Ports, node: FixedNode) -> None:
    node.to_share = SMALL
    world.submit()
    world.advance(ports=ports)
    assert held(world) == {RUN_ID: ()}
    assert world.events()[-1].detail["gpus"] == ""
    assert "no GPUs: libnvidia-ml.so.1 is not there" in str(world.events()[-1].detail["why"])


def test_two_runs_have_each_their_own_gpu_and_a_third_waits(world: World, ports: Ports) -> None:
    ports = replace(ports, capacity=replace(ports.capacity, max_parallel_runs=3))
    for number in range(3):
        world.submit(f"run-{number}")
        world.clock.pass_s(1)
        settle(world, ports, f"run-{number}")
    assert held(world) == {"run-0": ("GPU-0",), "run-1": ("GPU-1",)}
    assert world.run("run-2").state is RunState.SUBMITTED
    world.launcher.holds = False
    settle(world, ports, "run-0")
    assert settle(world, ports, "run-2").state is RunState.LOGGED


@pytest.mark.parametrize("state", [RunState.PLACED, RunState.RUNNING, RunState.HARVESTED])
def test_a_run_keeps_its_gpus_until_its_jobs_are_over(world: World, ports: Ports, state: RunState) -> None:
    world.launcher.holds = False
    world.submit()
    seen = {}
    while not world.run().state.is_final:
        world.advance(ports=ports)
        seen[world.run().state] = held(world)
    assert seen[state] == {RUN_ID: ("GPU-0",)}
    assert seen[RunState.EVALUATED] == seen[RunState.LOGGED] == {}


def test_a_cancelled_run_gives_back_what_it_had(world: World, ports: Ports) -> None:
    world.submit()
    settle(world, ports)
    world.cancel()
    assert held(world) == {RUN_ID: ("GPU-0",)}  # its job may still be there
    assert settle(world, ports).state is RunState.CANCELLED
    assert held(world) == {}


def test_a_failed_run_gives_back_what_it_had(world: World, ports: Ports) -> None:
    world.launcher.holds = False
    world.launcher.job = job(lambda output: None)  # it writes no model
    world.submit()
    assert settle(world, ports).state is RunState.FAILED
    assert held(world) == {}


def test_a_crash_between_reserving_and_placing_is_repaired_by_the_next_try(
    world: World, ports: Ports, node: FixedNode
) -> None:
    run = world.submit()
    assert place(run, ports) is not None  # and the worker is killed before the move is written
    assert held(world) == {}
    node.to_share = big_room(unit("GPU-1"), unit("GPU-0"))
    world.advance(ports=ports)
    assert held(world) == {RUN_ID: ("GPU-1",)}
    assert world.events()[-1].detail["gpus"] == "GPU-1"


def test_a_second_worker_with_the_same_run_makes_no_second_reservation(
    world: World, ports: Ports, node: FixedNode
) -> None:
    run = world.submit()
    assert advance(run, ports) is not None
    node.to_share = big_room(unit("GPU-1"))
    with pytest.raises(Exception, match="no longer submitted"):
        advance(run, ports)
    assert world.events()[-1].detail["gpus"] == "GPU-0"
    assert list(held(world)) == [RUN_ID]


def test_a_worker_that_was_slower_waits_and_fails_nothing(world: World, ports: Ports) -> None:
    class Slow(FixedNode):
        def room(self) -> Room:
            """Meanwhile another worker places another run."""
            with world.ports.engine.begin() as conn:
                other = Reservation(
                    run_id="run-other", memory_bytes=1, cpu_millis=1, shm_bytes=0, disk_bytes=0
                )
                reservations.reserve(conn, other, seen=reservations.list_held(conn))
            return super().room()

    run = world.submit()
    world.submit("run-other")
    slow = replace(ports, capacity=replace(ports.capacity, node=Slow(big_room(unit("GPU-0")))))
    with pytest.raises(StaleRunError, match="other reservations were made"):
        advance(run, slow)
    assert world.run().state is RunState.SUBMITTED
    assert list(held(world)) == ["run-other"]


def test_a_node_that_cannot_be_read_fails_no_run(world: World, ports: Ports) -> None:
    class Broken(FixedNode):
        def room(self) -> Room:
            raise HomeError("this node cannot be read: no /proc")

        def node(self, folder: Path) -> Node:
            raise AssertionError

    world.submit()
    broken = replace(ports, capacity=replace(ports.capacity, node=Broken()))
    with pytest.raises(HomeError):
        world.advance(ports=broken)
    assert world.run().state is RunState.SUBMITTED


def test_a_refused_champion_reserves_nothing(world: World, ports: Ports) -> None:
    world.submit()
    refuse(world)
    assert settle(world, ports).state is RunState.FAILED
    assert held(world) == {}


def test_the_operators_word_goes_before_the_rule(world: World, ports: Ports) -> None:
    world.submit()
    told = replace(ports, capacity=replace(ports.capacity, gpus_per_run=2))
    world.advance(ports=told)
    assert held(world) == {RUN_ID: ("GPU-0", "GPU-1")}


def test_a_run_that_the_node_never_has_gpus_for_waits(world: World, ports: Ports, node: FixedNode) -> None:
    world.submit()
    told = replace(ports, capacity=replace(ports.capacity, gpus_per_run=4))
    assert settle(world, told).state is RunState.SUBMITTED
    node.to_share = big_room()
    assert settle(world, told).state is RunState.RUNNING


@pytest.fixture(autouse=True)
def _no_double_grants(world: World) -> Iterator[None]:
    """After every test: no GPU is two runs'."""
    yield
    given = [uuid for gpus in held(world).values() for uuid in gpus]
    assert len(given) == len(set(given))
