"""`assay feed`: publish champions as a signed feed (TUF), on a vetting host; no home is needed.

The feed says what is current and what is revoked; the release inside says who made it. Champions are the work of
Gradients.io's participants (https://gradients.io).
"""

from pathlib import Path
from typing import Annotated

import typer

from appliance.cli import feed_add, feed_keys, feed_serve
from appliance.cli.feed_options import FeedArgument, KeysOption, PassphraseOption, read_passphrase
from appliance.cli.options import OutputOption
from appliance.cli.output import Format, print_facts, print_json, progress, talk

feed = typer.Typer(help="Publish a signed feed of champions.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the noun to `app`."""
    app.add_typer(feed, name="feed")


@feed.command("init")
def init(
    folder: FeedArgument,
    keys: KeysOption,
    passphrase_file: PassphraseOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """Make an empty feed and its keys: 2 of 3 for the root, one for each channel, one each for what is signed often."""
    from appliance.ports import SystemClock
    from attestation.digest import sha256_hex
    from tournament_sync.feed.keys import ROOT_FILE
    from tournament_sync.feed.publisher import init_feed

    init_feed(folder, keys=keys, now=SystemClock().now(), passphrase=read_passphrase(passphrase_file))
    root = keys / ROOT_FILE
    sha256 = sha256_hex(root.read_bytes())
    if output is Format.JSON:
        print_json({"feed": str(folder), "root": str(root), "sha256": sha256})
    else:
        print(root)
    talk(f"sites need this root, and its digest another way: sha256:{sha256}")
    talk(f"move root-*.pem and targets-*.pem from {keys} to places of their own; adding needs neither")


feed_add.register(feed)


@feed.command("revoke")
def revoke(
    folder: FeedArgument,
    name: Annotated[str, typer.Argument(metavar="CHAMPION", help="Its name in the feed.")],
    keys: KeysOption,
    reason: Annotated[str, typer.Option(help="Why; every site's log gets it.")],
    passphrase_file: PassphraseOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """Take a champion off the feed and list it, with its tree, as revoked; sites revoke it at their next sync."""
    from appliance.ports import SystemClock
    from tournament_sync.feed.publisher import revoke_release

    revoke_release(
        folder,
        keys=keys,
        name=name,
        reason=reason,
        now=SystemClock().now(),
        passphrase=read_passphrase(passphrase_file),
    )
    if output is Format.JSON:
        print_json({"champion": name, "state": "revoked"})
    talk(f"{name} is revoked; its name is not used again")


feed_keys.register(feed)


@feed.command("export")
def export(
    folder: FeedArgument,
    into: Annotated[
        Path, typer.Option("--into", metavar="DIR", help="A new folder, or an older copy to renew.")
    ],
    output: OutputOption = Format.TEXT,
) -> None:
    """Copy the feed to a stick, and verify the copy as a site will."""
    from attestation.times import format_time
    from tournament_sync.errors import PublishError
    from tournament_sync.feed.publisher import export_feed

    try:
        with progress(f"copying to {into}"):
            done = export_feed(folder, into)
    except PublishError as error:
        told, mark, _ = str(error).partition(" (rule: freeze")
        if not mark:
            raise
        # What the library advises is for sites; here is who can renew the feed.
        raise PublishError(f"{told}: first `assay feed refresh {folder} --keys DIR`") from error
    facts = {"files": done.files, "size_bytes": done.size_bytes, "expires_at": format_time(done.expires_at)}
    if output is Format.JSON:
        print_json({"folder": str(into), **facts})
    else:
        print_facts(facts)


feed_serve.register(feed)
