"""Champions whose releases pin images, and the archives of those images; no container tool needed."""

import platform
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import update

from appliance.assembly import Appliance
from appliance.store.champions import ChampionRow
from appliance.store.tables import champion as champion_table
from attestation.bundle import parse_bundle, sign_statement
from attestation.keys import Signer
from attestation.statement import parse_statement
from tests.appliance.world import PUBLISHER
from tests.runner.image_layers import file, folder, layer, link
from tests.tournament_sync.images import write_image
from tournament_sync.champion import ImagePin
from tournament_sync.images.oci import open_archive

DOCKERFILE = "ops/docker/standalone-text-trainer.dockerfile"
BASE = layer(folder("bin"), file("bin/sh", b"#!", mode=0o755), link("usr", "."), file("old", b"x"))
TOP = layer(file("workspace/train.py", b"print()"), file(".wh.old"))


def make_image(path: Path, *tars: bytes, architecture: str | None = None, **run: Any) -> Path:
    """An OCI archive of an image for this machine, with `run` as its part about containers."""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())

    def configure(document: dict[str, Any]) -> None:
        document["architecture"] = architecture or machine
        document["config"] = {"Entrypoint": ["python", "-m", "trainer"], "WorkingDir": "/workspace", **run}

    return write_image(path, tars or (BASE, TOP), configure=configure)


def pin_for(archive: Path, *, dockerfile: str = DOCKERFILE) -> ImagePin:
    opened = open_archive(archive)
    return ImagePin(
        dockerfile=dockerfile,
        manifest=opened.manifest_sha256,
        archive=opened.archive_sha256,
        inventory="1" * 64,
    )


def release_pinning(champion: ChampionRow, *pins: ImagePin, signer: Signer, **changes: Any) -> ChampionRow:
    """`champion` with a release that pins these images, signed anew."""
    statement = parse_statement(parse_bundle(champion.release_bundle).payload)
    images = [
        {
            "dockerfile": pin.dockerfile,
            "manifest": {"sha256": pin.manifest},
            "archive": {"sha256": pin.archive},
            "inventory": {"sha256": pin.inventory},
        }
        for pin in pins
    ]
    changed = replace(statement, predicate={**statement.predicate, "images": images}, **changes)
    return replace(champion, release_bundle=sign_statement(changed, signer))


def pin_images(appliance: Appliance, champion: ChampionRow, *pins: ImagePin) -> ChampionRow:
    """The same, kept in the database in place of the first release."""
    row = release_pinning(champion, *pins, signer=appliance.home.person_signer(PUBLISHER))
    where = champion_table.c.manifest_sha256 == champion.manifest_sha256
    with appliance.engine.begin() as connection:
        connection.execute(update(champion_table).where(where).values(release_bundle=row.release_bundle))
    return row
