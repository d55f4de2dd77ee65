"""What every source of champions must do, for each driver; no source is trusted, so little is demanded."""

import hashlib
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tournament_sync.champion import Champion, Channel, ContractEpoch, ReleaseOffer
from tournament_sync.errors import RefusedError
from tournament_sync.fake import FakeSource
from tournament_sync.folder import FolderSource
from tournament_sync.git_objects import folder_tree_id, object_id
from tournament_sync.source import Source

FILES = {"NOTICE": b"notice\n", "scripts/train.py": b"raise SystemExit\n"}
NAMES = ("god-text-b", "god-text-a")


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


@pytest.fixture(params=[make_folder, make_fake], ids=["folder", "fake"])
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
        licence_sha256="d" * 64,
        notice_sha256="e" * 64,
        published_at=datetime(2026, 11, 20, tzinfo=UTC),
        publisher="f" * 64,
        bundle=b"",
    )


def test_offers_are_sorted_by_name(source: Source) -> None:
    assert [offer.name for offer in source.offers()] == sorted(NAMES)


def test_bundles_come_verbatim(source: Source) -> None:
    assert source.offers()[0].bundle == b"bundle of god-text-a"


def test_offering_twice_gives_the_same(source: Source) -> None:
    assert source.offers() == source.offers()


def test_fetch_writes_the_files_of_the_commit(source: Source, content: Content, into: Path) -> None:
    source.fetch(champion(content.commit), into)
    written = {path.relative_to(into).as_posix(): path for path in into.rglob("*") if path.is_file()}
    assert {name: path.read_bytes() for name, path in written.items()} == FILES


def test_fetched_files_have_the_tree_of_the_commit(source: Source, content: Content, into: Path) -> None:
    source.fetch(champion(content.commit), into)
    assert folder_tree_id(into) == content.tree


def test_fetch_returns_the_raw_commit_object(source: Source, content: Content, into: Path) -> None:
    assert object_id("commit", source.fetch(champion(content.commit), into)) == content.commit


def test_fetching_an_absent_commit_is_refused(source: Source, into: Path) -> None:
    with pytest.raises(RefusedError):
        source.fetch(champion("a" * 40), into)
