"""Samples are gaps where nothing can be read, and never an error."""

from runner import meter
from runner.inventory.samples import NOTHING, GpuReader, GpuSample
from tests.runner.fake_nvml import (
    GIB,
    FakeError,
    FakeGpu,
    FakeLibraryNotFoundError,
    FakeNvml,
    FakeSlice,
    gpus,
)

BUSY = GpuSample(97, 8 * GIB, 512_000, 61)


def test_each_gpu_that_is_asked_for_is_sampled() -> None:
    reader = GpuReader(FakeNvml(*gpus(3)))
    assert reader.read(["GPU-2", "GPU-0"]) == {"GPU-2": BUSY, "GPU-0": BUSY}


def test_a_sample_has_names_and_an_order() -> None:
    utilisation_percent, memory_used_bytes, power_mw, temperature_c = BUSY
    assert (utilisation_percent, memory_used_bytes) == (BUSY.utilisation_percent, BUSY.memory_used_bytes)
    assert (power_mw, temperature_c) == (BUSY.power_mw, BUSY.temperature_c)


def test_the_meter_takes_this_reader() -> None:
    reader: meter.GpuReader = GpuReader(FakeNvml(*gpus(1)))
    assert reader.read(["GPU-0"])["GPU-0"].utilisation_percent == 97


def test_the_library_is_opened_once_and_closed_once() -> None:
    nvml = FakeNvml(*gpus(1))
    reader = GpuReader(nvml)
    assert nvml.calls == []
    for _ in range(3):
        reader.read(["GPU-0"])
    reader.close()
    reader.close()
    assert (nvml.calls.count("nvmlInit"), nvml.calls.count("nvmlShutdown"), nvml.opened) == (1, 1, 0)
    assert nvml.calls.count("nvmlDeviceGetHandleByUUID") == 1


def test_a_machine_without_a_driver_gives_gaps() -> None:
    reader = GpuReader(FakeNvml(fails={"nvmlInit": FakeLibraryNotFoundError()}))
    assert reader.read(["GPU-0"]) == {"GPU-0": NOTHING}
    reader.close()


def test_an_unknown_gpu_is_a_gap_beside_the_others() -> None:
    assert GpuReader(FakeNvml(*gpus(1))).read(["GPU-9", "GPU-0"]) == {"GPU-9": NOTHING, "GPU-0": BUSY}


def test_a_value_that_fails_is_a_gap_alone() -> None:
    gpu = FakeGpu("GPU-0", fails={"nvmlDeviceGetPowerUsage": FakeError("Not Supported")})
    assert GpuReader(FakeNvml(gpu)).read(["GPU-0"])["GPU-0"] == BUSY._replace(power_mw=None)


def test_of_a_slice_drivers_tell_the_memory() -> None:
    nvml = FakeNvml(FakeGpu("GPU-0", slices=[FakeSlice("MIG-1")]))
    assert GpuReader(nvml).read(["MIG-1"])["MIG-1"] == GpuSample(None, GIB, None, 61)


def test_a_driver_that_was_loaded_anew_is_found_again() -> None:
    gpu = FakeGpu("GPU-0")
    reader = GpuReader(nvml := FakeNvml(gpu))
    assert reader.read(["GPU-0"])["GPU-0"] == BUSY
    calls = ("UtilizationRates", "MemoryInfo", "PowerUsage", "Temperature")
    gpu.fails = {f"nvmlDeviceGet{call}": FakeError("Uninitialized") for call in calls}
    assert reader.read(["GPU-0"])["GPU-0"] == NOTHING
    gpu.fails = {}
    assert reader.read(["GPU-0"])["GPU-0"] == BUSY
    assert nvml.calls.count("nvmlInit") == 2
