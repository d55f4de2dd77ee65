"""What every store of folders must do. There is one driver: no test needs a fake, a folder is quick enough."""

import errno
import os
from collections.abc import Callable
from fcntl import LOCK_EX, flock
from multiprocessing import get_context
from pathlib import Path

import pytest

from appliance.artifacts import FolderStore
from appliance.errors import ArtifactError, HomeError
from appliance.ports import Store
from attestation.files import hash_folder


@pytest.fixture(params=[FolderStore], ids=["folder"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    make: Callable[[Path], Store] = request.param
    return make(tmp_path / "store")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_bytes(b"alpha")
    (folder / "sub" / "b.txt").write_bytes(b"beta")
    return folder


def test_a_folder_is_named_by_its_content(store: Store, source: Path) -> None:
    manifest = store.put(source)
    assert manifest == hash_folder(source)
    assert store.manifest(manifest.root_sha256) == manifest


def test_what_was_put_comes_back(store: Store, source: Path) -> None:
    folder = store.path(store.put(source).root_sha256)
    assert (folder / "sub" / "b.txt").read_bytes() == b"beta"
    assert hash_folder(folder) == hash_folder(source)


def test_putting_twice_is_putting_once(store: Store, source: Path) -> None:
    assert store.put(source) == store.put(source)


def test_what_is_stored_does_not_follow_its_source(store: Store, source: Path) -> None:
    root = store.put(source).root_sha256
    (source / "a.txt").write_bytes(b"changed")
    store.verify(root)
    assert store.put(source).root_sha256 != root


def test_other_content_has_another_name(store: Store, source: Path) -> None:
    first = store.put(source).root_sha256
    (source / "a.txt").rename(source / "z.txt")
    (source / "sub" / "b.txt").write_bytes(b"gamma")
    second = store.put(source).root_sha256
    assert first != second
    for root in (first, second):
        store.verify(root)


@pytest.mark.parametrize("root", ["0" * 64, "A" * 64, "", "..", "../../etc", "0" * 63])
def test_what_is_not_there_is_an_error_of_the_store(store: Store, root: str) -> None:
    for ask in (store.path, store.manifest, store.verify):
        with pytest.raises(ArtifactError):
            ask(root)


@pytest.mark.parametrize("damage", ["changed", "added", "removed", "link"])
def test_every_change_is_found_by_name(store: Store, source: Path, damage: str) -> None:
    root = store.put(source).root_sha256
    file = store.path(root) / "sub" / "b.txt"
    file.chmod(0o644)
    match damage:
        case "changed":
            file.write_bytes(b"BETA")
        case "added":
            file.with_name("c.txt").write_bytes(b"")
        case "removed":
            file.unlink()
        case "link":
            file.unlink()
            file.symlink_to(source / "sub" / "b.txt")
    with pytest.raises(ArtifactError, match="sub/"):
        store.verify(root)


@pytest.mark.parametrize("kind", ["file-link", "folder-link", "pipe", "name"])
def test_what_is_no_plain_file_is_refused_whole(store: Store, source: Path, kind: str) -> None:
    match kind:
        case "file-link":
            (source / "x").symlink_to("a.txt")
        case "folder-link":
            (source / "x").symlink_to("sub")
        case "pipe":
            os.mkfifo(source / "x")
        case "name":
            (source / "x\ny").write_bytes(b"")
    with pytest.raises(ArtifactError):
        store.put(source)


def test_a_folder_that_is_not_there_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="wanted a folder"):
        store.put(tmp_path / "nothing")


def test_many_at_once_take_the_same_folder(tmp_path: Path, source: Path) -> None:
    """Of the driver on disk: the worker and a command line may put at the same time."""
    with get_context("fork").Pool(4) as pool:
        roots = pool.starmap(_put, [(tmp_path / "store", source)] * 12)
    assert set(roots) == {hash_folder(source).root_sha256}
    assert [path.name for path in (tmp_path / "store").iterdir()] == [roots[0]]


def _put(root: Path, source: Path) -> str:
    return FolderStore(root).put(source).root_sha256


def test_what_an_interrupted_put_left_is_removed_by_the_next(tmp_path: Path, source: Path) -> None:
    """Of the driver on disk."""
    left = tmp_path / "store" / ".taking-killed" / "files"
    left.mkdir(parents=True)
    (left / "half.safetensors").write_bytes(b"half")
    store = FolderStore(tmp_path / "store")
    root = store.put(source).root_sha256
    assert [path.name for path in (tmp_path / "store").iterdir()] == [root]


def test_what_another_put_is_taking_is_left_alone(tmp_path: Path, source: Path) -> None:
    """Of the driver on disk: whoever fills a folder holds its lock."""
    store = FolderStore(tmp_path / "store")
    taking = tmp_path / "store" / ".taking-now"
    taking.mkdir()
    lock = os.open(taking, os.O_RDONLY)
    try:
        flock(lock, LOCK_EX)
        store.put(source)
        assert taking.is_dir()
    finally:
        os.close(lock)
    store.put(source)
    assert not taking.exists()


def test_a_full_disk_is_the_operators_and_no_fault_of_the_folder(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FolderStore(tmp_path / "store")

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(HomeError, match="No space left on device; nothing was taken"):
        store.put(source)
    assert list((tmp_path / "store").iterdir()) == []
