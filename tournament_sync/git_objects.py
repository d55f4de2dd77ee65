"""Git's ids, computed again, and what a commit object says.

Not covered: collisions of SHA-1; what is trusted is the SHA-256 manifest, git ids only name the content.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tournament_sync.errors import TreeError

MAX_COMMIT_BYTES = 1 << 20
MAX_TARGET_BYTES = 4096  # of a link; PATH_MAX of Linux
_COMMIT_ID = re.compile(r"[0-9a-f]{40}", re.ASCII)
_HEADER = re.compile(rb"tree ([0-9a-f]{40})\n")
_COMPETED = re.compile(r"^Tournament winner repository - Commit: ([0-9a-f]{8})$", re.ASCII | re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A symbolic link of a commit's tree. It is never made anywhere; its text is part of the tree id."""

    name: str
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeFile:
    """One file or link of a commit's tree."""

    name: str
    blob: str
    is_executable: bool
    is_link: bool = False
    size_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """What a commit object says."""

    tree: str
    competed_commit: str | None  # first 8 digits of the commit that competed, where the message tells it


def check_commit_id(text: str) -> None:
    """Raise TreeError unless `text` is a full commit id: names and prefixes change what they mean."""
    if not _COMMIT_ID.fullmatch(text):
        raise TreeError(
            f"{text[:120]!r} is not a full commit id: a champion is taken at 40 hex digits in lower case, "
            "never at a branch, a tag or a prefix"
        )


def object_id(kind: str, data: bytes) -> str:
    """The git id of an object."""
    return hashlib.sha1(f"{kind} {len(data)}\0".encode() + data, usedforsecurity=False).hexdigest()


def parse_commit(raw: bytes) -> Commit:
    """What a raw commit object says. Raises TreeError."""
    match = _HEADER.match(raw)
    if match is None:
        raise TreeError("commit object does not begin with its tree")
    _, _, message = raw.partition(b"\n\n")
    competed = _COMPETED.search(message.decode(errors="replace"))
    return Commit(tree=match[1].decode(), competed_commit=competed[1] if competed else None)


def link_entry(link: Link) -> TreeFile:
    """What the tree has of a link: git keeps its target as if it were a file's content."""
    blob = object_id("blob", link.target.encode())
    return TreeFile(name=link.name, blob=blob, is_executable=False, is_link=True)


def tree_id(files: Sequence[TreeFile]) -> str:
    """The git tree id of `files`, whose names must be safe and unique."""
    rows: list[tuple[bytes, bytes, str]] = []  # what git sorts by, mode and name, id
    folders: dict[str, list[TreeFile]] = {}
    for file in files:
        first, slash, rest = file.name.partition("/")
        if slash:
            folders.setdefault(first, []).append(replace(file, name=rest))
        else:
            mode = b"120000 " if file.is_link else b"100755 " if file.is_executable else b"100644 "
            rows.append((first.encode(), mode + first.encode(), file.blob))
    for name, inside in folders.items():
        # Git sorts a folder as if its name ended with a slash.
        rows.append((name.encode() + b"/", b"40000 " + name.encode(), tree_id(inside)))
    return object_id("tree", b"".join(row + b"\0" + bytes.fromhex(child) for _, row, child in sorted(rows)))
