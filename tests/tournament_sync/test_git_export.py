"""Reading the files of a commit out of hostile repositories."""

import os
from pathlib import Path

import pytest

import tournament_sync.git_export as git_export
from tournament_sync import tree_files
from tournament_sync.errors import SourceUnavailableError, TreeError
from tournament_sync.git_export import export_commit
from tournament_sync.git_objects import Commit, parse_commit
from tournament_sync.tree_files import hash_tree


def test_exports_the_files_of_a_commit(repository, into: Path) -> None:
    blob, script = repository.write("blob", b"hello"), repository.write("blob", b"#!/bin/sh\n")
    inner = repository.tree(("100755", b"run.sh", script))
    tree = repository.tree(("100644", b"a.txt", blob), ("40000", b"b", inner))
    raw = export_commit(repository.path, repository.commit(tree), into=into).raw_commit
    assert (into / "a.txt").read_bytes() == b"hello"
    assert [os.access(into / name, os.X_OK) for name in ("a.txt", "b/run.sh")] == [False, True]
    assert parse_commit(raw) == Commit(tree=tree, competed_commit="0123abcd")
    assert hash_tree(into).tree == tree


@pytest.mark.parametrize(
    ("mode", "name", "reason"),
    [
        ("120000", b"link", "'link' is a symbolic link to 'target'"),
        ("100644", b"..", "not a normalised relative path"),
        ("100644", b"a\\b", "backslash"),
        ("100644", b"-rf", "part starts with '-'"),
        ("100644", b"a\nb", "invisible or control character"),
        ("100644", b".git", "'.git' lies in a .git folder"),
        ("100644", b".GIT", "'.GIT' lies in a .git folder"),
        ("100644", b"\xff", "is not UTF-8"),
    ],
)
def test_refuses_what_may_not_be_taken(repository, into: Path, mode: str, name: bytes, reason: str) -> None:
    tree = repository.tree((mode, name, repository.write("blob", b"target")))
    with pytest.raises(TreeError) as caught:
        export_commit(repository.path, repository.commit(tree), into=into)
    assert reason in str(caught.value)
    assert list(into.iterdir()) == []


def test_a_link_whose_target_is_longer_than_a_path_is_refused_unread(repository, into: Path) -> None:
    tree = repository.tree(("120000", b"link", repository.write("blob", b"x" * 4097)))
    with pytest.raises(
        TreeError, match="'link' is a symbolic link whose target of 4097 bytes is over the limit"
    ):
        export_commit(repository.path, repository.commit(tree), into=into)


def test_refuses_a_submodule(repository, into: Path) -> None:
    tree = repository.tree(("160000", b"vendor", "a" * 40))
    with pytest.raises(TreeError, match="'vendor' is a submodule"):
        export_commit(repository.path, repository.commit(tree), into=into)


def test_refuses_a_path_that_leaves_the_folder_by_its_parts(repository, into: Path) -> None:
    inner = repository.tree(("100644", b"x", repository.write("blob", b"x")))
    tree = repository.tree(("40000", b"..", inner))
    with pytest.raises(TreeError, match="not a normalised relative path"):
        export_commit(repository.path, repository.commit(tree), into=into)


@pytest.mark.parametrize(("first", "second"), [(b"A", b"a"), ("ﬁ".encode(), b"fi")])
def test_refuses_names_that_meet_on_some_file_system(
    repository, into: Path, first: bytes, second: bytes
) -> None:
    blob = repository.write("blob", b"x")
    tree = repository.tree(*sorted([("100644", first, blob), ("100644", second, blob)]))
    with pytest.raises(TreeError, match="differ only in case"):
        export_commit(repository.path, repository.commit(tree), into=into)


def test_refuses_a_file_listed_twice(repository, into: Path) -> None:
    blob = repository.write("blob", b"x")
    tree = repository.tree(("100644", b"a", blob), ("100644", b"a", blob))
    with pytest.raises(TreeError, match="'a' is listed twice"):
        export_commit(repository.path, repository.commit(tree), into=into)


def test_refuses_an_lfs_pointer(repository, into: Path) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 12\n"
    tree = repository.tree(("100644", b"model.bin", repository.write("blob", pointer)))
    with pytest.raises(TreeError, match=r"'model\.bin' is a Git LFS pointer"):
        export_commit(repository.path, repository.commit(tree), into=into)


def test_refuses_an_empty_commit(repository, into: Path) -> None:
    with pytest.raises(TreeError, match="there are no files"):
        export_commit(repository.path, repository.commit(repository.tree()), into=into)


def test_refuses_a_commit_that_is_absent(repository, into: Path) -> None:
    with pytest.raises(TreeError, match="an object is absent or damaged"):
        export_commit(repository.path, "a" * 40, into=into)


def test_refuses_an_id_that_is_no_commit(repository, into: Path) -> None:
    tree = repository.tree(("100644", b"a", repository.write("blob", b"x")))
    with pytest.raises(TreeError, match=f"{tree} is not a commit"):
        export_commit(repository.path, tree, into=into)


def test_refuses_a_tree_whose_blob_is_absent(repository, into: Path) -> None:
    tree = repository.tree(("100644", b"a", "a" * 40))
    with pytest.raises(TreeError, match=r"'a': blob a{40} is absent or damaged"):
        export_commit(repository.path, repository.commit(tree), into=into)


@pytest.mark.parametrize("mode", ["100664", "100600", "104755", "0100644"])
def test_odd_modes_that_git_hides_show_in_the_tree_id(repository, into: Path, mode: str) -> None:
    tree = repository.tree((mode, b"a", repository.write("blob", b"x")))
    export_commit(repository.path, repository.commit(tree), into=into)
    assert hash_tree(into).tree != tree


@pytest.mark.parametrize(
    ("limit", "value", "reason"),
    [
        ("MAX_FILES", 2, "more than 2 files"),
        ("MAX_FILE_BYTES", 3, "'a' of 4 bytes is over the limit of 3"),
        ("MAX_TOTAL_BYTES", 11, "12 bytes of files are over the limit of 11"),
        ("MAX_COMMIT_BYTES", 100, "bytes is over the limit of 100"),
        ("_MAX_LISTING_BYTES", 100, "git ls-tree prints more than 100 bytes"),
    ],
)
def test_refuses_more_than_the_limits(
    repository, into: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, reason: str
) -> None:
    blob = repository.write("blob", b"four")
    commit = repository.commit(repository.tree(*(("100644", name, blob) for name in (b"a", b"b", b"c"))))
    holder = git_export if hasattr(git_export, limit) else tree_files
    monkeypatch.setattr(holder, limit, value)
    with pytest.raises(TreeError) as caught:
        export_commit(repository.path, commit, into=into)
    assert reason in str(caught.value)


def test_a_tree_that_unfolds_without_end_is_stopped(repository, into: Path) -> None:
    tree = repository.tree(("100644", b"f", repository.write("blob", b"x")))
    for _ in range(30):
        tree = repository.tree(*(("40000", name, tree) for name in (b"a", b"b", b"c", b"d")))
    with pytest.raises(TreeError, match="git ls-tree prints more than"):
        export_commit(repository.path, repository.commit(tree), into=into)


def test_git_gets_no_more_memory_than_its_limit(
    repository, into: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tree is read whole: some hundred kB on a stick would fill the machine's memory."""
    monkeypatch.setattr(git_export, "_MAX_MEMORY_BYTES", 96 << 20)
    blob = repository.write("blob", b"x")
    tree = repository.write("tree", (b"100644 a\0" + bytes.fromhex(blob)) * 4_000_000)
    with pytest.raises(TreeError, match=r"git ls-tree .* takes more than 100663296 bytes of memory"):
        export_commit(repository.path, repository.commit(tree), into=into)


def test_a_commit_over_the_limit_is_refused_before_it_is_read(
    repository, into: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git_export, "_MAX_MEMORY_BYTES", 96 << 20)  # reading it would fail, and say so
    commit = repository.write("commit", b"tree " + b"4" * (120 << 20))
    with pytest.raises(TreeError, match=f"commit {commit} of 125829125 bytes is over the limit of"):
        export_commit(repository.path, commit, into=into)


def test_refuses_borrowed_objects(repository, into: Path) -> None:
    (repository.path / "objects/info").mkdir()
    (repository.path / "objects/info/alternates").write_text("/elsewhere\n")
    with pytest.raises(TreeError, match=r"borrows objects from elsewhere \(objects/info/alternates\)"):
        export_commit(repository.path, "a" * 40, into=into)


def test_a_folder_without_objects_is_no_repository(tmp_path: Path, into: Path) -> None:
    with pytest.raises(SourceUnavailableError, match="is not a git repository with objects of its own"):
        export_commit(tmp_path, "a" * 40, into=into)


def test_neither_configuration_nor_hooks_nor_replacements_of_the_repository_have_effect(
    repository, into: Path, tmp_path: Path
) -> None:
    tree = repository.tree(("100644", b"a", repository.write("blob", b"true")))
    false = repository.tree(("100644", b"a", repository.write("blob", b"false")))
    commit, other = repository.commit(tree), repository.commit(false)
    witness = tmp_path / "was-run"
    (repository.path / "config").write_text(
        f'[core]\nfsmonitor = "touch {witness}"\nhooksPath = {repository.path}\nbare = true\n'
        f"[extensions]\npartialClone = origin\n"
        f'[remote "origin"]\nurl = "ext::touch {witness}"\npromisor = true\n'
        f'[filter "evil"]\nsmudge = "touch {witness}"\n'
    )
    (repository.path / "info").mkdir()
    (repository.path / "info/attributes").write_text("* filter=evil\n")
    (repository.path / "refs/replace").mkdir(parents=True)
    (repository.path / "refs/replace" / commit).write_text(f"{other}\n")
    export_commit(repository.path, commit, into=into)
    assert (into / "a").read_bytes() == b"true"
    assert not witness.exists()


def test_an_object_stored_under_a_false_id_does_not_pass_for_it(repository, into: Path) -> None:
    blob = repository.write("blob", b"true")
    tree = repository.tree(("100644", b"a", blob))
    commit = repository.commit(tree)
    repository.write("blob", b"fake", as_id=blob)
    try:
        export_commit(repository.path, commit, into=into)
    except TreeError:
        return  # git noticed
    assert hash_tree(into).tree != tree


def test_without_git_the_operator_is_told(repository, into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "defpath", "/nonexistent")
    with pytest.raises(SourceUnavailableError, match="git is not installed"):
        export_commit(repository.path, "a" * 40, into=into)


def test_an_object_that_is_a_pipe_does_not_hold_git_for_ever(
    repository, into: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git_export, "_GIT_TIMEOUT_S", 0.2)
    (repository.path / "objects/aa").mkdir()
    os.mkfifo(repository.path / "objects/aa" / ("a" * 38))
    with pytest.raises(TreeError, match="an object is absent or damaged"):
        export_commit(repository.path, "a" * 40, into=into)


@pytest.mark.parametrize("commit", ["main", "HEAD", "a" * 12, "--batch", "refs/heads/main"])
def test_refuses_anything_but_a_full_commit_id(repository, into: Path, commit: str) -> None:
    with pytest.raises(TreeError, match="is not a full commit id"):
        export_commit(repository.path, commit, into=into)


def test_refuses_a_tag_in_place_of_a_commit(repository, into: Path) -> None:
    commit = repository.commit(repository.tree(("100644", b"a", repository.write("blob", b"x"))))
    tag = repository.write(
        "tag", f"object {commit}\ntype commit\ntag v1\ntagger A <a@b> 0 +0000\n\nx\n".encode()
    )
    with pytest.raises(TreeError, match=f"{tag} is not a commit"):
        export_commit(repository.path, tag, into=into)


def test_grafts_and_shallow_marks_of_the_repository_have_no_effect(repository, into: Path) -> None:
    commit = repository.commit(repository.tree(("100644", b"a", repository.write("blob", b"true"))))
    (repository.path / "info").mkdir()
    (repository.path / "info/grafts").write_text(f"{commit} {'b' * 40}\n")
    (repository.path / "shallow").write_text("c" * 40 + "\n")
    raw = export_commit(repository.path, commit, into=into).raw_commit
    assert b"parent" not in raw
    assert (into / "a").read_bytes() == b"true"


@pytest.mark.parametrize("which", ["repository", "objects"])
def test_a_repository_behind_a_link_is_none(repository, into: Path, tmp_path: Path, which: str) -> None:
    link = tmp_path / "link.git"
    if which == "repository":
        link.symlink_to(repository.path)
    else:
        link.mkdir()
        (link / "objects").symlink_to(repository.path / "objects")
    with pytest.raises(SourceUnavailableError, match="is not a git repository with objects of its own"):
        export_commit(link, "a" * 40, into=into)
