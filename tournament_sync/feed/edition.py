"""The next state of a feed, signed and put in place so that a crash leaves the old one or the new one.

Files have versions in their names, and nobody looks at them before the timestamp lists them, which is written
after them. Only a root counts at once. So what a root with other keys changes is signed by the old and the
new keys, and the root is written last.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Role, Root, Signed, Snapshot, Targets, Timestamp
from tuf.api.serialization.json import JSONSerializer

from tournament_sync.champion import Channel
from tournament_sync.errors import PublishError, SourceUnavailableError
from tournament_sync.feed.fetcher import FOLDER_URL, DirectoryFetcher
from tournament_sync.feed.files import write_file
from tournament_sync.feed.keys import KeyFolder
from tournament_sync.feed.layout import CHANNEL_ROLES, TIMESTAMP_FILE, metadata_file, revocations_target
from tournament_sync.feed.trusted import TrustedFeed

# A publisher must be able to renew what expired. Everything else is refused to it as to any client.
_BEFORE_ALL_EXPIRY = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetimes:
    """How long what is signed now counts. The timestamp's is how long nobody notices that news are withheld."""

    root: timedelta = timedelta(days=365)
    targets: timedelta = timedelta(days=365)
    channel: timedelta = timedelta(days=120)
    snapshot: timedelta = timedelta(days=30)
    timestamp: timedelta = timedelta(days=7)

    def of(self, role: str) -> timedelta:
        """How long the metadata of `role` counts."""
        match role:
            case "root":
                return self.root
            case "targets":
                return self.targets
            case "snapshot":
                return self.snapshot
            case "timestamp":
                return self.timestamp
            case _:
                return self.channel


DEFAULT_LIFETIMES = Lifetimes()


@dataclass(frozen=True, slots=True, kw_only=True)
class Edition:
    """What a feed signs, role by role: as it is in `old`, and as it shall be in `parts`, which are changed."""

    feed: Path
    keys: KeyFolder
    now: datetime
    lifetimes: Lifetimes
    old: Mapping[str, Signed]
    parts: dict[str, Signed]
    changed: set[str] = field(default_factory=set)

    def root(self) -> Root:
        """The root, to be changed."""
        part = self.parts["root"]
        assert isinstance(part, Root)  # whoever made the edition saw to it, here and below
        self.changed.add("root")
        return part

    def targets(self, role: str) -> Targets:
        """The part of `targets` or of a channel's role, to be changed."""
        self.changed.add(role)
        return self.read(role)

    def read(self, role: str) -> Targets:
        """The part of `targets` or of a channel's role."""
        part = self.parts[role]
        assert isinstance(part, Targets)
        return part

    def publish(self) -> None:
        """Sign what was changed, a snapshot and a timestamp over it, and put all in place.

        Raises PublishError if a key is not at hand, before anything is written.
        """
        signers = {role: self._signers(role) for role in (*self.changed, "snapshot", "timestamp")}
        snapshot, timestamp = self.parts["snapshot"], self.parts["timestamp"]
        assert isinstance(snapshot, Snapshot) and isinstance(timestamp, Timestamp)
        for role in (*CHANNEL_ROLES, "targets"):
            if role in self.changed:
                data = self._sign(role, signers[role])
                version = self.parts[role].version
                write_file(self.feed / metadata_file(role, version), data)
                snapshot.meta[f"{role}.json"] = MetaFile.from_data(version, data, ["sha256"])
        data = self._sign("snapshot", signers["snapshot"])
        write_file(self.feed / metadata_file("snapshot", snapshot.version), data)
        timestamp.snapshot_meta = MetaFile.from_data(snapshot.version, data, ["sha256"])
        # From here on the feed is the new one ...
        write_file(self.feed / TIMESTAMP_FILE, self._sign("timestamp", signers["timestamp"]))
        # ... for clients that know the old root and, when it is there, for those that know the new one.
        if "root" in self.changed:
            data = self._sign("root", signers["root"])
            write_file(self.feed / metadata_file("root", self.parts["root"].version), data)

    def _sign(self, role: str, signers: Mapping[str, CryptoSigner]) -> bytes:
        part: Any = self.parts[role]  # python-tuf's type variable names the four kinds, not their base
        if role in self.old:
            part.version = self.old[role].version + 1
        part.expires = self.now + self.lifetimes.of(role)
        metadata = Metadata(part)
        for key_id in sorted(signers):
            metadata.sign(signers[key_id], append=True)
        return metadata.to_bytes(JSONSerializer(validate=True))

    def _signers(self, role: str) -> dict[str, CryptoSigner]:
        """By key id: the keys that the role has, and those that it had if a new root takes them away."""
        found = self.keys.signers(role, self._definition(role, self.parts))
        if role not in CHANNEL_ROLES and "root" in self.changed and self.old:
            before = self._definition(role, self.old)
            try:
                found += self.keys.signers(role, before)
            except PublishError:
                # A lost online key: clients are without a feed for the moment between timestamp and root.
                if role == "root":
                    raise
        return {signer.public_key.keyid: signer for signer in found}

    @staticmethod
    def _definition(role: str, parts: Mapping[str, Signed]) -> Role:
        delegator = parts["targets"] if role in CHANNEL_ROLES else parts["root"]
        assert isinstance(delegator, Root | Targets)
        return delegator.get_delegated_role(role)


def open_edition(feed: Path, *, keys: KeyFolder, now: datetime, lifetimes: Lifetimes) -> Edition:
    """The feed as it is, verified from the first root in the folder of keys, whatever has expired.

    Raises PublishError for a feed that is not this publisher's or older than what it saw before.
    """
    try:
        trusted = TrustedFeed(
            FOLDER_URL,
            fetcher=DirectoryFetcher(feed),
            state=keys.state,
            root=keys.first_root.read_bytes(),
            reference_time=_BEFORE_ALL_EXPIRY,
        )
        parts: dict[str, Signed] = {
            channel.value: trusted.role(channel.value, holding=revocations_target(channel))
            for channel in Channel
        }
    except OSError as error:
        raise PublishError(f"{keys.first_root} cannot be read: {error}") from error
    except SourceUnavailableError as error:
        raise PublishError(f"{feed} is not the feed of these keys: {error}") from error
    parts |= {
        "root": trusted.root,
        "targets": trusted.targets,
        "snapshot": trusted.snapshot,
        "timestamp": trusted.timestamp,
    }
    return Edition(feed=feed, keys=keys, now=now, lifetimes=lifetimes, old=parts, parts=copy.deepcopy(parts))
