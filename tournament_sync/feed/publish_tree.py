"""Releases a plain folder into a feed in one call, where one machine holds all of the feed's keys, as in the demo.

Not covered: keys that are kept apart; where they matter, each step is a call of its own (`publisher`).
"""

import tempfile
from datetime import datetime
from pathlib import Path

from attestation.bundle import open_bundle, parse_bundle, sign_statement
from attestation.errors import AttestationError
from attestation.keys import Signer, load_public_key
from attestation.statement import Statement
from tournament_sync.archive import write_archive
from tournament_sync.champion import Channel
from tournament_sync.errors import PublishError, RefusedError
from tournament_sync.feed.custom import parse_custom
from tournament_sync.feed.edition import DEFAULT_LIFETIMES, Edition, open_edition
from tournament_sync.feed.keys import ROOT_FILE, KeyFolder
from tournament_sync.feed.layout import ROLES, archive_target
from tournament_sync.feed.publisher import add_release, init_feed, refresh
from tournament_sync.intake import take_tree
from tournament_sync.release import ReleaseFacts, release_statement


def publish_tree(
    tree: Path, feed: Path, *, keys: Path, facts: ReleaseFacts, signer: Signer, now: datetime
) -> None:
    """Release `tree` as `facts.name` in `feed`, which is made, with its keys, unless `keys` has its root.

    The same again only renews what would end within a timestamp's lifetime. Raises PublishError, also for other
    content or other facts under a name that was released.
    """
    with tempfile.TemporaryDirectory(prefix="assay-publish-") as work:
        taken_folder, archive = Path(work) / "taken", Path(work) / "released.champion.tar"
        try:
            statement = release_statement(take_tree(tree, into=taken_folder), facts, now=now)
            write_archive(taken_folder, sign_statement(statement, signer), out=archive)
        except (RefusedError, AttestationError) as error:
            raise PublishError(f"{tree} cannot be released: {error}") from error
        if not (keys / ROOT_FILE).exists():
            init_feed(feed, keys=keys, now=now)
        folder = KeyFolder(folder=keys, passphrase=None)
        edition = open_edition(feed, keys=folder, now=now, lifetimes=DEFAULT_LIFETIMES)
        listed = _listed(edition, facts.name)
        if listed is None:
            add_release(feed, keys=keys, archive=archive, now=now)
            return
    _check_same(listed, statement, signer=signer, name=facts.name)
    refresh(feed, keys=keys, now=now, also=_ending(edition))


def _listed(edition: Edition, name: str) -> bytes | None:
    """The release that the feed lists under `name`."""
    for channel in Channel:
        target = edition.read(channel.value).targets.get(archive_target(channel, name))
        if target is not None:
            try:
                return parse_custom(target.custom).release
            except RefusedError as error:
                raise PublishError(f"{target.path} is not listed as a champion is: {error}") from error
    return None


def _check_same(listed: bytes, wanted: Statement, *, signer: Signer, name: str) -> None:
    try:
        found = open_bundle(parse_bundle(listed), load_public_key(signer.public_pem))
    except AttestationError as error:
        raise PublishError(f"{name} is not listed as a release of this publisher: {error}") from error
    if found.subjects != wanted.subjects or _content(found) != _content(wanted):
        raise PublishError(f"{name} was released with other content: choose another name")


def _content(statement: Statement) -> dict[str, object]:
    return {field: value for field, value in statement.predicate.items() if field != "publishedAt"}


def _ending(edition: Edition) -> tuple[str, ...]:
    """The roles whose part would end before a timestamp that is signed now."""
    end = edition.now + edition.lifetimes.timestamp
    return tuple(role for role in ROLES if edition.old[role].expires < end)
