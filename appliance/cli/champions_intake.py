"""How champions come in: `assay champions sync`, `import`, `propose`; whoever brings one in proposes it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from appliance.cli.options import ActorOption, HomeOption, OutputOption, read_settings
from appliance.cli.output import Format, print_json, progress, talk
from appliance.cli.tournament_option import TournamentOption, read_tournament
from tournament_sync.champion import Channel, ContractEpoch

if TYPE_CHECKING:
    from appliance.assembly import Appliance
    from tournament_sync.sync import SyncReport


LeaveOutOption = Annotated[
    list[str] | None,
    typer.Option(metavar="LINK", help="A symbolic link in it that you looked at; the release will say so."),
]


def register(champions: typer.Typer) -> None:
    """Add the verbs to the noun."""
    champions.command("import")(import_one)
    champions.command("propose")(import_one)


def import_one(
    what: Annotated[str, typer.Argument(metavar="WHAT", help="An archive; with --commit git's URL.")],
    actor: ActorOption,
    commit: Annotated[str | None, typer.Option(metavar="HEX", help="All 40 digits; never a branch.")] = None,
    name: Annotated[str | None, typer.Option(help="Its name here, most often the repository's.")] = None,
    channel: Annotated[Channel | None, typer.Option(help="The tournament that it won.")] = None,
    epoch: Annotated[ContractEpoch | None, typer.Option(help="The contract that it was written for.")] = None,
    tournament: TournamentOption = None,
    leave_out: LeaveOutOption = None,
    home: HomeOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """Take one champion in, from an archive or from git at a commit, and propose it."""
    from appliance.assembly import open_appliance
    from appliance.syncing import import_archive

    appliance = open_appliance(read_settings(home=home))
    if commit is None:
        if any((name, channel, epoch, tournament, leave_out)):
            raise typer.BadParameter(
                "name, channel, epoch, tournament and leave-out are for --commit; an archive says its own"
            )
        with progress(f"importing {what}"):
            report = import_archive(appliance, Path(what), actor=actor)
    else:
        if name is None or channel is None or epoch is None:
            raise typer.BadParameter("--commit needs --name, --channel and --epoch")
        report = _from_git(
            appliance,
            what,
            commit,
            name=name,
            channel=channel,
            epoch=epoch,
            actor=actor,
            tournament=tournament,
            without=frozenset(leave_out or ()),
        )
    tell(report, output)


def tell(report: "SyncReport", output: Format) -> None:
    """What a pass brought. Raises AdmissionError if a champion was refused."""
    from appliance.errors import AdmissionError

    if output is Format.JSON:
        new = [
            {"name": s.champion.name, "commit": s.champion.commit, "manifest_sha256": s.manifest.root_sha256}
            for s in report.new
        ]
        refused = [{"name": refusal.name, "reason": refusal.reason} for refusal in report.refused]
        print_json({"new": new, "known": list(report.known), "refused": refused})
    for snapshot in report.new:
        talk(f"new      {snapshot.champion.name}  commit {snapshot.champion.commit}")
    for known in report.known:
        talk(f"known    {known}")
    for refusal in report.refused:
        talk(f"refused  {refusal.name}: {refusal.reason}")
    if report.refused:
        raise AdmissionError(f"{len(report.refused)} champions were refused")


def _from_git(
    appliance: "Appliance",
    url: str,
    commit: str,
    *,
    name: str,
    channel: Channel,
    epoch: ContractEpoch,
    actor: str,
    tournament: str | None,
    without: frozenset[str],
) -> "SyncReport":
    from appliance.syncing import import_git

    details = read_tournament(tournament, name=name)
    with progress(f"fetching {url}"):
        return import_git(
            appliance,
            url,
            commit,
            name=name,
            channel=channel,
            contract_epoch=epoch,
            actor=actor,
            details=details,
            without=without,
        )
