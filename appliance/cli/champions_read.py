"""What is known of champions here: `assay champions list` and `show`; nothing is changed.

Champions are the work of Gradients.io's participants (https://gradients.io).
"""

from typing import Annotated

import typer

from appliance.cli.options import ChampionArgument, HomeOption, OutputOption, read_settings
from appliance.cli.output import (
    Format,
    print_json,
    print_table,
    printable,
)
from tournament_sync.champion import Channel

_COLUMNS = ("name", "channel", "contract_epoch", "status", "proposed_by", "manifest_sha256")


def register(champions: typer.Typer) -> None:
    """Add the verbs to the noun."""
    champions.command("list")(list_all)
    champions.command("show")(show)


def list_all(
    channel: Annotated[Channel | None, typer.Option(help="Only those of this tournament.")] = None,
    status: Annotated[str | None, typer.Option(help="Only those that stand so: adopted, held, …")] = None,
    home: HomeOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """List champions with how they stand."""
    from appliance.assembly import open_appliance
    from appliance.dossier import ATTRIBUTION, list_lines, plain
    from appliance.store.engine import reading

    appliance = open_appliance(read_settings(home=home))
    with reading(appliance.engine) as connection:
        lines = list_lines(connection, trust=appliance.home.trust(), channel=channel, state=status)
    rows = [plain(line) for line in lines]
    if output is Format.JSON:
        print_json({"champions": rows, "attribution": ATTRIBUTION})
        return
    print_table(_COLUMNS, [[row[name] for name in _COLUMNS] for row in rows])
    print(f"champions by courtesy of {ATTRIBUTION}")


def show(
    name: ChampionArgument,
    approval_request: Annotated[
        bool, typer.Option("--approval-request", help="What an approver signs on a machine of their own.")
    ] = False,
    home: HomeOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """Show all that is known about a champion: what it is, whose, what it would do, who decided what."""
    from appliance.approval_request import request_for
    from appliance.assembly import open_appliance
    from appliance.cli.dossier_text import dossier_lines
    from appliance.dossier import find_champion, plain, read_dossier
    from appliance.store.engine import reading

    appliance = open_appliance(read_settings(home=home))
    trust = appliance.home.trust()
    with reading(appliance.engine) as connection:
        champion = find_champion(connection, name)
        if approval_request:
            policy_sha256 = appliance.admission_policy().sha256
            print_json(request_for(connection, champion, policy_sha256=policy_sha256, trust=trust))
            return
        dossier = read_dossier(connection, champion, trust=trust, now=appliance.clock.now())
    if output is Format.JSON:
        print_json(plain(dossier))
        return
    for line in dossier_lines(dossier):
        print(printable(line))
