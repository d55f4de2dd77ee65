"""An old podman is told, one that is too old or says no version is refused."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tournament_sync.errors import BuildError
from tournament_sync.images.tools import ImageTools
from tournament_sync.images.version import check_podman

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can wrap a program that is not podman")

Podman = Callable[[str], ImageTools]


@pytest.fixture
def podman(tmp_path: Path) -> Podman:
    """A podman that says it is of some version."""

    def make(version: str) -> ImageTools:
        program = tmp_path / "podman"
        program.write_text(f"#!/bin/sh\necho '{version}'\n")
        program.chmod(0o755)
        return ImageTools(podman=str(program), timeout_s=20)

    return make


@pytest.mark.parametrize("version", ["4.3.0", "4.3.1", "4.9.3-rhel", "5.3.1"])
def test_tells_what_is_lacking(podman: Podman, version: str) -> None:
    told = check_podman(podman(version))
    assert told is not None
    assert f"podman {version} is older than 5.3.2, which repaired CVE-2024-1753" in told


@pytest.mark.parametrize("version", ["5.3.2", "5.10.0", "6.0.0-dev"])
def test_says_nothing_of_a_repaired_one(podman: Podman, version: str) -> None:
    assert check_podman(podman(version)) is None


@pytest.mark.parametrize("version", ["4.2.9", "3.10.0"])
def test_refuses_one_that_is_too_old(podman: Podman, version: str) -> None:
    with pytest.raises(BuildError, match=f"podman {version} is older than 4.3.0, the oldest that builds"):
        check_podman(podman(version))


@pytest.mark.parametrize("version", ["", "four", "5.3", "5.3.2 and more", "99999.0.0"])
def test_refuses_one_that_says_no_version(podman: Podman, version: str) -> None:
    with pytest.raises(BuildError, match=r"podman says its version is .*, wanted three numbers"):
        check_podman(podman(version))
