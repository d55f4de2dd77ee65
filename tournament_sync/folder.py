"""A source that is a folder: the signed feed that travels to sites without a network.

Layout: `releases/<name>/release.sigstore.json`, `repositories/<name>.git` (bare).
"""

import os
from pathlib import Path

from tournament_sync.champion import Champion, ReleaseOffer, is_champion_name
from tournament_sync.errors import SourceUnavailableError, TreeError
from tournament_sync.git_export import export_commit

MAX_OFFERS = 10_000
MAX_BUNDLE_BYTES = 64 << 10  # a release has 2 KB
RELEASE_FILE = "release.sigstore.json"


def release_path(feed: Path, name: str) -> Path:
    """Where the feed has the release of that name."""
    return feed / "releases" / name / RELEASE_FILE


def repository_path(feed: Path, name: str) -> Path:
    """Where the feed has the repository of that name."""
    return feed / "repositories" / f"{name}.git"


class FolderSource:
    """Reads a feed; never writes to it."""

    def __init__(self, feed: Path) -> None:
        self._feed = feed

    def offers(self) -> tuple[ReleaseOffer, ...]:
        """See Source. A folder without a release file is skipped: it is still being copied."""
        releases = self._feed / "releases"
        if not releases.is_dir():
            raise SourceUnavailableError(f"{self._feed} is no feed: it has no folder 'releases'")
        names = sorted(path.name for path in releases.iterdir() if os.path.lexists(path / RELEASE_FILE))
        if len(names) > MAX_OFFERS:
            raise SourceUnavailableError(f"{len(names)} releases are over the limit of {MAX_OFFERS}")
        # A name that is not UTF-8 is no champion's, but has to be told in a report.
        return tuple(
            ReleaseOffer(name=name.encode(errors="backslashreplace").decode(), bundle=self._bundle(name))
            for name in names
        )

    def fetch(self, champion: Champion, into: Path) -> bytes:
        """See Source."""
        repository = repository_path(self._feed, champion.name)
        if not repository.is_dir():
            raise TreeError(f"the feed has a release but no repository of {champion.name}")
        return export_commit(repository, champion.commit, into=into).raw_commit

    def _bundle(self, name: str) -> bytes:
        path = release_path(self._feed, name)
        if not is_champion_name(name) or path.parent.is_symlink() or path.is_symlink() or not path.is_file():
            return b""  # offered, so that the pass refuses it by name instead of passing over it
        with path.open("rb") as file:
            # One byte more than allowed is enough for the parser to refuse it.
            return file.read(MAX_BUNDLE_BYTES + 1)
