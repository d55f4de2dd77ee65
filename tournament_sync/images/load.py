"""Loads a champion's image into podman's storage, by digest; never builds, never fetches.

Covered: only the image that the release pins is loaded, after every byte was verified, and the digest is asked
for again afterwards. Not covered: somebody who changes podman's storage itself.
"""

from pathlib import Path

from tournament_sync.champion import ImagePin
from tournament_sync.errors import BuildError
from tournament_sync.images.oci import OciArchive, open_archive
from tournament_sync.images.tools import ImageTools, ask

_REPOSITORY = "localhost/assay/champion"  # a name that no registry can answer for


def load_image(archive: Path, *, pin: ImagePin, tools: ImageTools) -> str:
    """The local reference, by digest, of the pinned image; loaded if it is not there. Idempotent.

    Raises BuildError for an archive that holds anything else.
    """
    image = open_archive(archive)
    _check(image, pin)
    if (reference := find_image(pin, tools=tools)) is not None:
        return reference
    doing = f"image {pin.manifest}"
    ask(tools, "load", "--quiet", "--input", str(archive), doing=doing)
    ask(tools, "tag", image.config_sha256, f"{_REPOSITORY}:{pin.manifest}", doing=doing)
    reference = find_image(pin, tools=tools)
    if reference is None:
        raise BuildError(f"{doing}: was loaded, and podman has another digest for it")
    return reference


def find_image(pin: ImagePin, *, tools: ImageTools) -> str | None:
    """The local reference of the pinned image, None where it is not loaded. Raises BuildError."""
    digests = ask(
        tools,
        *("images", "--no-trunc", "--format", "{{.Digest}}"),
        *("--filter", f"reference={_REPOSITORY}:{pin.manifest}"),
        doing=f"image {pin.manifest}",
    ).split()
    return f"{_REPOSITORY}@sha256:{pin.manifest}" if digests == [f"sha256:{pin.manifest}"] else None


def _check(image: OciArchive, pin: ImagePin) -> None:
    for what, found, wanted in (
        ("image", image.manifest_sha256, pin.manifest),
        ("archive", image.archive_sha256, pin.archive),
    ):
        if found != wanted:
            raise BuildError(
                f"{image.path} is {what} {found}, the release pins {wanted} for {pin.dockerfile}:"
                " nothing is loaded and nothing is built in its place"
            )
