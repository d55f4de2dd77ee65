"""What can be granted: whole GPUs, and MIG slices where a GPU is cut; and whether nobody else is on one.

What is covered: a unit of which something is unknown that a grant rests on is not granted, and says why.
What is not covered: what an earlier user left in the GPU's memory; scrubbing between tenants is the operator's.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from runner.errors import RunnerError
from runner.inventory.gpus import GpuFacts, GpuInventory, MigSlice
from runner.spec import Gpu

# Source: the champion contract, section 13.9.
MIN_COMPUTE_CAPABILITY = (8, 0)


class InventoryError(RunnerError):
    """What was asked for is not on this node, or cannot be used; the message names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One device that a run can have for itself. `refusal` says why it is not granted, None where it can be.

    `nodes` are all it needs, or none if one of them is missing.

    `is_too_old`: no champion could use it, whatever changes on the node.
    """

    uuid: str
    product: str
    memory_bytes: int
    nodes: tuple[str, ...]
    is_slice: bool
    is_too_old: bool
    refusal: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Exclusivity:
    """Whether no process has a compute context on a device; what could not be checked does not hold."""

    holds: bool
    detail: str


def units(inventory: GpuInventory) -> tuple[Unit, ...]:
    """Everything on this node that could be granted one day, in the driver's order."""
    return tuple(unit for gpu in inventory.gpus for unit in _units_of(gpu))


def gpu_of(uuid: str, inventory: GpuInventory) -> Gpu:
    """The device of that UUID as a sandbox is told of it. Raises InventoryError."""
    found = next((unit for unit in units(inventory) if unit.uuid == uuid), None)
    if found is None:
        raise InventoryError(f"{uuid} is not on this node; {_told(inventory)}")
    if not found.nodes:
        raise InventoryError(f"{uuid} cannot be shown to a sandbox: {found.refusal}")
    return Gpu(uuid=uuid, nodes=found.nodes)


def exclusive(gpu: Gpu, inventory: GpuInventory) -> Exclusivity:
    """Whether nobody computes on `gpu` now; ask before a guest is released and after it ended.

    A slice's processes are the slice's own. A process that only draws or encodes does not count.
    """
    for facts in inventory.gpus:
        parts: tuple[GpuFacts | MigSlice, ...] = (facts, *facts.slices)
        for part in parts:
            if part.uuid == gpu.uuid:
                return _exclusivity(part)
    return Exclusivity(holds=False, detail=f"{gpu.uuid} is not on this node; {_told(inventory)}")


def _units_of(gpu: GpuFacts) -> Iterator[Unit]:
    parts: tuple[GpuFacts | MigSlice, ...] = gpu.slices if gpu.is_mig else (gpu,)
    for part in parts:
        is_slice = isinstance(part, MigSlice)
        yield Unit(
            uuid=part.uuid or f"GPU number {gpu.index}",
            product=f"{gpu.product or 'unknown product'}{', MIG slice' if is_slice else ''}",
            memory_bytes=part.memory_total_bytes or 0,
            nodes=() if "nodes" in part.unknown else part.nodes,
            is_slice=is_slice,
            is_too_old=_is_too_old(gpu),
            refusal=_refusal(gpu, part),
        )


def _refusal(gpu: GpuFacts, part: GpuFacts | MigSlice) -> str | None:
    if "everything" in gpu.unknown:
        return gpu.unknown["everything"]
    needed = {
        "is_mig": gpu.is_mig,
        "product": gpu.product,
        "compute_capability": gpu.compute_capability,
        "uuid": part.uuid,
        "memory": part.memory_total_bytes,
    }
    for name, value in needed.items():
        if value is None:
            return f"{name.replace('_', ' ')} {part.unknown.get(name) or gpu.unknown.get(name, 'unknown')}"
    if gpu.compute_capability is not None and _is_too_old(gpu):
        return f"compute capability {_version(gpu.compute_capability)} is below {_version(MIN_COMPUTE_CAPABILITY)}"
    if "nodes" in part.unknown:
        return part.unknown["nodes"]
    is_alone = _exclusivity(part)
    return None if is_alone.holds else is_alone.detail


def _is_too_old(gpu: GpuFacts) -> bool:
    return gpu.compute_capability is not None and gpu.compute_capability < MIN_COMPUTE_CAPABILITY


def _exclusivity(part: GpuFacts | MigSlice) -> Exclusivity:
    if part.processes is None:
        return Exclusivity(
            holds=False, detail=f"whether it is in use is {part.unknown.get('processes', 'unknown')}"
        )
    if part.processes:
        return Exclusivity(
            holds=False, detail=f"it is in use by process {', '.join(map(str, part.processes))}"
        )
    return Exclusivity(holds=True, detail="no process has a compute context")


def _told(inventory: GpuInventory) -> str:
    known = [unit.uuid for unit in units(inventory)]
    return inventory.reason or f"there are {', '.join(known) or 'none'}"


def _version(pair: tuple[int, int]) -> str:
    return f"{pair[0]}.{pair[1]}"
