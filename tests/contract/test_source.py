"""What every source of champions must do, for each driver; no source is trusted, so little is demanded."""

import hashlib
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from attestation.bundle import sign_statement
from tests.tournament_sync.conftest import MemoryKey
from tournament_sync.archive import ArchiveSource, write_archive
from tournament_sync.champion import Champion, Channel, ContractEpoch, ReleaseOffer
from tournament_sync.errors import RefusedError
from tournament_sync.fake import FakeSource
from tournament_sync.feed.client import FeedSource
from tournament_sync.feed.publisher import add_release, init_feed
from tournament_sync.folder import FolderSource
from tournament_sync.git_objects import object_id
from tournament_sync.intake import verify_taken
from tournament_sync.release import ReleaseFacts, release_statement
from tournament_sync.source import Source
from tournament_sync.tree_files import hash_tree

FILES = {"NOTICE": b"notice\n", "scripts/train.py": b"raise SystemExit\n"}
NAMES = ("god-text-b", "god-text-a")
PUBLISHED_AT = datetime(2026, 11, 20, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Content:
    """One commit with FILES, as git objects by id."""

    objects: dict[str, bytes]
    tree: str
    commit: str
    raw: bytes


@pytest.fixture
def content() -> Content:
    objects: dict[str, bytes] = {}

    def write(kind: str, data: bytes) -> str:
        framed = f"{kind} {len(data)}\0".encode() + data
        name = hashlib.sha1(framed).hexdigest()
        objects[name] = framed
        return name

    train = bytes.fromhex(write("blob", FILES["scripts/train.py"]))
    scripts = bytes.fromhex(write("tree", b"100644 train.py\0" + train))
    notice = bytes.fromhex(write("blob", FILES["NOTICE"]))
    tree = write("tree", b"100644 NOTICE\0" + notice + b"40000 scripts\0" + scripts)
    author = "A <a@b.invalid> 0 +0000"
    raw = f"tree {tree}\nauthor {author}\ncommitter {author}\n\nmessage\n".encode()
    return Content(objects=objects, tree=tree, commit=write("commit", raw), raw=raw)


def make_folder(tmp_path: Path, content: Content) -> Source:
    for name in NAMES:
        (tmp_path / "releases" / name).mkdir(parents=True)
        (tmp_path / "releases" / name / "release.sigstore.json").write_bytes(b"bundle of " + name.encode())
        for oid, framed in content.objects.items():
            path = tmp_path / "repositories" / f"{name}.git" / "objects" / oid[:2] / oid[2:]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(zlib.compress(framed))
    return FolderSource(tmp_path)


def make_fake(_tmp_path: Path, content: Content) -> Source:
    offers = tuple(ReleaseOffer(name=name, bundle=b"bundle of " + name.encode()) for name in NAMES)
    return FakeSource(offers, files={content.commit: FILES}, commits={content.commit: content.raw})


def make_archive(tmp_path: Path, content: Content) -> Source:
    """Has one release, whose own name is the one that is offered."""
    quarantine = tmp_path / "taken"
    for name, data in FILES.items():
        (quarantine / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (quarantine / "tree" / name).write_bytes(data)
    (quarantine / "commit").write_bytes(content.raw)
    facts = ReleaseFacts(name="god-text-a", channel=Channel.TEXT, contract_epoch=ContractEpoch.E4)
    statement = release_statement(verify_taken(quarantine, origin="tree"), facts, now=PUBLISHED_AT)
    write_archive(quarantine, sign_statement(statement, MemoryKey()), out=tmp_path / "x.tar")
    return ArchiveSource(tmp_path / "x.tar")


def make_feed(tmp_path: Path, content: Content) -> Source:
    """A TUF repository in a folder, with the archive of `make_archive` as its one target."""
    make_archive(tmp_path, content)
    feed, keys = tmp_path / "feed", tmp_path / "keys"
    init_feed(feed, keys=keys, now=PUBLISHED_AT)
    add_release(feed, keys=keys, archive=tmp_path / "x.tar", now=PUBLISHED_AT)
    root = (keys / "root.json").read_bytes()
    return FeedSource(feed, state=tmp_path / "state", root=root, clock=lambda: PUBLISHED_AT)


@pytest.fixture(
    params=[make_folder, make_fake, make_archive, make_feed], ids=["folder", "fake", "archive", "feed"]
)
def source(request: pytest.FixtureRequest, tmp_path: Path, content: Content) -> Source:
    make: Callable[[Path, Content], Source] = request.param
    return make(tmp_path / "feed", content)


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


@pytest.mark.parametrize("make", [make_folder, make_fake])
def test_bundles_come_verbatim(
    make: Callable[[Path, Content], Source], tmp_path: Path, content: Content
) -> None:
    assert make(tmp_path, content).offers()[0].bundle == b"bundle of god-text-a"


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
