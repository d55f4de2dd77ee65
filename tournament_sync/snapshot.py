"""Takes a champion's files into quarantine: all of them, exactly those of the release, or nothing.

No code of a champion is run or imported here; its files are only hashed.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from attestation.errors import AttestationError
from attestation.files import hash_folder
from attestation.oms import Manifest
from tournament_sync.champion import Champion
from tournament_sync.errors import LicenceError, TreeError
from tournament_sync.git_objects import folder_tree_id, object_id, parse_commit
from tournament_sync.licence import read_licence
from tournament_sync.source import Source

_COMMIT_FILE = "commit"  # the raw commit object
_TREE_FOLDER = "tree"


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A champion whose files lie in `folder`, verified. `competed_commit`: 8 digits, the publisher's word."""

    champion: Champion
    folder: Path
    manifest: Manifest
    competed_commit: str | None


def snapshot(source: Source, champion: Champion, *, into: Path) -> Snapshot:
    """The verified files of `champion`, in the folder `into`, which appears only when complete.

    A folder that is there already is verified again and nothing is fetched. One pass at a time per folder.
    Raises RefusedError for files that are not those of the release, SourceUnavailableError.
    """
    if into.exists():
        try:
            return _verify(champion, into)
        except TreeError as error:
            raise TreeError(f"the quarantined copy in {into} was changed: {error}") from error
    part = into.with_name(f".{into.name}.part")
    _remove(part)  # what a crash left
    try:
        tree = part / _TREE_FOLDER
        tree.mkdir(parents=True)
        (part / _COMMIT_FILE).write_bytes(source.fetch(champion, tree))
        _verify(champion, part)
        _flush(part)
        part.rename(into)
        _flush_folder(into.parent)
    finally:
        _remove(part)
    return _verify(champion, into)


def _verify(champion: Champion, quarantine: Path) -> Snapshot:
    """1. Commit. 2. Its tree. 3. The files' own tree. 4. Their manifest, as signed. 5. Their licence."""
    tree = quarantine / _TREE_FOLDER
    if not tree.is_dir() or not (quarantine / _COMMIT_FILE).is_file():
        raise TreeError("it lacks its commit or its tree")
    raw = (quarantine / _COMMIT_FILE).read_bytes()
    # 1.
    if (found := object_id("commit", raw)) != champion.commit:
        raise TreeError(f"commit is {found}, released was {champion.commit}")
    # 2.
    commit = parse_commit(raw)
    if commit.tree != champion.tree:
        raise TreeError(f"commit has tree {commit.tree}, released was {champion.tree}")
    # 3.
    if (found := folder_tree_id(tree)) != champion.tree:
        raise TreeError(f"files have tree {found}, released was {champion.tree}")
    # 4.
    try:
        manifest = hash_folder(tree)
    except AttestationError as error:
        raise TreeError(str(error)) from error
    if manifest.root_sha256 != champion.manifest_root:
        raise TreeError(f"files have manifest {manifest.root_sha256}, released was {champion.manifest_root}")
    # 5.
    licence = read_licence(tree)
    if (licence.licence_sha256, licence.notice_sha256) != (champion.licence_sha256, champion.notice_sha256):
        raise LicenceError("licence and notice are not those that the release names")
    return Snapshot(champion=champion, folder=tree, manifest=manifest, competed_commit=commit.competed_commit)


def _remove(folder: Path) -> None:
    if os.path.lexists(folder):
        shutil.rmtree(folder)


def _flush(folder: Path) -> None:
    """Files were flushed as written, except the commit; the folders' entries were not."""
    for path in (folder / _COMMIT_FILE, *(Path(root) for root, _, _ in os.walk(folder))):
        _flush_folder(path)


def _flush_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
