"""Takes a released champion into quarantine: all of its files, exactly those of the release, or nothing.

No code of a champion is run or imported here; its files are only hashed.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from attestation.oms import Manifest
from tournament_sync.champion import Champion
from tournament_sync.errors import LicenceError, TreeError
from tournament_sync.git_objects import object_id
from tournament_sync.intake import verify_taken
from tournament_sync.quarantine import COMMIT_FILE, TREE_FOLDER, read_commit, staged, write_links
from tournament_sync.release import licence_digests
from tournament_sync.source import Source


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
    with staged(into) as part:
        (part / COMMIT_FILE).write_bytes(source.fetch(champion, part / TREE_FOLDER))
        write_links(part, champion.links)
        verified = _verify(champion, part)
    return replace(verified, folder=into / TREE_FOLDER)


def _verify(champion: Champion, quarantine: Path) -> Snapshot:
    """1. Commit. 2. The files have its tree, 3. as released. 4. Their manifest, as signed. 5. Their licence."""
    # 1.
    if (found := object_id("commit", read_commit(quarantine))) != champion.commit:
        raise TreeError(f"commit is {found}, released was {champion.commit}")
    # 2.
    taken = verify_taken(quarantine, origin=champion.origin)
    # 3.
    if taken.tree != champion.tree:
        raise TreeError(f"commit has tree {taken.tree}, released was {champion.tree}")
    # 4.
    if (root := taken.manifest.root_sha256) != champion.manifest_root:
        raise TreeError(f"files have manifest {root}, released was {champion.manifest_root}")
    # 5.
    released = (champion.licence_sha256, champion.notice_sha256)
    if (digests := licence_digests(taken.folder)) != released:
        raise LicenceError(f"licence and notice are {_told(digests)}, the release names {_told(released)}")
    return Snapshot(
        champion=champion, folder=taken.folder, manifest=taken.manifest, competed_commit=taken.competed_commit
    )


def _told(digests: tuple[str | None, str | None]) -> str:
    return " and ".join(digest or "none" for digest in digests)
