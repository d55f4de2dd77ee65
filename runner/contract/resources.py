"""What upstream grants a champion's container: defaults, which an operator may lower.

Source: the champion contract, section 5.6.
"""

from dataclasses import dataclass

MEMORY_PER_GPU_BYTES = 110 << 30
CPUS_PER_GPU = 24
SHM_BYTES, SHM_MANY_GPUS_BYTES = 8 << 30, 16 << 30
MANY_GPUS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Limits of one container."""

    memory_bytes: int
    cpu_millis: int  # thousandths of a CPU
    shm_bytes: int


def upstream_resources(*, gpus: int) -> Resources:
    """What upstream grants with that many GPUs. Raises ValueError for none: upstream has no such champion."""
    if gpus < 1:
        raise ValueError(f"{gpus} GPUs: upstream grants at least one")
    return Resources(
        memory_bytes=gpus * MEMORY_PER_GPU_BYTES,
        cpu_millis=gpus * CPUS_PER_GPU * 1000,
        shm_bytes=SHM_MANY_GPUS_BYTES if gpus >= MANY_GPUS else SHM_BYTES,
    )
