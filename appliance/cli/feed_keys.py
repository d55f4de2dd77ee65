"""`assay feed rotate` and `refresh`: the feed's keys and dates."""

from typing import Annotated

import typer

from appliance.cli.feed_options import FeedArgument, KeysOption, PassphraseOption, read_passphrase
from appliance.cli.options import OutputOption
from appliance.cli.output import Format, print_json, talk


def register(feed: typer.Typer) -> None:
    """Add the commands to the noun."""
    feed.command("rotate")(rotate)
    feed.command("refresh")(refresh)


def rotate(
    folder: FeedArgument,
    keys: KeysOption,
    role: Annotated[str, typer.Option(help="root, targets, text, image, environment, snapshot or timestamp")],
    replaced: Annotated[
        str | None, typer.Option(metavar="KEYID", help="Which key goes, where the role has several.")
    ] = None,
    passphrase_file: PassphraseOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """Give a role a new key in place of one; prints the new key's id. Sites follow by themselves."""
    from appliance.ports import SystemClock
    from tournament_sync.feed.publisher import rotate_key

    key_id = rotate_key(
        folder,
        keys=keys,
        role=role,
        replaced=replaced,
        now=SystemClock().now(),
        passphrase=read_passphrase(passphrase_file),
    )
    if output is Format.JSON:
        print_json({"role": role, "key": key_id, "replaced": replaced})
    else:
        print(key_id)


def refresh(
    folder: FeedArgument,
    keys: KeysOption,
    also: Annotated[
        list[str] | None,
        typer.Option(metavar="ROLE", help="Sign this role's part again, too; may be repeated."),
    ] = None,
    passphrase_file: PassphraseOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """Sign fresh dates; for a timer, since the timestamp lives for a week."""
    from appliance.ports import SystemClock
    from tournament_sync.feed.publisher import refresh as refresh_feed

    passphrase, now = read_passphrase(passphrase_file), SystemClock().now()
    refresh_feed(folder, keys=keys, now=now, also=tuple(also or ()), passphrase=passphrase)
    if output is Format.JSON:
        print_json({"feed": str(folder), "state": "refreshed"})
    talk(f"{folder} is fresh")
