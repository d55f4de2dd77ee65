"""`assay demo`: the main job on this machine, in one command."""

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("demo")(demo)


def demo(
    folder: Annotated[Path, typer.Option(metavar="DIR", help="Where everything goes.")] = Path("assay-demo"),
    model: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A Hugging Face folder instead of the demo's own.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="FILE", help=".jsonl, .json or .csv instead of the demo's own.")
    ] = None,
    hours: Annotated[float, typer.Option(help="The champion's time, as the tournament gives it.")] = 0.05,
) -> None:
    """Sync, approve, train in isolation, evaluate, attest, log and verify offline."""
    from appliance.demo.screen import Screen
    from appliance.demo.story import DemoOptions, run_demo

    options = DemoOptions(folder=folder.absolute(), model=model, data=data, hours_to_complete=hours)
    run_demo(options, screen=Screen())
