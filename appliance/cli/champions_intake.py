"""How champions come in: `assay champions sync`, `import`, `propose`; whoever brings one in proposes it."""

from typing import TYPE_CHECKING, Annotated

import typer

from appliance.cli.git_named import GitCommit, absolute_url, check_no_repository, git_named, local_path
from appliance.cli.options import ActorOption, HomeOption, OutputOption, read_settings
from appliance.cli.output import Format, progress
from appliance.cli.sync_told import tell
from appliance.cli.tournament_option import TournamentOption, read_tournament
from appliance.errors import InvalidOrderError
from tournament_sync.champion import Channel, ContractEpoch

if TYPE_CHECKING:
    from appliance.assembly import Appliance
    from tournament_sync.sync import SyncReport


LeaveOutOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="LINK",
        help="A symbolic link in it that you looked at, may be repeated; the release will say so.",
    ),
]


def register(champions: typer.Typer) -> None:
    """Add the verbs to the noun."""
    champions.command("import")(import_one)
    champions.command("propose")(import_one)


def import_one(
    what: Annotated[str, typer.Argument(metavar="WHAT", help="./ARCHIVE, or URL@COMMIT (40 digits).")],
    actor: ActorOption,
    commit: Annotated[
        str | None, typer.Option(metavar="HEX", help="The same as WHAT's @COMMIT; never a branch.")
    ] = None,
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
    git = _git(what, commit)
    if git is None:
        if any((name, channel, epoch, tournament, leave_out)):
            raise typer.BadParameter(
                "name, channel, epoch, tournament and leave-out are for git; an archive says its own"
            )
        with progress(f"importing {what}"):
            report = import_archive(appliance, local_path(what), actor=actor)
    else:
        if name is None or channel is None or epoch is None:
            raise typer.BadParameter("from git, --name, --channel and --epoch are needed")
        report = _from_git(
            appliance,
            git,
            name=name,
            channel=channel,
            epoch=epoch,
            actor=actor,
            tournament=tournament,
            without=frozenset(leave_out or ()),
        )
    tell(appliance, report, output)


def _git(what: str, commit: str | None) -> GitCommit | None:
    """The commit that is meant, None for an archive. Raises InvalidOrderError for a folder."""
    if commit is not None:
        if (twice := git_named(what)) is not None and twice.commit != commit:
            raise typer.BadParameter(f"{what} names one commit and --commit another")
        return git_named(what) or GitCommit(url=absolute_url(what), commit=commit)
    path = local_path(what)
    if path.is_dir():
        check_no_repository(path, text=what)
        raise InvalidOrderError(
            f"{what} is a plain folder, of which nobody says where it is from: have its publisher release it "
            "(`assay feed add`) and sync that feed, or give an archive, or git at a commit (URL@COMMIT)"
        )
    return None if path.is_file() else git_named(what)


def _from_git(
    appliance: "Appliance",
    git: GitCommit,
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
    with progress(f"fetching {git.url}"):
        return import_git(
            appliance,
            git.url,
            git.commit,
            name=name,
            channel=channel,
            contract_epoch=epoch,
            actor=actor,
            details=details,
            details_source=tournament or "",
            without=without,
        )
