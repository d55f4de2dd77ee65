"""GPUs go through nvproxy only where this runsc knows the driver and the GPU is whole."""

from pathlib import Path

import pytest

from runner.errors import SandboxUnavailableError
from runner.sandbox.gvisor_gpus import check_gpus
from runner.spec import Gpu

WHOLE = Gpu(uuid="GPU-1", nodes=("/dev/nvidia0", "/dev/nvidiactl"))
DRIVER = (
    "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\nGCC version:\n"
)
OPEN_DRIVER = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  535.161.07  Release Build\n"


def known() -> str:
    """As runsc prints it."""
    return "550.54.14\n550.54.15\n535.161.07\n"


def check(tmp_path: Path, gpu: Gpu, text: str | None) -> None:
    driver_file = tmp_path / "version"
    if text is not None:
        driver_file.write_text(text)
    check_gpus((gpu,), supported_drivers=known, driver_file=driver_file)


@pytest.mark.parametrize("text", [DRIVER, OPEN_DRIVER])
def test_a_whole_gpu_with_a_known_driver_is_served(tmp_path: Path, text: str) -> None:
    check(tmp_path, WHOLE, text)


def test_without_gpus_nothing_is_asked(tmp_path: Path) -> None:
    check_gpus((), supported_drivers=lambda: pytest.fail("asked"), driver_file=tmp_path / "missing")


@pytest.mark.parametrize(
    "gpu",
    [
        Gpu(uuid="MIG-41b4", nodes=("/dev/nvidia0",)),
        Gpu(uuid="GPU-1", nodes=("/dev/nvidia-caps/nvidia-cap3",)),
    ],
)
def test_refuses_a_slice(tmp_path: Path, gpu: Gpu) -> None:
    with pytest.raises(SandboxUnavailableError, match=r"a slice of a GPU .* grant a whole GPU"):
        check(tmp_path, gpu, DRIVER)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (DRIVER.replace("550.54.15", "580.1"), "knows no NVIDIA driver 580.1; it knows 550.54.14, 550.54.15"),
        (DRIVER.replace("550.54.15", "550.54.150"), "knows no NVIDIA driver 550.54.150"),
        ("something else", "does not tell a version: 'something else'"),
        (None, "No such file or directory; load it"),
    ],
)
def test_refuses_a_driver_that_runsc_does_not_know(tmp_path: Path, text: str | None, message: str) -> None:
    with pytest.raises(SandboxUnavailableError, match=message):
        check(tmp_path, WHOLE, text)


def test_a_runsc_without_a_list_knows_none(tmp_path: Path) -> None:
    (tmp_path / "version").write_text(DRIVER)
    with pytest.raises(SandboxUnavailableError, match="it knows none: install"):
        check_gpus((WHOLE,), supported_drivers=lambda: "", driver_file=tmp_path / "version")
