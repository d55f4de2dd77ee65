"""Who wrote a commit, when, and in which words: what the commit object says, and nobody vouches for.

Not covered: truth. Whoever makes a commit writes what they like, a name that looks like another one too.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from attestation.times import format_time

MAX_CLAIM_CHARS: Final = 200
_WHO: Final = re.compile(rb"^(author|committer) (.*) (-?[0-9]{1,18}) [+-][0-9]{4}$", re.MULTILINE)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitClaims:
    """Text of the repository, each one line, cut, not escaped; None where it says nothing that can be read."""

    author: str | None
    committer: str | None
    committed_at: str | None
    subject: str | None


def commit_claims(raw: bytes) -> CommitClaims:
    """What the raw commit object claims."""
    head, _, message = raw.partition(b"\n\n")
    # The first of each counts: a second one is no git.
    said = {found[1]: (found[2], found[3]) for found in reversed(list(_WHO.finditer(head)))}
    author, committer = said.get(b"author"), said.get(b"committer")
    return CommitClaims(
        author=None if author is None else _text(author[0]),
        committer=None if committer is None else _text(committer[0]),
        committed_at=None if committer is None else _time(int(committer[1])),
        subject=_text(message.lstrip(b"\n").partition(b"\n")[0]) or None,
    )


def _text(raw: bytes) -> str:
    return " ".join(raw.decode(errors="replace").split())[:MAX_CLAIM_CHARS]


def _time(seconds: int) -> str | None:
    try:
        return format_time(_EPOCH + timedelta(seconds=seconds))
    except (OverflowError, ValueError):
        return None
