"""The real NVML, by nvidia-ml-py; the only module of this project that imports the binding.

What is covered: this node's GPUs through the driver's own library; nothing is started.
What is not covered: it was never run against a real driver here; the port's contract test compares the
binding's functions and arguments with the port.
"""

from pathlib import Path

# Any: the binding has no types.
import pynvml  # type: ignore[import-untyped]

from runner.inventory.gpus import GpuInventory, read_gpus
from runner.inventory.port import Nvml


def real_nvml() -> Nvml:
    """The binding's module, which is the port."""
    binding: Nvml = pynvml
    return binding


def this_nodes_gpus() -> GpuInventory:
    """The GPUs of this node as they are now."""
    return read_gpus(real_nvml(), root=Path("/"))
