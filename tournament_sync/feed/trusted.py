"""What a feed says, verified as the TUF specification says, and the state that remembers it.

Every answer was signed by the threshold of its role, down from the root that was given, is not older than
what was seen before, not expired, and belongs together. Each refusal names the rule that was broken.
Not covered: a feed whose root keys are stolen, and what is older than a state folder that was deleted.
"""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import cast

from tuf.api.exceptions import DownloadError, ExpiredMetadataError, RepositoryError, StorageError
from tuf.api.metadata import Metadata, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from attestation.digest import parse_sha256_hex
from attestation.errors import MalformedError
from attestation.times import format_time
from tournament_sync.errors import SourceUnavailableError
from tournament_sync.feed.layout import METADATA_FOLDER, TARGETS_FOLDER, metadata_file
from tournament_sync.feed.rules import broken_rule, is_unreachable

MAX_ROOT_ROTATIONS = 256
MAX_DELEGATIONS = 32  # roles that are asked for one target; a feed has three
MAX_ROOT_BYTES = 512_000
MAX_TIMESTAMP_BYTES = 16_384
MAX_SNAPSHOT_BYTES = 2_000_000
MAX_TARGETS_BYTES = 32 << 20  # some 10,000 champions with their bundles
_LIMITS = UpdaterConfig(
    max_root_rotations=MAX_ROOT_ROTATIONS,
    max_delegations=MAX_DELEGATIONS,
    root_max_length=MAX_ROOT_BYTES,
    timestamp_max_length=MAX_TIMESTAMP_BYTES,
    snapshot_max_length=MAX_SNAPSHOT_BYTES,
    targets_max_length=MAX_TARGETS_BYTES,
)


def open_updater(
    metadata_url: str, targets_url: str | None, *, fetcher: FetcherInterface, state: Path, root: bytes | None
) -> Updater:
    """python-tuf's client under our limits. `state` remembers what was trusted; without `root` it is trusted itself.

    Raises python-tuf's errors.
    """
    return Updater(
        str(state),
        metadata_url,
        target_base_url=targets_url,
        fetcher=fetcher,
        config=_LIMITS,
        bootstrap=root,
    )


class TrustedFeed:
    """One look at a feed: what it said when it was opened, until a later look."""

    def __init__(
        self, base_url: str, *, fetcher: FetcherInterface, state: Path, root: bytes, reference_time: datetime
    ) -> None:
        """Read and verify the feed below `base_url`. What expired at `reference_time` or before is refused.

        Raises SourceUnavailableError. `state` then holds what it held, or something newer that was verified.
        """
        self._base_url, self._fetcher, self._reference_time = base_url, fetcher, reference_time
        try:
            state.mkdir(parents=True, exist_ok=True, mode=0o700)
            _remove_unfinished(state)
            before = _listed_before(state)
            self._updater = open_updater(
                f"{base_url}{METADATA_FOLDER}/",
                f"{base_url}{TARGETS_FOLDER}/",
                fetcher=fetcher,
                state=state,
                root=root,
            )
        except OSError as error:
            raise SourceUnavailableError(f"state of the feed in {state} cannot be used: {error}") from error
        except (RepositoryError, ValueError) as error:
            raise SourceUnavailableError(f"the pinned root is no root of a feed: {error}") from error
        # python-tuf reads the clock at this moment and has no argument for it.
        self._trusted = self._updater._trusted_set
        self._trusted.reference_time = reference_time
        with self._refusals():
            self._updater.refresh()
        self.is_changed = before != _listed(self.snapshot)

    @property
    def root(self) -> Root:
        return self._trusted.root

    @property
    def timestamp(self) -> Timestamp:
        return self._trusted.timestamp

    @property
    def snapshot(self) -> Snapshot:
        return self._trusted.snapshot

    @property
    def targets(self) -> Targets:
        return self._trusted.targets

    @property
    def expires_at(self) -> datetime:
        """When the first of the parts that were looked at expires, and the feed with it."""
        return min(part.expires for part in self._trusted)

    def role(self, name: str, *, holding: str) -> Targets:
        """What the delegated role `name` signed, found by looking for its target `holding`."""
        delegated = self.targets.delegations.roles if self.targets.delegations else None
        if delegated is None or name not in delegated:
            raise SourceUnavailableError(f"the feed delegates nothing to a role {name!r} (rule: delegation)")
        self.target(holding)
        if not self._trusted.contains(name, Targets.type):
            raise SourceUnavailableError(f"role {name!r} may not sign {holding!r} (rule: delegation)")
        role = cast(Targets, self._trusted[name])
        for path, target in role.targets.items():
            _check_digest(target)
            if not delegated[name].is_delegated_path(path):
                raise SourceUnavailableError(
                    f"role {name!r} lists {path[:200]!r}, which is outside its paths {delegated[name].paths}"
                    " (rule: delegation)"
                )
        return role

    def target(self, path: str) -> TargetFile | None:
        """The target of that path, by the role that may sign it. None if there is none."""
        with self._refusals():
            target = self._updater.get_targetinfo(path)
        if target is not None:
            _check_digest(target)
        return target

    def download(self, target: TargetFile, into: Path) -> None:
        """Write the target's bytes, verified, to `into`; left alone if it has them. Raises python-tuf's errors."""
        if self._updater.find_cached_target(target, str(into)) is None:
            self._updater.download_target(target, str(into))

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except ExpiredMetadataError as error:
            raise SourceUnavailableError(
                f"{self._expired(str(error))} (rule: freeze: nothing that expired is current): import a fresh"
                " copy of the feed, or break the glass with a logged time of reference"
            ) from error
        # ValueError: python-tuf checks some parts of what it reads only when it uses them.
        except (RepositoryError, DownloadError, ValueError) as error:
            verb = "cannot be reached" if is_unreachable(error) else "is refused"
            raise SourceUnavailableError(f"the feed {verb}: {broken_rule(error)}") from error
        except OSError as error:
            raise SourceUnavailableError(f"the feed cannot be read: {error}") from error

    def _expired(self, message: str) -> str:
        """Which role expired, and when."""
        for role in (Root.type, Timestamp.type, Snapshot.type):
            signed = self._trusted.get(role)
            if signed is not None and signed.is_expired(self._reference_time):
                return f"{role} of the feed expired at {format_time(signed.expires)}"
        role = message.removeprefix("New ").removesuffix(" is expired")
        return f"{role} of the feed expired{self._since(role)}"

    def _since(self, role: str) -> str:
        """When the expired targets role, which python-tuf has verified and dropped, expired; "" if unknown."""
        try:
            url = f"{self._base_url}{metadata_file(role, self.snapshot.meta[f'{role}.json'].version)}"
            data = self._fetcher.download_bytes(url, MAX_TARGETS_BYTES)
            return f" at {format_time(Metadata.from_bytes(data).signed.expires)}"
        except (KeyError, DownloadError, RepositoryError):
            return ""


def _remove_unfinished(state: Path) -> None:
    """What python-tuf was writing when it was killed; all that it has finished is named `….json`."""
    for path in state.glob(f"{tempfile.gettempprefix()}*"):
        if not path.suffix:
            path.unlink(missing_ok=True)


def _check_digest(target: TargetFile) -> None:
    """The digest is part of the name under which a target is fetched, and the one by which it is checked."""
    try:
        parse_sha256_hex(target.hashes.get("sha256"))
    except MalformedError as error:
        raise SourceUnavailableError(f"{target.path[:200]!r}: {error} (rule: form)") from error
    if len(target.hashes) != 1:
        raise SourceUnavailableError(f"{target.path[:200]!r} has other digests than SHA-256 (rule: form)")


def _listed(snapshot: Snapshot) -> Mapping[str, int]:
    return {name: meta.version for name, meta in snapshot.meta.items()}


def _listed_before(state: Path) -> Mapping[str, int] | None:
    """What the last look listed, only to tell whether anything is new."""
    try:
        return _listed(Metadata[Snapshot].from_file(str(state / "snapshot.json")).signed)
    except (OSError, StorageError, RepositoryError, AttributeError):
        return None
