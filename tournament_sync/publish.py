"""Publishes a repository into a feed the way upstream publishes champions, with the signature it lacks."""

import os
import shutil
import tempfile
from datetime import datetime
from pathlib import Path

from attestation.bundle import open_bundle, parse_bundle, sign_statement
from attestation.errors import AttestationError
from attestation.keys import Signer, load_public_key
from attestation.statement import Statement
from tournament_sync.champion import Channel, ContractEpoch, ReleaseOffer, is_champion_name
from tournament_sync.errors import PublishError, RefusedError
from tournament_sync.folder import release_path, repository_path
from tournament_sync.git_commit import write_repository
from tournament_sync.intake import take_tree
from tournament_sync.release import ReleaseFacts, release_statement


def publish_release(
    tree: Path,
    feed: Path,
    *,
    name: str,
    channel: Channel,
    contract_epoch: ContractEpoch,
    signer: Signer,
    now: datetime,
) -> ReleaseOffer:
    """Commit `tree` to `feed` as the champion `name` and sign its release.

    Publishing the same tree under the same name again returns the release that is there. The commit has no
    parent and upstream's message; where upstream names the commit that competed, it has the tree's id.
    Raises PublishError, also for another tree under a name that was released.
    """
    if not is_champion_name(name):
        raise PublishError(f"champion name {name[:120]!r} is not lower case, digits and inner hyphens")
    feed.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".publish-", dir=feed) as work:
        repository = Path(work) / "repository"
        try:
            taken = take_tree(tree, into=Path(work) / "taken")
            write_repository(taken, repository)
            facts = ReleaseFacts(name=name, channel=channel, contract_epoch=contract_epoch)
            statement = release_statement(taken, facts, now=now)
        except (RefusedError, AttestationError) as error:
            raise PublishError(f"{tree} cannot be released: {error}") from error
        released = release_path(feed, name)
        if released.exists():
            return _released_before(released, statement, name=name, signer=signer)
        # The release comes last: whoever sees it finds the repository.
        _replace_folder(repository, repository_path(feed, name))
        bundle = sign_statement(statement, signer)
        _write_release(bundle, released, work=Path(work))
    return ReleaseOffer(name=name, bundle=bundle)


def _released_before(path: Path, wanted: Statement, *, name: str, signer: Signer) -> ReleaseOffer:
    bundle = path.read_bytes()
    try:
        found = open_bundle(parse_bundle(bundle), load_public_key(signer.public_pem))
    except AttestationError as error:
        raise PublishError(f"{path} is not a release of this publisher: {error}") from error
    if found.subjects != wanted.subjects or _content(found) != _content(wanted):
        raise PublishError(f"{name} was released with other content: choose another name")
    return ReleaseOffer(name=name, bundle=bundle)


def _content(statement: Statement) -> dict[str, object]:
    return {field: value for field, value in statement.predicate.items() if field != "publishedAt"}


def _replace_folder(folder: Path, target: Path) -> None:
    """Put `folder` at `target`, in place of what an interrupted call left there."""
    target.parent.mkdir(exist_ok=True)
    if target.exists():
        shutil.rmtree(target)
    folder.rename(target)


def _write_release(bundle: bytes, path: Path, *, work: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = work / path.name
    with beside.open("wb") as file:
        file.write(bundle)
        file.flush()
        os.fsync(file.fileno())
    beside.rename(path)
