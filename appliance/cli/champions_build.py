"""`assay champions export`, `build` and `load`: archives for other sites, images for runs."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from appliance.cli.candidates import tree_of
from appliance.cli.image_pins import write_pin
from appliance.cli.options import ChampionArgument, HomeOption, OutputOption, read_settings
from appliance.cli.output import Format, print_facts, print_json, progress, talk


def register(champions: typer.Typer) -> None:
    """Add the verbs to the noun."""
    champions.command("export")(export)
    champions.command("build")(build)
    champions.command("load")(load)


def export(
    name: ChampionArgument,
    into: Annotated[
        Path, typer.Option("--into", metavar="FILE", help="The archive, a file that is not there yet.")
    ],
    home: HomeOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """Write a champion with its release as one archive, for `champions import` elsewhere; prints its digest."""
    from appliance.assembly import open_appliance
    from appliance.champion_archive import export_champion
    from appliance.dossier import find_champion
    from appliance.store.engine import reading

    appliance = open_appliance(read_settings(home=home))
    with reading(appliance.engine) as connection:
        champion = find_champion(connection, name)
    with progress(f"writing {into}"):
        sha256 = export_champion(appliance, champion, out=into)
    if output is Format.JSON:
        print_json({"archive": str(into), "sha256": sha256, "manifest_sha256": champion.manifest_sha256})
    else:
        print(f"sha256:{sha256}")


def build(
    what: Annotated[
        str, typer.Argument(metavar="WHAT", help="A champion here, ./FOLDER, ./ARCHIVE, or URL@COMMIT.")
    ],
    into: Annotated[
        Path, typer.Option("--into", metavar="DIR", help="Where images, inventories and pins go.")
    ],
    dockerfile: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE", help="One of its Dockerfiles, may be repeated; else all of the contract."
        ),
    ] = None,
    home: HomeOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """Build a champion's images once, on a vetting host with a network, and pin what came out."""
    from appliance.errors import NotFoundError
    from tournament_sync.images.build import build_image, find_dockerfiles
    from tournament_sync.images.tools import usual_tools
    from tournament_sync.images.version import check_podman
    from tournament_sync.inspection.licences import ATTRIBUTION

    rows, tools = [], usual_tools()
    with tempfile.TemporaryDirectory(prefix="assay-") as scratch:
        tree = tree_of(what, home=home, into=Path(scratch) / "taken")
        wanted = tuple(dockerfile or ()) or find_dockerfiles(tree)
        if not wanted:
            raise NotFoundError(f"{what} has none of the contract's Dockerfiles; name one with --dockerfile")
        _check_stems(wanted)
        if (advice := check_podman(tools)) is not None:
            talk(advice)
        for one in wanted:
            with progress(f"building {one}"):
                image = build_image(tree, one, into=into, tools=tools)
            bases = [base.pinned for base in image.bases]
            files = {"archive": image.archive, "inventory": image.inventory, "pin": write_pin(image)}
            rows.append(
                {"dockerfile": one, "manifest_sha256": image.pin.manifest, "bases": bases}
                | {name: str(path) for name, path in files.items()}
            )
    if output is Format.JSON:
        print_json({"images": rows, "attribution": ATTRIBUTION})
        return
    for row in rows:
        print_facts({**row, "bases": ", ".join(row["bases"])})
    print(f"built of champions by courtesy of {ATTRIBUTION}")


def _check_stems(dockerfiles: tuple[str, ...]) -> None:
    """Before hours of building: files of one name would be those of the last one only."""
    from appliance.errors import InvalidOrderError
    from tournament_sync.images.build import image_stem

    seen: dict[str, str] = {}
    for one in dockerfiles:
        stem = image_stem(one)
        if (other := seen.get(stem.casefold())) is not None:
            raise InvalidOrderError(
                f"{other} and {one}: the images of both would be called {stem}; build them into two folders"
            )
        seen[stem.casefold()] = one


def load(
    name: ChampionArgument,
    archive: Annotated[Path, typer.Option(metavar="FILE", help="The OCI archive that was built elsewhere.")],
    home: HomeOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """Load an image that the champion's release pins, by digest; anything else is refused, nothing is built."""
    from appliance.adoption import ChampionState, status_of
    from appliance.assembly import open_appliance
    from appliance.champion_archive import pin_of
    from appliance.dossier import find_champion
    from appliance.errors import AdmissionError
    from appliance.store.engine import reading
    from tournament_sync.images.load import load_image
    from tournament_sync.images.oci import open_archive
    from tournament_sync.images.tools import usual_tools

    appliance = open_appliance(read_settings(home=home))
    with reading(appliance.engine) as connection:
        champion = find_champion(connection, name)
        state = status_of(connection, champion, trust=appliance.home.trust()).state
    if state is ChampionState.REVOKED:
        raise AdmissionError(
            f"{champion.name} was revoked: its images are not loaded; remove those that were"
        )
    if state is not ChampionState.ADOPTED:
        talk(f"{champion.name} is {state.value}, not adopted: nothing runs with this image until it is")
    with progress(f"reading {archive}"):
        pin = pin_of(appliance, champion, manifest_sha256=open_archive(archive).manifest_sha256)
    with progress(f"loading {archive}"):
        image = load_image(archive, pin=pin, tools=usual_tools())
    if output is Format.JSON:
        print_json({"champion": champion.name, "state": "loaded", "image": image})
    else:
        print(image)
