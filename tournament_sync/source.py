"""The port behind which every place that champions come from stands."""

from pathlib import Path
from typing import Protocol

from tournament_sync.champion import Champion, ReleaseOffer


class Source(Protocol):
    """Lists releases and fetches their files. Untrusted: callers verify all that it hands over.

    Promised: what `fetch` writes is regular files and folders only, under the limits of
    tournament_sync.tree_files. Not promised: that the files are those of the release, that an offered
    release can be fetched, or that it is offered again.
    """

    def offers(self) -> tuple[ReleaseOffer, ...]:
        """All releases, sorted by name, not verified.

        Raises SourceUnavailableError if the source cannot be read.
        """

    def fetch(self, champion: Champion, into: Path) -> bytes:
        """Write the files of `champion.commit` into the empty folder `into`; the raw commit object.

        Files that git marks executable are executable, no others. Raises TreeError for a commit that is
        absent or holds what may not be taken, SourceUnavailableError.
        """
