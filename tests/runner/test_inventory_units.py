"""What can be granted, what cannot and why, and whether nobody else is on it."""

from pathlib import Path

import pytest

from runner.inventory.gpus import GpuInventory, read_gpus
from runner.inventory.units import InventoryError, exclusive, gpu_of, units
from runner.spec import Gpu
from tests.runner.fake_nvml import GIB, H100, FakeError, FakeGpu, FakeNvml, FakeSlice, gpus, make_root

MIG_LINES = "gpu0/gi1/access 12\ngpu0/gi1/ci0/access 13\ngpu0/gi2/access 14\ngpu0/gi2/ci0/access 15\n"
SHARED = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_root(tmp_path, minors=(0, 1), mig_lines=MIG_LINES)


def read(root: Path, *made: FakeGpu) -> GpuInventory:
    return read_gpus(FakeNvml(*made), root=root)


def test_every_whole_gpu_is_a_unit(root: Path) -> None:
    found = units(read(root, *gpus(2)))
    assert [(u.uuid, u.product, u.memory_bytes, u.is_slice, u.refusal) for u in found] == [
        ("GPU-0", H100, 80 * GIB, False, None),
        ("GPU-1", H100, 80 * GIB, False, None),
    ]


def test_a_gpu_that_is_cut_is_its_slices_and_no_unit_itself(root: Path) -> None:
    cut = FakeGpu("GPU-0", slices=[FakeSlice("MIG-1"), FakeSlice("MIG-2", gpu_instance=2)])
    found = units(read(root, cut, FakeGpu("GPU-1", minor=1)))
    assert [(u.uuid, u.is_slice, u.refusal) for u in found] == [
        ("MIG-1", True, None),
        ("MIG-2", True, None),
        ("GPU-1", False, None),
    ]
    assert found[0].product == f"{H100}, MIG slice"


def test_a_gpu_that_is_cut_into_nothing_is_no_unit(root: Path) -> None:
    assert units(read(root, FakeGpu("GPU-0", slices=[]))) == ()


@pytest.mark.parametrize(
    ("call", "refusal"),
    [
        ("nvmlDeviceGetHandleByIndex", "unknown: Timeout"),
        ("nvmlDeviceGetMigMode", "is mig unknown: Timeout"),
        ("nvmlDeviceGetName", "product unknown: Timeout"),
        ("nvmlDeviceGetCudaComputeCapability", "compute capability unknown: Timeout"),
        ("nvmlDeviceGetUUID", "uuid unknown: Timeout"),
        ("nvmlDeviceGetMemoryInfo", "memory unknown: Timeout"),
        ("nvmlDeviceGetMinorNumber", "unknown: the driver does not say which"),
        ("nvmlDeviceGetComputeRunningProcesses", "whether it is in use is unknown: Timeout"),
    ],
)
def test_a_gpu_of_which_something_is_unknown_is_not_granted(root: Path, call: str, refusal: str) -> None:
    first, second = units(read(root, FakeGpu("GPU-0", fails={call: FakeError("Timeout")}), gpus(2)[1]))
    assert first.refusal == refusal
    assert second.refusal is None


def test_a_gpu_in_use_is_not_granted(root: Path) -> None:
    (unit,) = units(read(root, FakeGpu("GPU-0", processes=[4711, 12])))
    assert unit.refusal == "it is in use by process 12, 4711"


@pytest.mark.parametrize(("capability", "is_too_old"), [((7, 5), True), ((8, 0), False), ((12, 0), False)])
def test_a_gpu_that_no_champion_can_use_is_not_granted(
    root: Path, capability: tuple[int, int], is_too_old: bool
) -> None:
    (unit,) = units(read(root, FakeGpu("GPU-0", capability=capability)))
    assert unit.is_too_old == is_too_old
    assert unit.refusal == ("compute capability 7.5 is below 8.0" if is_too_old else None)


def test_a_gpu_is_told_to_a_sandbox_with_its_nodes(root: Path) -> None:
    assert gpu_of("GPU-1", read(root, *gpus(2))) == Gpu(uuid="GPU-1", nodes=("/dev/nvidia1", *SHARED))


def test_a_slice_is_told_to_a_sandbox_with_its_own_capabilities_only(root: Path) -> None:
    cut = FakeGpu("GPU-0", slices=[FakeSlice("MIG-1"), FakeSlice("MIG-2", gpu_instance=2)])
    assert gpu_of("MIG-2", read(root, cut)).nodes == (
        "/dev/nvidia0",
        *SHARED,
        "/dev/nvidia-caps/nvidia-cap14",
        "/dev/nvidia-caps/nvidia-cap15",
    )


@pytest.mark.parametrize(
    ("made", "uuid", "match"),
    [
        ((), "GPU-0", "GPU-0 is not on this node; no GPUs: the driver is there and counts none"),
        (gpus(1), "GPU-9", "GPU-9 is not on this node; there are GPU-0"),
        # A whole GPU that is cut is nobody's: it would show every slice.
        ([FakeGpu("GPU-0", slices=[FakeSlice("MIG-1")])], "GPU-0", "not on this node; there are MIG-1"),
        ([FakeGpu("GPU-0", fails={"nvmlDeviceGetMinorNumber": FakeError()})], "GPU-0", "cannot be shown"),
    ],
)
def test_what_cannot_be_shown_is_refused(
    root: Path, made: tuple[FakeGpu, ...], uuid: str, match: str
) -> None:
    with pytest.raises(InventoryError, match=match):
        gpu_of(uuid, read(root, *made))


@pytest.mark.parametrize(
    ("gpu", "holds", "detail"),
    [
        (FakeGpu("GPU-0"), True, "no process has a compute context"),
        (FakeGpu("GPU-0", processes=[7]), False, "in use by process 7"),
        (
            FakeGpu("GPU-0", fails={"nvmlDeviceGetComputeRunningProcesses": FakeError("No Permission")}),
            False,
            "whether it is in use is unknown: No Permission",
        ),
        (FakeGpu("GPU-1"), False, "GPU-0 is not on this node"),
    ],
)
def test_exclusive_only_if_it_was_seen_to_be(root: Path, gpu: FakeGpu, holds: bool, detail: str) -> None:
    found = exclusive(Gpu(uuid="GPU-0", nodes=()), read(root, gpu))
    assert found.holds is holds
    assert detail in found.detail


def test_a_gpu_without_all_its_nodes_is_not_shown(root: Path) -> None:
    (root / "dev/nvidia-uvm").unlink()
    with pytest.raises(
        InventoryError, match="GPU-0 cannot be shown to a sandbox: no device node /dev/nvidia-uvm"
    ):
        gpu_of("GPU-0", read(root, *gpus(1)))


def test_a_slice_is_exclusive_beside_a_busy_one(root: Path) -> None:
    cut = FakeGpu("GPU-0", slices=[FakeSlice("MIG-1", processes=[7]), FakeSlice("MIG-2", gpu_instance=2)])
    found = read(root, cut)
    assert not exclusive(Gpu(uuid="MIG-1", nodes=()), found).holds
    assert exclusive(Gpu(uuid="MIG-2", nodes=()), found).holds
