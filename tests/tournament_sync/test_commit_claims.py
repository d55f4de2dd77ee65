"""What a commit says of itself: shown as a claim, whatever it is."""

import pytest

from tournament_sync.commit_claims import MAX_CLAIM_CHARS, CommitClaims, commit_claims

TREE = b"tree " + b"0" * 40 + b"\n"
WHO = b"Ada <ada@example.invalid> 1767225600 +0200"


def test_tells_author_committer_date_and_first_line() -> None:
    raw = (
        TREE + b"author " + WHO + b"\ncommitter Olu <o@example.invalid> 1767225601 -0100\n\nfirst\n\nsecond\n"
    )
    assert commit_claims(raw) == CommitClaims(
        author="Ada <ada@example.invalid>",
        committer="Olu <o@example.invalid>",
        committed_at="2026-01-01T00:00:01Z",
        subject="first",
    )


@pytest.mark.parametrize("raw", [b"", TREE, TREE + b"author nobody\n\n", b"\xff\n\n \n"])
def test_says_nothing_where_the_commit_says_nothing(raw: bytes) -> None:
    assert commit_claims(raw) == CommitClaims(author=None, committer=None, committed_at=None, subject=None)


def test_the_message_claims_no_author() -> None:
    assert commit_claims(TREE + b"\n\nauthor " + WHO).author is None


def test_the_first_of_two_authors_counts() -> None:
    raw = TREE + b"author " + WHO + b"\nauthor Eve <e@example.invalid> 1 +0000\n\n"
    assert commit_claims(raw).author == "Ada <ada@example.invalid>"


def test_cuts_and_keeps_to_one_line() -> None:
    claims = commit_claims(TREE + b"author a\tb\r\xff " + WHO + b"\n\n" + b"m" * 9999)
    assert claims.author == "a b \ufffd Ada <ada@example.invalid>"
    assert claims.subject == "m" * MAX_CLAIM_CHARS


@pytest.mark.parametrize("seconds", [b"9" * 18, b"-" + b"9" * 18])
def test_a_moment_that_there_never_is_is_not_told(seconds: bytes) -> None:
    claims = commit_claims(TREE + b"committer A <a> " + seconds + b" +0000\n\n")
    assert (claims.committer, claims.committed_at) == ("A <a>", None)
