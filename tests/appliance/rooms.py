"""Nodes as values, for tests of sizes and places."""

from dataclasses import dataclass
from pathlib import Path

from appliance.room import Room
from runner.inventory.gpus import GpuFacts, GpuInventory
from runner.inventory.node import Node, read_node
from runner.inventory.units import Unit
from tests.runner.fake_nvml import GIB, H100, FakeNvml, gpus

SMALL = Room(cpu_millis=2000, memory_bytes=16 * GIB, no_gpus="no GPUs: libnvidia-ml.so.1 is not there")


def unit(
    uuid: str,
    *,
    memory_gib: int = 80,
    product: str = H100,
    is_slice: bool = False,
    refusal: str | None = None,
) -> Unit:
    return Unit(
        uuid=uuid,
        product=product,
        memory_bytes=memory_gib * GIB,
        nodes=(f"/dev/{uuid}",),
        is_slice=is_slice,
        is_too_old=False,
        refusal=refusal,
    )


def big_room(*units: Unit) -> Room:
    """A machine of upstream's size for each unit; eight H100s if none is given."""
    chosen = units or tuple(unit(f"GPU-{n}") for n in range(8))
    return Room(
        cpu_millis=24_000 * len(chosen),
        memory_bytes=110 * GIB * len(chosen),
        units=chosen,
    )


@dataclass
class FixedNode:
    """A node that has `to_share` until a test changes it."""

    to_share: Room = SMALL

    def room(self) -> Room:
        return self.to_share

    def gpus(self) -> GpuInventory:
        return GpuInventory(
            reason=self.to_share.no_gpus,
            gpus=tuple(_facts(index, unit) for index, unit in enumerate(self.to_share.units)),
        )

    def node(self, folder: Path) -> Node:
        return read_node(folder, nvml=FakeNvml(*gpus(len(self.to_share.units))))


def _facts(index: int, unit: Unit) -> GpuFacts:
    """What the driver would tell of a whole, idle GPU."""
    return GpuFacts(
        index=index,
        uuid=unit.uuid,
        product=unit.product,
        pci=None,
        memory_total_bytes=unit.memory_bytes,
        memory_used_bytes=0,
        compute_capability=(9, 0),
        is_mig=False,
        slices=(),
        ecc_corrected=None,
        ecc_uncorrected=None,
        processes=(),
        nvlinks=0,
        pcie=None,
        nodes=unit.nodes,
        unknown={},
    )
