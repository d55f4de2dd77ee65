"""What every source of champions must do, for each driver; no source is trusted, so little is demanded."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.tournament_sync.conftest import MemoryKey
from tournament_sync.archive import ArchiveSource, write_archive
from tournament_sync.champion import Champion, Channel, ContractEpoch, ReleaseOffer
from tournament_sync.errors import RefusedError
from tournament_sync.fake import FakeSource
from tournament_sync.feed.client import FeedSource
from tournament_sync.feed.publisher import add_release, init_feed
from tournament_sync.git_objects import object_id
from tournament_sync.intake import verify_taken
from tournament_sync.release import ReleaseFacts, sign_release
from tournament_sync.source import Source
from tournament_sync.tree_files import hash_tree

FILES = {"NOTICE": b"notice\n", "scripts/train.py": b"raise SystemExit\n"}
NAMES = ("god-text-b", "god-text-a")
PUBLISHED_AT = datetime(2026, 11, 20, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """One commit with FILES, in quarantine, and its releases by name."""

    tree: str
    commit: str
    raw: bytes
    quarantine: Path
    releases: Mapping[str, bytes]


@pytest.fixture
def content(tmp_path: Path) -> Content:
    def name_of(kind: str, data: bytes) -> str:
        return hashlib.sha1(f"{kind} {len(data)}\0".encode() + data).hexdigest()

    train = bytes.fromhex(name_of("blob", FILES["scripts/train.py"]))
    scripts = bytes.fromhex(name_of("tree", b"100644 train.py\0" + train))
    notice = bytes.fromhex(name_of("blob", FILES["NOTICE"]))
    tree = name_of("tree", b"100644 NOTICE\0" + notice + b"40000 scripts\0" + scripts)
    author = "A <a@b.invalid> 0 +0000"
    raw = f"tree {tree}\nauthor {author}\ncommitter {author}\n\nmessage\n".encode()
    quarantine = tmp_path / "taken"
    for name, data in FILES.items():
        (quarantine / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (quarantine / "tree" / name).write_bytes(data)
    (quarantine / "commit").write_bytes(raw)
    return Content(
        tree=tree,
        commit=name_of("commit", raw),
        raw=raw,
        quarantine=quarantine,
        releases={name: release(quarantine, name) for name in NAMES},
    )


def release(quarantine: Path, name: str) -> bytes:
    facts = ReleaseFacts(name=name, channel=Channel.TEXT, contract_epoch=ContractEpoch.E4)
    taken = verify_taken(quarantine, origin="tree")
    return sign_release(taken, facts, signer=MemoryKey(), now=PUBLISHED_AT)


def make_fake(_tmp_path: Path, content: Content) -> Source:
    offers = tuple(ReleaseOffer(name=name, bundle=bundle) for name, bundle in content.releases.items())
    return FakeSource(offers, files={content.commit: FILES}, commits={content.commit: content.raw})


def make_archive(tmp_path: Path, content: Content) -> Source:
    """Has one release, whose own name is the one that is offered."""
    write_archive(content.quarantine, content.releases["god-text-a"], out=tmp_path / "x.tar")
    return ArchiveSource(tmp_path / "x.tar")


def make_feed(tmp_path: Path, content: Content) -> Source:
    """A TUF repository in a folder."""
    feed, keys = tmp_path / "feed", tmp_path / "keys"
    init_feed(feed, keys=keys, now=PUBLISHED_AT)
    for bundle in content.releases.values():
        write_archive(content.quarantine, bundle, out=tmp_path / "x.tar")
        add_release(feed, keys=keys, archive=tmp_path / "x.tar", now=PUBLISHED_AT)
    root = (keys / "root.json").read_bytes()
    return FeedSource(feed, state=tmp_path / "state", root=root, clock=lambda: PUBLISHED_AT)


@pytest.fixture(params=[make_fake, make_archive, make_feed], ids=["fake", "archive", "feed"])
def source(request: pytest.FixtureRequest, tmp_path: Path, content: Content) -> Source:
    make: Callable[[Path, Content], Source] = request.param
    return make(tmp_path, content)


@pytest.fixture
def into(tmp_path: Path) -> Path:
    folder = tmp_path / "into"
    folder.mkdir()
    return folder


def champion(commit: str) -> Champion:
    return Champion(
        name="god-text-a",
        channel=Channel.TEXT,
        commit=commit,
        tree="b" * 40,
        contract_epoch=ContractEpoch.E4,
        manifest_root="c" * 64,
        origin="tree",
        licence_sha256="d" * 64,
        notice_sha256="e" * 64,
        links=(),
        images=(),
        tournament=None,
        published_at=PUBLISHED_AT,
        publisher="f" * 64,
        bundle=b"",
    )


def offered(source: Source, content: Content) -> Champion:
    """The champion as the source offers it, opened by somebody who trusts its bundle."""
    bundle = next(offer.bundle for offer in source.offers() if offer.name == "god-text-a")
    return replace(champion(content.commit), bundle=bundle)


def test_offers_are_sorted_by_name(source: Source) -> None:
    names = [offer.name for offer in source.offers()]
    assert names == sorted(names)
    assert set(names) in ({"god-text-a"}, set(NAMES))


def test_bundles_come_verbatim(source: Source, content: Content) -> None:
    offers = source.offers()
    assert {offer.name: offer.bundle for offer in offers} == {
        offer.name: content.releases[offer.name] for offer in offers
    }


def test_offering_twice_gives_the_same(source: Source) -> None:
    assert source.offers() == source.offers()


def test_fetch_writes_the_files_of_the_commit(source: Source, content: Content, into: Path) -> None:
    source.fetch(offered(source, content), into)
    written = {path.relative_to(into).as_posix(): path for path in into.rglob("*") if path.is_file()}
    assert {name: path.read_bytes() for name, path in written.items()} == FILES


def test_fetched_files_have_the_tree_of_the_commit(source: Source, content: Content, into: Path) -> None:
    source.fetch(offered(source, content), into)
    assert hash_tree(into).tree == content.tree


def test_fetch_returns_the_raw_commit_object(source: Source, content: Content, into: Path) -> None:
    assert object_id("commit", source.fetch(offered(source, content), into)) == content.commit


def test_fetching_an_absent_commit_is_refused(source: Source, into: Path) -> None:
    with pytest.raises(RefusedError):
        source.fetch(champion("a" * 40), into)
