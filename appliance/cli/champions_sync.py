"""`assay champions sync` and `sources`: what is new in feeds, asked now or on schedule."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from appliance.cli.options import ActorOption, HomeOption, OutputOption, read_settings
from appliance.cli.output import Format, print_json, print_table, progress, read_small, talk
from appliance.cli.sync_told import tell

if TYPE_CHECKING:
    from appliance.feeds import BreakGlass

sources = typer.Typer(help="Feeds that the worker syncs by itself.", no_args_is_help=True)
LocationArgument = Annotated[str, typer.Argument(metavar="FEED", help="https://…, or a folder (a stick).")]
RootOption = Annotated[
    Path | None, typer.Option("--root", metavar="FILE", help="The feed's first root; only the first time.")
]
MAX_ROOT_BYTES: Final = 512_000


def register(champions: typer.Typer) -> None:
    """Add the verb and the noun below to the noun."""
    champions.command("sync")(sync)
    champions.add_typer(sources, name="sources")


def sync(
    feed: LocationArgument,
    actor: ActorOption,
    root: RootOption = None,
    break_glass: Annotated[
        str | None, typer.Option(metavar="TIME", help="Take an EXPIRED feed as it was at that time; logged.")
    ] = None,
    reason: Annotated[str | None, typer.Option(help="Why the glass is broken; logged.")] = None,
    home: HomeOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """Fetch what is new in a signed feed, inspect and propose it; revoke what the feed revokes."""
    from appliance.assembly import open_appliance
    from appliance.feeds import sync_by_hand

    glass = _broken(break_glass, reason)
    appliance = open_appliance(read_settings(home=home))
    pinned = None if root is None else read_small(root, max_bytes=MAX_ROOT_BYTES)
    with progress(f"syncing {feed}"):
        report = sync_by_hand(appliance, feed, actor=actor, root=pinned, break_glass=glass)
    tell(appliance, report, output)


@sources.command("add")
def add(
    feed: LocationArgument,
    actor: ActorOption,
    root: Annotated[Path, typer.Option("--root", metavar="FILE", help="The feed's first root.")],
    every_s: Annotated[int, typer.Option(help="Seconds between two looks, more or less.")] = 3600,
    home: HomeOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """Sync a feed on schedule from now on; whoever adds it proposes what comes, and so cannot approve it."""
    from appliance.assembly import open_appliance
    from appliance.dossier import plain
    from appliance.schedule import add_source

    pinned = read_small(root, max_bytes=MAX_ROOT_BYTES)
    appliance = open_appliance(read_settings(home=home))
    added = add_source(appliance, location=feed, root=pinned, interval_s=every_s, actor=actor)
    if output is Format.JSON:
        print_json(plain(added))
    talk(f"{feed} is synced every {every_s} s, root sha256:{added.root_sha256}")


@sources.command("remove")
def remove(
    feed: LocationArgument, actor: ActorOption, home: HomeOption = None, output: OutputOption = Format.TEXT
) -> None:
    """Sync a feed on schedule no more; what came from it stays."""
    from appliance.assembly import open_appliance
    from appliance.schedule import remove_source

    remove_source(open_appliance(read_settings(home=home)), feed, actor=actor)
    if output is Format.JSON:
        print_json({"location": feed, "state": "removed"})
    talk(f"{feed} is not synced any more")


@sources.command("list")
def list_all(home: HomeOption = None, output: OutputOption = Format.TEXT) -> None:
    """List the feeds that are synced on schedule, with how their last pass went."""
    from appliance.assembly import open_appliance
    from appliance.dossier import plain
    from appliance.store.engine import reading
    from appliance.store.sources import list_sources

    with reading(open_appliance(read_settings(home=home)).engine) as connection:
        rows = [plain(source) for source in list_sources(connection)]
    if output is Format.JSON:
        print_json({"sources": rows})
        return
    columns = ("location", "interval_s", "added_by", "next_at", "failures", "last_result")
    print_table(columns, [["-" if row[name] is None else row[name] for name in columns] for row in rows])


def _broken(at: str | None, reason: str | None) -> "BreakGlass | None":
    from appliance.feeds import BreakGlass
    from attestation.errors import MalformedError
    from attestation.times import parse_time

    if (at is None) != (reason is None):
        raise typer.BadParameter("--break-glass and --reason go together: the log has both")
    if at is None or reason is None:
        return None
    try:
        return BreakGlass(reference_time=parse_time(at), reason=reason)
    except MalformedError as error:
        raise typer.BadParameter(str(error), param_hint="--break-glass") from error
