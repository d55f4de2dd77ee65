"""Carries a feed away: a complete copy in a folder, such as a stick, verified there as its reader will verify it."""

import tempfile
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tuf.api.exceptions import LengthOrHashMismatchError
from tuf.api.metadata import TargetFile

from tournament_sync.archive import MAX_ARCHIVE_BYTES
from tournament_sync.champion import Channel
from tournament_sync.errors import PublishError, SourceUnavailableError
from tournament_sync.feed.fetcher import FOLDER_URL, DirectoryFetcher
from tournament_sync.feed.files import copy_file, put_file
from tournament_sync.feed.layout import (
    METADATA_FOLDER,
    TARGETS_FOLDER,
    TIMESTAMP_FILE,
    metadata_file,
    revocations_target,
    target_file,
)
from tournament_sync.feed.trusted import TrustedFeed


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A copy of a feed. After `expires_at` no client takes it any more."""

    files: int
    size_bytes: int
    expires_at: datetime


def export_feed(feed: Path, into: Path, *, now: datetime | None = None) -> Exported:
    """Copy what is current of `feed` to `into`: an empty or new folder, or an older copy, which is renewed.

    The same feed gives the same files, and `into` has no others. A renewal that a crash cut short leaves the
    older copy or, where keys were rotated since, one that is refused: repeat it. Raises PublishError, also for
    a feed that expired: refresh it first.
    """
    if into.exists() and any(into.iterdir()) and not (into / TIMESTAMP_FILE).is_file():
        raise PublishError(f"{into} is neither empty nor a copy of a feed")
    now = now or datetime.now(UTC)
    try:
        with _opened(feed, now=now) as trusted:
            wanted = _targets(trusted)
            files = [*wanted, *_metadata(trusted)]
            size_bytes = 0
            for name in files:
                part = into / METADATA_FOLDER / ".export.part"
                copied = copy_file(feed / name, part, max_bytes=MAX_ARCHIVE_BYTES)
                (into / name).parent.mkdir(parents=True, exist_ok=True)
                put_file(part, into / name)
                size_bytes += copied.size_bytes
        _remove_others(into, set(files))
        with _opened(into, now=now) as copy:
            _check_targets(into, _targets(copy))
            return Exported(files=len(files), size_bytes=size_bytes, expires_at=copy.expires_at)
    except SourceUnavailableError as error:
        raise PublishError(f"{feed} cannot be copied: {error}") from error
    except OSError as error:
        raise PublishError(f"{feed} cannot be copied to {into}: {error}") from error


@contextmanager
def _opened(feed: Path, *, now: datetime) -> Iterator[TrustedFeed]:
    """The feed as a client sees it that was given its first root, which is trusted here as it lies there."""
    with tempfile.TemporaryDirectory(prefix="assay-feed-") as state:
        yield TrustedFeed(
            FOLDER_URL,
            fetcher=DirectoryFetcher(feed),
            state=Path(state),
            root=(feed / metadata_file("root", 1)).read_bytes(),
            reference_time=now,
        )


def _targets(trusted: TrustedFeed) -> dict[str, TargetFile]:
    """Every target, by where its bytes lie."""
    found = {}
    for channel in Channel:
        role = trusted.role(channel.value, holding=revocations_target(channel))
        for path, target in role.targets.items():
            found[target_file(path, target.hashes["sha256"])] = target
    return found


def _metadata(trusted: TrustedFeed) -> list[str]:
    """Where the signed parts lie, in the order in which a publisher puts them in place."""
    listed = [
        metadata_file(name.removesuffix(".json"), meta.version)
        for name, meta in sorted(trusted.snapshot.meta.items())
    ]
    roots = [metadata_file("root", 1 + index) for index in range(trusted.root.version)]
    return [*listed, metadata_file("snapshot", trusted.snapshot.version), TIMESTAMP_FILE, *roots]


def _remove_others(into: Path, files: AbstractSet[str]) -> None:
    """What an older copy had, or a crash left."""
    for folder in (METADATA_FOLDER, TARGETS_FOLDER):
        for path in (into / folder).rglob("*"):
            if not path.is_dir() and path.relative_to(into).as_posix() not in files:
                path.unlink()


def _check_targets(copy: Path, targets: Mapping[str, TargetFile]) -> None:
    for name, target in targets.items():
        with (copy / name).open("rb") as file:
            try:
                target.verify_length_and_hashes(file)
            except LengthOrHashMismatchError as error:
                raise PublishError(f"{name} in the copy is not what the feed signed: {error}") from error
