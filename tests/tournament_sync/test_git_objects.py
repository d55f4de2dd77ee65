"""Git's ids without git, and what a commit says."""

import pytest

from tournament_sync.errors import TreeError
from tournament_sync.git_objects import check_commit_id, object_id, parse_commit, tree_id


def test_object_id_is_gits() -> None:
    assert object_id("blob", b"") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"


def test_the_tree_without_files_is_gits_empty_tree() -> None:
    assert tree_id([]) == "4b825dc642cb6eb9a060e54bf8d69288fbee4904"


def test_takes_a_full_commit_id() -> None:
    check_commit_id("0123456789abcdef" * 2 + "01234567")


@pytest.mark.parametrize(
    "text",
    [
        *("main", "HEAD", "refs/heads/main", "0123abcd", "", "-" * 40, "a" * 39, "a" * 41, "a" * 64),
        *("A" * 40, "a" * 40 + "\n", "٣" * 40, "a" * 39 + "^"),
    ],
)
def test_refuses_what_is_no_full_commit_id(text: str) -> None:
    with pytest.raises(TreeError, match=r"is not a full commit id: .* never at a branch, a tag or a prefix"):
        check_commit_id(text)


@pytest.mark.parametrize(
    "message", ["", "\n\nsomething else", "\n\nTournament winner repository - Commit: 0123ABCD"]
)
def test_other_commit_messages_name_no_competed_commit(message: str) -> None:
    assert parse_commit(b"tree " + b"a" * 40 + b"\n" + message.encode()).competed_commit is None


@pytest.mark.parametrize("raw", [b"", b"parent " + b"a" * 40 + b"\n", b"tree abc\n"])
def test_refuses_a_commit_without_tree(raw: bytes) -> None:
    with pytest.raises(TreeError, match="does not begin with its tree"):
        parse_commit(raw)
