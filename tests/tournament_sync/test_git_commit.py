"""A plain tree as one commit in upstream's form."""

import subprocess
from pathlib import Path

import pytest

from tournament_sync.git_commit import commit_object
from tournament_sync.git_export import export_commit, git_environment, init_repository
from tournament_sync.git_objects import Commit, object_id, parse_commit

TREE = object_id("tree", b"100644 a\0" + bytes.fromhex(object_id("blob", b"")))


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A repository of git's own into which git itself wrote the commit."""
    repository = tmp_path / "x.git"
    init_repository(repository, environment=git_environment(repository))
    git(repository, "hash-object", "-w", "--stdin")
    git(repository, "mktree", given=f"100644 blob {object_id('blob', b'')}\ta\n".encode())
    commit = git(repository, "hash-object", "-w", "-t", "commit", "--stdin", given=commit_object(TREE))
    git(repository, "update-ref", "refs/heads/main", commit.strip())
    return repository


def git(repository: Path, *arguments: str, given: bytes = b"") -> str:
    environment = git_environment(repository)
    done = subprocess.run(["git", *arguments], env=environment, input=given, check=True, capture_output=True)
    return done.stdout.decode()


def test_a_commit_says_its_tree_and_upstreams_message() -> None:
    raw = commit_object("ab" * 20)
    assert parse_commit(raw) == Commit(tree="ab" * 20, competed_commit="abababab")
    assert object_id("commit", raw) == object_id("commit", commit_object("ab" * 20))


def test_git_gives_the_commit_the_same_id_and_finds_no_fault(written: Path) -> None:
    assert git(written, "rev-parse", "main", "main^{tree}").split() == [
        object_id("commit", commit_object(TREE)),
        TREE,
    ]
    git(written, "fsck", "--strict", "--full")


def test_git_reads_it_as_one_without_parent_in_upstreams_form(written: Path) -> None:
    assert git(written, "log", "--format=%P|%s|%an|%at", "main") == (
        f"|Tournament winner repository - Commit: {TREE[:8]}|Assay publisher|1767225600\n"
    )


def test_a_reader_gets_the_same_bytes(written: Path, into: Path) -> None:
    raw = commit_object(TREE)
    assert export_commit(written, object_id("commit", raw), into=into).raw_commit == raw
