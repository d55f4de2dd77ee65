"""A sandbox gets exactly what was reserved, and nothing starts on a GPU that somebody else is on."""

from dataclasses import replace
from pathlib import Path

import pytest

from appliance.grants import LIBRARY_FOLDER, with_grant
from appliance.store.reservations import Reservation
from runner.errors import LauncherError
from runner.inventory.gpus import GpuInventory, read_gpus
from runner.inventory.libraries import DriverLibraries
from runner.spec import Image, Limits, Mount, Runtime, SandboxSpec
from tests.runner.fake_nvml import GIB, FakeError, FakeGpu, FakeNvml, gpus, make_root

SPEC = SandboxSpec(
    job_id="run-a",
    argv=("python",),
    env={},
    cwd="/",
    mounts=(),
    output_target="/out",
    limits=Limits(wall_clock_s=60.0, log_bytes=7),
    runtime=Runtime(python_prefix="/p", site_packages="/s", python_version="3.11"),
)


def holding(*uuids: str) -> Reservation:
    return Reservation(
        run_id="run-a",
        memory_bytes=96 * GIB,
        cpu_millis=24_000,
        shm_bytes=16 * GIB,
        disk_bytes=0,
        gpus=uuids,
    )


def not_read() -> GpuInventory:
    raise AssertionError("no GPU was granted, so none is looked at")


def test_gpus_are_exactly_the_granted_in_their_order(tmp_path: Path) -> None:
    root = make_root(tmp_path, minors=(0, 1, 2))
    spec = with_grant(SPEC, holding("GPU-2", "GPU-0"), read=lambda: read_gpus(FakeNvml(*gpus(3)), root=root))
    assert [(gpu.uuid, gpu.nodes[0]) for gpu in spec.gpus] == [
        ("GPU-2", "/dev/nvidia2"),
        ("GPU-0", "/dev/nvidia0"),
    ]


IMAGE = replace(SPEC, runtime=None, image=Image(tree="/images/x/tree", manifest_sha256="0" * 64))


def test_an_image_gets_the_hosts_driver_libraries_and_finds_them_first(tmp_path: Path) -> None:
    root = make_root(tmp_path, minors=(0,))
    libraries = DriverLibraries(files={"libcuda.so.1": "/usr/lib/libcuda.so.550"}, missing=())
    spec = with_grant(
        replace(IMAGE, env={"LD_LIBRARY_PATH": "/own"}),
        holding("GPU-0"),
        read=lambda: read_gpus(FakeNvml(*gpus(1)), root=root),
        find=lambda driver: libraries,
    )
    assert spec.mounts == (Mount(source="/usr/lib/libcuda.so.550", target=f"{LIBRARY_FOLDER}/libcuda.so.1"),)
    assert spec.env["LD_LIBRARY_PATH"] == f"{LIBRARY_FOLDER}:/own"


def test_a_host_without_the_drivers_libraries_starts_no_image_on_a_gpu(tmp_path: Path) -> None:
    root = make_root(tmp_path, minors=(0,))
    with pytest.raises(LauncherError, match=r"libraries libcuda\.so\.1 are not on this host"):
        with_grant(
            IMAGE,
            holding("GPU-0"),
            read=lambda: read_gpus(FakeNvml(*gpus(1)), root=root),
            find=lambda driver: DriverLibraries(files={}, missing=("libcuda.so.1",)),
        )


def test_limits_are_what_was_reserved_and_the_rest_stays() -> None:
    limits = with_grant(SPEC, holding(), read=not_read).limits
    assert (limits.memory_bytes, limits.cpu_millis, limits.shm_bytes) == (96 * GIB, 24_000, 16 * GIB)
    assert (limits.wall_clock_s, limits.log_bytes) == (60.0, 7)


def test_a_run_without_gpus_gets_none() -> None:
    assert with_grant(SPEC, holding(), read=not_read).gpus == ()


def test_a_run_without_a_reservation_runs_as_it_was_ordered() -> None:
    assert with_grant(SPEC, None, read=not_read) == SPEC


@pytest.mark.parametrize(
    ("made", "told"),
    [
        ([FakeGpu("GPU-0", processes=[7])], "GPU-0 was granted and is not free: it is in use by process 7"),
        ([FakeGpu("GPU-9")], "a granted GPU cannot be used: GPU-0 is not on this node; there are GPU-9"),
        (
            [FakeGpu("GPU-0", fails={"nvmlDeviceGetComputeRunningProcesses": FakeError("No Permission")})],
            "is not free: whether it is in use is unknown: No Permission",
        ),
        ([], "no GPUs: the driver is there and counts none"),
    ],
    ids=["in-use", "gone", "unknown", "none"],
)
def test_nothing_starts_on_a_gpu_that_is_not_its_own(tmp_path: Path, made: list[FakeGpu], told: str) -> None:
    root = make_root(tmp_path)
    with pytest.raises(LauncherError, match=told):
        with_grant(SPEC, holding("GPU-0"), read=lambda: read_gpus(FakeNvml(*made), root=root))
