"""Reading hostile repositories, and computing git's ids without git."""

import os
import subprocess
from pathlib import Path

import pytest

import tournament_sync.git_objects as git_objects
from tournament_sync.errors import SourceUnavailableError, TreeError
from tournament_sync.git_objects import Commit, export_commit, folder_tree_id, object_id, parse_commit


def test_exports_the_files_of_a_commit(repository, into: Path) -> None:
    blob, script = repository.write("blob", b"hello"), repository.write("blob", b"#!/bin/sh\n")
    inner = repository.tree(("100755", b"run.sh", script))
    tree = repository.tree(("100644", b"a.txt", blob), ("40000", b"b", inner))
    raw = export_commit(repository.path, repository.commit(tree), into=into)
    assert (into / "a.txt").read_bytes() == b"hello"
    assert [os.access(into / name, os.X_OK) for name in ("a.txt", "b/run.sh")] == [False, True]
    assert parse_commit(raw) == Commit(tree=tree, competed_commit="0123abcd")
    assert folder_tree_id(into) == tree


def test_tree_id_is_what_git_computes(tmp_path: Path) -> None:
    work = tmp_path / "work"
    for name in ("a", "a.b", "a0", "ab/c", "ab/c.d", "ab/e/f", "ä/ö", "Z", "empty"):
        path = work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("" if name == "empty" else name)
    (work / "a0").chmod(0o755)
    environment = git_objects.git_environment(tmp_path / "git") | {"GIT_WORK_TREE": str(work)}
    for arguments in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", *arguments], env=environment, check=True, cwd=work)
    written = subprocess.run(["git", "write-tree"], env=environment, check=True, capture_output=True)
    assert folder_tree_id(work) == written.stdout.decode().strip()


def test_object_id_is_gits() -> None:
    assert object_id("blob", b"") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"


@pytest.mark.parametrize(
    "message", ["", "\n\nsomething else", "\n\nTournament winner repository - Commit: 0123ABCD"]
)
def test_other_commit_messages_name_no_competed_commit(message: str) -> None:
    assert parse_commit(b"tree " + b"a" * 40 + b"\n" + message.encode()).competed_commit is None


@pytest.mark.parametrize("raw", [b"", b"parent " + b"a" * 40 + b"\n", b"tree abc\n"])
def test_refuses_a_commit_without_tree(raw: bytes) -> None:
    with pytest.raises(TreeError, match="does not begin with its tree"):
        parse_commit(raw)


@pytest.mark.parametrize(
    ("mode", "name", "reason"),
    [
        ("120000", b"link", "'link' is a symbolic link"),
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
    with pytest.raises(TreeError, match="the commit holds no files"):
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
    assert folder_tree_id(into) != tree


@pytest.mark.parametrize(
    ("limit", "value", "reason"),
    [
        ("MAX_FILES", 2, "more than 2 files"),
        ("MAX_FILE_BYTES", 3, "'a' of 4 bytes is over the limit of 3"),
        ("MAX_TOTAL_BYTES", 11, "12 bytes of files are over the limit of 11"),
        ("MAX_COMMIT_BYTES", 100, "git cat-file prints more than 100 bytes"),
        ("_MAX_LISTING_BYTES", 100, "git ls-tree prints more than 100 bytes"),
    ],
)
def test_refuses_more_than_the_limits(
    repository, into: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, reason: str
) -> None:
    blob = repository.write("blob", b"four")
    commit = repository.commit(repository.tree(*(("100644", name, blob) for name in (b"a", b"b", b"c"))))
    monkeypatch.setattr(git_objects, limit, value)
    with pytest.raises(TreeError) as caught:
        export_commit(repository.path, commit, into=into)
    assert reason in str(caught.value)


def test_a_tree_that_unfolds_without_end_is_stopped(repository, into: Path) -> None:
    tree = repository.tree(("100644", b"f", repository.write("blob", b"x")))
    for _ in range(30):
        tree = repository.tree(*(("40000", name, tree) for name in (b"a", b"b", b"c", b"d")))
    with pytest.raises(TreeError, match="git ls-tree prints more than"):
        export_commit(repository.path, repository.commit(tree), into=into)


def test_refuses_borrowed_objects(repository, into: Path) -> None:
    (repository.path / "objects/info").mkdir()
    (repository.path / "objects/info/alternates").write_text("/elsewhere\n")
    with pytest.raises(TreeError, match=r"borrows objects from elsewhere \(objects/info/alternates\)"):
        export_commit(repository.path, "a" * 40, into=into)


def test_a_folder_without_objects_is_no_repository(tmp_path: Path, into: Path) -> None:
    with pytest.raises(SourceUnavailableError, match="is not a bare git repository"):
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
    assert folder_tree_id(into) != tree


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_a_folder_with_more_than_files_has_no_tree_id(into: Path, kind: str) -> None:
    path = into / "odd"
    path.symlink_to("/etc/passwd") if kind == "link" else os.mkfifo(path)
    with pytest.raises(TreeError, match="'odd' is neither a file nor a folder"):
        folder_tree_id(into)


def test_without_git_the_operator_is_told(repository, into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "defpath", "/nonexistent")
    with pytest.raises(SourceUnavailableError, match="git is not installed"):
        export_commit(repository.path, "a" * 40, into=into)


def test_an_object_that_is_a_pipe_does_not_hold_git_for_ever(
    repository, into: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git_objects, "_GIT_TIMEOUT_S", 0.2)
    (repository.path / "objects/aa").mkdir()
    os.mkfifo(repository.path / "objects/aa" / ("a" * 38))
    with pytest.raises(TreeError, match="an object is absent or damaged"):
        export_commit(repository.path, "a" * 40, into=into)
