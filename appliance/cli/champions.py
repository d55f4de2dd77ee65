"""`assay champions`: sync, list, approve and admit; local on the home.

Champions are the work of Gradients.io's participants (https://gradients.io).
"""

from pathlib import Path
from typing import Annotated

import typer

from appliance.cli.options import HomeOption, OutputOption, read_settings
from appliance.cli.output import Format, print_json, print_table, talk

champions = typer.Typer(
    help="Tournament champions (Gradients.io, https://gradients.io).", no_args_is_help=True
)
ActorOption = Annotated[
    str, typer.Option("--as", metavar="NAME", help="Who does this; the log has the name.")
]
NameArgument = Annotated[str, typer.Argument(metavar="CHAMPION", help="Its name in the feed.")]


def register(app: typer.Typer) -> None:
    """Add the noun to `app`."""
    app.add_typer(champions, name="champions")


@champions.command("sync")
def sync(
    feed: Annotated[Path, typer.Argument(metavar="FEED", help="Folder of a signed feed.")],
    actor: ActorOption,
    home: HomeOption = None,
) -> None:
    """Fetch what is new in a signed feed, pin it and propose it."""
    from appliance.assembly import open_appliance
    from appliance.errors import AdmissionError
    from appliance.syncing import sync_feed

    report = sync_feed(open_appliance(read_settings(home=home)), feed, actor=actor)
    for snapshot in report.new:
        talk(f"new      {snapshot.champion.name}  commit {snapshot.champion.commit}")
    for name in report.known:
        talk(f"known    {name}")
    for refusal in report.refused:
        talk(f"refused  {refusal.name}: {refusal.reason}")
    if report.refused:
        raise AdmissionError(f"{len(report.refused)} champions were refused")


@champions.command("list")
def list_all(home: HomeOption = None, output: OutputOption = Format.TEXT) -> None:
    """List champions with what was decided about them."""
    from appliance.assembly import open_appliance
    from appliance.store import champions as store
    from appliance.store.engine import reading

    with reading(open_appliance(read_settings(home=home)).engine) as connection:
        rows = [
            {
                "name": c.name,
                "epoch": c.contract_epoch,
                "decision": "none yet" if d is None else "admitted" if d.allowed else "; ".join(d.reasons),
                "proposed_by": c.proposed_by,
                "commit": c.commit,
                "manifest": c.manifest_sha256,
            }
            for c in store.list_champions(connection)
            for d in [store.newest_decision(connection, c.manifest_sha256)]
        ]
    if output is Format.JSON:
        print_json({"champions": rows, "attribution": "Gradients.io (https://gradients.io)"})
    else:
        columns = ("name", "epoch", "decision", "proposed_by", "manifest")
        print_table(columns, [[row[name] for name in columns] for row in rows])
        talk("champions by courtesy of Gradients.io (https://gradients.io)")


@champions.command("approve")
def approve(
    name: NameArgument,
    actor: ActorOption,
    reason: Annotated[str, typer.Option(help="Why; it becomes part of the signed approval.")],
    printed_name: Annotated[str, typer.Option(help="Full name, for the report.")],
    home: HomeOption = None,
) -> None:
    """Sign an approval with the key of another person than the proposer."""
    from appliance import admission
    from appliance.assembly import open_appliance
    from appliance.syncing import champion_named

    appliance = open_appliance(read_settings(home=home))
    admission.approve(
        appliance, champion_named(appliance, name), approver=actor, printed_name=printed_name, reason=reason
    )
    talk(f"{actor} approved {name}")


@champions.command("admit")
def admit(name: NameArgument, actor: ActorOption, home: HomeOption = None) -> None:
    """Let the policy decide whether the champion may run here."""
    from appliance import admission
    from appliance.assembly import open_appliance
    from appliance.errors import AdmissionError
    from appliance.syncing import champion_named

    appliance = open_appliance(read_settings(home=home))
    decision = admission.admit(appliance, champion_named(appliance, name), actor=actor)
    if not decision.allowed:
        raise AdmissionError(f"{name} is refused: {'; '.join(map(str, decision.reasons))}")
    talk(f"{name} is admitted under policy sha256:{decision.policy_sha256}")
