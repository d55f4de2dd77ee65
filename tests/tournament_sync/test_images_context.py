"""podman builds from a copy; a build that changed the copy or the tree pins nothing."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from attestation.files import hash_folder
from tournament_sync.errors import BuildError
from tournament_sync.images.context import Context, copy_context


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "store" / "files"
    (folder / "scripts").mkdir(parents=True)
    (folder / "LICENSE").write_text("text")
    (folder / "scripts" / "run.sh").write_text("#!/bin/sh\n")
    (folder / "scripts" / "run.sh").chmod(0o555)
    (folder / "LICENSE").chmod(0o444)
    return folder


@pytest.fixture
def context(tree: Path, tmp_path: Path) -> Context:
    return copy_context(tree, into=tmp_path / "copy", doing="D: build")


def test_the_copy_is_the_tree_and_shares_nothing_with_it(context: Context, tree: Path) -> None:
    assert context.manifest == hash_folder(context.copy) == hash_folder(tree)
    for file in context.manifest.files:
        copied, original = (folder / file.name for folder in (context.copy, tree))
        assert copied.stat().st_ino != original.stat().st_ino
        assert copied.stat().st_nlink == 1
        assert copied.stat().st_mode == original.stat().st_mode
    assert context.copy.stat().st_mode & 0o777 == 0o700
    context.check(doing="D: build")


def rewrite(folder: Path) -> None:
    (folder / "LICENSE").unlink()
    (folder / "LICENSE").write_text("PWND")


def add(folder: Path) -> None:
    (folder / "PWN").touch()


def remove(folder: Path) -> None:
    (folder / "LICENSE").unlink()


def make_executable(folder: Path) -> None:
    (folder / "LICENSE").chmod(0o755)


def swap(folder: Path) -> None:
    """The same contents in the same order under other names have the same root."""
    (folder / "LICENSE").rename(folder / "LICENCE")


def link(folder: Path) -> None:
    (folder / "link").symlink_to("/etc")


@pytest.mark.parametrize("which", ["copy", "tree"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rewrite, r"\['LICENSE'\] changed; nothing is pinned"),
        (add, r"\['PWN'\] changed; nothing is pinned"),
        (remove, r"\['LICENSE'\] changed; nothing is pinned"),
        (make_executable, "permissions changed; nothing is pinned"),
        (swap, r"\['LICENCE', 'LICENSE'\] changed; nothing is pinned"),
        (link, "cannot be read: link: a symbolic link"),
    ],
)
def test_a_change_by_the_build_is_told(
    context: Context, which: str, change: Callable[[Path], None], message: str
) -> None:
    change(getattr(context, which))
    with pytest.raises(BuildError, match=f"^D: build: {getattr(context, which)} .*{message}"):
        context.check(doing="D: build")


def test_refuses_a_tree_with_a_link_before_anything_is_copied(tree: Path, tmp_path: Path) -> None:
    link(tree)
    with pytest.raises(BuildError, match=f"D: {tree} cannot be read: link: a symbolic link"):
        copy_context(tree, into=tmp_path / "copy", doing="D")
    assert not (tmp_path / "copy").exists()


def test_refuses_a_tree_with_a_pipe(tree: Path, tmp_path: Path) -> None:
    os.mkfifo(tree / "pipe")
    with pytest.raises(BuildError, match="neither a file nor a folder"):
        copy_context(tree, into=tmp_path / "copy", doing="D")


def test_does_not_copy_over_what_is_there(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "copy").symlink_to(tree)
    with pytest.raises(FileExistsError):
        copy_context(tree, into=tmp_path / "copy", doing="D")
