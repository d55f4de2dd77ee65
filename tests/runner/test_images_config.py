"""An image's documents: what they say is read in one way, or refused."""

import json
from typing import Any

import pytest

from runner.images.config import MAX_JSON_BYTES, check_config, parse_config
from runner.images.errors import ImageError
from tests.runner.image_layers import config_of, manifest_of, sha256


def changed(**changes: Any) -> bytes:
    return json.dumps({**json.loads(config_of([b"one"])), **changes}).encode()


def test_reads_how_the_image_wants_to_be_started() -> None:
    found = parse_config(
        config_of(
            [b"one", b"two"],
            Entrypoint=["./entrypoint.sh"],
            Cmd=["--help"],
            Env=["PATH=/opt/bin:/bin", "EMPTY=", "TWO=a=b\nc"],
            WorkingDir="/workspace/scripts",
            User="root",
        )
    )
    assert (found.architecture, found.user, found.working_folder) == ("amd64", "root", "/workspace/scripts")
    assert (found.entrypoint, found.command) == (("./entrypoint.sh",), ("--help",))
    assert found.environment == {"PATH": "/opt/bin:/bin", "EMPTY": "", "TWO": "a=b\nc"}
    assert found.diff_ids == (sha256(b"one"), sha256(b"two"))


def test_what_is_not_said_is_dockers_default() -> None:
    found = parse_config(changed(config=None))
    assert (found.entrypoint, found.command, found.environment) == ((), (), {})
    assert (found.working_folder, found.user, found.is_for_root) == ("/", "", True)


@pytest.mark.parametrize("key", ["Labels", "Volumes", "Healthcheck", "ArgsEscaped", "x-anything"])
def test_keys_that_are_not_used_may_be_anything(key: str) -> None:
    assert parse_config(config_of([b""], **{key: {"a": [1, None]}})).entrypoint == ("/bin/true",)


@pytest.mark.parametrize("user", ["", "0", "root", "0:0", "root:root", "0:root", "root:0"])
def test_root_is_known_by_all_its_names(user: str) -> None:
    assert parse_config(config_of([b""], User=user)).is_for_root


@pytest.mark.parametrize("user", ["1000", "nobody", "0:1000", "1000:0", "Root", "00"])
def test_others_are_not_root(user: str) -> None:
    assert not parse_config(config_of([b""], User=user)).is_for_root


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not JSON with one reading"),
        (b"\xff", "not JSON with one reading"),
        (b"[" * 100_000, "not JSON with one reading"),
        (b'{"os": "linux", "os": "linux"}', "a key is there twice"),
        (b'{"os": "\\ud800"}', "not JSON with one reading"),
        (b"[]", "configuration is .*wanted an object"),
        (b" " * (MAX_JSON_BYTES + 1), "bytes, wanted at most"),
        (changed(os="windows"), "for 'windows', wanted 'linux'"),
        (changed(architecture=7), "architecture has 7"),
        (changed(config=[1]), "config is .*wanted an object"),
        (changed(rootfs=None), "rootfs is None, wanted an object"),
        (changed(rootfs={"type": "tars", "diff_ids": []}), "rootfs.type is 'tars'"),
        (changed(rootfs={"type": "layers", "diff_ids": ["sha512:00"]}), "wanted sha256: and 64"),
        (changed(rootfs={"type": "layers", "diff_ids": ["sha256:" + "A" * 64]}), "wanted sha256: and 64"),
        (changed(config={"entrypoint": ["x"]}), "'entrypoint', which some would read as another key"),
        (changed(Config={}), "'Config', which some would read as another key"),
        (config_of([b""], Entrypoint="/bin/sh -c x"), "Entrypoint is .*wanted a list"),
        (config_of([b""], Entrypoint=["a", 1]), "Entrypoint has 1, wanted a word"),
        (config_of([b""], Entrypoint=["a\0b"]), "Entrypoint has .*wanted a word"),
        (config_of([b""], Entrypoint=["x"] * 4097), "at most 4096 words"),
        (config_of([b""], Env=["NAME"]), "'NAME', no variable or one set before"),
        (config_of([b""], Env=["=x"]), "no variable or one set before"),
        (config_of([b""], Env=["A B=x"]), "no variable or one set before"),
        (config_of([b""], Env=["A=1", "A=2"]), "'A=2', no variable or one set before"),
        (config_of([b""], WorkingDir="relative"), "wanted an absolute path"),
        (config_of([b""], WorkingDir="/a/../../b"), "wanted an absolute path without .."),
        (config_of([b""], User=0), "User has 0"),
        (config_of([b""], User=["root"]), "User has .*wanted a word"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refuses_a_configuration_that_others_might_read_otherwise(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        parse_config(data)


def test_a_manifest_names_one_configuration() -> None:
    config = config_of([b""])
    check_config(manifest_of(config), config)
    with pytest.raises(ImageError, match=f"the configuration has sha256:{sha256(config + b' ')}"):
        check_config(manifest_of(config), config + b" ")


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (b'{"schemaVersion": 1, "config": {}}', "schema version 1, wanted 2"),
        (b'{"schemaVersion": 2}', "config is None, wanted an object"),
        (b'{"schemaVersion": 2, "config": {"digest": "md5:1"}}', "wanted sha256:"),
        (b'{"schemaVersion": 2, "config": {"Digest": "x"}}', "some would read as another key"),
        (b"nothing", "the manifest is not JSON"),
    ],
)
def test_refuses_what_is_no_manifest(manifest: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        check_config(manifest, config_of([b""]))
