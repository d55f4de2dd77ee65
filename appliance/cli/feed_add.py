"""`assay feed add`: list a champion in a feed, from an archive or released here by the publisher's key."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from appliance.cli.candidates import take
from appliance.cli.champions_intake import LeaveOutOption
from appliance.cli.feed_options import FeedArgument, KeysOption, PassphraseOption, read_passphrase
from appliance.cli.git_named import local_path
from appliance.cli.options import OutputOption
from appliance.cli.output import Format, print_json, progress, read_small, talk
from appliance.cli.tournament_option import TournamentOption, read_tournament
from appliance.errors import InvalidOrderError
from tournament_sync.champion import Channel, ContractEpoch

if TYPE_CHECKING:
    from tournament_sync.release import ReleaseFacts, Taken


def register(feed: typer.Typer) -> None:
    """Add the command to the noun."""
    feed.command("add")(add)


def add(
    folder: FeedArgument,
    what: Annotated[
        str, typer.Argument(metavar="WHAT", help="An archive; with --sign-with also ./FOLDER or URL@COMMIT.")
    ],
    keys: KeysOption,
    sign_with: Annotated[
        Path | None,
        typer.Option(metavar="KEY", help="Release it here with the publisher's key (P-256, PKCS#8)."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="The name to release it under.")] = None,
    channel: Annotated[Channel | None, typer.Option(help="The tournament that it won.")] = None,
    epoch: Annotated[ContractEpoch | None, typer.Option(help="The contract that it was written for.")] = None,
    images: Annotated[
        list[Path] | None,
        typer.Option("--images", metavar="DIR", help="What `champions build` left; repeatable."),
    ] = None,
    keyless: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Sigstore bundle over the archive, by an identity.")
    ] = None,
    leave_out: LeaveOutOption = None,
    tournament: TournamentOption = None,
    passphrase_file: PassphraseOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """Add a champion to a feed; prints its target path. The same again changes nothing."""
    from appliance.ports import SystemClock
    from tournament_sync.feed.custom import MAX_KEYLESS_BYTES
    from tournament_sync.feed.publisher import add_release

    with tempfile.TemporaryDirectory(prefix="assay-") as scratch:
        archive = local_path(what)
        if sign_with is not None:
            archive = Path(scratch) / "released.champion.tar"
            facts = _facts(name, channel, epoch, images=tuple(images or ()))
            without = frozenset(leave_out or ())
            _release(what, facts, sign_with, tournament=tournament, without=without, out=archive)
        elif any((name, channel, epoch, images, tournament, leave_out)):
            raise typer.BadParameter(
                "name, channel, epoch, images, tournament and leave-out are for --sign-with"
            )
        elif not archive.is_file():
            raise InvalidOrderError(
                f"{what} is no archive: what is not released yet is released here, "
                "with --sign-with KEY, --name, --channel and --epoch"
            )
        with progress(f"adding {what}"):
            path = add_release(
                folder,
                keys=keys,
                archive=archive,
                now=SystemClock().now(),
                keyless=None if keyless is None else read_small(keyless, max_bytes=MAX_KEYLESS_BYTES),
                passphrase=read_passphrase(passphrase_file),
            )
    if output is Format.JSON:
        print_json({"target": path, "state": "listed"})
    else:
        print(path)


def _facts(
    name: str | None, channel: Channel | None, epoch: ContractEpoch | None, *, images: tuple[Path, ...]
) -> "ReleaseFacts":
    from appliance.cli.image_pins import read_pins
    from tournament_sync.release import ReleaseFacts

    if name is None or channel is None or epoch is None:
        raise typer.BadParameter("--sign-with needs --name, --channel and --epoch")
    return ReleaseFacts(
        name=name,
        channel=channel,
        contract_epoch=epoch,
        images=tuple(pin for folder in images for pin in read_pins(folder)),
    )


def _release(
    what: str,
    facts: "ReleaseFacts",
    key: Path,
    *,
    tournament: str | None,
    without: frozenset[str],
    out: Path,
) -> None:
    from appliance.keys.file import load_claim_key
    from appliance.ports import SystemClock
    from tournament_sync.archive import write_archive
    from tournament_sync.release import sign_release

    signer = load_claim_key(key)  # before anything is fetched
    taken = take(what, into=out.parent / "taken", without=without)
    release = sign_release(taken, _compared(facts, taken, tournament), signer=signer, now=SystemClock().now())
    write_archive(taken.folder.parent, release, out=out)


def _compared(facts: "ReleaseFacts", taken: "Taken", tournament: str | None) -> "ReleaseFacts":
    """With what the tournament said, if it agrees; what disagrees is told, and left out of the release."""
    from dataclasses import replace

    from tournament_sync.tournament.crosscheck import crosscheck

    details = read_tournament(tournament, name=facts.name)
    if details is None:
        return facts
    found = crosscheck(
        details,
        repository=facts.name,
        commit=taken.commit,
        competed_commit=taken.competed_commit,
        origin=taken.origin,
    )
    for finding in found.findings:
        talk(f"{finding.severity.value} {finding.rule}: {finding.found} ({finding.why})")
    return replace(facts, tournament=found.facts)
