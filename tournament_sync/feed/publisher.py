"""Makes a feed and changes it: champions in and out, keys, fresh dates. One change at a time, whole or not at all.

Not covered: who made a release. The feed's keys say "this is current"; the bundle inside says whose it is, and
clients check that against keys of their own.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from tuf.api.exceptions import LengthOrHashMismatchError
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    Role,
    Root,
    Signed,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization import DeserializationError

from tournament_sync.archive import MAX_ARCHIVE_BYTES
from tournament_sync.champion import Channel
from tournament_sync.errors import PublishError, ReleaseError
from tournament_sync.feed.custom import FeedRelease, encode_custom, parse_custom
from tournament_sync.feed.edition import DEFAULT_LIFETIMES, Edition, Lifetimes, open_edition
from tournament_sync.feed.export import Exported, export_feed
from tournament_sync.feed.files import copy_file, locked, put_file, write_file
from tournament_sync.feed.keys import KeyFolder
from tournament_sync.feed.layout import (
    CHANNEL_ROLES,
    METADATA_FOLDER,
    ROLES,
    TARGETS_FOLDER,
    archive_target,
    metadata_file,
    revocations_target,
    role_paths,
    target_file,
)
from tournament_sync.feed.released import Claims, read_claims, read_released
from tournament_sync.feed.revocations import Revocation, encode_revocations, parse_revocations

__all__ = [
    "Exported",
    "Lifetimes",
    "add_release",
    "export_feed",
    "init_feed",
    "refresh",
    "revoke_release",
    "rotate_key",
]

ROOT_KEYS = 3
ROOT_THRESHOLD = 2


def init_feed(
    feed: Path,
    *,
    keys: Path,
    now: datetime,
    passphrase: bytes | None = None,
    lifetimes: Lifetimes = DEFAULT_LIFETIMES,
) -> None:
    """Make the empty feed `feed`, its keys in `keys`, and `root.json` there: what clients are to be given.

    Keys of a role that lie in `keys` already are taken; so a call that was interrupted is simply repeated.
    Raises PublishError if there is a feed.
    """
    keys.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder = KeyFolder(folder=keys, passphrase=passphrase)
    if folder.first_root.exists():
        raise PublishError(f"{keys} has the keys of a feed already")
    (feed / METADATA_FOLDER).mkdir(parents=True, exist_ok=True)
    with locked(feed / METADATA_FOLDER):
        first = feed / metadata_file("root", 1)
        parts = _first_parts(folder)
        if first.exists() and not _has_keys_of(first, parts["root"]):
            raise PublishError(f"{feed} is a feed with other keys")
        edition = Edition(feed=feed, keys=folder, now=now, lifetimes=lifetimes, old={}, parts=parts)
        edition.root()
        edition.targets("targets")
        for channel in Channel:
            _list_revocations(edition, channel, ())
        edition.publish()
        write_file(folder.first_root, first.read_bytes())


def add_release(
    feed: Path,
    *,
    keys: Path,
    archive: Path,
    now: datetime,
    keyless: bytes | None = None,
    passphrase: bytes | None = None,
    lifetimes: Lifetimes = DEFAULT_LIFETIMES,
) -> str:
    """List the champion in `archive`, with the sigstore bundle `keyless` over the archive; its target path.

    Repeating a call changes nothing. Raises PublishError for an archive that is not what its release says,
    for a name that is listed with other content or was revoked, and for a revoked tree.
    """
    with _changing(feed, keys, passphrase, now=now, lifetimes=lifetimes) as edition:
        # Copied first: what is verified is what is published, whatever happens to the original.
        copied = copy_file(archive, feed / TARGETS_FOLDER / ".archive.part", max_bytes=MAX_ARCHIVE_BYTES)
        claims = read_released(copied.path, title=archive.name)
        path = archive_target(claims.channel, claims.name)
        custom = _custom(FeedRelease(release=claims.bundle, keyless=keyless))
        target = TargetFile(copied.size_bytes, {"sha256": copied.sha256}, path, {"custom": custom})
        if _is_listed(edition, target, claims):
            copied.path.unlink()
            return path
        _check_not_revoked(edition, claims)
        edition.targets(claims.channel.value).targets[path] = target
        put_file(copied.path, feed / target_file(path, copied.sha256))
        edition.publish()
    return path


def revoke_release(
    feed: Path,
    *,
    keys: Path,
    name: str,
    reason: str,
    now: datetime,
    passphrase: bytes | None = None,
    lifetimes: Lifetimes = DEFAULT_LIFETIMES,
) -> None:
    """Take the champion `name` off the feed and list it as revoked, with the tree that it had.

    Repeating a call changes nothing. Raises PublishError for a name that was never listed.
    """
    with _changing(feed, keys, passphrase, now=now, lifetimes=lifetimes) as edition:
        for channel in Channel:
            if any(entry.name == name for entry in _revocations(edition, channel)):
                return
        channel, target = _listed(edition, name)
        claims = read_claims(parse_custom(target.custom).release)
        revoked = Revocation(
            name=name, manifest_root=claims.manifest_root, tree=claims.tree, reason=reason, revoked_at=now
        )
        del edition.targets(channel.value).targets[target.path]
        _list_revocations(edition, channel, (*_revocations(edition, channel), revoked))
        edition.publish()
        # Only now: until the list is in place, the archive must be there for clients that saw the old one.
        (feed / target_file(target.path, target.hashes["sha256"])).unlink(missing_ok=True)


def refresh(
    feed: Path,
    *,
    keys: Path,
    now: datetime,
    also: Sequence[str] = (),
    passphrase: bytes | None = None,
    lifetimes: Lifetimes = DEFAULT_LIFETIMES,
) -> None:
    """Sign timestamp and snapshot again, with fresh dates: needs no other key than theirs, and root.json.

    `also` names roles that are signed again with them and need their keys: a channel, "targets", "root".
    """
    with _changing(feed, keys, passphrase, now=now, lifetimes=lifetimes) as edition:
        for role in also:
            if role not in ROLES:
                raise PublishError(f"{role[:80]!r} is no role of a feed: {', '.join(ROLES)}")
            edition.changed.add(role)
        edition.publish()


def rotate_key(
    feed: Path,
    *,
    keys: Path,
    role: str,
    now: datetime,
    replaced: str | None = None,
    passphrase: bytes | None = None,
    lifetimes: Lifetimes = DEFAULT_LIFETIMES,
) -> str:
    """Give `role` a new key, made here, in place of the key with the id `replaced`; the new key's id.

    `replaced` may be left out where the role has one key. A new root is signed by the thresholds of the old
    and the new root. Needs the keys of whoever names the role's keys: root, or "targets" for a channel.
    """
    if role not in ROLES:
        raise PublishError(f"{role[:80]!r} is no role of a feed: {', '.join(ROLES)}")
    with _changing(feed, keys, passphrase, now=now, lifetimes=lifetimes) as edition:
        delegator = edition.targets("targets") if role in CHANNEL_ROLES else edition.root()
        old_id = _replaced(delegator.get_delegated_role(role), replaced, name=role)
        signer = edition.keys.create(role)
        delegator.revoke_key(old_id, role)
        delegator.add_key(signer.public_key, role)
        edition.changed.add(role)
        edition.publish()
        return signer.public_key.keyid


@contextmanager
def _changing(
    feed: Path, keys: Path, passphrase: bytes | None, *, now: datetime, lifetimes: Lifetimes
) -> Iterator[Edition]:
    """The feed's next edition, alone. Raises PublishError."""
    if not (feed / METADATA_FOLDER).is_dir():
        raise PublishError(f"{feed} is no feed: it has no folder {METADATA_FOLDER!r}")
    with locked(feed / METADATA_FOLDER):
        folder = KeyFolder(folder=keys, passphrase=passphrase)
        try:
            yield open_edition(feed, keys=folder, now=now, lifetimes=lifetimes)
        except (ReleaseError, OSError) as error:
            raise PublishError(f"{feed} cannot be changed: {error}") from error


def _first_parts(keys: KeyFolder) -> dict[str, Signed]:
    """Every role with its keys, nothing listed."""
    signers = {role: keys.at_least(ROOT_KEYS if role == "root" else 1, role) for role in ROLES}
    root = Root(roles={role: Role([], 1) for role in ("root", "targets", "snapshot", "timestamp")})
    delegations = Delegations(
        keys={},
        roles={
            channel.value: DelegatedRole(
                channel.value, [], threshold=1, terminating=True, paths=role_paths(channel)
            )
            for channel in Channel
        },
    )
    targets = Targets(delegations=delegations)
    for role in ROLES:
        for signer in signers[role]:
            (targets if role in CHANNEL_ROLES else root).add_key(signer.public_key, role)
    root.roles["root"].threshold = ROOT_THRESHOLD
    parts: dict[str, Signed] = {role: Targets() for role in CHANNEL_ROLES}
    return parts | {"root": root, "targets": targets, "snapshot": Snapshot(meta={}), "timestamp": Timestamp()}


def _has_keys_of(first: Path, root: Signed) -> bool:
    """Whether an interrupted call wrote `first`, or another publisher."""
    try:
        found = Metadata[Root].from_bytes(first.read_bytes()).signed
    except DeserializationError:
        return False
    return isinstance(root, Root) and found.keys == root.keys


def _custom(release: FeedRelease) -> dict[str, Any]:
    try:
        return encode_custom(release)
    except ReleaseError as error:
        raise PublishError(f"cannot be listed: {error}") from error


def _is_listed(edition: Edition, target: TargetFile, claims: Claims) -> bool:
    """Whether exactly this is listed already. Raises PublishError for the same name with something else."""
    for channel in Channel:
        path = archive_target(channel, claims.name)
        found = edition.read(channel.value).targets.get(path)
        if found == target:
            return True
        if found is not None:
            raise PublishError(f"{path} is listed with other content: choose another name, or revoke it")
    return False


def _check_not_revoked(edition: Edition, claims: Claims) -> None:
    for channel in Channel:
        for entry in _revocations(edition, channel):
            if claims.name == entry.name:
                raise PublishError(f"{entry.name} was revoked ({entry.reason}): a name is not used again")
            if claims.tree == entry.tree or claims.manifest_root == entry.manifest_root:
                raise PublishError(f"{claims.name} has the tree of {entry.name}, revoked: {entry.reason}")


def _listed(edition: Edition, name: str) -> tuple[Channel, TargetFile]:
    for channel in Channel:
        target = edition.read(channel.value).targets.get(archive_target(channel, name))
        if target is not None:
            return channel, target
    raise PublishError(f"{name[:120]!r} is not listed")


def _replaced(role: Role, wanted: str | None, *, name: str) -> str:
    """The id of the key to be replaced."""
    candidates = [key_id for key_id in role.keyids if wanted in {None, key_id}]
    if len(candidates) != 1:
        raise PublishError(f"which key of role {name} is to be replaced? It has {', '.join(role.keyids)}")
    return candidates[0]


def _revocations(edition: Edition, channel: Channel) -> tuple[Revocation, ...]:
    path = revocations_target(channel)
    target = edition.read(channel.value).targets[path]
    data = (edition.feed / target_file(path, target.hashes["sha256"])).read_bytes()
    try:
        target.verify_length_and_hashes(data)
    except LengthOrHashMismatchError as error:
        raise PublishError(f"{path} was changed in the feed's folder: {error}") from error
    return parse_revocations(data)


def _list_revocations(edition: Edition, channel: Channel, entries: Sequence[Revocation]) -> None:
    path, data = revocations_target(channel), encode_revocations(entries)
    target = TargetFile.from_data(path, data, ["sha256"])
    write_file(edition.feed / target_file(path, target.hashes["sha256"]), data)
    edition.targets(channel.value).targets[path] = target
