"""An image made from nothing, unpacked and run as a champion's root behind real walls."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.errors import SandboxUnavailableError
from runner.images.unpack import UnpackedImage, verify_image
from runner.sandbox.gate import find_gate
from runner.spec import ExitReason, Image, Mount, Profile, SandboxSpec
from tests.runner.guests import Ran, order, run_behind_bubblewrap
from tests.runner.image_layers import file, folder, layer, link, unpacked

pytestmark = pytest.mark.sandbox
OUTPUT = "/app/checkpoints"
APPLETS = ("sh", "cat", "id", "ls", "mkdir", "rm", "stat", "touch")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> UnpackedImage:
    """A shell and some files; the second layer changes the first. Links try to lead out."""
    busybox = Path(find_gate()).read_bytes()
    below = layer(
        file("bin/busybox", busybox, mode=0o755),
        *(link(f"bin/{name}", "busybox") for name in APPLETS),
        folder("root", 0o700),
        folder("tmp", 0o1777),
        file("etc/old", b"hidden"),
        file("etc/theirs", b"of the image\n", mode=0o600),
        file("etc/suid", busybox, mode=0o4755),
        link("way-out", "/../../../.."),
    )
    above = layer(
        file("etc/.wh.old"),
        file("workspace/start", b'#!/bin/sh\necho "$GREETING from $PWD: $*"\n', mode=0o755),
        file("workspace/owned", b"", owner=1234),
    )
    return unpacked(
        tmp_path_factory.mktemp("image"), below, above, Env=["PATH=/bin"], WorkingDir="/workspace"
    )


@pytest.fixture
def run(image: UnpackedImage, tmp_path: Path) -> Callable[..., Ran]:
    def run_one(*argv: str, **changes: Any) -> Ran:
        wanted: dict[str, Any] = {
            "runtime": None,
            "image": Image(tree=str(image.tree), manifest_sha256=image.facts.manifest_sha256),
            "profile": Profile.CHAMPION,
            "env": image.config.environment,
            "cwd": image.config.working_folder,
            "output_target": OUTPUT,
            **changes,
        }
        spec: SandboxSpec = order(*argv, **wanted)
        return run_behind_bubblewrap(spec, tmp_path / "job")

    return run_one


def test_a_champion_does_in_its_image_what_it_does_upstream(
    run: Callable[..., Ran], image: UnpackedImage, tmp_path: Path
) -> None:
    (tmp_path / "input").write_text("train me")
    script = f"""
        set -e
        id -u; cat /etc/theirs; cat /cache/data
        echo changed >/etc/theirs; echo new >/workspace/new; mkdir -p ~/.cache/deep; rm -r ~/.cache
        rm /workspace/start
        if cat /etc/old 2>/dev/null; then echo hidden file is there; fi
        if echo x >/cache/data; then echo input was written; fi
        mkdir {OUTPUT}/leaf; cat /etc/theirs >{OUTPUT}/leaf/model
    """
    mount = Mount(source=str(tmp_path / "input"), target="/cache/data")
    ran = run("/bin/sh", "-c", script, mounts=(mount,))
    assert ran.exit.reason is ExitReason.EXITED, (ran.exit, ran.log)
    assert ran.exit.code == 0, ran.log
    assert ran.log.splitlines()[:2] == [b"0", b"of the image"]
    assert ran.log.splitlines()[2].startswith(b"train me")
    assert b"hidden file" not in ran.log
    assert b"input was written" not in ran.log
    assert ran.harvested == ["leaf/model"]
    # What it changed was its own copy.
    assert verify_image(image.tree.parent) == image.facts


def test_the_entry_point_is_found_in_the_images_path_and_folder(run: Callable[..., Ran]) -> None:
    ran = run("sh", "./start", "--task-id", "x", env={"PATH": "/bin", "GREETING": "hello"})
    assert (ran.exit.code, ran.log) == (0, b"hello from /workspace: --task-id x\n"), ran.exit


def test_a_librarys_path_of_the_image_reaches_the_guest_and_not_its_gate(run: Callable[..., Ran]) -> None:
    ran = run("/bin/sh", "-c", "echo $LD_PRELOAD", env={"PATH": "/bin", "LD_PRELOAD": "/etc/theirs"})
    assert (ran.exit.code, ran.log) == (0, b"/etc/theirs\n"), ran.exit


def test_links_of_the_image_lead_nowhere_else(run: Callable[..., Ran]) -> None:
    ran = run("/bin/sh", "-c", "ls /way-out /way-out/../..; stat -c %a /etc/suid")
    assert b"workspace" in ran.log
    assert ran.log.endswith(b"755\n")
    for name in (b"boot", b"usr", b"mnt"):
        assert name not in ran.log.split()


def test_an_image_that_is_gone_is_no_sandbox(
    run: Callable[..., Ran], image: UnpackedImage, tmp_path: Path
) -> None:
    gone = Image(tree=str(tmp_path / "gone"), manifest_sha256=image.facts.manifest_sha256)
    with pytest.raises(SandboxUnavailableError, match=f"{tmp_path}/gone is no image that can be used"):
        run("/bin/sh", image=gone)
