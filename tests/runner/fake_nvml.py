"""NVML as a value: GPUs that tests make, and every call that they want to fail."""

# ruff: noqa: N802, N803 - the binding's names

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from runner.inventory.devices import SHARED_NODES

GIB = 1 << 30
H100 = "NVIDIA H100 80GB HBM3"


class FakeError(Exception):
    """Stands for the binding's NVMLError."""


class FakeNotSupportedError(FakeError):
    pass


class FakeLibraryNotFoundError(FakeError):
    pass


@dataclass
class FakeSlice:
    uuid: str
    memory_bytes: int = 10 * GIB
    gpu_instance: int = 1
    compute_instance: int = 0
    processes: list[int] = field(default_factory=list)


@dataclass
class FakeGpu:
    """A GPU; `fails` names calls that raise, with what they say."""

    uuid: str
    name: str = H100
    minor: int = 0
    memory_bytes: int = 80 * GIB
    capability: tuple[int, int] = (9, 0)
    slices: list[FakeSlice] | None = None  # None: MIG is off
    processes: list[int] = field(default_factory=list)
    links: int = 0
    fails: dict[str, Exception] = field(default_factory=dict)


def gpus(count: int, **same: Any) -> list[FakeGpu]:  # Any: fields of FakeGpu
    return [FakeGpu(uuid=f"GPU-{number}", minor=number, **same) for number in range(count)]


class FakeNvml:
    """The binding's names and arguments; see the contract test."""

    NVMLError = FakeError
    NVMLError_NotSupported = FakeNotSupportedError
    NVMLError_LibraryNotFound = FakeLibraryNotFoundError
    NVML_NVLINK_MAX_LINKS = 18
    NVML_MEMORY_ERROR_TYPE_CORRECTED = 0
    NVML_MEMORY_ERROR_TYPE_UNCORRECTED = 1
    NVML_VOLATILE_ECC = 0
    NVML_TEMPERATURE_GPU = 0

    def __init__(self, *made: FakeGpu, fails: dict[str, Exception] | None = None) -> None:
        self.gpus = made
        self.fails = fails or {}
        self.opened = 0
        self.calls: list[str] = []

    def nvmlInit(self) -> None:
        self._call("nvmlInit")
        self.opened += 1

    def nvmlShutdown(self) -> None:
        self._call("nvmlShutdown")
        self.opened -= 1

    def nvmlSystemGetDriverVersion(self) -> str:
        self._call("nvmlSystemGetDriverVersion")
        return "570.86.15"

    def nvmlSystemGetCudaDriverVersion(self) -> int:
        self._call("nvmlSystemGetCudaDriverVersion")
        return 12080

    def nvmlSystemGetConfComputeState(self) -> Any:
        self._call("nvmlSystemGetConfComputeState")
        return SimpleNamespace(ccFeature=0)

    def nvmlDeviceGetCount(self) -> int:
        self._call("nvmlDeviceGetCount")
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any:
        return self._ask("nvmlDeviceGetHandleByIndex", self.gpus[index])

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> Any:
        self._call("nvmlDeviceGetHandleByUUID")
        parts = [part for gpu in self.gpus for part in (gpu, *(gpu.slices or ()))]
        found = [part for part in parts if part.uuid == uuid]
        if not found:
            raise FakeError("Not Found")
        return found[0]

    def nvmlDeviceGetName(self, handle: Any) -> str:
        return str(self._ask("nvmlDeviceGetName", handle).name)

    def nvmlDeviceGetUUID(self, handle: Any) -> str:
        return str(self._ask("nvmlDeviceGetUUID", handle).uuid)

    def nvmlDeviceGetPciInfo(self, handle: Any) -> Any:
        minor = self._ask("nvmlDeviceGetPciInfo", handle).minor
        return SimpleNamespace(busId=f"00000000:{minor:02X}:00.0".encode())

    def nvmlDeviceGetMinorNumber(self, handle: Any) -> int:
        return int(self._ask("nvmlDeviceGetMinorNumber", handle).minor)

    def nvmlDeviceGetMemoryInfo(self, handle: Any) -> Any:
        total = self._ask("nvmlDeviceGetMemoryInfo", handle).memory_bytes
        return SimpleNamespace(total=total, used=total // 10)

    def nvmlDeviceGetCudaComputeCapability(self, handle: Any) -> tuple[int, int]:
        made: FakeGpu = self._ask("nvmlDeviceGetCudaComputeCapability", handle)
        return made.capability

    def nvmlDeviceGetMigMode(self, device: Any) -> list[int]:
        mode = int(self._ask("nvmlDeviceGetMigMode", device).slices is not None)
        return [mode, mode]

    def nvmlDeviceGetMaxMigDeviceCount(self, device: Any) -> int:
        self._ask("nvmlDeviceGetMaxMigDeviceCount", device)
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, device: Any, index: int) -> Any:
        made = self._ask("nvmlDeviceGetMigDeviceHandleByIndex", device).slices
        if index >= len(made):
            raise FakeError("Not Found")
        return made[index]

    def nvmlDeviceGetGpuInstanceId(self, device: Any) -> int:
        return int(self._ask("nvmlDeviceGetGpuInstanceId", device).gpu_instance)

    def nvmlDeviceGetComputeInstanceId(self, device: Any) -> int:
        return int(self._ask("nvmlDeviceGetComputeInstanceId", device).compute_instance)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: Any) -> list[Any]:
        running = self._ask("nvmlDeviceGetComputeRunningProcesses", handle).processes
        return [SimpleNamespace(pid=pid, usedGpuMemory=None) for pid in running]

    def nvmlDeviceGetTotalEccErrors(self, handle: Any, errorType: int, counterType: int) -> int:
        self._ask("nvmlDeviceGetTotalEccErrors", handle)
        return 3 if errorType == self.NVML_MEMORY_ERROR_TYPE_CORRECTED else 0

    def nvmlDeviceGetNvLinkState(self, device: Any, link: int) -> int:
        links = self._ask("nvmlDeviceGetNvLinkState", device).links
        if not links:
            raise FakeNotSupportedError("Not Supported")
        if link >= links:
            raise FakeError("Invalid Argument")
        return 1

    def nvmlDeviceGetCurrPcieLinkGeneration(self, handle: Any) -> int:
        self._ask("nvmlDeviceGetCurrPcieLinkGeneration", handle)
        return 5

    def nvmlDeviceGetCurrPcieLinkWidth(self, handle: Any) -> int:
        self._ask("nvmlDeviceGetCurrPcieLinkWidth", handle)
        return 16

    def nvmlDeviceGetUtilizationRates(self, handle: Any) -> Any:
        if isinstance(self._ask("nvmlDeviceGetUtilizationRates", handle), FakeSlice):
            raise FakeNotSupportedError("Not Supported")
        return SimpleNamespace(gpu=97, memory=60)

    def nvmlDeviceGetPowerUsage(self, handle: Any) -> int:
        if isinstance(self._ask("nvmlDeviceGetPowerUsage", handle), FakeSlice):
            raise FakeNotSupportedError("Not Supported")
        return 512_000

    def nvmlDeviceGetTemperature(self, handle: Any, sensor: int) -> int:
        self._ask("nvmlDeviceGetTemperature", handle)
        return 61

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name in self.fails:
            raise self.fails[name]

    def _ask(self, name: str, device: Any) -> Any:
        self._call(name)
        if name in getattr(device, "fails", {}):
            raise device.fails[name]
        return device


def make_root(folder: Path, *, minors: tuple[int, ...] = (0,), mig_lines: str | None = None) -> Path:
    """A root folder with the device nodes of those GPUs; links to a node that every machine has."""
    (folder / "dev" / "nvidia-caps").mkdir(parents=True)
    names = [*SHARED_NODES, *(f"/dev/nvidia{minor}" for minor in minors)]
    names += [f"/dev/nvidia-caps/nvidia-cap{number}" for number in range(32)]
    for name in names:
        (folder / name.lstrip("/")).symlink_to("/dev/null")
    if mig_lines is not None:
        file = folder / "proc/driver/nvidia-caps/mig-minors"
        file.parent.mkdir(parents=True)
        file.write_text(mig_lines)
    return folder
