"""What NVML says of the GPUs that one guest was granted, for the isolation claim.

What is covered: product, driver, confidential computing, MIG, and whether anybody else computes on the device.
What is not covered: what NVML does not tell is `unknown`, with its reason; a driver that lies.
"""

from collections.abc import Sequence
from typing import Any

from runner.inventory.gpus import GpuFacts, GpuInventory
from runner.spec import Gpu


def granted_facts(granted: Sequence[Gpu], inventory: GpuInventory) -> dict[str, Any]:
    """Facts as strings, integers, booleans, lists and objects; empty where no GPU was granted."""
    if not granted:
        return {}
    return {
        "driver": _told(inventory.driver, inventory.reason),
        "cuda": _told(inventory.cuda, inventory.reason),
        "confidential_computing": _told(inventory.is_confidential, inventory.unknown.get("is_confidential")),
        "devices": [_device(gpu, inventory) for gpu in granted],
    }


def _device(gpu: Gpu, inventory: GpuInventory) -> dict[str, Any]:
    whole = next((one for one in inventory.gpus if _is_of(gpu, one)), None)
    if whole is None:
        return {
            "uuid": gpu.uuid,
            "nodes": list(gpu.nodes),
            "product": "unknown: NVML does not list this device",
        }
    part = next((one for one in whole.slices if one.uuid == gpu.uuid), None)
    of = whole if part is None else part
    return {
        "uuid": gpu.uuid,
        "nodes": list(gpu.nodes),
        "product": _told(whole.product, whole.unknown.get("product")),
        "mig": _told(whole.is_mig, whole.unknown.get("is_mig")),
        "memory_bytes": _told(of.memory_total_bytes, of.unknown.get("memory_total_bytes")),
        "other_processes": _told(
            None if of.processes is None else len(of.processes), of.unknown.get("processes")
        ),
    }


def _is_of(gpu: Gpu, whole: GpuFacts) -> bool:
    return whole.uuid == gpu.uuid or any(part.uuid == gpu.uuid for part in whole.slices)


def _told(value: object, reason: str | None) -> object:
    """The value, or in words why there is none."""
    return value if value is not None else f"unknown: {(reason or 'not told').removeprefix('unknown: ')}"
