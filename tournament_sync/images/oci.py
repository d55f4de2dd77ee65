"""Opens an OCI archive of one image, without any container tool, and verifies every byte of it.

Covered: the archive holds one image and nothing else; each blob has the digest and size by which it is named,
each layer unpacks to the digest that the configuration names; sizes and counts are capped before anything is
read, and nothing is written.
Not covered: whether that image is the wanted one (tournament_sync.images.load) and what its layers hold.
"""

import gzip
import hashlib
import io
import os
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tournament_sync.errors import BuildError
from tournament_sync.images.layout import (
    CONFIG,
    GZIP_LAYER,
    LAYER,
    MANIFEST,
    MAX_JSON_BYTES,
    Configuration,
    Descriptor,
    ImageConfig,
    ImageManifest,
    Index,
    Layout,
    parse_document,
    sha256_of,
)
from tournament_sync.images.tar import Entry, Kind, Readable, TarReader

MAX_ARCHIVE_BYTES = 64 << 30
MAX_UNPACKED_BYTES = 256 << 30  # of all layers together
MAX_LAYERS = 127  # overlay file systems take no more
_READ_BYTES = 1 << 20
_FOLDERS = frozenset({"blobs", "blobs/sha256"})
_NAME = re.compile(r"index\.json|oci-layout|blobs/sha256/[0-9a-f]{64}", re.ASCII)
_MAX_FILES = MAX_LAYERS + 4  # layout, index, manifest, configuration


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer. `sha256` is of its bytes at `offset` of the archive, `diff_id` of the tar they unpack to."""

    sha256: str
    diff_id: str
    size_bytes: int
    offset: int
    is_compressed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OciArchive:
    """One verified image in one file. Digests are SHA-256; podman calls the configuration's the image id."""

    path: Path
    archive_sha256: str
    manifest_sha256: str
    config_sha256: str
    config: ImageConfig
    layers: tuple[Layer, ...]


def open_archive(path: Path) -> OciArchive:
    """The image in the OCI archive at `path`, each byte verified.

    1. The tar holds what an image layout holds, and each blob has the digest that its name says. 2. Layout,
    index, manifest and configuration are strict and 3. name every blob. 4. Layers unpack to what the
    configuration says. Raises BuildError.
    """
    try:
        with path.open("rb") as file:
            return _open(path, file)
    except OSError as error:
        raise BuildError(f"{path}: cannot be read: {error.strerror}") from error
    except BuildError as error:
        raise BuildError(f"{path} is not an image that may be loaded: {error}") from error


@contextmanager
def unpacked(image: OciArchive, layer: Layer) -> Iterator[Readable]:
    """The tar of one layer, as it was verified when the archive was opened. Raises BuildError."""
    try:
        with image.path.open("rb") as file, _unpacked(file, layer) as stream:
            yield stream
    except OSError as error:
        raise BuildError(f"{image.path}: cannot be read: {error.strerror}") from error


def _open(path: Path, file: IO[bytes]) -> OciArchive:
    # 1.
    archive_sha256, entries = _read_tar(file)
    blobs = _Blobs(file=file, entries=entries)
    # 2.
    parse_document(Layout, blobs.read("oci-layout"), name="oci-layout")
    index = parse_document(Index, blobs.read("index.json"), name="index.json")
    if len(index.manifests) != 1:
        raise BuildError(f"index.json names {len(index.manifests)} images, wanted one")
    (described,) = index.manifests
    manifest = parse_document(ImageManifest, blobs.document(described, MANIFEST), name="the manifest")
    raw = blobs.document(manifest.config, CONFIG)
    configuration = parse_document(Configuration, raw, name="the configuration")
    # 3.
    blobs.check_all_named(described, manifest.config, *manifest.layers)
    layers = tuple(_layers(blobs, manifest, configuration))
    # 4.
    _check_unpacked(file, layers)
    return OciArchive(
        path=path,
        archive_sha256=archive_sha256,
        manifest_sha256=described.sha256,
        config_sha256=manifest.config.sha256,
        config=configuration.image_config(),
        layers=layers,
    )


def _read_tar(file: IO[bytes]) -> tuple[str, Mapping[str, Entry]]:
    """The digest of the whole archive, and its files by name."""
    if (size := os.fstat(file.fileno()).st_size) > MAX_ARCHIVE_BYTES:
        raise BuildError(f"{size} bytes are over the limit of {MAX_ARCHIVE_BYTES}")
    stream = _Hashed(file)
    tar = TarReader(stream, where="the archive")
    entries: dict[str, Entry] = {}
    for entry in tar:
        name = entry.name.rstrip("/")
        if entry.kind is Kind.FOLDER and name in _FOLDERS:
            continue
        if entry.kind is not Kind.FILE or not _NAME.fullmatch(name):
            raise BuildError(f"{entry.name[:200]!r}, a {entry.kind}, has no place in an image layout")
        if name in entries:
            raise BuildError(f"{name} is there twice")
        if len(entries) == _MAX_FILES:
            raise BuildError(f"more files than an image of {MAX_LAYERS} layers has")
        entries[name] = entry
        digest = hashlib.sha256()
        for chunk in tar.chunks():
            digest.update(chunk)
        if name.startswith("blobs/") and name != _blob_name(digest.hexdigest()):
            raise BuildError(f"{name} has the digest {digest.hexdigest()}")
    while rest := stream.read(_READ_BYTES):
        if rest.count(0) != len(rest):
            raise BuildError("there is something after the end of the archive")
    return stream.digest.hexdigest(), entries


@dataclass(frozen=True, slots=True, kw_only=True)
class _Blobs:
    """The files of an image layout, in the tar that is open as `file`."""

    file: IO[bytes]
    entries: Mapping[str, Entry]

    def read(self, name: str) -> bytes:
        entry = self.entries.get(name)
        if entry is None:
            raise BuildError(f"{name} is missing")
        if entry.size_bytes > MAX_JSON_BYTES:
            raise BuildError(f"{name}: {entry.size_bytes} bytes are over the limit of {MAX_JSON_BYTES}")
        return os.pread(self.file.fileno(), entry.size_bytes, entry.offset)

    def document(self, described: Descriptor, media_type: str) -> bytes:
        return self.read(self.find(described, media_type).name)

    def find(self, described: Descriptor, *media_types: str) -> Entry:
        name = _blob_name(described.sha256)
        if described.media_type not in media_types:
            raise BuildError(f"{name} is a {described.media_type[:100]!r}, wanted {' or '.join(media_types)}")
        entry = self.entries.get(name)
        if entry is None:
            raise BuildError(f"{name} is missing")
        if entry.size_bytes != described.size:
            raise BuildError(f"{name} has {entry.size_bytes} bytes, described were {described.size}")
        return entry

    def check_all_named(self, *described: Descriptor) -> None:
        named = {_blob_name(one.sha256) for one in described}
        if extra := sorted(name for name in self.entries if name.startswith("blobs/") and name not in named):
            raise BuildError(f"{extra[0]} belongs to no part of the image")


def _layers(blobs: _Blobs, manifest: ImageManifest, configuration: Configuration) -> Iterator[Layer]:
    described, diff_ids = manifest.layers, configuration.rootfs.diff_ids
    if not 0 < len(described) == len(diff_ids) <= MAX_LAYERS:
        raise BuildError(
            f"the manifest has {len(described)} layers and the configuration {len(diff_ids)},"
            f" wanted as many, at least 1 and at most {MAX_LAYERS}"
        )
    for one, diff_id in zip(described, diff_ids, strict=True):
        entry = blobs.find(one, LAYER, GZIP_LAYER)
        yield Layer(
            sha256=one.sha256,
            diff_id=sha256_of(diff_id),
            size_bytes=entry.size_bytes,
            offset=entry.offset,
            is_compressed=one.media_type == GZIP_LAYER,
        )


def _check_unpacked(file: IO[bytes], layers: tuple[Layer, ...]) -> None:
    left = MAX_UNPACKED_BYTES
    for layer in layers:
        digest = hashlib.sha256()
        with _unpacked(file, layer) as stream:
            while chunk := stream.read(_READ_BYTES):
                digest.update(chunk)
                left -= len(chunk)
                if left < 0:
                    raise BuildError(f"the layers unpack to more than {MAX_UNPACKED_BYTES} bytes")
        if (found := digest.hexdigest()) != layer.diff_id:
            raise BuildError(f"layer {layer.sha256} unpacks to {found}, configured was {layer.diff_id}")


@contextmanager
def _unpacked(file: IO[bytes], layer: Layer) -> Iterator[Readable]:
    part = io.BufferedReader(_Part(file, offset=layer.offset, size_bytes=layer.size_bytes), _READ_BYTES)
    if not layer.is_compressed:
        yield part
        return
    try:
        with gzip.GzipFile(fileobj=part, mode="rb") as stream:
            yield stream
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise BuildError(f"layer {layer.sha256} cannot be unpacked: {error}") from error


class _Hashed:
    """Reads a file and hashes what was read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, size: int, /) -> bytes:
        data = self._file.read(size)
        self.digest.update(data)
        return data


class _Part(io.RawIOBase):
    """A part of a file, as a file."""

    def __init__(self, file: IO[bytes], *, offset: int, size_bytes: int) -> None:
        self._file, self._at, self._end = file, offset, offset + size_bytes

    def readable(self) -> bool:
        return True

    # Any: typeshed's Buffer has no name before Python 3.12.
    def readinto(self, buffer: Any) -> int:
        data = os.pread(self._file.fileno(), min(len(buffer), self._end - self._at), self._at)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def _blob_name(sha256: str) -> str:
    return f"blobs/sha256/{sha256}"
