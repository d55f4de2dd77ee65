"""GPUs by a vendor's description of devices: written by hand, around a node of this host that is no GPU.

A real vendor's description and driver were not at hand; what podman makes of one is tested, not CUDA.
"""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runner import linux
from runner.errors import SandboxUnavailableError
from runner.spec import ExitReason, Gpu, Profile
from tests.runner.guests import SHELL, order
from tests.runner.podman_guests import in_a_child, run_behind_podman
from tests.runner.test_oci import open_folder

__all__ = ("open_folder",)
pytestmark = [
    pytest.mark.sandbox,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may show other devices to podman"),
]
NODE = next(
    (node for node in ("/dev/fuse", "/dev/loop-control", "/dev/kvm") if Path(node).exists()), "/dev/kmsg"
)
GPU = Gpu(uuid="GPU-1", nodes=(NODE,))


@pytest.fixture
def driver(open_folder: Path) -> Iterator[Path]:
    """A file of the driver, where podman may read it."""
    library = open_folder / "libcuda.so.1"
    library.write_text("of the driver")
    yield library


def describe(driver: Path, *, extra_node: str | None = None, mounts: tuple[dict[str, Any], ...] = ()) -> None:
    """Replace this process's /run by one in which a single GPU is described."""
    linux.unshare(linux.CLONE_NEWNS)
    linux.mount("", "/", flags=linux.MS_REC | linux.MS_PRIVATE)
    own = os.open("/run/assay", linux.O_PATH) if Path("/run/assay").is_dir() else None
    linux.mount("tmpfs", "/run", kind="tmpfs")
    if own is not None:  # ids in use
        Path("/run/assay").mkdir()
        linux.mount(f"/proc/self/fd/{own}", "/run/assay", flags=linux.MS_BIND)
    Path("/run/cdi").mkdir()
    options = ["ro", "nosuid", "nodev", "bind"]
    library = {"hostPath": str(driver), "containerPath": "/opt/driver/libcuda.so.1", "options": options}
    nodes = [NODE, *([extra_node] if extra_node else [])]
    described = {
        "cdiVersion": "0.5.0",
        "kind": "nvidia.com/gpu",
        "devices": [{"name": "GPU-1", "containerEdits": {"deviceNodes": [{"path": node} for node in nodes]}}],
        "containerEdits": {"env": ["NVIDIA_VISIBLE_DEVICES=void"], "mounts": [library, *mounts]},
    }
    Path("/run/cdi/nvidia.json").write_text(json.dumps(described))


def champion(script: str, gpu: Gpu = GPU) -> Any:
    return replace(order(*SHELL, script), profile=Profile.CHAMPION, gpus=(gpu,))


def test_a_granted_gpu_comes_with_its_driver_and_nothing_else(driver: Path, tmp_path: Path) -> None:
    def run() -> None:
        describe(driver)
        script = "echo $NVIDIA_VISIBLE_DEVICES; cat /opt/driver/*; ls -d /sys/class; ls -A /sys/fs/cgroup"
        ran = run_behind_podman(champion(script), tmp_path / "job")
        assert (ran.exit.reason, ran.exit.code) == (ExitReason.EXITED, 0), ran.exit
        assert ran.log == b"void\nof the driver/sys/class\n"
        measured = ran.isolation[0]
        assert [d.split()[-1] for d in measured["devices"] if d.split()[-1] == NODE] == [NODE]
        assert measured["gpus"] == ["GPU-1"]

    in_a_child(run)


def test_a_node_that_was_not_granted_is_refused(driver: Path, tmp_path: Path) -> None:
    def run() -> None:
        describe(driver, extra_node="/dev/kmsg")
        ran = run_behind_podman(champion("true"), tmp_path / "job")
        assert ran.exit.reason is ExitReason.REFUSED
        assert "/dev/kmsg is there; it was not granted" in ran.exit.message

    in_a_child(run)


def test_a_socket_of_a_daemon_of_the_host_is_refused(driver: Path, tmp_path: Path) -> None:
    def run() -> None:
        path = "/run/nvidia-persistenced/socket"
        describe(
            driver,
            mounts=({"hostPath": path, "containerPath": path, "options": ["ro", "nosuid", "nodev", "bind"]},),
        )
        Path(path).parent.mkdir()
        with closing(socket.socket(socket.AF_UNIX)) as daemon:
            daemon.bind(path)
            ran = run_behind_podman(champion("true"), tmp_path / "job")
        assert ran.exit.reason is ExitReason.REFUSED
        assert f"{path} is mounted and was not asked for" in ran.exit.message

    in_a_child(run)


def test_driver_files_that_could_be_changed_are_refused(driver: Path, tmp_path: Path) -> None:
    def run() -> None:
        writable = {
            "hostPath": str(driver),
            "containerPath": "/opt/driver/x",
            "options": ["rw", "nosuid", "nodev", "bind"],
        }
        describe(driver, mounts=(writable,))
        ran = run_behind_podman(champion("true"), tmp_path / "job")
        assert (ran.exit.reason, ran.exit.message.count("/opt/driver/x is writable")) == (
            ExitReason.REFUSED,
            1,
        )

    in_a_child(run)


def test_a_gpu_that_nobody_describes_is_told_with_the_fix(driver: Path, tmp_path: Path) -> None:
    def run() -> None:
        describe(driver)
        with pytest.raises(
            SandboxUnavailableError, match=r"unresolvable CDI devices .*GPU-2.*nvidia-ctk cdi generate"
        ):
            run_behind_podman(champion("true", Gpu(uuid="GPU-2", nodes=(NODE,))), tmp_path / "job")

    in_a_child(run)
