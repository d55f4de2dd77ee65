"""What a run leaves: `assay runs logs` while it trains, `evidence` and `model` once they are proved."""

from pathlib import Path
from typing import Annotated

import typer

from appliance.cli.following import follow_log
from appliance.cli.options import DEFAULT_URL, TokenFileOption, UrlOption, open_client
from appliance.cli.output import printable, talk

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="The run's id.")]
IntoOption = Annotated[Path, typer.Option("--into", metavar="DIR", help="A folder that does not exist yet.")]


def register(runs: typer.Typer) -> None:
    """Add the commands to the noun `runs`."""
    runs.command("logs")(logs)
    runs.command("evidence")(evidence)
    runs.command("model")(model)


def logs(
    run_id: RunArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the champion is done.")] = False,
    url: UrlOption = DEFAULT_URL,
    token_file: TokenFileOption = None,
) -> None:
    """Print what the champion printed, control characters made visible."""
    api, offset = open_client(url, token_file), 0
    if follow:
        if (run := api.show(run_id))["state"] in ("submitted", "placed"):
            talk(f"{run_id} prints nothing yet: {run['waiting'] or run['phase']}")
        state = follow_log(api, run_id, show=lambda text: print(printable(text), end="", flush=True))
        talk(f"{run_id} is {state}")
        return
    while True:
        piece = api.logs(run_id, offset=offset)
        print(printable(piece["text"]), end="", flush=True)
        if piece["next_offset"] <= offset:
            return
        offset = piece["next_offset"]


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
