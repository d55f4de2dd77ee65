"""What a release claims, read without its publisher's key: the feed lists it, clients verify who made it."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from attestation.bundle import parse_bundle
from attestation.errors import AttestationError, MalformedError
from attestation.predicates import CHAMPION_RELEASE, check_predicate
from attestation.statement import parse_statement
from tournament_sync.archive import read_archive
from tournament_sync.champion import Channel, is_champion_name
from tournament_sync.errors import PublishError, RefusedError, ReleaseError
from tournament_sync.git_objects import object_id, parse_commit
from tournament_sync.release import claimed_links
from tournament_sync.tree_files import hash_tree


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """Whose files the release `bundle` says it is of; not verified."""

    bundle: bytes
    name: str
    channel: Channel
    commit: str
    tree: str
    manifest_root: str


def read_claims(release: bytes) -> Claims:
    """What the bundle `release` claims. Raises ReleaseError unless it has a release's form."""
    try:
        statement = parse_statement(parse_bundle(release).payload)
        if statement.predicate_type != CHAMPION_RELEASE:
            raise MalformedError(f"it is a {statement.predicate_type[:120]}")
        check_predicate(statement)
    except AttestationError as error:
        raise ReleaseError(f"not a release: {error}") from error
    claimed, subject = statement.predicate, statement.subjects[0]
    if subject.name != claimed["name"] or not is_champion_name(subject.name):
        raise ReleaseError(f"release names {claimed['name'][:120]!r} and {subject.name[:120]!r}")
    return Claims(
        bundle=release,
        name=subject.name,
        channel=Channel(claimed["channel"]),
        commit=claimed["commit"],
        tree=claimed["tree"],
        manifest_root=subject.sha256,
    )


def read_released(archive: Path, *, title: str) -> Claims:
    """The claims of the release in `archive`, if its files are those. Raises PublishError, with its `title`."""
    with tempfile.TemporaryDirectory(prefix="assay-feed-") as work:
        tree = Path(work) / "tree"
        tree.mkdir()
        try:
            content = read_archive(archive, into=tree)
            claims = read_claims(content.release)
            hashed = hash_tree(tree, links=claimed_links(content.release))
            committed = parse_commit(content.raw_commit).tree
        except RefusedError as error:
            raise PublishError(f"{title} cannot be published: {error}") from error
    for what, found, wanted in (
        ("commit", object_id("commit", content.raw_commit), claims.commit),
        ("the commit's tree", committed, claims.tree),
        ("tree", hashed.tree, claims.tree),
        ("manifest", hashed.manifest.root_sha256, claims.manifest_root),
    ):
        if found != wanted:
            raise PublishError(f"{title} has {what} {found}, its release has {wanted}")
    return claims
