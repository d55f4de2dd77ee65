"""The set-up script asks for what images need only where images are wanted."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "deploy/setup/system-packages"
THERE = ("bash", "env", "id", "git", "bwrap", "busybox", "mkfs.ext4", "unshare")


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A folder of programs that the demo needs, and none that images need."""
    for name in THERE:
        (tmp_path / name).write_text("#!/bin/sh\necho 0\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "python").write_text("#!/bin/sh\nexit 0\n")
    (tmp_path / "python").chmod(0o755)
    return tmp_path


def check(programs: Path, *options: str) -> subprocess.CompletedProcess[str]:
    # Its own folders of programs are left out, so that this machine's are not found.
    text = SCRIPT.read_text().replace('PATH="$PATH:/usr/sbin:/sbin"', "")
    return subprocess.run(
        ["/bin/bash", "-c", text, "system-packages", "--check", *options],
        env={"PATH": str(programs), "PYTHON": "python"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_demo_needs_no_podman(bare: Path) -> None:
    done = check(bare)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_images_need_podman_and_a_runtime_that_works_everywhere(bare: Path) -> None:
    done = check(bare, "--images")
    assert done.returncode == 2
    assert "needs these Debian packages for images and may not install them here" in done.stderr
    assert "apt-get install --no-install-recommends podman runc\n" in done.stderr


def test_images_without_root_need_ranges_of_users(bare: Path) -> None:
    (bare / "id").write_text("#!/bin/sh\necho 1000\n")
    assert "podman runc uidmap\n" in check(bare, "--images").stderr


def test_asks_for_nothing_that_is_there(bare: Path) -> None:
    for name in ("podman", "runc"):
        os.link(bare / "python", bare / name)
    assert check(bare, "--images").returncode == 0


def test_refuses_an_option_that_it_does_not_know(bare: Path) -> None:
    done = check(bare, "--everything")
    assert (done.returncode, done.stderr) == (
        2,
        "usage: system-packages [--check] [--images] [--sandboxes]\n",
    )
