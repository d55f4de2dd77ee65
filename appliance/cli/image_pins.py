"""What `champions build` leaves beside each image: its pin, for the release that is signed later."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from appliance.cli.output import read_small
from appliance.errors import InvalidOrderError

if TYPE_CHECKING:
    from tournament_sync.champion import ImagePin
    from tournament_sync.images.build import BuiltImage

SUFFIX: Final = ".pin.json"
ARCHIVE_SUFFIX: Final = ".oci.tar"
INVENTORY_SUFFIX: Final = ".cdx.json"
MAX_PIN_BYTES: Final = 4096
MAX_INVENTORY_BYTES: Final = 64 << 20
_FIELDS: Final = frozenset({"dockerfile", "manifest", "archive", "inventory"})


def write_pin(image: "BuiltImage") -> Path:
    """Write the pin beside the image's archive; the pin's file, in place of one of an earlier build."""
    from attestation import canonical

    fields = {name: getattr(image.pin, name) for name in _FIELDS}
    path = image.archive.with_name(image.archive.name.removesuffix(ARCHIVE_SUFFIX) + SUFFIX)
    with tempfile.TemporaryDirectory(prefix=".pin-", dir=path.parent) as work:
        part = Path(work) / path.name
        part.write_bytes(canonical.encode(fields))
        part.replace(path)  # replaces a link too, and never what it leads to
    return path


def read_pins(folder: Path) -> "Iterator[ImagePin]":
    """The pins in `folder`, each compared with the files beside it.

    Raises InvalidOrderError if there is none or one is of other files, BuildError for an archive that is none.
    """
    paths = sorted(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else []
    if not paths:
        raise InvalidOrderError(f"{folder} has no *{SUFFIX}; `assay champions build` writes one an image")
    return (_checked(path) for path in paths)


def _checked(path: Path) -> "ImagePin":
    from attestation.digest import sha256_hex
    from tournament_sync.images.oci import open_archive

    pin = _parse(path)
    stem = path.name.removesuffix(SUFFIX)
    image = open_archive(path.with_name(stem + ARCHIVE_SUFFIX))
    inventory = read_small(path.with_name(stem + INVENTORY_SUFFIX), max_bytes=MAX_INVENTORY_BYTES)
    found = (image.manifest_sha256, image.archive_sha256, sha256_hex(inventory))
    if found != (pin.manifest, pin.archive, pin.inventory):
        raise InvalidOrderError(
            f"{path} is not the pin of the image and the inventory beside it: build again"
        )
    return pin


def _parse(path: Path) -> "ImagePin":
    from attestation import canonical
    from attestation.digest import parse_sha256_hex
    from attestation.errors import MalformedError
    from tournament_sync.champion import ImagePin

    data = read_small(path, max_bytes=MAX_PIN_BYTES)
    try:
        raw = canonical.decode(data, max_bytes=MAX_PIN_BYTES)
        if not isinstance(raw, dict) or raw.keys() != _FIELDS or not isinstance(raw["dockerfile"], str):
            raise MalformedError(f"wanted an object of {', '.join(sorted(_FIELDS))}")
        return ImagePin(
            dockerfile=raw["dockerfile"],
            manifest=parse_sha256_hex(raw["manifest"]),
            archive=parse_sha256_hex(raw["archive"]),
            inventory=parse_sha256_hex(raw["inventory"]),
        )
    except MalformedError as error:
        raise InvalidOrderError(f"{path} is no pin: {error}") from error
