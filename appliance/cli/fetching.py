"""`assay runs evidence` and `assay runs model`: what is proved, unpacked into a new folder."""

from pathlib import Path
from typing import Annotated

import typer

from appliance.cli.options import DEFAULT_URL, TokenFileOption, UrlOption, open_client
from appliance.cli.output import talk

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="The run's id.")]
IntoOption = Annotated[Path, typer.Option("--into", metavar="DIR", help="A folder that does not exist yet.")]


def register(runs: typer.Typer) -> None:
    """Add the commands to the noun `runs`."""
    runs.command("evidence")(evidence)
    runs.command("model")(model)


def evidence(
    run_id: RunArgument, into: IntoOption, url: UrlOption = DEFAULT_URL, token_file: TokenFileOption = None
) -> None:
    """Fetch the evidence folder of a logged run; the model is in it."""
    folder = open_client(url, token_file).fetch(run_id, "evidence", into=into)
    print(folder)
    talk(f"check it on any machine: assay-verify evidence {folder} --trust-sha256 <pin you got another way>")


def model(
    run_id: RunArgument, into: IntoOption, url: UrlOption = DEFAULT_URL, token_file: TokenFileOption = None
) -> None:
    """Fetch the trained model of a logged run, without its evidence."""
    print(open_client(url, token_file).fetch(run_id, "model", into=into))
