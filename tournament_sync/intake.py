"""Takes a champion's files in from git or from a plain folder: exactly those of one commit, or nothing.

No code of a champion is run or imported here; its files are only copied and hashed.
"""

import shutil
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from tournament_sync.errors import TreeError
from tournament_sync.git_commit import commit_object
from tournament_sync.git_export import export_commit
from tournament_sync.git_fetch import fetch_commit, url_protocol
from tournament_sync.git_objects import Link, check_commit_id, object_id, parse_commit
from tournament_sync.quarantine import COMMIT_FILE, TREE_FOLDER, read_commit, read_links, staged, write_links
from tournament_sync.release import Taken
from tournament_sync.tree_files import (
    Stamp,
    Survey,
    hash_files,
    hash_tree,
    read_chunks,
    survey_all,
    write_file,
)

ORIGIN_TREE = "tree"
EVERY_LINK: Final = None  # for who only looks: nothing that was taken so is released
_LEFTOVERS = "__pycache__"  # written by whoever ran the tree before; never part of a release


def take_git(url: str, commit: str, *, into: Path, without: Collection[str] | None = frozenset()) -> Taken:
    """The files of `commit` at `url` in the quarantine folder `into`, which appears only when complete.

    `without` names the symbolic links of the tree that are left out; any other link is refused, as every link was
    a way out of the folder for somebody. What was left out is part of the result and of the signed release.
    A folder that is there already is verified again and nothing is fetched. One call at a time per folder.
    Raises RefusedError for what may not be taken, SourceUnavailableError.
    """
    check_commit_id(commit)
    url_protocol(url)
    if into.exists():
        return _without(_taken_before(into, commit=commit, origin=url), without)
    with staged(into) as part:
        work = part / "fetch"
        work.mkdir()
        repository = fetch_commit(url, commit, work=work)
        exported = export_commit(repository, commit, into=part / TREE_FOLDER, without=without)
        shutil.rmtree(work)
        if (found := object_id("commit", exported.raw_commit)) != commit:
            raise TreeError(f"{url} has {found} in place of commit {commit}")
        (part / COMMIT_FILE).write_bytes(exported.raw_commit)
        write_links(part, exported.links)
        taken = verify_taken(part, origin=url)
    return replace(taken, folder=into / TREE_FOLDER)


def take_tree(tree: Path, *, into: Path, without: Collection[str] | None = frozenset()) -> Taken:
    """The files of the plain folder `tree`, committed the way upstream does, in the quarantine folder `into`.

    `without` names the links that are left out, as in `take_git`. A folder that is there already must hold the
    same. Raises RefusedError for what may not be taken, and for a folder that changes while it is read.
    """
    top = tree.resolve()
    if (top / ".git").exists():
        raise TreeError(f"{tree} is git's work tree: take it from git, at its commit id")
    found = survey_all(top)
    stamps, links = _released(found.files), _left_out(found.links, without=without)
    if into.exists():
        raw = commit_object(hash_files(top, stamps, links=links).tree)
        return _taken_before(into, commit=object_id("commit", raw), origin=ORIGIN_TREE)
    with staged(into) as part:
        wanted = hash_files(top, stamps, links=links)  # limits and names, before anything is copied
        for name, stamp in stamps.items():
            chunks = read_chunks(top, name, stamp)
            write_file(part / TREE_FOLDER, name, chunks, is_executable=stamp.is_executable)
        _check_unchanged(found, survey_all(top))
        (part / COMMIT_FILE).write_bytes(commit_object(wanted.tree))
        write_links(part, links)
        taken = verify_taken(part, origin=ORIGIN_TREE)
    return replace(taken, folder=into / TREE_FOLDER)


def verify_taken(folder: Path, *, origin: str) -> Taken:
    """What the quarantine folder `folder` holds, read again. Raises TreeError unless its files are its commit's."""
    raw = read_commit(folder)
    commit, links = parse_commit(raw), read_links(folder)
    hashed = hash_tree(folder / TREE_FOLDER, links=links)
    if hashed.tree != commit.tree:
        raise TreeError(f"files have tree {hashed.tree}, the commit has {commit.tree}")
    return Taken(
        commit=object_id("commit", raw),
        raw_commit=raw,
        tree=hashed.tree,
        manifest=hashed.manifest,
        folder=folder / TREE_FOLDER,
        competed_commit=commit.competed_commit,
        origin=origin,
        links=links,
    )


def _without(taken: Taken, without: Collection[str] | None) -> Taken:
    if without is not EVERY_LINK and (found := {link.name for link in taken.links}) != set(without):
        raise TreeError(
            f"it was taken without {sorted(found) or 'any'} links before, asked for is {sorted(without)}"
        )
    return taken


def _taken_before(into: Path, *, commit: str, origin: str) -> Taken:
    try:
        taken = verify_taken(into, origin=origin)
    except TreeError as error:
        raise TreeError(f"the quarantined copy in {into} was changed: {error}") from error
    if taken.commit != commit:
        raise TreeError(f"{into} holds commit {taken.commit} already, asked for was {commit}")
    return taken


def _released(stamps: dict[str, Stamp]) -> dict[str, Stamp]:
    return {name: stamp for name, stamp in stamps.items() if not _is_leftover(name)}


def _is_leftover(name: str) -> bool:
    return _LEFTOVERS in name.split("/")


def _left_out(links: Sequence[Link], *, without: Collection[str] | None) -> tuple[Link, ...]:
    released = tuple(link for link in links if not _is_leftover(link.name))
    if without is EVERY_LINK:
        return released
    for link in released:
        if link.name not in without:
            raise TreeError(
                f"{link.name[:120]!r} is a symbolic link to {link.target[:120]!r}; who takes it may look at it and "
                f"name it to be left out: --leave-out {link.name[:120]}"
            )
    if strange := sorted(set(without) - {link.name for link in released}):
        raise TreeError(f"{strange[0][:120]!r} was to be left out, but the folder has no such link")
    return released


def _check_unchanged(before: Survey, after: Survey) -> None:
    changed = sorted(dict(before.files.items() ^ after.files.items()))
    changed += sorted({link.name for link in set(before.links) ^ set(after.links)})
    if changed:
        raise TreeError(f"{changed[0][:120]!r} changed while the folder was read")
