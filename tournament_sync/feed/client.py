"""A source that is a signed feed: over HTTP(S), or in a folder such as a stick.

What is covered: an older, frozen, mixed, endless or changed feed, and keys that may not sign what they sign.
Not covered: withheld news within the lifetime of the last timestamp; and whose the champions are, which the
release bundles say (tournament_sync.champion).
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tuf.api.exceptions import (
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    LengthOrHashMismatchError,
    RepositoryError,
)
from tuf.api.metadata import TargetFile
from tuf.ngclient import FetcherInterface

from attestation.digest import sha256_hex
from tournament_sync.archive import MAX_ARCHIVE_BYTES, read_archive
from tournament_sync.champion import Champion, Channel, ReleaseOffer
from tournament_sync.errors import RefusedError, ReleaseError, SourceUnavailableError, TreeError
from tournament_sync.feed.custom import parse_custom
from tournament_sync.feed.fetcher import FOLDER_URL, DirectoryFetcher, HttpFetcher
from tournament_sync.feed.layout import archive_target, champion_name, revocations_target
from tournament_sync.feed.revocations import MAX_REVOCATIONS_BYTES, Revocation, parse_revocations
from tournament_sync.feed.rules import broken_rule
from tournament_sync.feed.trusted import TrustedFeed

MAX_OFFERS = 10_000
NOT_FOUND = 404
_FETCHING = "fetch-"


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedStatus:
    """How current a feed is. `expires_at`: when it is refused unless it was renewed. `changed`: whether it lists
    anything that it did not list at the look before this one, fresh dates aside."""

    root_version: int
    timestamp_version: int
    expires_at: datetime
    changed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class KeylessBundle:
    """A sigstore bundle over a champion's archive, to be verified by tournament_sync.feed.keyless."""

    bundle: bytes
    artifact_sha256: str


class FeedSource:
    """Reads one feed and remembers in one folder what it saw. One process at a time per folder.

    Every `offers` is a new look at the feed; the other answers are of the last look.
    """

    def __init__(
        self,
        location: str | Path,
        *,
        state: Path,
        root: bytes,
        break_glass_reference_time: datetime | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`location`: a URL or a folder. `root`: a root of the feed that the operator trusts, most often the first.

        `break_glass_reference_time` is a past moment to be taken for the present. It makes an expired feed count
        that was current then, and gives up what expiry is for: whoever brings the feed can then withhold
        everything since, revocations too, and nobody notices. Signatures and rollback are checked as ever.
        Callers log its use, with who and why.
        """
        self._state, self._root, self._clock = state, root, clock
        self._break_glass_reference_time = break_glass_reference_time
        self._base_url, self._fetcher = _reached(location)
        self._feed: TrustedFeed | None = None

    def offers(self) -> tuple[ReleaseOffer, ...]:
        """See Source. Also raises SourceUnavailableError for a feed that breaks a rule, and names the rule.

        A target whose custom metadata is malformed is offered with an empty bundle, to be refused by name.
        """
        self._feed = self._look()
        offers = [
            ReleaseOffer(name=name, bundle=_release_of(target))
            for channel in Channel
            for name, target in self._champions(channel)
        ]
        if len(offers) > MAX_OFFERS:
            raise SourceUnavailableError(f"{len(offers)} releases are over the limit of {MAX_OFFERS}")
        return tuple(sorted(offers, key=lambda offer: offer.name))

    def fetch(self, champion: Champion, into: Path) -> bytes:
        """See Source. Raises ReleaseError for an archive that is not the signed one."""
        path = archive_target(champion.channel, champion.name)
        target = self._last().target(path)
        if target is None:
            raise TreeError(f"the feed does not list {path}")
        with tempfile.TemporaryDirectory(prefix=_FETCHING, dir=self._state) as work:
            archive = Path(work) / "archive"
            self._download(target, archive, max_bytes=MAX_ARCHIVE_BYTES)
            content = read_archive(archive, into=into)
        if content.release != champion.bundle:
            raise ReleaseError(f"{path} holds another release than the feed lists for it")
        return content.raw_commit

    def keyless(self, champion: Champion) -> KeylessBundle | None:
        """The sigstore bundle that the feed lists for the champion's archive. Raises ReleaseError."""
        target = self._last().target(archive_target(champion.channel, champion.name))
        bundle = None if target is None else parse_custom(target.custom).keyless
        if target is None or bundle is None:
            return None
        return KeylessBundle(bundle=bundle, artifact_sha256=target.hashes["sha256"])

    def revocations(self) -> tuple[Revocation, ...]:
        """All revoked champions of the feed, by channel, in the order of their revocation."""
        return tuple(entry for channel in Channel for entry in self.revocations_of(channel))

    @property
    def root_sha256(self) -> str:
        """The digest of the root that was given: what makes it the same feed wherever it lies."""
        return sha256_hex(self._root)

    def revocations_of(self, channel: Channel) -> tuple[Revocation, ...]:
        """What the role of that channel lists as revoked, in that order; it may list what never was its own."""
        path = revocations_target(channel)
        target = self._last().target(path)
        if target is None:
            raise SourceUnavailableError(f"the feed lacks {path}: nobody could be told of a revocation")
        # Kept between looks, so that a list that has not changed is not fetched again.
        kept = self._state / f"{channel.value}.revocations.json"
        try:
            self._download(target, kept, max_bytes=MAX_REVOCATIONS_BYTES)
            return parse_revocations(kept.read_bytes())
        except (RefusedError, OSError) as error:
            raise SourceUnavailableError(f"{path}: {error}") from error

    def status(self) -> FeedStatus:
        """How current the feed is."""
        feed = self._last()
        return FeedStatus(
            root_version=feed.root.version,
            timestamp_version=feed.timestamp.version,
            expires_at=feed.expires_at,
            changed=feed.is_changed,
        )

    def close(self) -> None:
        """Close the connections, if there are any."""
        if isinstance(self._fetcher, HttpFetcher):
            self._fetcher.close()

    def _last(self) -> TrustedFeed:
        if self._feed is None:
            self._feed = self._look()
        return self._feed

    def _look(self) -> TrustedFeed:
        for unfinished in self._state.glob(f"{_FETCHING}*"):  # what a crash left, up to an archive each
            shutil.rmtree(unfinished, ignore_errors=True)
        return TrustedFeed(
            self._base_url,
            fetcher=self._fetcher,
            state=self._state / "metadata",
            root=self._root,
            reference_time=self._break_glass_reference_time or self._clock(),
        )

    def _champions(self, channel: Channel) -> Iterator[tuple[str, TargetFile]]:
        listed = revocations_target(channel)
        for path, target in self._last().role(channel.value, holding=listed).targets.items():
            name = champion_name(path, channel)
            if name is not None:
                yield name, target
            elif path != listed:
                raise SourceUnavailableError(
                    f"channel {channel.value} lists {path[:200]!r}, which is neither a champion's archive nor"
                    " its list of revocations"
                )

    def _download(self, target: TargetFile, into: Path, *, max_bytes: int) -> None:
        if target.length > max_bytes:
            raise ReleaseError(f"{target.path} of {target.length} bytes is over the limit of {max_bytes}")
        try:
            self._last().download(target, into)
        except DownloadHTTPError as error:
            if error.status_code == NOT_FOUND:
                raise TreeError(f"the feed lists {target.path} but does not have it") from error
            raise SourceUnavailableError(f"{target.path} cannot be fetched: {error}") from error
        except LengthOrHashMismatchError as error:
            raise ReleaseError(
                f"{target.path} is not what the feed signed: {error} (rule: target)"
            ) from error
        except DownloadLengthMismatchError as error:
            raise ReleaseError(f"{target.path} is refused: {broken_rule(error)}") from error
        except (DownloadError, RepositoryError, OSError) as error:
            raise SourceUnavailableError(f"{target.path} cannot be fetched: {broken_rule(error)}") from error


def _reached(location: str | Path) -> tuple[str, FetcherInterface]:
    """The URL below which the feed lies, and what reads it."""
    if isinstance(location, str) and location.startswith(("http://", "https://")):
        return location.rstrip("/") + "/", HttpFetcher()
    return FOLDER_URL, DirectoryFetcher(Path(location))


def _release_of(target: TargetFile) -> bytes:
    try:
        return parse_custom(target.custom).release
    except ReleaseError:
        return b""
