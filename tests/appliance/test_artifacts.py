"""The store takes plain folders whole or not at all, and notices every change."""

import os
from pathlib import Path

import pytest

from appliance.artifacts import FolderStore
from appliance.errors import ArtifactError


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_bytes(b"alpha")
    (folder / "sub" / "b.txt").write_bytes(b"beta")
    return folder


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


def test_gives_back_what_was_put(store: FolderStore, source: Path) -> None:
    root = store.put(source).root_sha256
    assert (store.path(root) / "sub" / "b.txt").read_bytes() == b"beta"
    assert [f.name for f in store.manifest(root).files] == ["a.txt", "sub/b.txt"]
    store.verify(root)


def test_putting_twice_is_putting_once(store: FolderStore, source: Path, tmp_path: Path) -> None:
    assert store.put(source) == store.put(source)
    assert len(list((tmp_path / "store").iterdir())) == 1


def test_stored_files_are_read_only(store: FolderStore, source: Path) -> None:
    stored = store.path(store.put(source).root_sha256) / "a.txt"
    assert stored.stat().st_mode & 0o777 == 0o444


def test_verify_names_the_changed_file(store: FolderStore, source: Path) -> None:
    root = store.put(source).root_sha256
    changed = store.path(root) / "sub" / "b.txt"
    changed.chmod(0o644)
    changed.write_bytes(b"evil")
    with pytest.raises(ArtifactError, match=r"sub/b\.txt"):
        store.verify(root)


def test_verify_names_an_added_file(store: FolderStore, source: Path) -> None:
    root = store.put(source).root_sha256
    (store.path(root) / "extra.py").write_bytes(b"import os")
    with pytest.raises(ArtifactError, match=r"extra\.py"):
        store.verify(root)


def test_verify_finds_a_swapped_manifest(store: FolderStore, source: Path) -> None:
    root = store.put(source).root_sha256
    manifest = store.path(root).parent / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b"a.txt", b"c.txt").replace(b"5}", b"6}"))
    with pytest.raises(ArtifactError):
        store.verify(root)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_refuses_links_by_name(store: FolderStore, source: Path, kind: str) -> None:
    (source / "link").symlink_to("/etc/passwd" if kind == "file" else "/etc")
    with pytest.raises(ArtifactError, match="link: is a link"):
        store.put(source)


def test_refuses_special_files(store: FolderStore, source: Path) -> None:
    os.mkfifo(source / "pipe")
    with pytest.raises(ArtifactError, match="pipe: is not a regular file"):
        store.put(source)


def test_a_refused_folder_leaves_nothing_behind(store: FolderStore, source: Path, tmp_path: Path) -> None:
    os.mkfifo(source / "pipe")
    with pytest.raises(ArtifactError):
        store.put(source)
    assert list((tmp_path / "store").iterdir()) == []


def test_refuses_what_is_no_digest(store: FolderStore) -> None:
    with pytest.raises(ArtifactError, match="not a SHA-256"):
        store.path("../../etc")


def test_says_when_there_is_no_such_artifact(store: FolderStore) -> None:
    with pytest.raises(ArtifactError, match="no artifact"):
        store.manifest("0" * 64)


def test_the_same_contents_under_other_names_are_not_the_same_folder(
    store: FolderStore, source: Path, tmp_path: Path
) -> None:
    first = store.put(source)
    (source / "sub" / "b.txt").rename(source / "sub" / "c.txt")
    with pytest.raises(ArtifactError, match=r"has the contents of sha256:.* but sub/c\.txt for sub/b\.txt"):
        store.put(source)
    assert store.manifest(first.root_sha256) == first
    assert len(list((tmp_path / "store").iterdir())) == 1
