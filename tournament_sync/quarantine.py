"""A quarantine folder: a champion's raw commit and its tree, which appear together, complete, or not at all."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from attestation import canonical
from attestation.errors import MalformedError
from tournament_sync.errors import TreeError
from tournament_sync.git_objects import MAX_COMMIT_BYTES, Link
from tournament_sync.tree_files import flush, flush_tree

COMMIT_FILE = "commit"  # the raw commit object
LINKS_FILE = "links"  # what the commit's tree has and the folder has not; absent if there are none
TREE_FOLDER = "tree"
MAX_LINKS_BYTES = 1 << 20


@contextmanager
def staged(into: Path) -> Iterator[Path]:
    """A folder with an empty tree, beside `into`, that becomes `into` when the block ends well.

    A crash at any point leaves `into` absent, or there and complete on disk; what it left beside is cleared away
    by the next call. One call at a time per folder.
    """
    part = into.with_name(f".{into.name}.part")
    _remove(part)  # what a crash left
    try:
        (part / TREE_FOLDER).mkdir(parents=True)
        yield part
        # Once for all, after everything was read back: the disk groups what it is asked together.
        flush_tree(part)
        part.rename(into)
        flush(into.parent)
    finally:
        _remove(part)


def read_commit(quarantine: Path) -> bytes:
    """The raw commit of a quarantine folder. Raises TreeError if that is no quarantine folder."""
    path, tree = quarantine / COMMIT_FILE, quarantine / TREE_FOLDER
    if path.is_symlink() or not path.is_file() or tree.is_symlink() or not tree.is_dir():
        raise TreeError("it lacks its commit or its tree")
    with path.open("rb") as file:
        raw = file.read(MAX_COMMIT_BYTES + 1)
    if len(raw) > MAX_COMMIT_BYTES:
        raise TreeError(f"its commit is over the limit of {MAX_COMMIT_BYTES} bytes")
    return raw


def write_links(quarantine: Path, links: Sequence[Link]) -> None:
    """Keep the links that were left out; without them the tree id cannot be computed again."""
    if links:
        listed = [[link.name, link.target] for link in links]
        (quarantine / LINKS_FILE).write_bytes(canonical.encode(listed))


def read_links(quarantine: Path) -> tuple[Link, ...]:
    """What `write_links` kept. Raises TreeError for anything else."""
    path = quarantine / LINKS_FILE
    if not os.path.lexists(path):
        return ()
    if path.is_symlink() or not path.is_file() or path.stat().st_size > MAX_LINKS_BYTES:
        raise TreeError("its list of links is no plain file, or too large")
    try:
        listed = canonical.decode(path.read_bytes(), max_bytes=MAX_LINKS_BYTES)
        links = tuple(Link(name=name, target=target) for name, target in listed)
    except (MalformedError, TypeError, ValueError) as error:
        raise TreeError(f"its list of links cannot be read: {error}") from error
    if not all(isinstance(text, str) for link in links for text in (link.name, link.target)):
        raise TreeError("its list of links cannot be read: names and targets are texts")
    return links


def _remove(folder: Path) -> None:
    if os.path.lexists(folder):
        shutil.rmtree(folder)
