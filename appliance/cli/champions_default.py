"""`assay champions default` and `digest`: what orders get that name no champion, and what changed lately."""

from datetime import timedelta
from typing import Annotated

import typer

from appliance.cli.options import HomeOption, OutputOption, read_settings
from appliance.cli.output import Format, print_json, print_table, printable, talk
from tournament_sync.champion import Channel


def register(champions: typer.Typer) -> None:
    """Add the verbs to the noun."""
    champions.command("default")(default)
    champions.command("digest")(digest)


def default(
    name: Annotated[
        str | None, typer.Argument(metavar="CHAMPION", help="Make this one the default; without it, list.")
    ] = None,
    channel: Annotated[Channel, typer.Option(help="For orders of this tournament.")] = Channel.TEXT,
    task_type: Annotated[str, typer.Option(help="For tasks of this type.")] = "InstructTextTask",
    actor: Annotated[str | None, typer.Option("--as", metavar="NAME", help="Who sets it; logged.")] = None,
    home: HomeOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """Set or list which adopted champion an order gets that names none, per channel and task type."""
    from appliance.assembly import open_appliance
    from appliance.defaults import set_default
    from appliance.dossier import ATTRIBUTION, find_champion, list_defaults, plain
    from appliance.store.engine import reading

    appliance = open_appliance(read_settings(home=home))
    if name is not None:
        if actor is None:
            raise typer.BadParameter("--as is missing: the log has who set it", param_hint="--as")
        with reading(appliance.engine) as connection:
            champion = find_champion(connection, name)
        set_default(appliance, channel=channel, task_type=task_type, champion=champion, actor=actor)
        talk(f"{champion.name} is the default for {channel}/{task_type}")
    with reading(appliance.engine) as connection:
        rows = [plain(line) for line in list_defaults(connection, trust=appliance.home.trust())]
    if output is Format.JSON:
        print_json({"defaults": rows, "attribution": ATTRIBUTION})
    else:
        columns = ("channel", "task_type", "name", "status", "set_by", "set_at")
        print_table(columns, [[row[column] for column in columns] for row in rows])
        print(f"champions by courtesy of {ATTRIBUTION}")


def digest(
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="From then on, 2026-11-21T02:00:00Z; else for a week.")
    ] = None,
    home: HomeOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """Say what changed: champions that came, were decided on, were revoked; from the audit log."""
    from appliance.assembly import open_appliance
    from appliance.digest import changes_since, render_text
    from attestation.errors import MalformedError
    from attestation.times import parse_time

    appliance = open_appliance(read_settings(home=home))
    try:
        start = appliance.clock.now() - timedelta(days=7) if since is None else parse_time(since)
    except MalformedError as error:
        raise typer.BadParameter(str(error), param_hint="--since") from error
    changes = changes_since(appliance, start)
    if output is Format.JSON:
        print_json(changes.plain())
    else:
        print(printable(render_text(changes)), end="")
