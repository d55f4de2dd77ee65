"""A base image with ONBUILD triggers is refused, and so is one whose triggers cannot be found out."""

import json
import os
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tournament_sync.images import sha256
from tournament_sync.errors import BuildError
from tournament_sync.images.tools import ImageTools
from tournament_sync.images.triggers import check_triggers

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can wrap a program that is not podman")

IMAGE = "ab" * 32
TWICE = b'{"config": {"digest": "1"}, "Config": {"digest": "2"}}'
Store = Callable[[str], ImageTools]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A podman whose storage has one image, with the given configuration."""

    def make(config: str) -> ImageTools:
        folder = tmp_path / "root" / "vfs-images" / IMAGE
        folder.mkdir(parents=True)
        digest = f"sha256:{sha256(config.encode())}"
        (folder / "manifest").write_text(json.dumps({"config": {"digest": digest}}))
        (folder / f"={b64encode(digest.encode()).decode()}").write_text(config)
        program = tmp_path / "podman"
        program.write_text(f"#!/bin/sh\nprintf 'vfs\\t{tmp_path}/root\\n'\n")
        program.chmod(0o755)
        return ImageTools(podman=str(program), timeout_s=20)

    return make


@pytest.mark.parametrize(
    "config",
    [
        '{"config": {"OnBuild": ["RUN --mount=x"]}}',
        '{"Config": {"onbuild": ["RUN --mount=x"]}}',
        '{"config": {"OnBuild": ["RUN --mount=x"]}, "config": {}}',
        '{"config": {"OnBuild": ["RUN --mount=x"], "OnBuild": null}}',
    ],
)
def test_refuses_triggers_however_they_are_spelt(store: Store, config: str) -> None:
    with pytest.raises(BuildError, match=r"^D:1: has ONBUILD triggers, which nobody has read: .*RUN --mount"):
        check_triggers(IMAGE, tools=store(config), doing="D:1")


@pytest.mark.parametrize("config", ["{}", '{"config": null}', '{"config": {"OnBuild": null, "Env": []}}'])
def test_takes_an_image_without_triggers(store: Store, config: str) -> None:
    check_triggers(IMAGE, tools=store(config), doing="D:1")


@pytest.mark.parametrize("config", ["", "{", "\\ud800", "[" * 100_000])
def test_refuses_a_configuration_that_cannot_be_read(store: Store, config: str) -> None:
    with pytest.raises(BuildError, match=r"^D:1: whether it has ONBUILD triggers cannot be found out"):
        check_triggers(IMAGE, tools=store(config), doing="D:1")


def test_refuses_a_configuration_that_is_not_the_manifests(store: Store, tmp_path: Path) -> None:
    tools = store("{}")
    (config,) = (tmp_path / "root").rglob("=*")
    config.write_text('{"config": null}')
    with pytest.raises(BuildError, match=r"cannot be found out: its configuration has [0-9a-f]{64}, its"):
        check_triggers(IMAGE, tools=tools, doing="D:1")


@pytest.mark.parametrize("manifest", [b"", b"[]", b"{}", b'{"config": {"digest": 1}}', TWICE, b"\xff", None])
def test_refuses_a_manifest_that_cannot_be_read(store: Store, tmp_path: Path, manifest: bytes | None) -> None:
    tools = store("{}")
    path = tmp_path / "root" / "vfs-images" / IMAGE / "manifest"
    path.unlink()
    if manifest is not None:
        path.write_bytes(manifest)
    with pytest.raises(BuildError, match=r"^D:1: whether it has ONBUILD triggers cannot be found out"):
        check_triggers(IMAGE, tools=tools, doing="D:1")


@pytest.mark.parametrize("image", ["", "../" + IMAGE, IMAGE.upper(), "cd" * 32])
def test_refuses_an_image_that_is_not_in_the_storage(store: Store, image: str) -> None:
    with pytest.raises(BuildError, match=r"^D:1: whether it has ONBUILD triggers cannot be found out"):
        check_triggers(image, tools=store("{}"), doing="D:1")
