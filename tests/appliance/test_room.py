"""What a node shares is read again when it is old, and a node that cannot be read is told."""

from pathlib import Path

import pytest

from appliance.errors import HomeError
from appliance.room import NODE_AGE_S, ROOM_AGE_S, ThisNode, read_room
from runner.inventory.host import read_host
from runner.inventory.nvml import real_nvml
from tests.runner.fake_nvml import GIB, FakeGpu, FakeNvml, gpus


def test_this_machine_has_something_to_share_and_keeps_something() -> None:
    found, host = read_room(real_nvml()), read_host()
    assert found.cpu_millis == 1000 * host.cpus
    assert 0 < found.memory_bytes <= host.memory_bytes - GIB
    assert (found.no_gpus is None) == bool(found.units)


def test_it_is_read_again_when_it_is_old() -> None:
    moments = iter((100.0, 100.0 + ROOM_AGE_S - 0.1, 100.0 + ROOM_AGE_S, 101.0 + ROOM_AGE_S))
    nvml = FakeNvml(*gpus(2))
    node = ThisNode(nvml, clock=lambda: next(moments))
    assert nvml.calls == []
    times = []
    for _ in range(4):
        assert len(node.room().units) == 2
        times.append(nvml.calls.count("nvmlInit"))
    assert times == [1, 1, 2, 2]


def test_gpus_are_read_anew_each_time() -> None:
    made = FakeGpu("GPU-0")
    node = ThisNode(FakeNvml(made), clock=lambda: 0.0)
    assert node.gpus().gpus[0].processes == ()
    made.processes = [7]
    assert node.gpus().gpus[0].processes == (7,)


def test_the_disk_of_a_node_is_always_fresh(tmp_path: Path) -> None:
    nvml = FakeNvml(*gpus(1))
    node = ThisNode(nvml, clock=lambda: 0.0)
    first, second = node.node(tmp_path), node.node(tmp_path.parent)
    assert first.runtimes is second.runtimes
    assert nvml.calls.count("nvmlInit") == 1
    assert (first.disk.path, second.disk.path) == (str(tmp_path), str(tmp_path.parent))
    assert NODE_AGE_S > ROOM_AGE_S


def test_a_node_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(HomeError, match=r"this node cannot be read: .*No such file"):
        ThisNode(FakeNvml()).node(tmp_path / "missing")


@pytest.mark.parametrize(
    ("made", "units", "no_gpus"),
    [
        (gpus(2), 2, None),
        ([*gpus(1), FakeGpu("GPU-old", minor=1, capability=(7, 5))], 1, None),
        (
            [FakeGpu("GPU-old", capability=(7, 5))],
            0,
            "no GPUs that champions can use: GPU-old: compute capability 7.5 is below 8.0",
        ),
        ([FakeGpu("GPU-busy", processes=[7])], 1, None),
        ([], 0, "no GPUs: the driver is there and counts none"),
    ],
    ids=["two", "one-too-old", "too-old", "busy", "none"],
)
def test_gpus_that_no_champion_can_use_are_none(made: list[FakeGpu], units: int, no_gpus: str | None) -> None:
    found = read_room(FakeNvml(*made))
    assert (len(found.units), found.no_gpus) == (units, no_gpus)
