"""A plain tree as one commit in upstream's form."""

import subprocess
from pathlib import Path

import pytest

from tournament_sync.errors import PublishError
from tournament_sync.git_commit import commit_object, write_repository
from tournament_sync.git_export import export_commit, git_environment
from tournament_sync.git_objects import Commit, object_id, parse_commit
from tournament_sync.intake import take_tree
from tournament_sync.release import Taken
from tournament_sync.tree_files import hash_tree


@pytest.fixture
def taken(upstream: Path, tmp_path: Path) -> Taken:
    return take_tree(upstream, into=tmp_path / "taken")


def git(repository: Path, *arguments: str) -> str:
    environment = git_environment(repository)
    done = subprocess.run(["git", *arguments], env=environment, check=True, capture_output=True)
    return done.stdout.decode()


def test_a_commit_says_its_tree_and_upstreams_message() -> None:
    raw = commit_object("ab" * 20)
    assert parse_commit(raw) == Commit(tree="ab" * 20, competed_commit="abababab")
    assert object_id("commit", raw) == object_id("commit", commit_object("ab" * 20))


def test_a_repository_has_the_commit_as_its_one_branch(taken: Taken, tmp_path: Path) -> None:
    repository = tmp_path / "x.git"
    write_repository(taken, repository)
    assert git(repository, "for-each-ref", "--format=%(refname) %(objectname)") == (
        f"refs/heads/main {taken.commit}\n"
    )
    assert git(repository, "rev-parse", "main^{tree}").strip() == taken.tree
    git(repository, "fsck", "--strict", "--full")


def test_a_reader_gets_what_was_taken(taken: Taken, tmp_path: Path, into: Path) -> None:
    write_repository(taken, tmp_path / "x.git")
    assert export_commit(tmp_path / "x.git", taken.commit, into=into).raw_commit == taken.raw_commit
    assert hash_tree(into).manifest == taken.manifest


def test_says_why_git_could_not(taken: Taken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tournament_sync.git_commit.init_repository", lambda repository, environment: None)
    with pytest.raises(PublishError, match=r"git hash-object failed: .*not a git repository"):
        write_repository(taken, tmp_path / "absent.git")
