"""An OCI archive is opened only if every byte of it belongs to one image and is what its digest says."""

import gzip
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.tournament_sync.images import (
    CONFIG,
    LAYER,
    MANIFEST,
    Json,
    image_files,
    sha256,
    tar_of,
    write_image,
)
from tournament_sync.errors import BuildError
from tournament_sync.images import oci
from tournament_sync.images.layout import ImageConfig
from tournament_sync.images.oci import open_archive, unpacked
from tournament_sync.images.tar import TarReader

FIRST, SECOND = tar_of({"a": b"one"}), tar_of({"b": b"two"})


@pytest.fixture
def archive(tmp_path: Path) -> Callable[..., Path]:
    """Writes an archive of two layers with `changes`."""

    def write(**changes: Any) -> Path:
        return write_image(tmp_path / "image.tar", [FIRST, SECOND], **changes)

    return write


@pytest.fixture
def refused(tmp_path: Path) -> Callable[[bytes, str], None]:
    def check(data: bytes, message: str) -> None:
        path = tmp_path / "refused.tar"
        path.write_bytes(data)
        with pytest.raises(BuildError, match=message) as caught:
            open_archive(path)
        assert str(caught.value).startswith(f"{path} is not an image that may be loaded: ")

    return check


@pytest.mark.parametrize("is_compressed", [True, False])
def test_opens_an_image_and_says_what_it_is(archive: Callable[..., Path], is_compressed: bool) -> None:
    path = archive(is_compressed=is_compressed)
    image = open_archive(path)
    files = image_files([FIRST, SECOND], is_compressed=is_compressed)
    manifest = json.loads(files["index.json"])["manifests"][0]["digest"]
    assert f"sha256:{image.manifest_sha256}" == manifest
    assert image.archive_sha256 == sha256(path.read_bytes())
    assert f"blobs/sha256/{image.config_sha256}" in files
    assert [layer.diff_id for layer in image.layers] == [sha256(FIRST), sha256(SECOND)]
    assert image.config == ImageConfig(
        architecture="amd64",
        environment={"PATH": "/bin"},
        entrypoint=("/bin/true",),
        command=(),
        working_folder="/srv",
        user="",
    )


def test_gives_the_layers_as_they_unpack(archive: Callable[..., Path]) -> None:
    image = open_archive(archive())
    for layer, content in zip(image.layers, (FIRST, SECOND), strict=True):
        with unpacked(image, layer) as stream:
            assert stream.read(1 << 20) == content


def test_an_archive_that_went_away_is_told(archive: Callable[..., Path]) -> None:
    image = open_archive(archive())
    image.path.unlink()
    with pytest.raises(BuildError, match="cannot be read: No such file"), unpacked(image, image.layers[0]):
        pass
    with pytest.raises(BuildError, match="cannot be read: No such file"):
        open_archive(image.path)


def test_each_changed_byte_is_noticed(archive: Callable[..., Path], tmp_path: Path) -> None:
    """Everything but a header's owner, time and the like, which name no content."""
    data = archive().read_bytes()
    image = open_archive(archive())
    path = tmp_path / "changed.tar"
    for at in range(0, len(data), 7):
        changed = bytearray(data)
        changed[at] ^= 0x20
        path.write_bytes(changed)
        try:
            found = open_archive(path)
        except BuildError:
            continue
        assert found.archive_sha256 != image.archive_sha256
        assert (found.manifest_sha256, found.config, found.layers) == (
            image.manifest_sha256,
            image.config,
            image.layers,
        )


def test_an_archive_cut_anywhere_is_refused(archive: Callable[..., Path], tmp_path: Path) -> None:
    data = archive().read_bytes()
    end = len(data.rstrip(b"\0"))
    path = tmp_path / "cut.tar"
    for length in range(0, end, 97):
        path.write_bytes(data[:length])
        with pytest.raises(BuildError):
            open_archive(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("../evil", b"", "'../evil', a file, has no place in an image layout"),
        ("/index.json", b"", "'/index.json', a file, has no place"),
        ("./index.json", b"", "'./index.json', a file, has no place"),
        ("manifest.json", b"[]", "'manifest.json', a file, has no place"),
        ("blobs/sha512/" + "0" * 128, b"", "has no place"),
        ("blobs/sha256/" + "A" * 64, b"", "has no place"),
        ("other/", b"", "'other/?', a folder, has no place"),
        ("blobs/sha256/" + "0" * 64, "index.json", "a symbolic link, has no place"),
        ("index.json", b"{}", "index.json is there twice"),
        ("blobs/sha256/" + "0" * 64, b"x", f"blobs/sha256/0+ has the digest {sha256(b'x')}"),
        (
            f"blobs/sha256/{sha256(b'x')}",
            b"x",
            f"blobs/sha256/{sha256(b'x')} belongs to no part of the image",
        ),
    ],
)
def test_refuses_a_file_that_belongs_to_no_image(
    refused: Callable[[bytes, str], None], name: str, content: bytes | str, message: str
) -> None:
    refused(tar_of([*image_files([FIRST]).items(), (name, content)]), message)


@pytest.mark.parametrize("missing", ["oci-layout", "index.json", "manifest", "config", "layer"])
def test_refuses_an_archive_that_lacks_a_part(refused: Callable[[bytes, str], None], missing: str) -> None:
    files = image_files([FIRST])
    index = json.loads(files["index.json"])
    manifest_name = name_of(index["manifests"][0])
    manifest = json.loads(files[manifest_name])
    named = {
        "manifest": manifest_name,
        "config": name_of(manifest["config"]),
        "layer": name_of(manifest["layers"][0]),
    }
    del files[named.get(missing, missing)]
    refused(tar_of(files), f"{named.get(missing, missing)} is missing")


def name_of(descriptor: Json) -> str:
    return "blobs/sha256/" + str(descriptor["digest"]).removeprefix("sha256:")


def test_refuses_anything_behind_the_end(refused: Callable[[bytes, str], None]) -> None:
    data = tar_of(image_files([FIRST]))
    refused(data + b"more", "there is something after the end of the archive")


def test_refuses_another_layout_version(refused: Callable[[bytes, str], None]) -> None:
    files = image_files([FIRST]) | {"oci-layout": b'{"imageLayoutVersion": "2.0.0"}'}
    refused(tar_of(files), "oci-layout: 'imageLayoutVersion': Input should be '1.0.0'")


def test_refuses_a_key_that_is_there_twice(refused: Callable[[bytes, str], None]) -> None:
    twice = image_files([FIRST])["index.json"].replace(
        b'"schemaVersion": 2', b'"schemaVersion": 2, "schemaVersion": 2'
    )
    refused(tar_of(image_files([FIRST]) | {"index.json": twice}), "index.json: duplicate key 'schemaVersion'")


def test_refuses_json_over_the_limit(refused: Callable[[bytes, str], None]) -> None:
    large = b" " * (4 << 20) + b"{}"
    refused(
        tar_of(image_files([FIRST]) | {"index.json": large}), "index.json: 4194306 bytes are over the limit"
    )


def change(*path: str | int, to: object) -> Callable[[Json], None]:
    """A function that sets one value of a document."""

    def apply(document: Any) -> None:
        for key in path[:-1]:
            document = document[key]
        document[path[-1]] = to

    return apply


OTHER = f"sha256:{'0' * 64}"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (change("manifests", to=[]), "index.json names 0 images, wanted one"),
        (
            lambda index: index["manifests"].append(index["manifests"][0]),
            "index.json names 2 images, wanted one",
        ),
        (
            change("manifests", 0, "annotations", to={"a": "b"}),
            "annotations': Extra inputs are not permitted",
        ),
        (change("manifests", 0, "digest", to=OTHER), "blobs/sha256/0+ is missing"),
        (change("manifests", 0, "digest", to="sha512:00"), "digest 'sha512:00' is not sha256: and 64"),
        (change("manifests", 0, "digest", to=OTHER.upper()), "is not sha256: and 64 hexadecimal digits"),
        (change("manifests", 0, "size", to=1), "has [0-9]+ bytes, described were 1"),
        (change("manifests", 0, "size", to="7"), "index.json: 'manifests.0.size': .*valid integer"),
        (
            change("manifests", 0, "mediaType", to=CONFIG),
            f"is a '{CONFIG}', wanted {MANIFEST}".replace("+", "\\+"),
        ),
        (change("Manifests", to=[]), "index.json: 'Manifests': Extra inputs are not permitted"),
        (change("schemaVersion", to=1), "index.json: 'schemaVersion'"),
    ],
)
def test_refuses_an_index_of_anything_else(
    archive: Callable[..., Path], changed: Callable[[Json], None], message: str
) -> None:
    with pytest.raises(BuildError, match=message):
        open_archive(archive(index=changed))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (change("layers", to=[]), "belongs to no part of the image"),
        (lambda manifest: manifest["layers"].pop(), "belongs to no part of the image"),
        (
            lambda manifest: manifest["layers"].append(manifest["layers"][0]),
            "the manifest has 3 layers and the configuration 2",
        ),
        (
            lambda manifest: manifest["layers"].reverse(),
            f"unpacks to {sha256(SECOND)}, configured was {sha256(FIRST)}",
        ),
        (change("layers", 0, "mediaType", to=f"{LAYER}+zstd"), "tar\\+zstd', wanted .* or .*\\+gzip"),
        (change("layers", 0, "mediaType", to=LAYER), "unpacks to .* configured was"),
        (change("layers", 0, "urls", to=["http://a.invalid"]), "'layers.0.urls': Extra inputs"),
        (change("config", "mediaType", to=MANIFEST), "image.manifest.v1\\+json', wanted .*config"),
        (change("subject", to={}), "the manifest: 'subject': Extra inputs are not permitted"),
        (change("mediaType", to="application/x"), "the manifest: 'mediaType'"),
        (change("annotations", to={"a": 1}), "the manifest: 'annotations.a'"),
    ],
)
def test_refuses_a_manifest_of_anything_else(
    archive: Callable[..., Path], changed: Callable[[Json], None], message: str
) -> None:
    with pytest.raises(BuildError, match=message):
        open_archive(archive(describe=changed))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (change("rootfs", "diff_ids", to=[]), "the manifest has 2 layers and the configuration 0"),
        (change("rootfs", "diff_ids", 1, to=OTHER), f"unpacks to {sha256(SECOND)}, configured was 0+"),
        (change("rootfs", "diff_ids", 1, to="0" * 64), "digest '0+' is not sha256:"),
        (change("rootfs", "type", to="other"), "the configuration: 'rootfs.type'"),
        (change("os", to="windows"), "the configuration: 'os': Input should be 'linux'"),
        (change("config", "OnBuild", to=["RUN x"]), "'config.OnBuild': Extra inputs are not permitted"),
        (change("config", "env", to=["A=b"]), "'config.env': Extra inputs are not permitted"),
        (change("config", "Env", to=["A"]), "sets 'A', no variable or one set before"),
        (change("config", "Env", to=["=A"]), "sets '=A', no variable or one set before"),
        (change("config", "Env", to=["A=1", "A=2"]), "sets 'A=2', no variable or one set before"),
        (change("config", "Env", to=["A=\0"]), "no variable or one set before"),
        (change("config", "Entrypoint", to="/bin/sh"), "'config.Entrypoint'"),
    ],
)
def test_refuses_a_configuration_with_two_readings(
    archive: Callable[..., Path], changed: Callable[[Json], None], message: str
) -> None:
    with pytest.raises(BuildError, match=message):
        open_archive(archive(configure=changed))


def test_takes_a_configuration_that_says_little(archive: Callable[..., Path]) -> None:
    def reduce(document: Json) -> None:
        document["config"] = {"Entrypoint": None, "Cmd": ["a"], "Labels": None, "Env": ["A=b=c"]}

    config = open_archive(archive(configure=reduce)).config
    assert (config.entrypoint, config.command, config.working_folder) == ((), ("a",), "/")
    assert config.environment == {"A": "b=c"}


@pytest.mark.parametrize(
    ("compressed", "message"),
    [
        (gzip.compress(FIRST)[:-4], "cannot be unpacked: Compressed file ended before"),
        (gzip.compress(FIRST)[:-8] + bytes(8), "cannot be unpacked: CRC check failed"),
        (b"\x1f\x8b\x08\x00" + b"\xff" * 60, "cannot be unpacked: "),
        (zlib.compress(FIRST), "cannot be unpacked: Not a gzipped file"),
        (gzip.compress(FIRST) + gzip.compress(SECOND), "unpacks to .*, configured was"),
    ],
)
def test_refuses_a_layer_that_does_not_unpack(
    refused: Callable[[bytes, str], None], compressed: bytes, message: str
) -> None:
    files = image_files([FIRST])
    index = json.loads(files.pop("index.json"))
    manifest = json.loads(files.pop(name_of(index["manifests"][0])))
    del files[name_of(manifest["layers"][0])]
    manifest["layers"][0] |= {"digest": f"sha256:{sha256(compressed)}", "size": len(compressed)}
    data = json.dumps(manifest).encode()
    index["manifests"][0] |= {"digest": f"sha256:{sha256(data)}", "size": len(data)}
    files |= {f"blobs/sha256/{sha256(blob)}": blob for blob in (compressed, data)}
    refused(tar_of(files | {"index.json": json.dumps(index).encode()}), message)


def test_refuses_more_than_its_limits(
    archive: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = archive()
    with monkeypatch.context() as patch:
        patch.setattr(oci, "MAX_ARCHIVE_BYTES", 1000)
        with pytest.raises(BuildError, match=r"\d+ bytes are over the limit of 1000"):
            open_archive(path)
    bomb = write_image(tmp_path / "bomb.tar", [bytes(4 << 20)])
    assert bomb.stat().st_size < 20_000
    with monkeypatch.context() as patch:
        patch.setattr(oci, "MAX_UNPACKED_BYTES", 2 << 20)
        with pytest.raises(BuildError, match="the layers unpack to more than 2097152 bytes"):
            open_archive(bomb)
    many = write_image(tmp_path / "many.tar", [tar_of({str(n): b""}) for n in range(128)])
    with pytest.raises(BuildError, match="more files than an image of 127 layers has"):
        open_archive(many)


def test_reads_the_layers_of_an_opened_image_as_tars(archive: Callable[..., Path]) -> None:
    image = open_archive(archive(is_compressed=False))
    with unpacked(image, image.layers[1]) as stream:
        assert [entry.name for entry in TarReader(stream, where="T")] == ["b"]
