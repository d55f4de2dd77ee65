"""`assay runs`: submit, watch, cancel."""

import re
from typing import Annotated, Any, Final

import typer

from appliance.cli import fetching, isolation, metrics
from appliance.cli.fetching import RunArgument
from appliance.cli.options import DEFAULT_URL, OutputOption, TokenFileOption, UrlOption, open_client
from appliance.cli.output import Format, print_facts, print_json, print_table, talk

_DIGEST: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)  # no name that a tournament gives is one

runs = typer.Typer(help="Runs: order a model, watch it, fetch it with its proof.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the noun to `app`."""
    app.add_typer(runs, name="runs")
    fetching.register(runs)
    isolation.register(runs)
    metrics.register(runs)


@runs.command("submit")
def submit(
    *,
    champion: Annotated[
        str | None,
        typer.Option(
            metavar="CHAMPION", help="An adopted one, by name or digest; else the task type's default."
        ),
    ] = None,
    base_model: Annotated[str, typer.Option(metavar="SHA256", help="An imported base model.")],
    dataset: Annotated[str, typer.Option(metavar="SHA256", help="An imported dataset.")],
    hours: Annotated[float, typer.Option(help="Training time in hours.")],
    driver: Annotated[
        str | None,
        typer.Option(
            metavar="DRIVER", help="bubblewrap, oci or gvisor; else the setting's, or what policy demands."
        ),
    ] = None,
    key: Annotated[
        str | None, typer.Option("--idempotency-key", help="Send the same again: one run, not two.")
    ] = None,
    url: UrlOption = DEFAULT_URL,
    token_file: TokenFileOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """Submit an order; prints the run's id."""
    import uuid

    order: dict[str, object] = {"base_model": base_model, "dataset": dataset, "hours_to_complete": hours}
    if driver is not None:
        order["driver"] = driver
    api = open_client(url, token_file)
    if champion is not None:
        order["champion"] = champion if _DIGEST.fullmatch(champion) else api.champion_digest(champion)
    run = api.submit(order, idempotency_key=key or str(uuid.uuid4()))
    if champion is None:
        ordered = run["order"]
        talk(
            f"the default for {ordered['task_type']}: {run['champion_name']}  sha256:{ordered['champion']}, "
            f"by courtesy of {run['attribution']}"
        )
    if output is Format.JSON:
        print_json(run)
        return
    print(run["id"])
    talk(f"{run['state']}: {run['waiting'] or run['phase']}")


@runs.command("list")
def list_runs(
    limit: Annotated[int, typer.Option(min=1, max=200)] = 50,
    after: Annotated[str | None, typer.Option(metavar="RUN", help="Go on behind this run.")] = None,
    url: UrlOption = DEFAULT_URL,
    token_file: TokenFileOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """List runs, newest first."""
    page = open_client(url, token_file).list_runs(limit=limit, after=after)
    if output is Format.JSON:
        print_json(page)
        return
    columns = ("id", "state", "submitted_by", "submitted_at", "verdict", "champion_name")
    print_table(columns, [[run[name] or "-" for name in columns] for run in page["runs"]])
    print(f"champions by courtesy of {page['attribution']}")
    if page["next"]:
        talk(f"more: assay runs list --after {page['next']}")


@runs.command("show")
def show(
    run_id: RunArgument,
    url: UrlOption = DEFAULT_URL,
    token_file: TokenFileOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """Show one run: where it is, why it waits, what came of it."""
    _print_run(open_client(url, token_file).show(run_id), output)


@runs.command("cancel")
def cancel(
    run_id: RunArgument,
    url: UrlOption = DEFAULT_URL,
    token_file: TokenFileOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """Cancel a run that is not signed yet."""
    _print_run(open_client(url, token_file).cancel(run_id), output)


@runs.command("events")
def events(
    run_id: RunArgument,
    url: UrlOption = DEFAULT_URL,
    token_file: TokenFileOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """Show what the audit log holds about a run."""
    page = open_client(url, token_file).events(run_id)
    if output is Format.JSON:
        print_json(page)
        return
    rows = [
        ("-" if e["index"] is None else e["index"], e["at"], e["event"], e["actor"]) for e in page["events"]
    ]
    print_table(("index", "at", "event", "actor"), rows)


def _print_run(run: dict[str, Any], output: Format) -> None:  # Any: the API's plain JSON
    if output is Format.JSON:
        print_json(run)
        return
    skipped = {"order", "links", "metrics"}
    shown = {name: value for name, value in run.items() if name not in skipped}
    evaluated = run["metrics"] or {}
    order = dict(run["order"])
    walls = order.pop("walls", None) or {}
    shown |= {**order, **{f"walls.{name}": value for name, value in walls.items()}}
    print_facts({**shown, **{f"metrics.{name}": value for name, value in evaluated.items()}})
