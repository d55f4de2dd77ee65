"""`assay nodes`: what this machine has, and what a run would get of it; on the machine that the test runs on."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from appliance.cli import make_app
from appliance.cli.nodes import TaskName, _print_node, _print_size
from appliance.node_view import node_view
from appliance.sizing import Size
from appliance.store.artifacts import Artifact, ArtifactKind
from appliance.store.reservations import Reservation
from runner.contract.tasks import TaskType
from runner.inventory.node import read_node
from tests.appliance.rooms import big_room, unit
from tests.appliance.world import START, World
from tests.runner.fake_nvml import GIB, FakeError, FakeGpu, FakeNvml, gpus

APP = make_app()


@pytest.fixture
def assay(world: World) -> Callable[..., Any]:
    home = ["--home", str(world.appliance.home.root)]
    return lambda *arguments: CliRunner().invoke(APP, [*arguments, *home])


def test_the_noun_alone_lists(assay: Callable[..., Any]) -> None:
    alone, listed = assay("nodes"), assay("nodes", "list")
    assert alone.exit_code == listed.exit_code == 0
    for answer in (alone, listed):
        assert {"node", "disk", "podman"} <= {line.split("  ")[0] for line in answer.stdout.splitlines()}


@pytest.mark.parametrize("flag", [("--json",), ("-o", "json")])
@pytest.mark.parametrize("command", [("nodes",), ("nodes", "list")])
def test_nodes_as_json(assay: Callable[..., Any], command: tuple[str, ...], flag: tuple[str, ...]) -> None:
    (node,) = json.loads(assay(*command, *flag).stdout)["nodes"]
    assert node["cpu_millis"] > 0
    assert node["inventory"]["disk"]["free_bytes"] > 0
    assert node["reservations"] == []


def test_a_node_is_shown_with_what_is_unknown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = FakeGpu("GPU-0", fails={"nvmlDeviceGetPciInfo": FakeError("GPU is lost")})
    node = read_node(tmp_path, nvml=FakeNvml(broken, *gpus(1)))
    room = big_room(unit("GPU-0"), unit("GPU-1", refusal="it is in use by process 7"))
    held = Reservation(
        run_id="run-a", memory_bytes=GIB, cpu_millis=1500, shm_bytes=0, disk_bytes=0, gpus=("GPU-0",)
    )
    _print_node(node_view(node, room, (held,)))
    told = capsys.readouterr()
    assert "driver      570.86.15, CUDA 12.8" in told.out
    assert "GPU-0  NVIDIA H100 80GB HBM3  80 GiB  held by run-a" in told.out
    assert "GPU-1  NVIDIA H100 80GB HBM3  80 GiB  it is in use by process 7" in told.out
    assert "GPU 0: pci unknown: GPU is lost" in told.err
    assert "run run-a has 1.5 CPUs, 1 GiB of memory, 1 GPUs" in told.err


def test_says_what_a_run_would_get(assay: Callable[..., Any]) -> None:
    answer = assay("nodes", "size", "local/tiny", "--task", "dpo")
    assert answer.exit_code == 0, answer.output
    facts = dict(line.split("  ", 1) for line in answer.stdout.splitlines())
    assert facts["model"].strip() == "local/tiny"
    assert facts["now"].strip() == "there is a place for it" or "needs" in facts["now"]


def test_a_size_as_json_with_the_operators_number(assay: Callable[..., Any], world: World) -> None:
    arguments = ("nodes", "size", world.order.base_model, "--task", "DPO", "--kl", "--gpus", "64", "--json")
    sized = json.loads(assay(*arguments).stdout)
    assert (sized["model"], sized["task"], sized["gpus"]) == ("local/tiny", "DpoTask", 64)
    assert sized["shortage"].startswith("needs 64 equal GPUs, ")
    assert "as was ordered or set" in sized["why"]


def test_a_size_is_shown_with_what_was_lowered(capsys: pytest.CaptureFixture[str]) -> None:
    size = Size(
        gpus=2,
        gpu_memory_bytes=75 * GIB,
        memory_bytes=100 * GIB,
        cpu_millis=48_000,
        shm_bytes=8 * GIB,
        disk_bytes=5 * GIB,
        why="because",
        lowered=("memory 220 GiB lowered to 100 GiB, its share of the node",),
    )
    model = Artifact(
        root_sha256="b" * 64,
        kind=ArtifactKind.MODEL,
        name="org/model",
        facts={},
        imported_by="ada",
        imported_at=START,
    )
    _print_size(model, size, "needs 2 equal GPUs with 75 GiB each, 0 free")
    told = capsys.readouterr()
    assert [line.split()[-1] for line in told.out.splitlines()][:2] == ["org/model", "2"]
    assert "now            needs 2 equal GPUs" in told.out
    assert told.err == "memory 220 GiB lowered to 100 GiB, its share of the node\n"


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("local/none", "--task", "DPO"), 1, "no imported model local/none; `assay models list` shows"),
        (("local/tiny", "--task", "SFT"), 2, "SFT"),
        (("local/tiny",), 2, "--task"),
        (("local/tiny", "--task", "DPO", "--gpus", "65"), 2, "equal to 64"),
    ],
)
def test_what_cannot_be_sized_is_told(
    assay: Callable[..., Any], arguments: tuple[str, ...], code: int, told: str
) -> None:
    answer = assay("nodes", "size", *arguments)
    assert answer.exit_code == code
    assert told in answer.output


def test_nothing_is_reserved_by_asking(assay: Callable[..., Any]) -> None:
    assay("nodes", "size", "local/tiny", "--task", "DPO")
    assert json.loads(assay("nodes", "--json").stdout)["nodes"][0]["reservations"] == []


def test_task_names_are_the_contracts() -> None:
    assert {name.value for name in TaskName} == set(TaskType.__members__)
