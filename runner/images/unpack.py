"""Makes one folder of an image, all of it or nothing, and finds it as it was later.

    FOLDER/  manifest.json  config.json   as they came
             tree/          the root file system        tree.list   what is in it, see images.listing
             image.json     digests, counts, when       lock        held by whoever uses it, see images.lease

What is covered: manifest → configuration → layers → files are bound by digests when it is unpacked; later changes
to any of it are found by `verify_image`, which reads everything. A crash leaves nothing under the final name.
What is not covered: who chose that manifest; changes between two verifications, for which one must be root here.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runner.images.config import MAX_JSON_BYTES, ImageConfig, check_config, parse_config
from runner.images.errors import ImageError
from runner.images.in_root import sync_file_system
from runner.images.layers import LayerBlob, UnpackLimits, apply_layer, check_room, parts_of
from runner.images.lease import LOCK
from runner.images.listing import Listing, first_difference, list_tree
from runner.images.tree import Tree

TREE = "tree"
_MANIFEST, _CONFIG, _LIST, _FACTS = "manifest.json", "config.json", "tree.list", "image.json"
_TIME = "%Y-%m-%dT%H:%M:%SZ"
_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedImage:
    """An image as it travels; `layers` in the order of the configuration's diff ids."""

    manifest: bytes
    config: bytes
    layers: Sequence[LayerBlob]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """What is known of an unpacked image. Digests are SHA-256 in hex; `skipped` are devices and pipes."""

    manifest_sha256: str
    config_sha256: str
    tree_sha256: str  # of the list of its files
    entries: int
    size_bytes: int
    skipped: int
    unpacked_at: str  # UTC, RFC 3339 with a Z


@dataclass(frozen=True, slots=True, kw_only=True)
class UnpackedImage:
    """An image that can be started from."""

    tree: Path
    facts: ImageFacts
    config: ImageConfig


def unpack_image(
    image: PackedImage,
    *,
    manifest_sha256: str,
    into: Path,
    now: datetime,
    limits: UnpackLimits = UnpackLimits(),  # noqa: B008  frozen
) -> UnpackedImage:
    """Make the folder `into`, which must not exist, of the image with that manifest.

    1. The documents are bound to the digest. 2. Each layer is laid over those before it. 3. What came of it is
    listed. 4. All is flushed and gets its name. One caller at a time. Raises ImageError.
    """
    # 1.
    if (found := hashlib.sha256(image.manifest).hexdigest()) != manifest_sha256:
        raise ImageError(f"the manifest has sha256:{found}, wanted sha256:{manifest_sha256}")
    check_config(image.manifest, image.config)
    config = parse_config(image.config)
    if not 0 < len(image.layers) == len(config.diff_ids) <= limits.max_layers:
        raise ImageError(
            f"{len(image.layers)} layers and {len(config.diff_ids)} of the configuration,"
            f" wanted as many, at least 1 and at most {limits.max_layers}"
        )
    building = into.with_name(f".{into.name}.unpacking")
    try:
        remove_folder(building)  # what a crash left
        (building / TREE).mkdir(parents=True, mode=0o700)
        # 2. and 3.
        skipped = _lay_all(image.layers, config, building / TREE, limits=limits)
        listing = list_tree(building / TREE)
        _describe(image, listing, building, skipped=skipped, now=now)
        # 4.
        _place(building, into)
    except OSError as error:
        raise ImageError(f"{into} cannot be made: {error.strerror}") from error
    finally:
        remove_folder(building)
    return open_image(into)


def open_image(folder: Path) -> UnpackedImage:
    """The image in `folder`; its documents are verified, its tree is not read. Raises ImageError."""
    facts = _facts(folder)
    manifest, config = _read(folder / _MANIFEST), _read(folder / _CONFIG)
    if (found := hashlib.sha256(manifest).hexdigest()) != facts.manifest_sha256:
        raise ImageError(f"{folder / _MANIFEST} was changed: it has sha256:{found}")
    check_config(manifest, config)
    return UnpackedImage(tree=folder / TREE, facts=facts, config=parse_config(config))


def verify_image(folder: Path) -> ImageFacts:
    """Read every file of the image in `folder` again. Raises ImageError naming the first one that changed."""
    facts = open_image(folder).facts
    records = _read(folder / _LIST, limit=None)
    if (found := hashlib.sha256(records).hexdigest()) != facts.tree_sha256:
        raise ImageError(f"{folder / _LIST} was changed: it has sha256:{found}")
    if (now := list_tree(folder / TREE).records) != records:
        raise ImageError(f"{folder / TREE}: {first_difference(records, now)} is not as it was unpacked")
    return facts


def remove_folder(folder: Path) -> None:
    """Remove what was unpacked to `folder`, if it is there; an image may forbid its owner to write."""
    if not folder.is_dir():
        return
    if os.geteuid() != 0:
        for above, names, _ in os.walk(folder):
            Path(above).chmod(0o700)
            for name in names:
                if not Path(above, name).is_symlink():
                    Path(above, name).chmod(0o700)  # before the walk goes there
    shutil.rmtree(folder)


def _lay_all(layers: Sequence[LayerBlob], config: ImageConfig, folder: Path, *, limits: UnpackLimits) -> int:
    """How many entries were left out."""
    skipped, left = 0, limits
    with Tree(folder, keeps_owners=os.geteuid() == 0, max_depth=limits.max_depth) as tree:
        # At least what they are packed; how much more it becomes, is seen while it is written.
        check_room(tree, limits=limits, size_bytes=sum(blob.size_bytes for blob in layers))
        for blob, diff_id in zip(layers, config.diff_ids, strict=True):
            applied = apply_layer(tree, blob, diff_id=diff_id, limits=left)
            skipped += applied.skipped
            left = replace(
                left,
                max_bytes=left.max_bytes - applied.size_bytes,
                max_entries=left.max_entries - applied.entries,
            )
        tree.ensure_folder(parts_of(os.fsencode(config.working_folder), limits=limits))
        tree.finish()
    return skipped


def _describe(image: PackedImage, listing: Listing, building: Path, *, skipped: int, now: datetime) -> None:
    facts = ImageFacts(
        manifest_sha256=hashlib.sha256(image.manifest).hexdigest(),
        config_sha256=hashlib.sha256(image.config).hexdigest(),
        tree_sha256=listing.sha256,
        entries=listing.entries,
        size_bytes=listing.size_bytes,
        skipped=skipped,
        unpacked_at=now.astimezone(UTC).strftime(_TIME),
    )
    (building / _MANIFEST).write_bytes(image.manifest)
    (building / _CONFIG).write_bytes(image.config)
    (building / _LIST).write_bytes(listing.records)
    (building / LOCK).touch()
    (building / _FACTS).write_bytes(json.dumps({"v": _VERSION, **asdict(facts)}, indent=1).encode())


def _place(building: Path, into: Path) -> None:
    """Flush, then rename: whoever sees the name sees all of it, also after a power cut."""
    above = os.open(into.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync_file_system(above)
        building.rename(into)
        os.fsync(above)
    finally:
        os.close(above)


def _facts(folder: Path) -> ImageFacts:
    raw: dict[str, Any]  # Any: JSON; checked by the constructor's names and by the comparison of kinds
    try:
        raw = json.loads(_read(folder / _FACTS))
        version, facts = raw.pop("v"), ImageFacts(**raw)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ImageError(f"{folder / _FACTS} does not describe an image: {error}") from error
    if version != _VERSION or any(type(getattr(facts, one.name)) is not one.type for one in fields(facts)):
        raise ImageError(f"{folder / _FACTS} does not describe an image of version {_VERSION}")
    return facts


def _read(path: Path, *, limit: int | None = MAX_JSON_BYTES) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(-1 if limit is None else limit + 1)
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror}") from error
    if limit is not None and len(data) > limit:
        raise ImageError(f"{path} is over the limit of {limit} bytes")
    return data
