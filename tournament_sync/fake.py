"""A source in memory, for tests of whatever stands on the port."""

from collections.abc import Mapping
from pathlib import Path

from tournament_sync.champion import Champion, ReleaseOffer
from tournament_sync.errors import TreeError


class FakeSource:
    """Offers given releases and hands out given files. `fetched` records what was asked for."""

    def __init__(
        self,
        offers: tuple[ReleaseOffer, ...],
        *,
        files: Mapping[str, Mapping[str, bytes]],
        commits: Mapping[str, bytes],
    ) -> None:
        """`files` and `commits` (raw commit objects) are by commit id."""
        self._offers = offers
        self._files = files
        self._commits = commits
        self.fetched: list[str] = []

    def offers(self) -> tuple[ReleaseOffer, ...]:
        """See Source."""
        return tuple(sorted(self._offers, key=lambda offer: offer.name))

    def fetch(self, champion: Champion, into: Path) -> bytes:
        """See Source. No file is executable."""
        self.fetched.append(champion.name)
        if champion.commit not in self._commits:
            raise TreeError(f"{champion.commit} is not a commit")
        for name, data in self._files[champion.commit].items():
            path = into / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            path.chmod(0o444)
        return self._commits[champion.commit]
