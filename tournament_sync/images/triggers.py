"""Refuses base images with ONBUILD triggers: instructions that podman would build and nobody has read.

Covered: podman describes an image without its triggers, so they are read from the configuration in its storage,
which must have the digest that the image's manifest names. Not covered: somebody who changes that storage.
"""

import json
from base64 import b64encode
from pathlib import Path
from typing import Any

from attestation.digest import parse_sha256_hex, sha256_hex
from attestation.errors import AttestationError
from attestation.files import read_file
from tournament_sync.errors import BuildError
from tournament_sync.images.tools import ImageTools, ask

_MAX_BYTES = 8 << 20  # of manifest and configuration, twice what registries take


def check_triggers(image: str, *, tools: ImageTools, doing: str) -> None:
    """Raise BuildError if the image with the id `image` has triggers, or if that cannot be found out."""
    driver, _, root = ask(
        tools, "info", "--format", "{{.Store.GraphDriverName}}\t{{.Store.GraphRoot}}", doing=doing
    ).partition("\t")
    try:
        folder = Path(root) / f"{driver}-images" / parse_sha256_hex(image)
        triggers = _triggers(folder)
    except (AttestationError, ValueError, RecursionError, LookupError, TypeError) as error:
        raise BuildError(f"{doing}: whether it has ONBUILD triggers cannot be found out: {error}") from error
    if triggers:
        raise BuildError(f"{doing}: has ONBUILD triggers, which nobody has read: {str(triggers)[:200]}")


def _triggers(folder: Path) -> list[object]:
    manifest = json.loads(read_file(folder / "manifest", limit=_MAX_BYTES), object_pairs_hook=_once)
    digest = parse_sha256_hex(str(manifest["config"]["digest"]).removeprefix("sha256:"))
    # containers/storage names a file that is no plain word by its Base64.
    name = b64encode(f"sha256:{digest}".encode()).decode()
    config = read_file(folder / f"={name}", limit=_MAX_BYTES)
    if sha256_hex(config) != digest:
        raise ValueError(f"its configuration has {sha256_hex(config)}, its manifest names {digest}")
    found: list[object] = []

    def collect(pairs: list[tuple[str, object]]) -> dict[str, object]:
        # Wherever it stands, however it is written, however often: Go merges where Python takes the last.
        found.extend(value for key, value in pairs if key.casefold() == "onbuild" and value)
        return dict(pairs)

    json.loads(config, object_pairs_hook=collect)
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object that no two readers read differently. Any: a foreign document, checked by its reader."""
    if len({key.casefold() for key, _ in pairs}) != len(pairs):
        raise ValueError("its manifest has a key twice")
    return dict(pairs)
