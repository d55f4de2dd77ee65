"""`assay models` and `assay datasets`: import, lint and list; local on the home."""

from pathlib import Path
from typing import Annotated

import typer

from appliance.cli.options import ActorOption, HomeOption, OutputOption, read_settings
from appliance.cli.output import Format, print_facts, print_json, print_table, talk
from appliance.domain import Classification

models = typer.Typer(help="Base models.", no_args_is_help=True)
datasets = typer.Typer(help="Data sets.", no_args_is_help=True)
FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help=".jsonl, .json (array) or .csv")]


def register(app: typer.Typer) -> None:
    """Add the nouns to `app`."""
    app.add_typer(models, name="models")
    app.add_typer(datasets, name="datasets")


@models.command("import")
def import_one(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A Hugging Face model folder.")],
    name: Annotated[str, typer.Option(help="Its id as champions see it: organisation/model.")],
    actor: ActorOption,
    home: HomeOption = None,
) -> None:
    """Check a model folder and take it into the store; prints its digest."""
    from appliance.assembly import open_appliance
    from appliance.imports import import_model

    taken = import_model(open_appliance(read_settings(home=home)), folder, name=name, actor=actor)
    print(taken.root_sha256)


@models.command("list")
def list_models(home: HomeOption = None, output: OutputOption = Format.TEXT) -> None:
    """List imported base models."""
    _list("model", home, output)


@datasets.command("lint")
def lint(file: FileArgument) -> None:
    """Say what the appliance would make of a file, without taking it."""
    from appliance.datasets import lint_dataset, split_rows

    linted = lint_dataset(file)
    split = split_rows(linted.rows)
    print_facts({"rows": len(linted.rows), "train": len(split.train), "held out": len(split.held_out)})
    for theirs, ours in linted.renamed.items():
        talk(f"column {theirs} is taken as {ours}")
    for warning in linted.warnings:
        talk(f"warning: {warning}")


@datasets.command("import")
def import_data(
    file: FileArgument,
    actor: ActorOption,
    classification: Annotated[
        Classification | None,
        typer.Option(
            help="How secret it is: walls are chosen by it. Internal if not said; may be made stricter."
        ),
    ] = None,
    home: HomeOption = None,
) -> None:
    """Lint a file, split off the held-out rows and take both; prints the digest."""
    from appliance.assembly import open_appliance
    from appliance.imports import import_dataset

    appliance = open_appliance(read_settings(home=home))
    taken = import_dataset(appliance, file, actor=actor, classified=classification)
    for warning in taken.facts["warnings"]:
        talk(f"warning: {warning}")
    print(taken.root_sha256)


@datasets.command("list")
def list_datasets(home: HomeOption = None, output: OutputOption = Format.TEXT) -> None:
    """List imported data sets."""
    _list("dataset", home, output)


def _list(kind: str, home: str | None, output: Format) -> None:
    from appliance.assembly import open_appliance
    from appliance.store import artifacts
    from appliance.store.engine import reading
    from attestation.times import format_time

    with reading(open_appliance(read_settings(home=home)).engine) as connection:
        found = artifacts.list_artifacts(connection, artifacts.ArtifactKind(kind))
    rows = [(a.name, format_time(a.imported_at), a.imported_by, a.root_sha256) for a in found]
    columns = ("name", "imported_at", "imported_by", "sha256")
    if output is Format.JSON:
        print_json({f"{kind}s": [dict(zip(columns, row, strict=True)) for row in rows]})
    else:
        print_table(columns, rows)
