"""`assay images`: the images that champions start in; local on the home."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from appliance.cli.options import ActorOption, HomeOption, OutputOption, read_settings
from appliance.cli.output import Format, print_facts, print_json, print_table, progress, talk

if TYPE_CHECKING:
    from appliance.assembly import Appliance
    from appliance.image_keeping import ImageLine

images = typer.Typer(help="Images of champions, unpacked.", no_args_is_help=True)
ManifestArgument = Annotated[
    str, typer.Argument(metavar="MANIFEST", help="SHA-256 of its manifest, as `assay images list` shows it.")
]
KeepOption = Annotated[
    int, typer.Option("--keep-days", min=0, max=36500, help="How long an image stays that nothing needs.")
]
DEFAULT_KEEP_DAYS = 30  # image_keeping.KEEP_DAYS, which would slow every command down


def register(app: typer.Typer) -> None:
    """Add the noun to `app`."""
    app.add_typer(images, name="images")


@images.command("list")
def list_all(
    keep_days: KeepOption = DEFAULT_KEEP_DAYS,
    home: HomeOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """List the images with their size, age and why they are kept."""
    from appliance.image_keeping import list_images
    from tournament_sync.inspection.licences import ATTRIBUTION

    appliance = _open(home)
    rows = [_row(line, appliance) for line in list_images(appliance, keep_days=keep_days)]
    if output is Format.JSON:
        print_json({"images": rows, "attribution": ATTRIBUTION})
        return
    columns = ("manifest", "mib", "entries", "days", "kept")
    print_table(columns, [_cells(row) for row in rows])
    print(f"of champions by courtesy of {ATTRIBUTION}")


@images.command("import")
def import_one(
    archive: Annotated[
        Path, typer.Argument(metavar="ARCHIVE", help="The OCI archive that was built elsewhere.")
    ],
    champion: Annotated[str, typer.Option(metavar="NAME", help="The champion whose release pins it.")],
    actor: ActorOption,
    home: HomeOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """Unpack an image that the champion's release pins; any other is refused. Again repairs what changed."""
    from dataclasses import asdict

    from appliance.adoption import ChampionState, status_of
    from appliance.dossier import find_champion
    from appliance.image_keeping import import_image
    from appliance.store.engine import reading

    appliance = _open(home)
    with reading(appliance.engine) as connection:
        found = find_champion(connection, champion)
        state = status_of(connection, found, trust=appliance.home.trust()).state
    if state is not ChampionState.ADOPTED:
        talk(f"{found.name} is {state.value}, not adopted: nothing runs in this image until it is")
    with progress(f"reading and unpacking {archive}"):
        image = import_image(appliance, found, archive, actor=actor)
    if output is Format.JSON:
        print_json({"champion": found.name, "image": asdict(image.facts)})
    else:
        print(image.facts.manifest_sha256)


@images.command("verify")
def verify(
    manifest: Annotated[
        str | None, typer.Argument(metavar="MANIFEST", help="SHA-256 of its manifest; without it, all.")
    ] = None,
    home: HomeOption = None,
) -> None:
    """Read every file of an image again and compare with the log; the first that changed is named."""
    from appliance.image_keeping import verify_kept
    from appliance.image_store import ImageStore

    appliance = _open(home)
    wanted = [manifest] if manifest else [kept.manifest_sha256 for kept in ImageStore(appliance.home).list()]
    for one in wanted:
        with progress(f"reading image {one}"):
            image = verify_kept(appliance, one.removeprefix("sha256:"))
        print_facts({"image": image.facts.manifest_sha256, "state": "as it was unpacked"})


@images.command("show")
def show(manifest: ManifestArgument, home: HomeOption = None, output: OutputOption = Format.TEXT) -> None:
    """Show how an image wants to be started, its digests and why it is kept."""
    from appliance.errors import NotFoundError
    from appliance.image_keeping import list_images

    appliance = _open(home)
    wanted = manifest.removeprefix("sha256:")
    lines = [line for line in list_images(appliance) if line.kept.manifest_sha256 == wanted]
    if not lines:
        raise NotFoundError(f"no image sha256:{wanted[:80]} here; `assay images list` shows all")
    facts = _row(lines[0], appliance) | _started(lines[0])
    if output is Format.JSON:
        print_json(facts)
    else:
        print_facts({name: _told(value) for name, value in facts.items()})


@images.command("gc")
def collect(
    actor: ActorOption,
    keep_days: KeepOption = DEFAULT_KEEP_DAYS,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    home: HomeOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """Remove images that no adopted or default champion and no run needs; never one in use."""
    from appliance.image_keeping import collect_images, list_images

    appliance = _open(home)
    if dry_run:
        lines = list_images(appliance, keep_days=keep_days)
        gone = [line.kept for line in lines if not line.reasons]
    else:
        gone = list(collect_images(appliance, actor=actor, keep_days=keep_days))
    freed = sum(kept.image.facts.size_bytes for kept in gone if kept.image is not None)
    if output is Format.JSON:
        rows = [kept.manifest_sha256 for kept in gone]
        print_json({"removed": [] if dry_run else rows, "removable": rows if dry_run else [], "bytes": freed})
        return
    for kept in gone:
        print(kept.manifest_sha256)
    talk(f"{'would free' if dry_run else 'freed'} {_mib(freed)} MiB of {len(gone)} images")


def _open(home: str | None) -> "Appliance":
    from appliance.assembly import open_appliance

    return open_appliance(read_settings(home=home))


def _row(line: "ImageLine", appliance: "Appliance") -> dict[str, Any]:
    from attestation.times import parse_time

    row: dict[str, Any] = {
        "manifest": line.kept.manifest_sha256,
        "problem": line.kept.problem or None,
        "in_use": line.kept.is_in_use,
        "kept": list(line.reasons),
    }
    if line.kept.image is None:
        return row
    facts = line.kept.image.facts
    age = appliance.clock.now() - parse_time(facts.unpacked_at)
    return row | {
        "config_sha256": facts.config_sha256,
        "tree_sha256": facts.tree_sha256,
        "size_bytes": facts.size_bytes,
        "entries": facts.entries,
        "skipped": facts.skipped,
        "unpacked_at": facts.unpacked_at,
        "age_days": age.days,
    }


def _started(line: "ImageLine") -> dict[str, Any]:
    if line.kept.image is None:
        return {}
    config = line.kept.image.config
    return {
        "entrypoint": list(config.entrypoint),
        "working_folder": config.working_folder,
        "user": config.user or "root",
        "environment": sorted(
            config.environment
        ),  # names: a value may be a secret that its author left there
    }


def _cells(row: dict[str, Any]) -> list[object]:
    kept = "; ".join(row["kept"]) or "no longer"
    if row["problem"]:
        return [row["manifest"], "?", "?", "?", f"{kept} ({row['problem']})"]
    return [row["manifest"], _mib(row["size_bytes"]), row["entries"], row["age_days"], kept]


def _told(value: object) -> object:
    return "; ".join(map(str, value)) if isinstance(value, list) else value


def _mib(size_bytes: int) -> int:
    return -(-size_bytes // (1 << 20))
