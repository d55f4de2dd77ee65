"""A publisher's feed and its keys, archives to put into it, and clients of it; nothing looks at the real clock."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.tournament_sync.conftest import MemoryKey
from tournament_sync.archive import write_archive
from tournament_sync.champion import Channel, ContractEpoch
from tournament_sync.feed.client import FeedSource
from tournament_sync.feed.publisher import add_release, init_feed
from tournament_sync.intake import take_tree
from tournament_sync.release import ReleaseFacts, sign_release

NAME = "god-text-a"


@dataclass
class Site:
    folder: Path
    publisher: MemoryKey
    now: datetime

    @property
    def feed(self) -> Path:
        return self.folder / "feed"

    @property
    def keys(self) -> Path:
        return self.folder / "keys"

    @property
    def root(self) -> bytes:
        return (self.keys / "root.json").read_bytes()

    def init(self, **options: Any) -> "Site":
        init_feed(self.feed, keys=self.keys, now=self.now, **options)
        return self

    def archive(
        self,
        name: str = NAME,
        *,
        channel: Channel = Channel.TEXT,
        files: Mapping[str, str] | None = None,
        signed: str | None = None,
    ) -> Path:
        """`signed`: the name of another archive, whose release this one carries."""
        tree, taken = self.folder / f"tree-{name}", self.folder / f"taken-{name}"
        for file, text in (files or {"train.py": f"print({name!r})\n"}).items():
            (tree / file).parent.mkdir(parents=True, exist_ok=True)
            (tree / file).write_text(text)
        if signed is None:
            facts = ReleaseFacts(name=name, channel=channel, contract_epoch=ContractEpoch.E4)
            release = sign_release(take_tree(tree, into=taken), facts, signer=self.publisher, now=self.now)
        else:
            take_tree(tree, into=taken)
            release = (self.folder / f"{signed}.release").read_bytes()
        (self.folder / f"{name}.release").write_bytes(release)
        write_archive(taken, release, out=self.folder / f"{name}.tar")
        return self.folder / f"{name}.tar"

    def add(self, name: str = NAME, **options: Any) -> str:
        return self.publish(self.archive(name, **options))

    def publish(self, archive: Path, **options: Any) -> str:
        return add_release(self.feed, keys=self.keys, archive=archive, **{"now": self.now, **options})

    def source(
        self, location: str | Path | None = None, *, state: str = "client", **options: Any
    ) -> FeedSource:
        root = options.pop("root", None) or self.root
        given = {"clock": lambda: self.now, **options}
        return FeedSource(location or self.feed, state=self.folder / state, root=root, **given)

    def names(self, location: str | Path | None = None, *, state: str = "client") -> list[str]:
        return [offer.name for offer in self.source(location, state=state).offers()]
