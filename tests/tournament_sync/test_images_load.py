"""An image is loaded if it is the pinned one, and then only by its digest."""

import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.tournament_sync.images import podman, tar_of, write_image
from tournament_sync.champion import ImagePin
from tournament_sync.errors import BuildError
from tournament_sync.images.load import find_image, load_image
from tournament_sync.images.oci import open_archive
from tournament_sync.images.tools import ImageTools, ask

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can wrap a program that is not podman")
UNUSED = ImageTools(podman="podman-that-is-not-there")


@pytest.fixture(scope="module")
def tools() -> Iterator[ImageTools]:
    with podman() as made:
        yield made


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return write_image(tmp_path / "image.tar", [tar_of({"a": str(tmp_path).encode()})])


def pin_of(archive: Path) -> ImagePin:
    image = open_archive(archive)
    return ImagePin(
        dockerfile="D", manifest=image.manifest_sha256, archive=image.archive_sha256, inventory="0" * 64
    )


def images(tools: ImageTools) -> list[str]:
    return ask(tools, "images", "--all", "--quiet", doing="images").split()


@pytest.mark.images
def test_loads_the_pinned_image_once_and_names_it_by_digest(tools: ImageTools, archive: Path) -> None:
    pin = pin_of(archive)
    assert find_image(pin, tools=tools) is None
    reference = load_image(archive, pin=pin, tools=tools)
    assert reference == f"localhost/assay/champion@sha256:{pin.manifest}"
    inspected = ask(tools, "image", "inspect", "--format", "{{.Id}} {{.Digest}}", reference, doing="inspect")
    assert inspected == f"{open_archive(archive).config_sha256} sha256:{pin.manifest}"
    before = images(tools)
    assert load_image(archive, pin=pin, tools=tools) == reference == find_image(pin, tools=tools)
    assert images(tools) == before


@pytest.mark.images
def test_nothing_is_loaded_from_another_archive(tools: ImageTools, archive: Path, tmp_path: Path) -> None:
    other = write_image(tmp_path / "other.tar", [tar_of({"b": b"other"})])
    before = images(tools)
    with pytest.raises(BuildError, match="nothing is loaded and nothing is built in its place"):
        load_image(other, pin=pin_of(archive), tools=tools)
    assert images(tools) == before


@pytest.mark.parametrize("field", ["manifest", "archive"])
def test_refuses_any_other_digest_before_podman_is_asked(archive: Path, field: str) -> None:
    pin = pin_of(archive)
    wanted = "f" * 64
    message = rf"is \w+ {getattr(pin, field)}, the release pins {wanted} for D: nothing is loaded"
    with pytest.raises(BuildError, match=message):
        load_image(archive, pin=replace(pin, **{field: wanted}), tools=UNUSED)


def test_refuses_a_change_of_any_byte_before_podman_is_asked(archive: Path) -> None:
    pin, data = pin_of(archive), archive.read_bytes()
    for at in range(0, len(data), 41):
        archive.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(BuildError) as caught:
            load_image(archive, pin=pin, tools=UNUSED)
        assert "podman" not in str(caught.value)


def test_refuses_what_is_no_archive(tmp_path: Path, archive: Path) -> None:
    pin = pin_of(archive)
    for data in (b"", b"x" * 5000, bytes(20_000)):
        archive.write_bytes(data)
        with pytest.raises(BuildError, match="is not an image that may be loaded"):
            load_image(archive, pin=pin, tools=UNUSED)
    with pytest.raises(BuildError, match="cannot be read: Is a directory"):
        load_image(tmp_path, pin=pin, tools=UNUSED)


@needs_root
def test_an_image_that_podman_calls_by_another_digest_is_not_loaded(archive: Path, tmp_path: Path) -> None:
    program = tmp_path / "podman"
    program.write_text(f"#!/bin/sh\ncase $* in *images*) echo sha256:{'e' * 64} ;; esac\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    with pytest.raises(BuildError, match="was loaded, and podman has another digest for it"):
        load_image(archive, pin=pin_of(archive), tools=ImageTools(podman=str(program)))
