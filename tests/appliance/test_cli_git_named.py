"""Git as people name it, and repositories that are given as if they were folders."""

import subprocess
from pathlib import Path

import pytest

from appliance.cli.git_named import GitCommit, absolute_url, check_no_repository, git_named, local_path
from appliance.errors import InvalidOrderError

COMMIT = "0123456789" * 4


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=op", "-c", "user.email=op@example.invalid"]
    done = subprocess.run(["git", *who, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "file").write_text("x")
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "x")
    return folder


@pytest.mark.parametrize("url", ["https://example.org/x.git", "git@example.org:x", "file:///srv/x", "/srv/x"])
def test_reads_a_url_at_a_commit(url: str) -> None:
    assert git_named(f"{url}@{COMMIT}") == GitCommit(url=url, commit=COMMIT)


@pytest.mark.parametrize(
    "text", ["./x.tar", "https://example.org/x.git", "x@main", f"@{COMMIT}", f"x@{COMMIT}0"]
)
def test_nothing_else_is_a_commit(text: str) -> None:
    assert git_named(text) is None


def test_paths_are_told_from_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute_url("./x/../y") == str(tmp_path / "y")
    assert absolute_url("file://x") == f"file://{tmp_path / 'x'}"
    assert local_path("file:///srv/a.tar") == Path("/srv/a.tar")


def test_a_work_tree_is_told_with_its_head(repository: Path) -> None:
    head = git(repository, "rev-parse", "HEAD")
    with pytest.raises(InvalidOrderError, match=rf"./work/ is git: give ./work@COMMIT; its HEAD is {head}"):
        check_no_repository(repository, text="./work/")


def test_a_bare_repository_with_packed_references_is_told_with_its_head(
    repository: Path, tmp_path: Path
) -> None:
    head = git(repository, "rev-parse", "HEAD")
    git(tmp_path, "clone", "--quiet", "--bare", str(repository), "bare")
    git(tmp_path / "bare", "pack-refs", "--all")
    assert not (tmp_path / "bare" / "refs" / "heads" / "main").exists()
    with pytest.raises(InvalidOrderError, match=f"its HEAD is {head}"):
        check_no_repository(tmp_path / "bare", text="bare")


@pytest.mark.parametrize(
    "head", ["ref: refs/heads/gone", "ref: refs/../../secret", "\x1b[2J", "a" * 9999, COMMIT + "0"]
)
def test_a_head_that_says_no_commit_is_not_repeated(repository: Path, tmp_path: Path, head: str) -> None:
    (tmp_path / "secret").write_text(COMMIT)
    (repository / ".git" / "HEAD").write_text(head)
    with pytest.raises(InvalidOrderError, match="it has no commit that HEAD names") as refused:
        check_no_repository(repository, text="./work")
    assert COMMIT not in str(refused.value)


def test_no_link_is_followed_to_a_head(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text(COMMIT)
    (repository / ".git" / "HEAD").unlink()
    (repository / ".git" / "HEAD").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InvalidOrderError, match="it has no commit that HEAD names"):
        check_no_repository(repository, text="./work")


def test_a_work_tree_whose_git_is_elsewhere_is_git_too(tmp_path: Path) -> None:
    (tmp_path / ".git").write_text("gitdir: ../elsewhere\n")
    with pytest.raises(InvalidOrderError, match="is git"):
        check_no_repository(tmp_path, text=".")


def test_a_plain_folder_is_no_repository(tmp_path: Path) -> None:
    (tmp_path / "HEAD").write_text(COMMIT)
    check_no_repository(tmp_path, text=".")
