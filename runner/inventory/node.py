"""The whole inventory of this node in one value.

What is covered: everything in this package, each part with its reason where it is not known.
What is not covered: other nodes; an appliance has one.
"""

from dataclasses import dataclass
from pathlib import Path

from runner.inventory.gpus import GpuInventory, read_gpus
from runner.inventory.host import ContainerRuntime, Disk, Host, read_disk, read_host, read_runtimes
from runner.inventory.libraries import DriverLibraries, find_libraries
from runner.inventory.port import Nvml


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """This machine. Facts that are not known are None, and said to be so beside them."""

    host: Host
    disk: Disk
    gpus: GpuInventory
    libraries: DriverLibraries
    runtimes: tuple[ContainerRuntime, ...]


def read_node(folder: Path, *, nvml: Nvml) -> Node:
    """Everything about this node; the disk is the one that `folder` is on. Raises OSError."""
    gpus = read_gpus(nvml)
    return Node(
        host=read_host(),
        disk=read_disk(folder),
        gpus=gpus,
        libraries=find_libraries(gpus.driver),
        runtimes=read_runtimes(),
    )
