"""Images for tests, layer by layer: hostile entries included, no container tool needed."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runner.images.layers import LayerBlob
from runner.images.unpack import PackedImage, UnpackedImage, unpack_image

NOW = datetime(2026, 11, 21, 2, 0, 0, tzinfo=UTC)
MTIME = 1_700_000_000


@dataclass(frozen=True, kw_only=True)
class Item:
    """One entry of a layer."""

    name: str
    type: bytes = tarfile.REGTYPE
    content: bytes = b""
    target: str = ""
    mode: int = 0o644
    owner: int = 0
    pax: dict[str, str] = field(default_factory=dict)


def file(name: str, content: bytes = b"", **more: Any) -> Item:
    return Item(name=name, content=content, **more)


def folder(name: str, mode: int = 0o755, **more: Any) -> Item:
    return Item(name=name, type=tarfile.DIRTYPE, mode=mode, **more)


def link(name: str, target: str, **more: Any) -> Item:
    return Item(name=name, type=tarfile.SYMTYPE, target=target, **more)


def hard_link(name: str, target: str) -> Item:
    return Item(name=name, type=tarfile.LNKTYPE, target=target)


def layer(*items: Item) -> bytes:
    """The tar of one layer."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for item in items:
            info = tarfile.TarInfo(item.name)
            info.type, info.linkname, info.mode = item.type, item.target, item.mode
            info.uid = info.gid = item.owner
            info.mtime, info.size, info.pax_headers = MTIME, len(item.content), item.pax
            tar.addfile(info, io.BytesIO(item.content))
    return out.getvalue()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def config_of(tars: Iterable[bytes], **run: Any) -> bytes:
    """The configuration of an image of these layers; `run` is its part about containers."""
    return json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Entrypoint": ["/bin/true"], **run},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha256(one)}" for one in tars]},
        }
    ).encode()


def manifest_of(config: bytes) -> bytes:
    return json.dumps({"schemaVersion": 2, "config": {"digest": f"sha256:{sha256(config)}"}}).encode()


def blob(path: Path, data: bytes) -> LayerBlob:
    path.write_bytes(data)
    return LayerBlob(path=path, offset=0, size_bytes=len(data))


def packed(at: Path, *tars: bytes, is_compressed: bool = False, **run: Any) -> PackedImage:
    """An image of these layers, as files below the folder `at`."""
    config = config_of(tars, **run)
    at.mkdir(parents=True, exist_ok=True)
    return PackedImage(
        manifest=manifest_of(config),
        config=config,
        layers=[
            blob(at / f"layer-{number}", gzip.compress(one) if is_compressed else one)
            for number, one in enumerate(tars)
        ],
    )


def unpacked(at: Path, *tars: bytes, **run: Any) -> UnpackedImage:
    """The same, unpacked to `at`/image."""
    image = packed(at / "blobs", *tars, **run)
    return unpack_image(image, manifest_sha256=sha256(image.manifest), into=at / "image", now=NOW)
