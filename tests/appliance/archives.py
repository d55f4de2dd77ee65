"""Champions' archives, made and signed here, and a source that offers them; the inspection is faked at its port."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from appliance.assembly import Appliance
from tests.appliance.world import PUBLISHER, REFERENCE, report_of
from tournament_sync.archive import ArchiveSource, write_archive
from tournament_sync.champion import Champion, Channel, ContractEpoch, ReleaseOffer
from tournament_sync.errors import SourceUnavailableError
from tournament_sync.feed.client import KeylessBundle
from tournament_sync.feed.revocations import Revocation
from tournament_sync.inspection.report import InspectionReport
from tournament_sync.intake import take_tree
from tournament_sync.release import ReleaseFacts, Taken, sign_release

FIRST, SECOND = "god-text-first", "god-text-second"


@dataclass(frozen=True, kw_only=True)
class Released:
    """An archive, and what is in it."""

    path: Path
    sha256: str
    taken: Taken
    name: str

    def revocation(self, at: datetime) -> Revocation:
        return Revocation(
            name=self.name,
            manifest_root=self.taken.manifest.root_sha256,
            tree=self.taken.tree,
            reason="it phones home",
            revoked_at=at,
        )


def release(
    appliance: Appliance,
    name: str = FIRST,
    *,
    of: str | None = None,
    signer: str = PUBLISHER,
    note: str = "note.txt",
) -> Released:
    """The reference champion with a line of its own, released as `name`; with the files of `of` if given."""
    folder = appliance.home.root.parent / f"released-{name}"
    tree = folder / "source"
    shutil.copytree(REFERENCE, tree, ignore=shutil.ignore_patterns("__pycache__"))
    (tree / note).write_text(f"{of or name}\n")
    taken = take_tree(tree, into=folder / "taken")
    facts = ReleaseFacts(name=name, channel=Channel.TEXT, contract_epoch=ContractEpoch.E4)
    key = appliance.home.person_signer(signer)
    bundle = sign_release(taken, facts, signer=key, now=appliance.clock.now())
    path = folder / f"{name}.champion.tar"
    return Released(
        path=path,
        sha256=write_archive(folder / "taken", bundle, out=path),
        taken=taken,
        name=name,
    )


@dataclass
class Stall:
    """A source that offers archives, revokes what it is told to, and counts how often it is asked for files."""

    released: tuple[Released, ...] = ()
    revoked: tuple[Revocation, ...] = ()
    revoked_in: Channel = Channel.TEXT
    root_sha256: str = "a" * 64
    keyless_bundles: dict[str, bytes] = field(default_factory=dict)
    is_dead: bool = False
    looks: int = 0
    fetched: list[str] = field(default_factory=list)

    def offers(self) -> tuple[ReleaseOffer, ...]:
        self.looks += 1
        if self.is_dead:
            raise SourceUnavailableError("no route to host")
        return tuple(offer for one in self.released for offer in ArchiveSource(one.path).offers())

    def fetch(self, champion: Champion, into: Path) -> bytes:
        self.fetched.append(champion.name)
        (one,) = (one for one in self.released if one.name == champion.name)
        return ArchiveSource(one.path).fetch(champion, into)

    def revocations_of(self, channel: Channel) -> tuple[Revocation, ...]:
        return self.revoked if channel is self.revoked_in else ()

    def keyless(self, champion: Champion) -> KeylessBundle | None:
        (one,) = (one for one in self.released if one.name == champion.name)
        bundle = self.keyless_bundles.get(one.name)
        return None if bundle is None else KeylessBundle(bundle=bundle, artifact_sha256=one.sha256)


def inspects(tree: Path, *, manifest_sha256: str) -> InspectionReport:
    """An inspection that finds nothing in what is there."""
    assert (tree / "note.txt").is_file()
    return report_of(manifest_sha256)


def failing(error: BaseException) -> Callable[..., InspectionReport]:
    """An inspection that ends so."""

    def inspect(tree: Path, *, manifest_sha256: str) -> InspectionReport:
        raise error

    return inspect
