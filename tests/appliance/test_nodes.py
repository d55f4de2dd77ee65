"""A run gets exactly what it needs or waits, and the sentence says what is missing and who has it."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance.domain import ChosenWalls, Classification, Order, Run, RunState
from appliance.errors import InvalidOrderError
from appliance.nodes import Place, Shortage, find_place, place_detail, shortage, size_of_order, waits_for
from appliance.room import Room
from appliance.sizing import Size
from appliance.store.reservations import Reservation
from appliance.waiting import Capacity
from runner.weights import WeightsError
from tests.appliance.rooms import SMALL, FixedNode, big_room, unit
from tests.runner.fake_nvml import GIB
from tests.runner.tensors import BASE, write_model

NOW = datetime(2026, 11, 21, 2, 0, tzinfo=UTC)
ORDER = Order(champion="c" * 64, base_model="b" * 64, dataset="d" * 64, hours_to_complete=1.0)
RUN = Run(
    id="run-b",
    order=ORDER,
    state=RunState.SUBMITTED,
    version=0,
    submitted_by="ada",
    submitted_at=NOW,
    updated_at=NOW,
)
SIZE = Size(
    gpus=0, gpu_memory_bytes=0, memory_bytes=GIB, cpu_millis=1000, shm_bytes=0, disk_bytes=0, why="because"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model", BASE)


@pytest.fixture
def find(folder: Path) -> Callable[..., Place | Shortage]:
    """`find_place` for RUN on a node, with nothing in its way unless it is given."""

    def found(
        room: Room,
        *held: Reservation,
        others: tuple[Run, ...] = (),
        gpus: int | None = None,
        places: int = 4,
        free_bytes: int = 100 * GIB,
        needed: int = GIB,
    ) -> Place | Shortage:
        capacity = Capacity(
            max_parallel_runs=places, needed_free_bytes=needed, gpus_per_run=gpus, node=FixedNode(room)
        )
        return find_place(
            RUN, others, held, capacity=capacity, free_bytes=free_bytes, model_folder=lambda _: folder
        )

    return found


Find = Callable[..., Place | Shortage]


def holding(run_id: str, *gpus: str, **amounts: int) -> Reservation:
    values = {"memory_bytes": 0, "cpu_millis": 0, "shm_bytes": 0, "disk_bytes": 0} | amounts
    return Reservation(run_id=run_id, gpus=gpus, **values)


def granted(found: Place | Shortage) -> tuple[str, ...]:
    assert isinstance(found, Place), found
    return found.reservation.gpus


def why(found: Place | Shortage) -> str:
    assert isinstance(found, Shortage), found
    return found.why


# Places.


def test_a_node_without_gpus_takes_a_run_as_it_is(find: Find) -> None:
    found = find(SMALL, places=1)
    assert isinstance(found, Place)
    assert found.reservation == Reservation(
        run_id="run-b", memory_bytes=8 * GIB, cpu_millis=2000, shm_bytes=GIB, disk_bytes=GIB, gpus=()
    )


def test_a_small_model_gets_one_gpu(find: Find) -> None:
    assert granted(find(big_room())) == ("GPU-0",)


@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_exactly_as_many_as_are_needed(find: Find, count: int) -> None:
    assert granted(find(big_room(), gpus=count)) == tuple(f"GPU-{n}" for n in range(count))


def test_what_another_run_holds_is_not_given(find: Find) -> None:
    assert granted(find(big_room(), holding("run-a", "GPU-0", "GPU-2"), gpus=2)) == ("GPU-1", "GPU-3")


def test_what_is_refused_is_not_given(find: Find) -> None:
    room = big_room(unit("GPU-0", refusal="it is in use by process 7"), unit("GPU-1"))
    assert granted(find(room)) == ("GPU-1",)


def test_several_gpus_are_of_one_product(find: Find) -> None:
    room = big_room(unit("L-0", memory_gib=48, product="L40S"), unit("H-0"), unit("H-1"))
    assert granted(find(room, gpus=2)) == ("H-0", "H-1")


def test_the_smallest_that_does_is_given(find: Find) -> None:
    room = big_room(unit("H-0"), unit("L-0", memory_gib=48, product="L40S"))
    assert granted(find(room)) == ("L-0",)


def test_one_gpu_may_be_a_slice_and_several_may_not(find: Find) -> None:
    slices = (unit("MIG-0", memory_gib=10, is_slice=True), unit("MIG-1", memory_gib=10, is_slice=True))
    room = big_room(*slices, unit("GPU-0"), unit("GPU-1"))
    assert granted(find(room, gpus=1)) == ("MIG-0",)
    assert granted(find(room, gpus=2)) == ("GPU-0", "GPU-1")


def test_what_takes_no_slices_gets_none() -> None:
    room = big_room(unit("MIG-0", memory_gib=10, is_slice=True), unit("GPU-0"))
    size = replace(SIZE, gpus=1, takes_slices=False)
    assert shortage(size, (), room=room, free_bytes=0) is None
    assert "GPU-0" in (shortage(size, (holding("run-a", "GPU-0"),), room=room, free_bytes=0) or "")


@pytest.mark.parametrize(("driver", "takes"), [("bubblewrap", True), ("oci", True), ("gvisor", False)])
def test_a_run_behind_gvisor_takes_no_slices(folder: Path, driver: str, takes: bool) -> None:
    walls = ChosenWalls(
        classification=Classification.PUBLIC,
        driver=driver,
        evaluation_driver=driver,
        demand="{}",
        policy_sha256="f" * 64,
    )
    size = size_of_order(
        replace(ORDER, walls=walls),
        room=big_room(),
        capacity=Capacity(max_parallel_runs=1, needed_free_bytes=0),
        model_folder=lambda _: folder,
    )
    assert size.takes_slices is takes


def test_a_run_keeps_what_it_was_granted_before_a_crash(find: Find) -> None:
    held = holding("run-b", "GPU-5", "GPU-3")
    assert granted(find(big_room(), held, gpus=2)) == ("GPU-5", "GPU-3")


@pytest.mark.parametrize("had", [("GPU-5",), ("GPU-5", "GPU-9"), ("GPU-5", "GPU-3", "GPU-1")])
def test_what_is_no_longer_right_is_not_kept(find: Find, had: tuple[str, ...]) -> None:
    assert granted(find(big_room(), holding("run-b", *had), gpus=2)) == ("GPU-0", "GPU-1")


# Shortages.


def test_says_which_gpus_are_missing_and_who_has_them(find: Find) -> None:
    room = big_room(unit("GPU-0"), unit("GPU-1"), unit("GPU-2", refusal="it is in use by process 7"))
    assert why(find(room, holding("run-a", "GPU-0"), gpus=2)) == (
        "needs 2 equal GPUs, 1 free; run-a holds GPU-0; GPU-2: it is in use by process 7"
    )


def test_says_how_much_memory_each_must_have() -> None:
    size = replace(SIZE, gpus=2, gpu_memory_bytes=75 * GIB)
    room = big_room(unit("GPU-0"), unit("GPU-1"), unit("L-0", memory_gib=48))
    told = shortage(size, (holding("run-a", "GPU-1"),), room=room, free_bytes=0)
    assert told == "needs 2 equal GPUs with 75 GiB each, 1 free; run-a holds GPU-1"


@pytest.mark.parametrize(
    ("room", "told"),
    [
        (big_room(unit("GPU-0")), "needs 2 equal GPUs, 1 free; this node never has more than 1 such"),
        (SMALL, "needs 2 equal GPUs, 0 free; no GPUs: libnvidia-ml.so.1 is not there"),
        (
            big_room(unit("GPU-0"), unit("L-0", memory_gib=48, product="L40S")),
            "needs 2 equal GPUs, 2 free; this node never has so many of one product",
        ),
    ],
    ids=["too-few", "none", "mixed"],
)
def test_says_that_a_node_will_never_do(find: Find, room: Room, told: str) -> None:
    assert why(find(room, gpus=2)) == told


def test_a_grant_is_all_or_nothing(find: Find) -> None:
    held = [holding(f"run-{n}", f"GPU-{n}") for n in range(7)]
    assert "needs 2 equal GPUs, 1 free" in why(find(big_room(), *held, gpus=2))


@pytest.mark.parametrize(
    ("held", "told"),
    [
        (
            {"memory_bytes": 13 * GIB},
            "needs 4 GiB of memory, 3 GiB free; the rest is reserved by run-a, run-c",
        ),
        ({"cpu_millis": 1600}, "needs 0.5 CPUs, 0.4 free; the rest is reserved by run-a, run-c"),
        ({"disk_bytes": 100 * GIB}, "needs 1 GiB of disk, 0 GiB free; the rest is reserved by run-a, run-c"),
    ],
    ids=["memory", "cpus", "disk"],
)
def test_says_what_else_is_missing(find: Find, held: dict[str, int], told: str) -> None:
    assert why(find(SMALL, holding("run-a", **held), holding("run-c"))) == told


def test_what_a_run_has_itself_is_not_in_its_way(find: Find) -> None:
    own = holding("run-b", memory_bytes=16 * GIB, cpu_millis=2000, disk_bytes=100 * GIB)
    assert isinstance(find(SMALL, own), Place)


# Who comes first.


def test_an_earlier_run_that_waits_for_gpus_goes_first(find: Find) -> None:
    earlier = replace(RUN, id="run-a", submitted_at=NOW - timedelta(seconds=1))
    assert why(find(big_room(), others=(earlier,))) == ("run-a was submitted earlier and waits for GPUs, too")


@pytest.mark.parametrize(
    "other",
    [
        replace(RUN, id="run-z", submitted_at=NOW + timedelta(seconds=1)),
        replace(RUN, id="run-a", submitted_at=NOW - timedelta(seconds=1), state=RunState.RUNNING),
        replace(
            RUN,
            id="run-a",
            submitted_at=NOW - timedelta(seconds=1),
            order=replace(ORDER, task_type="NoTask"),
        ),
    ],
    ids=["later", "running", "unusable"],
)
def test_others_hold_nobody_up(find: Find, other: Run) -> None:
    assert granted(find(big_room(), others=(other,))) == ("GPU-0",)


def test_an_earlier_run_that_never_fits_holds_nobody_up(tmp_path: Path, folder: Path) -> None:
    large = write_model(tmp_path / "large", BASE)
    _pretend_to_have(large / "model.safetensors", parameters=5_000_000_000)
    earlier = replace(
        RUN,
        id="run-a",
        submitted_at=NOW - timedelta(seconds=1),
        order=replace(ORDER, base_model="e" * 64),
    )
    folders = {ORDER.base_model: folder, "e" * 64: large}
    for units, winner in ((1, True), (2, False)):
        room = big_room(*(unit(f"GPU-{n}") for n in range(units)))
        capacity = Capacity(max_parallel_runs=4, needed_free_bytes=0, node=FixedNode(room))
        found = find_place(
            RUN, (earlier,), (), capacity=capacity, free_bytes=GIB, model_folder=lambda d: folders[d]
        )
        assert isinstance(found, Place) is winner


def _pretend_to_have(weights: Path, *, parameters: int) -> None:
    """A file of so many 8-bit numbers that takes no disk."""
    header = json.dumps({"w": {"dtype": "I8", "shape": [parameters], "data_offsets": [0, parameters]}})
    weights.write_bytes(len(header).to_bytes(8, "little") + header.encode())
    with weights.open("r+b") as file:
        file.truncate(8 + len(header) + parameters)


# The sentence for people, and the log's.


def test_turn_first_then_place(folder: Path) -> None:
    def told(run: Run, *others: Run, gpus: int | None = None) -> str | None:
        capacity = Capacity(
            max_parallel_runs=1, needed_free_bytes=0, gpus_per_run=gpus, node=FixedNode(SMALL)
        )
        return waits_for(run, others, (), capacity=capacity, free_bytes=GIB, model_folder=lambda _: folder)

    assert told(RUN) is None
    assert "1 of 1 places" in (told(RUN, replace(RUN, id="run-a", state=RunState.RUNNING), gpus=1) or "")
    assert "needs 1 GPU, 0 free" in (told(RUN, gpus=1) or "")
    assert told(replace(RUN, state=RunState.PLACED), gpus=1) is None


def test_what_cannot_be_counted_is_told_and_raised(tmp_path: Path) -> None:
    capacity = Capacity(max_parallel_runs=1, needed_free_bytes=0, node=FixedNode(big_room()))
    told = waits_for(RUN, (), (), capacity=capacity, free_bytes=0, model_folder=lambda _: tmp_path)
    assert "what it needs cannot be told" in (told or "")
    with pytest.raises(WeightsError, match=r"neither model\.safetensors"):
        find_place(RUN, (), (), capacity=capacity, free_bytes=0, model_folder=lambda _: tmp_path)


def test_an_unknown_task_type_is_refused(folder: Path) -> None:
    with pytest.raises(InvalidOrderError, match="no task type 'NoTask'"):
        size_of_order(
            replace(ORDER, task_type="NoTask"),
            room=SMALL,
            capacity=Capacity(max_parallel_runs=1, needed_free_bytes=0),
            model_folder=lambda _: folder,
        )


def test_the_log_entry_has_every_amount_and_the_reason() -> None:
    held = Reservation(
        run_id="run-b", memory_bytes=1, cpu_millis=2, shm_bytes=3, disk_bytes=4, gpus=("GPU-b", "GPU-a")
    )
    assert place_detail(Place(reservation=held, size=SIZE)) == {
        "gpus": "GPU-b GPU-a",
        "memory_bytes": 1,
        "cpu_millis": 2,
        "shm_bytes": 3,
        "disk_bytes": 4,
        "why": "because",
    }
