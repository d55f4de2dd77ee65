"""What a run gets: by the rule, by the operator's word, and never more than its share of the node."""

from dataclasses import replace

import pytest

from appliance.room import Room
from appliance.sizing import Wish, cpus, gib, size_for
from runner.contract.resources import cpu_resources, upstream_resources
from runner.contract.tasks import TaskType
from tests.appliance.rooms import SMALL, big_room, unit
from tests.runner.fake_nvml import GIB

EIGHT = big_room()
BILLION = 10**9


def not_asked() -> int:
    raise AssertionError("the number of parameters does not matter here")


def wish(parameters: int = BILLION, **changes: object) -> Wish:
    made = Wish(task=TaskType.INSTRUCT, parameters=lambda: parameters)
    return replace(made, **changes)  # type: ignore[arg-type]  # fields of a wish


def test_a_node_without_gpus_gives_none_and_says_why() -> None:
    size = size_for(wish(), room=SMALL, places=1, disk_bytes=7)
    assert (size.gpus, size.why) == (0, "no GPU: no GPUs: libnvidia-ml.so.1 is not there")
    assert (size.memory_bytes, size.cpu_millis) == (cpu_resources().memory_bytes, 2000)
    assert size.disk_bytes == 7


@pytest.mark.parametrize(
    ("made", "room"),
    [
        (Wish(task=TaskType.INSTRUCT, parameters=not_asked), SMALL),
        (Wish(task=TaskType.INSTRUCT, parameters=not_asked, gpus=2), EIGHT),
        (Wish(task=TaskType.IMAGE, parameters=not_asked), EIGHT),
    ],
    ids=["no-gpus", "told", "image"],
)
def test_weights_are_counted_only_where_their_number_matters(made: Wish, room: Room) -> None:
    size_for(made, room=room, places=1, disk_bytes=0)


@pytest.mark.parametrize(
    ("parameters", "task", "gpus"), [(BILLION, TaskType.INSTRUCT, 1), (8 * BILLION, TaskType.DPO, 4)]
)
def test_a_node_with_gpus_gives_what_upstream_gives(parameters: int, task: TaskType, gpus: int) -> None:
    size = size_for(wish(parameters, task=task), room=EIGHT, places=1, disk_bytes=0)
    upstream = upstream_resources(gpus=gpus)
    assert size.gpus == gpus
    assert (size.memory_bytes, size.cpu_millis, size.shm_bytes) == (
        upstream.memory_bytes,
        upstream.cpu_millis,
        upstream.shm_bytes,
    )
    assert size.lowered == ()


@pytest.mark.parametrize(("gpus", "takes"), [(1, True), (2, False)])
def test_only_one_gpu_may_be_a_slice(gpus: int, takes: bool) -> None:
    assert size_for(wish(gpus=gpus), room=EIGHT, places=1, disk_bytes=0).takes_slices is takes


def test_kl_counts() -> None:
    sizes = [
        size_for(wish(3 * BILLION, has_kl=kl), room=EIGHT, places=1, disk_bytes=0) for kl in (False, True)
    ]
    assert [size.gpus for size in sizes] == [1, 2]


@pytest.mark.parametrize(("told", "room", "gpus"), [(3, EIGHT, 3), (0, EIGHT, 0), (2, SMALL, 2)])
def test_what_was_told_goes_before_the_rule(told: int, room: Room, gpus: int) -> None:
    size = size_for(wish(gpus=told), room=room, places=1, disk_bytes=0)
    assert (size.gpus, size.gpu_memory_bytes) == (gpus, 0)
    assert "as was ordered or set" in size.why


def test_a_small_node_lowers_and_says_so() -> None:
    room = replace(big_room(unit("GPU-0"), unit("GPU-1")), cpu_millis=16_000, memory_bytes=24 * GIB)
    size = size_for(wish(), room=room, places=1, disk_bytes=0)
    assert (size.memory_bytes, size.cpu_millis, size.shm_bytes) == (12 * GIB, 8000, 6 * GIB)
    assert size.lowered == (
        "memory 110 GiB lowered to 12 GiB, its share of the node",
        "CPUs 24 lowered to 8, its share of the node",
        "shared memory 8 GiB lowered to 6 GiB, half of the memory",
    )


@pytest.mark.parametrize("gpus", [1, 2, 3, 8])
def test_runs_that_use_all_gpus_fit_beside_each_other(gpus: int) -> None:
    room = replace(EIGHT, cpu_millis=17_001, memory_bytes=100 * GIB + 1)
    size = size_for(wish(gpus=gpus), room=room, places=1, disk_bytes=0)
    at_once = 8 // gpus
    assert at_once * size.memory_bytes <= room.memory_bytes
    assert at_once * size.cpu_millis <= room.cpu_millis


@pytest.mark.parametrize("places", [1, 2, 5])
def test_runs_without_gpus_share_by_places(places: int) -> None:
    size = size_for(wish(), room=SMALL, places=places, disk_bytes=0)
    assert size.cpu_millis == 2000 // places
    assert places * size.memory_bytes <= SMALL.memory_bytes


def test_more_gpus_than_the_node_has_are_asked_for_nevertheless() -> None:
    room = big_room(unit("GPU-0"))
    size = size_for(wish(70 * BILLION), room=room, places=1, disk_bytes=0)
    assert (size.gpus, size.memory_bytes) == (8, room.memory_bytes)


@pytest.mark.parametrize(
    ("size_bytes", "told"),
    [(0, "0 GiB"), (GIB, "1 GiB"), (GIB * 3 // 2, "1.5 GiB"), (2 * GIB - 1, "1.9 GiB")],
)
def test_sizes_are_told_rounded_down(size_bytes: int, told: str) -> None:
    assert gib(size_bytes) == told


@pytest.mark.parametrize(("millis", "told"), [(0, "0"), (2000, "2"), (1500, "1.5"), (333, "0.333")])
def test_cpus_are_told_as_a_number(millis: int, told: str) -> None:
    assert cpus(millis) == told
