"""What NVML tells about the GPUs of this node, fact by fact; what it does not tell is unknown, with the reason.

What is covered: an absent library or driver is a fact and no error; each fact of each GPU fails alone.
What is not covered: GPUs of other makers; a driver that lies.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from runner.inventory.devices import DeviceNodes, nodes_of_gpu, nodes_of_slice
from runner.inventory.port import Handle, Nvml

T = TypeVar("T")

MAX_GPUS = 64  # more than any node has; what NVML says is a number from outside
LIBRARY = "libnvidia-ml.so.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class MigSlice:
    """One MIG device. `unknown` says of each fact that is None why, and of `nodes` why they do not suffice."""

    uuid: str | None
    memory_total_bytes: int | None
    memory_used_bytes: int | None
    processes: tuple[int, ...] | None
    nodes: tuple[str, ...]
    unknown: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuFacts:
    """One GPU. `unknown` says of each fact that is None why, and of `nodes` why they do not suffice."""

    index: int
    uuid: str | None
    product: str | None
    pci: str | None
    memory_total_bytes: int | None
    memory_used_bytes: int | None
    compute_capability: tuple[int, int] | None
    is_mig: bool | None
    slices: tuple[MigSlice, ...]
    ecc_corrected: int | None  # since the driver was loaded
    ecc_uncorrected: int | None
    processes: tuple[int, ...] | None  # process ids that have a compute context
    nvlinks: int | None  # that are up
    pcie: str | None
    nodes: tuple[str, ...]
    unknown: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuInventory:
    """All GPUs; `reason` says why there is nothing to tell, and is None where NVML answered."""

    reason: str | None
    driver: str | None = None
    cuda: str | None = None
    is_confidential: bool | None = None  # confidential computing is on, of the whole node
    gpus: tuple[GpuFacts, ...] = ()
    unknown: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Asking:
    """Asks for facts one by one and keeps why the others are not known."""

    nvml: Nvml
    unknown: dict[str, str] = field(default_factory=dict)

    def for_fact(self, name: str, read: Callable[[], T]) -> T | None:
        """The fact, or None."""
        try:
            return read()
        # A ValueError is the binding's own: text that is none.
        except (self.nvml.NVMLError, ValueError) as error:
            self.unknown[name] = f"unknown: {error}"
            return None

    def for_nodes(
        self, read: Callable[[], DeviceNodes], *, needs: Sequence[object | None]
    ) -> tuple[str, ...]:
        """The device nodes, if what names them is known."""
        if None in needs:
            self.unknown["nodes"] = "unknown: the driver does not say which"
            return ()
        nodes = read()
        if nodes.problem is not None:
            self.unknown["nodes"] = nodes.problem
        return nodes.paths


def read_gpus(nvml: Nvml, *, root: Path = Path("/")) -> GpuInventory:
    """Everything that is known now. Never raises: a node without GPUs is a node without GPUs."""
    try:
        nvml.nvmlInit()
    except nvml.NVMLError_LibraryNotFound:
        return GpuInventory(reason=f"no GPUs: {LIBRARY} is not there")
    except nvml.NVMLError as error:
        return GpuInventory(reason=f"no GPUs: NVML cannot be used: {error}")
    try:
        return _read_all(nvml, root)
    finally:
        with suppress(nvml.NVMLError):
            nvml.nvmlShutdown()


def _read_all(nvml: Nvml, root: Path) -> GpuInventory:
    asking = _Asking(nvml)
    try:
        count = nvml.nvmlDeviceGetCount()
    except nvml.NVMLError as error:
        return GpuInventory(reason=f"no GPUs: NVML does not count them: {error}")
    cuda = asking.for_fact("cuda", nvml.nvmlSystemGetCudaDriverVersion)
    return GpuInventory(
        reason=None if count else "no GPUs: the driver is there and counts none",
        driver=asking.for_fact("driver", nvml.nvmlSystemGetDriverVersion),
        cuda=None if cuda is None else f"{cuda // 1000}.{cuda % 1000 // 10}",
        is_confidential=_not_supported_is_off(
            asking, "is_confidential", lambda: nvml.nvmlSystemGetConfComputeState().ccFeature == 1
        ),
        gpus=tuple(_read_gpu(nvml, index, root) for index in range(min(count, MAX_GPUS))),
        unknown=asking.unknown,
    )


def _read_gpu(nvml: Nvml, index: int, root: Path) -> GpuFacts:
    asking = _Asking(nvml)
    handle = asking.for_fact("uuid", lambda: nvml.nvmlDeviceGetHandleByIndex(index))
    if handle is None:
        return _lost(index, asking.unknown["uuid"])
    minor = asking.for_fact("minor", lambda: nvml.nvmlDeviceGetMinorNumber(handle))
    memory = asking.for_fact("memory", lambda: nvml.nvmlDeviceGetMemoryInfo(handle))
    is_mig = _not_supported_is_off(asking, "is_mig", lambda: nvml.nvmlDeviceGetMigMode(handle)[0] == 1)
    return GpuFacts(
        index=index,
        uuid=asking.for_fact("uuid", lambda: nvml.nvmlDeviceGetUUID(handle)),
        product=asking.for_fact("product", lambda: nvml.nvmlDeviceGetName(handle)),
        pci=asking.for_fact("pci", lambda: _text(nvml.nvmlDeviceGetPciInfo(handle).busId)),
        memory_total_bytes=None if memory is None else memory.total,
        memory_used_bytes=None if memory is None else memory.used,
        compute_capability=asking.for_fact(
            "compute_capability", lambda: _pair(nvml.nvmlDeviceGetCudaComputeCapability(handle))
        ),
        is_mig=is_mig,
        slices=_read_slices(nvml, handle, minor, root, asking) if is_mig else (),
        ecc_corrected=asking.for_fact(
            "ecc_corrected", lambda: _ecc(nvml, handle, nvml.NVML_MEMORY_ERROR_TYPE_CORRECTED)
        ),
        ecc_uncorrected=asking.for_fact(
            "ecc_uncorrected", lambda: _ecc(nvml, handle, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED)
        ),
        processes=asking.for_fact("processes", lambda: _processes(nvml, handle)),
        nvlinks=_read_nvlinks(nvml, handle, asking),
        pcie=asking.for_fact("pcie", lambda: _pcie(nvml, handle)),
        nodes=asking.for_nodes(lambda: nodes_of_gpu(minor or 0, root=root), needs=(minor,)),
        unknown=asking.unknown,
    )


def _lost(index: int, why: str) -> GpuFacts:
    """A GPU that is counted and cannot be spoken to."""
    return GpuFacts(
        index=index,
        uuid=None,
        product=None,
        pci=None,
        memory_total_bytes=None,
        memory_used_bytes=None,
        compute_capability=None,
        is_mig=None,
        slices=(),
        ecc_corrected=None,
        ecc_uncorrected=None,
        processes=None,
        nvlinks=None,
        pcie=None,
        nodes=(),
        unknown={"everything": why},
    )


def _read_slices(
    nvml: Nvml, handle: Handle, minor: int | None, root: Path, asking: _Asking
) -> tuple[MigSlice, ...]:
    count = asking.for_fact("slices", lambda: nvml.nvmlDeviceGetMaxMigDeviceCount(handle)) or 0
    found = []
    for index in range(min(count, MAX_GPUS)):
        try:
            slice_handle = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
        except nvml.NVMLError:
            continue  # a place where no slice was made
        found.append(_read_slice(nvml, slice_handle, minor, root))
    return tuple(found)


def _read_slice(nvml: Nvml, handle: Handle, minor: int | None, root: Path) -> MigSlice:
    asking = _Asking(nvml)
    memory = asking.for_fact("memory", lambda: nvml.nvmlDeviceGetMemoryInfo(handle))
    gpu = asking.for_fact("instance", lambda: nvml.nvmlDeviceGetGpuInstanceId(handle))
    compute = asking.for_fact("instance", lambda: nvml.nvmlDeviceGetComputeInstanceId(handle))

    def nodes() -> DeviceNodes:
        return nodes_of_slice(minor or 0, gpu=gpu or 0, compute=compute or 0, root=root)

    return MigSlice(
        uuid=asking.for_fact("uuid", lambda: nvml.nvmlDeviceGetUUID(handle)),
        memory_total_bytes=None if memory is None else memory.total,
        memory_used_bytes=None if memory is None else memory.used,
        processes=asking.for_fact("processes", lambda: _processes(nvml, handle)),
        nodes=asking.for_nodes(nodes, needs=(minor, gpu, compute)),
        unknown=asking.unknown,
    )


def _not_supported_is_off(asking: _Asking, name: str, read: Callable[[], bool]) -> bool | None:
    """For features that a GPU or driver may not have at all: then they are off, which is known."""

    def ask() -> bool:
        try:
            return read()
        except asking.nvml.NVMLError_NotSupported:
            return False

    return asking.for_fact(name, ask)


def _read_nvlinks(nvml: Nvml, handle: Handle, asking: _Asking) -> int | None:
    def count() -> int:
        up = 0
        for link in range(nvml.NVML_NVLINK_MAX_LINKS):
            try:
                up += nvml.nvmlDeviceGetNvLinkState(handle, link) == 1
            except nvml.NVMLError:
                if link == 0:
                    raise
                break  # the GPU has fewer links than the library knows
        return up

    def ask() -> int:
        try:
            return count()
        except nvml.NVMLError_NotSupported:
            return 0

    return asking.for_fact("nvlinks", ask)


def _ecc(nvml: Nvml, handle: Handle, kind: int) -> int:
    return nvml.nvmlDeviceGetTotalEccErrors(handle, kind, nvml.NVML_VOLATILE_ECC)


def _processes(nvml: Nvml, handle: Handle) -> tuple[int, ...]:
    return tuple(sorted({process.pid for process in nvml.nvmlDeviceGetComputeRunningProcesses(handle)}))


def _pcie(nvml: Nvml, handle: Handle) -> str:
    generation = nvml.nvmlDeviceGetCurrPcieLinkGeneration(handle)
    return f"gen {generation} x{nvml.nvmlDeviceGetCurrPcieLinkWidth(handle)}"


def _pair(pair: Sequence[int]) -> tuple[int, int]:
    major, minor = pair
    return major, minor


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
