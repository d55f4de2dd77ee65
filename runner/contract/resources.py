"""What upstream grants a champion's container: GPUs by the size of the model, memory, CPUs and shared memory.

What is covered: upstream's rule and its defaults, which an operator or an order may override and a small node
lowers; each answer says why.
What is not covered: whether a model fits. The rule was made for GPUs of 80 GB and knows no sequence length.

Source: the champion contract, sections 5.6 and 13.8. Gradients.io (https://gradients.io).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from runner.contract.tasks import TaskType
from runner.spec import Limits

MEMORY_PER_GPU_BYTES = 110 << 30
CPUS_PER_GPU = 24
SHM_BYTES, SHM_MANY_GPUS_BYTES = 8 << 30, 16 << 30
MANY_GPUS = 4

BILLION: Final = 10**9
MULTIPLIERS: Final[Mapping[TaskType, int]] = {
    TaskType.INSTRUCT: 1,
    TaskType.CHAT: 1,
    TaskType.DPO: 3,
    TaskType.GRPO: 2,
    TaskType.ENVIRONMENT: 4,
}
KL_MULTIPLIER: Final = 2
# (at most so many billions of weighted parameters, so many GPUs)
STEPS: Final = ((4, 1), (12, 2), (40, 4))
MOST_GPUS: Final = 8
# Ours, for GPUs smaller than upstream's: full training in 16 bits with an optimizer in 32 needs 16 bytes a
# parameter and some for activations; upstream's own steps come to 20 bytes where they are fullest.
BYTES_PER_PARAMETER: Final = 20
UPSTREAM_GPU_BYTES: Final = 75 << 30  # "80 GB" as its driver tells it, and a little less


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Limits of one container."""

    memory_bytes: int
    cpu_millis: int  # thousandths of a CPU
    shm_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuNeed:
    """How many equal GPUs, with at least how much memory each, and why, in one sentence."""

    gpus: int
    memory_each_bytes: int
    why: str


def gpus_for(task: TaskType, *, parameters: int, has_kl: bool = False) -> GpuNeed:
    """Upstream's rule. `parameters` are those of the base model; an image model needs one GPU whatever it has."""
    if task is TaskType.IMAGE:
        return GpuNeed(gpus=1, memory_each_bytes=0, why="an image task gets 1 GPU")
    factor = MULTIPLIERS[task] * (KL_MULTIPLIER if has_kl else 1)
    weighted = parameters * factor
    gpus = next((gpus for most, gpus in STEPS if weighted <= most * BILLION), MOST_GPUS)
    each = min(UPSTREAM_GPU_BYTES, -(-weighted * BYTES_PER_PARAMETER // gpus))
    return GpuNeed(
        gpus=gpus,
        memory_each_bytes=each,
        why=f"{_why_weighted(task, parameters, factor, has_kl=has_kl)}: {_step(gpus)}",
    )


def upstream_resources(*, gpus: int) -> Resources:
    """What upstream grants with that many GPUs. Raises ValueError for none: upstream has no such champion."""
    if gpus < 1:
        raise ValueError(f"{gpus} GPUs: upstream grants at least one")
    return Resources(
        memory_bytes=gpus * MEMORY_PER_GPU_BYTES,
        cpu_millis=gpus * CPUS_PER_GPU * 1000,
        shm_bytes=SHM_MANY_GPUS_BYTES if gpus >= MANY_GPUS else SHM_BYTES,
    )


def cpu_resources() -> Resources:
    """What a run on a node without GPUs gets: the sandbox's own defaults, for small models and trials."""
    limits = Limits(wall_clock_s=0)
    return Resources(
        memory_bytes=limits.memory_bytes, cpu_millis=limits.cpu_millis, shm_bytes=limits.shm_bytes
    )


def lowered(wanted: Resources, *, memory_bytes: int, cpu_millis: int) -> Resources:
    """`wanted`, or what there is if that is less; shared memory is at most half of the memory, which counts it."""
    memory = min(wanted.memory_bytes, memory_bytes)
    return Resources(
        memory_bytes=memory,
        cpu_millis=min(wanted.cpu_millis, cpu_millis),
        shm_bytes=min(wanted.shm_bytes, memory // 2),
    )


def _why_weighted(task: TaskType, parameters: int, factor: int, *, has_kl: bool) -> str:
    told = f"{parameters:,} parameters"  # in full: rounded, one above a limit would look like one within it
    if factor == 1:
        return told
    return f"{told} times {factor} for {task}{' with KL' if has_kl else ''} are {parameters * factor:,}"


def _step(gpus: int) -> str:
    most = next((most for most, step in STEPS if step == gpus), None)
    bound = f"over {STEPS[-1][0]}" if most is None else f"at most {most}"
    return f"{bound} billion, so {gpus} GPU{'' if gpus == 1 else 's'}"
