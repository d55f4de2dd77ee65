"""What NVML tells is told, fact by fact; what it does not tell is unknown, never guessed, never an error."""

# ruff: noqa: N802 - the binding's names

import inspect
from dataclasses import fields
from pathlib import Path
from typing import Any

import pynvml  # type: ignore[import-untyped]
import pytest

from runner.inventory.gpus import LIBRARY, GpuFacts, read_gpus
from runner.inventory.nvml import real_nvml, this_nodes_gpus
from runner.inventory.port import Nvml
from tests.runner.fake_nvml import (
    GIB,
    H100,
    FakeError,
    FakeGpu,
    FakeLibraryNotFoundError,
    FakeNotSupportedError,
    FakeNvml,
    FakeSlice,
    gpus,
    make_root,
)

ROOT = Path(__file__).parents[2]
CALLS = sorted(name for name in vars(Nvml) if name.startswith("nvml"))
VALUES = sorted(name for name in vars(Nvml) if name.startswith("NVML"))
MIG_LINES = "config 1\nmonitor 2\ngpu0/gi1/access 12\ngpu0/gi1/ci0/access 13\n"


# The port is what the binding has, and the fake is the port.


@pytest.mark.parametrize("binding", [pynvml, FakeNvml()], ids=["real", "fake"])
@pytest.mark.parametrize("call", CALLS)
def test_call_has_the_arguments_of_the_port(binding: Any, call: str) -> None:
    wanted = list(inspect.signature(getattr(Nvml, call)).parameters)[1:]  # without self
    found = inspect.signature(getattr(binding, call)).parameters
    assert list(found)[: len(wanted)] == wanted
    assert all(p.default is not p.empty for p in list(found.values())[len(wanted) :])


@pytest.mark.parametrize("binding", [pynvml, FakeNvml()], ids=["real", "fake"])
@pytest.mark.parametrize("name", VALUES)
def test_value_of_the_port_is_there(binding: Any, name: str) -> None:
    value = getattr(binding, name)
    if name.startswith("NVMLError"):
        assert issubclass(value, binding.NVMLError)
    else:
        assert isinstance(value, int)


def test_the_port_has_what_it_is_about() -> None:
    assert len(CALLS) >= 20
    assert "NVMLError" in VALUES


def test_only_one_module_imports_the_binding() -> None:
    importing = [
        path.relative_to(ROOT).as_posix()
        for package in ("appliance", "attestation", "audit", "runner", "tournament_sync")
        for path in (ROOT / package).rglob("*.py")
        if "import pynvml" in path.read_text()
    ]
    assert importing == ["runner/inventory/nvml.py"]


def test_this_machine_can_be_read() -> None:
    found = this_nodes_gpus()
    assert (found.reason is None) == bool(found.gpus)


def test_a_machine_without_the_library_has_no_gpus_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> None:
        raise pynvml.NVMLError_LibraryNotFound

    monkeypatch.setattr(pynvml, "nvmlInit", absent)  # another program's function, not ours
    assert read_gpus(real_nvml()).reason == "no GPUs: libnvidia-ml.so.1 is not there"


# What is there.


def test_every_fact_of_a_gpu_is_told(tmp_path: Path) -> None:
    root = make_root(tmp_path)
    found = read_gpus(FakeNvml(FakeGpu("GPU-a", processes=[4711, 12, 12], links=18)), root=root)
    assert (found.reason, found.driver, found.cuda, found.is_confidential) == (
        None,
        "570.86.15",
        "12.8",
        False,
    )
    assert found.gpus == (
        GpuFacts(
            index=0,
            uuid="GPU-a",
            product=H100,
            pci="00000000:00:00.0",
            memory_total_bytes=80 * GIB,
            memory_used_bytes=8 * GIB,
            compute_capability=(9, 0),
            is_mig=False,
            slices=(),
            ecc_corrected=3,
            ecc_uncorrected=0,
            processes=(12, 4711),
            nvlinks=18,
            pcie="gen 5 x16",
            nodes=("/dev/nvidia0", "/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools"),
            unknown={},
        ),
    )


def test_gpus_are_told_in_the_drivers_order(tmp_path: Path) -> None:
    root = make_root(tmp_path, minors=(0, 1, 2))
    found = read_gpus(FakeNvml(*reversed(gpus(3))), root=root)
    assert [(gpu.uuid, gpu.nodes[0]) for gpu in found.gpus] == [
        ("GPU-2", "/dev/nvidia2"),
        ("GPU-1", "/dev/nvidia1"),
        ("GPU-0", "/dev/nvidia0"),
    ]


def test_mig_slices_are_told_with_their_capabilities(tmp_path: Path) -> None:
    root = make_root(tmp_path, mig_lines=MIG_LINES)
    found = read_gpus(FakeNvml(FakeGpu("GPU-a", slices=[FakeSlice("MIG-1", processes=[7])])), root=root)
    (one,) = found.gpus[0].slices
    assert (found.gpus[0].is_mig, one.uuid, one.memory_total_bytes, one.processes) == (
        True,
        "MIG-1",
        10 * GIB,
        (7,),
    )
    assert one.nodes == (
        "/dev/nvidia0",
        "/dev/nvidiactl",
        "/dev/nvidia-uvm",
        "/dev/nvidia-uvm-tools",
        "/dev/nvidia-caps/nvidia-cap12",
        "/dev/nvidia-caps/nvidia-cap13",
    )
    assert one.unknown == {}


def test_the_library_is_closed_whatever_happens(tmp_path: Path) -> None:
    for nvml in (FakeNvml(), FakeNvml(FakeGpu("GPU-a")), FakeNvml(fails={"nvmlDeviceGetCount": FakeError()})):
        read_gpus(nvml, root=tmp_path)
        assert nvml.opened == 0


# What is not there.


@pytest.mark.parametrize(
    ("nvml", "reason"),
    [
        (FakeNvml(fails={"nvmlInit": FakeLibraryNotFoundError()}), f"no GPUs: {LIBRARY} is not there"),
        (
            FakeNvml(fails={"nvmlInit": FakeError("Driver Not Loaded")}),
            "no GPUs: NVML cannot be used: Driver Not Loaded",
        ),
        (
            FakeNvml(fails={"nvmlDeviceGetCount": FakeError("Timeout")}),
            "no GPUs: NVML does not count them: Timeout",
        ),
        (FakeNvml(), "no GPUs: the driver is there and counts none"),
    ],
)
def test_no_gpus_is_a_fact_with_a_reason(nvml: FakeNvml, reason: str, tmp_path: Path) -> None:
    found = read_gpus(nvml, root=tmp_path)
    assert (found.reason, found.gpus) == (reason, ())


@pytest.mark.parametrize(
    ("call", "fact", "field"),
    [
        ("nvmlDeviceGetUUID", "uuid", "uuid"),
        ("nvmlDeviceGetName", "product", "product"),
        ("nvmlDeviceGetPciInfo", "pci", "pci"),
        ("nvmlDeviceGetMemoryInfo", "memory", "memory_total_bytes"),
        ("nvmlDeviceGetCudaComputeCapability", "compute_capability", "compute_capability"),
        ("nvmlDeviceGetMigMode", "is_mig", "is_mig"),
        ("nvmlDeviceGetTotalEccErrors", "ecc_uncorrected", "ecc_uncorrected"),
        ("nvmlDeviceGetComputeRunningProcesses", "processes", "processes"),
        ("nvmlDeviceGetNvLinkState", "nvlinks", "nvlinks"),
        ("nvmlDeviceGetCurrPcieLinkWidth", "pcie", "pcie"),
    ],
)
def test_a_fact_that_fails_is_unknown_alone(tmp_path: Path, call: str, fact: str, field: str) -> None:
    root = make_root(tmp_path, minors=(0, 1))
    broken, whole = FakeGpu("GPU-a", links=2, fails={call: FakeError("Unknown Error")}), gpus(2)[1]
    first, second = read_gpus(FakeNvml(broken, whole), root=root).gpus
    assert getattr(first, field) is None
    assert first.unknown[fact] == "unknown: Unknown Error"
    others = {f.name for f in fields(first)} - {
        field, "unknown", "memory_used_bytes", "ecc_corrected", "index", "slices"
    }  # fmt: skip
    assert all(getattr(first, name) is not None for name in others)
    assert second.unknown == {}


def test_text_that_is_none_is_unknown(tmp_path: Path) -> None:
    bad = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
    found = read_gpus(FakeNvml(FakeGpu("GPU-a", fails={"nvmlDeviceGetName": bad})), root=tmp_path)
    assert found.gpus[0].product is None
    assert found.gpus[0].unknown["product"].startswith("unknown: 'utf-8'")


def test_a_gpu_that_fell_off_the_bus_is_told_beside_the_others(tmp_path: Path) -> None:
    lost = FakeGpu("GPU-a", fails={"nvmlDeviceGetHandleByIndex": FakeError("GPU is lost")})
    first, second = read_gpus(
        FakeNvml(lost, FakeGpu("GPU-b", minor=1)), root=make_root(tmp_path, minors=(0, 1))
    ).gpus
    assert (first.uuid, first.unknown) == (None, {"everything": "unknown: GPU is lost"})
    assert (second.uuid, second.unknown) == ("GPU-b", {})


@pytest.mark.parametrize(
    ("call", "field", "value"),
    [("nvmlDeviceGetMigMode", "is_mig", False), ("nvmlDeviceGetNvLinkState", "nvlinks", 0)],
)
def test_a_gpu_that_cannot_do_something_does_not_do_it(
    tmp_path: Path, call: str, field: str, value: object
) -> None:
    gpu = FakeGpu("GPU-a", links=2, fails={call: FakeNotSupportedError("Not Supported")})
    (found,) = read_gpus(FakeNvml(gpu), root=make_root(tmp_path)).gpus
    assert getattr(found, field) == value
    assert found.unknown == {}


def test_facts_of_the_node_fail_alone_too(tmp_path: Path) -> None:
    calls = (
        "nvmlSystemGetDriverVersion",
        "nvmlSystemGetCudaDriverVersion",
        "nvmlSystemGetConfComputeState",
    )
    nvml = FakeNvml(*gpus(1), fails={call: FakeError("Unknown Error") for call in calls})
    found = read_gpus(nvml, root=make_root(tmp_path))
    assert (found.driver, found.cuda, found.is_confidential) == (None, None, None)
    assert found.unknown == dict.fromkeys(("driver", "cuda", "is_confidential"), "unknown: Unknown Error")
    assert found.gpus[0].unknown == {}


def test_a_missing_device_node_is_told(tmp_path: Path) -> None:
    root = make_root(tmp_path)
    (root / "dev/nvidia-uvm-tools").unlink()
    (found,) = read_gpus(FakeNvml(*gpus(1)), root=root).gpus
    assert found.unknown["nodes"].startswith("no device node /dev/nvidia-uvm-tools: load")


def test_a_file_in_place_of_a_device_node_is_none(tmp_path: Path) -> None:
    root = make_root(tmp_path)
    (root / "dev/nvidia0").unlink()
    (root / "dev/nvidia0").touch()
    (found,) = read_gpus(FakeNvml(*gpus(1)), root=root).gpus
    assert "no device node /dev/nvidia0" in found.unknown["nodes"]


def test_a_gpu_whose_number_is_unknown_has_no_nodes(tmp_path: Path) -> None:
    gpu = FakeGpu("GPU-a", fails={"nvmlDeviceGetMinorNumber": FakeError("Unknown Error")})
    (found,) = read_gpus(FakeNvml(gpu), root=make_root(tmp_path)).gpus
    assert (found.nodes, found.unknown["nodes"]) == ((), "unknown: the driver does not say which")


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (None, "mig-minors cannot be read: No such file"),
        ("gpu0/gi1/access 12\n", "mig-minors has no line for gpu0/gi1/ci0/access"),
        (MIG_LINES.replace("gpu0", "gpu1"), "mig-minors has no line for gpu0/gi1/access"),
        (MIG_LINES.replace("12", "12 13"), "has no line for gpu0/gi1/access"),
        (MIG_LINES.replace(" 13", " 99"), "no device node /dev/nvidia-caps/nvidia-cap99"),
    ],
)
def test_a_slice_without_its_capabilities_says_so(tmp_path: Path, lines: str | None, problem: str) -> None:
    root = make_root(tmp_path, mig_lines=lines)
    gpu = FakeGpu("GPU-a", slices=[FakeSlice("MIG-1")])
    (found,) = read_gpus(FakeNvml(gpu), root=root).gpus[0].slices
    assert problem in found.unknown["nodes"]


def test_more_gpus_than_any_node_has_are_not_read(tmp_path: Path) -> None:
    class Boasting(FakeNvml):
        def nvmlDeviceGetCount(self) -> int:
            return 10**9

        def nvmlDeviceGetHandleByIndex(self, index: int) -> Any:
            return self.gpus[0]

    assert len(read_gpus(Boasting(*gpus(1)), root=tmp_path).gpus) == 64
