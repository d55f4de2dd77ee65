"""How busy GPUs are, once a second: utilisation, memory, power, temperature by UUID.

What is covered: a driver that is not there, comes late or goes away leaves gaps, never an error.
What is not covered: utilisation and power of MIG slices, which drivers do not tell; these are gaps too.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import NamedTuple

from runner.inventory.port import Handle, Nvml


class GpuSample(NamedTuple):
    """One moment of one GPU; None is what could not be read."""

    utilisation_percent: int | None
    memory_used_bytes: int | None
    power_mw: int | None
    temperature_c: int | None


NOTHING = GpuSample(None, None, None, None)


class GpuReader:
    """Keeps the library open between samples; close it."""

    def __init__(self, nvml: Nvml) -> None:
        """Nothing is opened before the first sample."""
        self._nvml = nvml
        self._is_open = False
        self._handles: dict[str, Handle] = {}

    def read(self, uuids: Iterable[str]) -> Mapping[str, GpuSample]:
        """A sample of each of `uuids`."""
        return {uuid: self._sample(uuid) for uuid in uuids}

    def close(self) -> None:
        """Let the library go; a later sample opens it again."""
        if self._is_open:
            with suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()
        self._is_open = False
        self._handles.clear()

    def _sample(self, uuid: str) -> GpuSample:
        nvml = self._nvml
        handle = self._handle(uuid)
        if handle is None:
            return NOTHING
        sample = GpuSample(
            utilisation_percent=self._value(lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu),
            memory_used_bytes=self._value(lambda: nvml.nvmlDeviceGetMemoryInfo(handle).used),
            power_mw=self._value(lambda: nvml.nvmlDeviceGetPowerUsage(handle)),
            temperature_c=self._value(
                lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)
            ),
        )
        if sample == NOTHING:
            self.close()  # a driver that was loaded anew knows no handle of before
        return sample

    def _handle(self, uuid: str) -> Handle | None:
        try:
            if not self._is_open:
                self._nvml.nvmlInit()
                self._is_open = True
            if uuid not in self._handles:
                self._handles[uuid] = self._nvml.nvmlDeviceGetHandleByUUID(uuid)
        except self._nvml.NVMLError:
            return None
        return self._handles[uuid]

    def _value(self, read: Callable[[], int]) -> int | None:
        try:
            return read()
        except self._nvml.NVMLError:
            return None
