"""Upstream's rule at its edges, its defaults, and what a small node makes of them."""

from pathlib import Path

import pytest

from runner.contract.parameters import count_parameters
from runner.contract.resources import (
    BYTES_PER_PARAMETER,
    MULTIPLIERS,
    UPSTREAM_GPU_BYTES,
    Resources,
    cpu_resources,
    gpus_for,
    lowered,
    upstream_resources,
)
from runner.contract.tasks import TaskType
from runner.spec import Limits
from runner.weights import WeightsError
from tests.runner.tensors import BASE, write_model

BILLION = 10**9
GIB = 1 << 30


@pytest.mark.parametrize(
    ("parameters", "gpus"),
    [
        (1, 1),
        (4 * BILLION, 1),
        (4 * BILLION + 1, 2),
        (12 * BILLION, 2),
        (12 * BILLION + 1, 4),
        (40 * BILLION, 4),
        (40 * BILLION + 1, 8),
        (10**13, 8),
    ],
)
def test_the_rule_has_upstreams_steps(parameters: int, gpus: int) -> None:
    assert gpus_for(TaskType.INSTRUCT, parameters=parameters).gpus == gpus


@pytest.mark.parametrize(
    ("task", "has_kl", "factor"),
    [
        (TaskType.INSTRUCT, False, 1),
        (TaskType.INSTRUCT, True, 2),
        (TaskType.CHAT, False, 1),
        (TaskType.DPO, False, 3),
        (TaskType.GRPO, False, 2),
        (TaskType.ENVIRONMENT, False, 4),
    ],
)
def test_tasks_weigh_as_upstream_has_them(task: TaskType, has_kl: bool, factor: int) -> None:
    most = 12 * BILLION // factor
    assert gpus_for(task, parameters=most, has_kl=has_kl).gpus == 2
    assert gpus_for(task, parameters=most + 1, has_kl=has_kl).gpus == 4


def test_every_task_type_has_a_rule() -> None:
    assert set(MULTIPLIERS) | {TaskType.IMAGE} == set(TaskType)


@pytest.mark.parametrize("parameters", [0, 12 * BILLION, 10**12])
def test_an_image_task_gets_one_gpu_whatever_its_model(parameters: int) -> None:
    need = gpus_for(TaskType.IMAGE, parameters=parameters)
    assert (need.gpus, need.memory_each_bytes) == (1, 0)


@pytest.mark.parametrize(
    ("task", "parameters", "has_kl", "why"),
    [
        (TaskType.INSTRUCT, 494_032_768, False, "494,032,768 parameters: at most 4 billion, so 1 GPU"),
        (
            TaskType.DPO,
            4_000_000_001,
            False,
            "4,000,000,001 parameters times 3 for DpoTask are 12,000,000,003: at most 40 billion, so 4 GPUs",
        ),
        (
            TaskType.INSTRUCT,
            70 * BILLION,
            True,
            "70,000,000,000 parameters times 2 for InstructTextTask with KL are 140,000,000,000:"
            " over 40 billion, so 8 GPUs",
        ),
        (TaskType.IMAGE, 0, False, "an image task gets 1 GPU"),
    ],
)
def test_the_answer_says_why(task: TaskType, parameters: int, has_kl: bool, why: str) -> None:
    assert gpus_for(task, parameters=parameters, has_kl=has_kl).why == why


@pytest.mark.parametrize(
    ("parameters", "each"),
    [
        (BILLION, BILLION * BYTES_PER_PARAMETER),
        (3, 3 * BYTES_PER_PARAMETER),
        (4 * BILLION + 1, 2 * BILLION * BYTES_PER_PARAMETER + BYTES_PER_PARAMETER // 2),
        (100 * BILLION, UPSTREAM_GPU_BYTES),
    ],
)
def test_each_gpu_must_hold_its_part_and_never_more_than_upstreams_has(parameters: int, each: int) -> None:
    assert gpus_for(TaskType.INSTRUCT, parameters=parameters).memory_each_bytes == each


def test_a_real_gpu_of_80_gb_is_large_enough_for_every_model() -> None:
    h100_bytes = 81_559 << 20  # as its driver tells it
    assert h100_bytes > UPSTREAM_GPU_BYTES


def test_a_run_without_gpus_gets_the_sandboxs_defaults() -> None:
    limits, got = Limits(wall_clock_s=0), cpu_resources()
    assert (got.memory_bytes, got.cpu_millis, got.shm_bytes) == (
        limits.memory_bytes,
        limits.cpu_millis,
        limits.shm_bytes,
    )


def test_a_large_node_lowers_nothing() -> None:
    wanted = upstream_resources(gpus=2)
    assert lowered(wanted, memory_bytes=10**15, cpu_millis=10**9) == wanted


def test_a_small_node_lowers_to_what_it_has() -> None:
    got = lowered(upstream_resources(gpus=4), memory_bytes=24 * GIB, cpu_millis=8000)
    assert got == Resources(memory_bytes=24 * GIB, cpu_millis=8000, shm_bytes=12 * GIB)


def test_parameters_are_the_elements_of_all_tensors(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", BASE)
    sizes = [len(values) for _, _, values in BASE.values()]
    assert count_parameters(model) == sum(sizes) > 0


def test_weights_that_are_not_whole_are_not_counted(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"neither model\.safetensors nor"):
        count_parameters(tmp_path)
