"""What a command names by one word: a champion of this home, a folder, an archive, or git's URL@COMMIT.

Covered: all but the first are taken into a folder that is removed again, and no home is read or written.
Not covered: who published it; that only a home's trust root says.
"""

import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from appliance.cli.git_named import check_no_repository, git_named, local_path
from appliance.cli.options import read_settings
from appliance.cli.output import progress
from appliance.errors import NotFoundError

if TYPE_CHECKING:
    from tournament_sync.commit_claims import CommitClaims
    from tournament_sync.inspection.report import InspectionReport
    from tournament_sync.release import Taken

WANTED: Final = "the name of a champion here, ./FOLDER, ./ARCHIVE, or URL@COMMIT with all 40 digits"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """Files to look at, with their report. `competed_commit`, `claims` and `released` are claims that nobody verified.

    A plain folder has no commit, and so no claims.
    """

    folder: Path
    origin: str
    commit: str | None
    tree: str
    competed_commit: str | None
    claims: "CommitClaims | None"
    released: str | None
    report: "InspectionReport"


@contextmanager
def open_candidate(text: str, *, home: str | None) -> Iterator[Candidate]:
    """The files that `text` names, inspected; the folder is there until the block ends.

    Raises NotFoundError if there is nothing of that name, SyncError for what may not be taken.
    """
    # A plain word is always a name, whatever lies in the working directory: no surprise by a folder.
    if _is_of_home(text):
        yield _of_home(text, home=home)
        return
    with tempfile.TemporaryDirectory(prefix="assay-") as scratch:
        yield _inspected(text, take(text, into=Path(scratch) / "taken"))


def tree_of(text: str, *, home: str | None, into: Path) -> Path:
    """The folder with the files that `text` names: in the home's store, or in the quarantine folder `into`.

    Raises NotFoundError, SyncError.
    """
    from appliance.assembly import open_appliance
    from appliance.dossier import find_champion
    from appliance.store.engine import reading

    if not _is_of_home(text):
        return take(text, into=into).folder
    appliance = open_appliance(read_settings(home=home))
    with reading(appliance.engine) as connection:
        return appliance.store.path(find_champion(connection, text).manifest_sha256)


def take(text: str, *, into: Path, without: Collection[str] | None = None) -> "Taken":
    """The files of the folder, the archive or the commit that `text` names, in the quarantine folder `into`.

    `without` names the links that are left out; None leaves out every one, for who only looks.
    Raises NotFoundError, InvalidOrderError for a repository without a commit, SyncError.
    """
    from tournament_sync.archive import take_archive
    from tournament_sync.intake import take_git, take_tree

    path = local_path(text)
    with progress(f"taking {text}"):
        if path.is_dir():
            check_no_repository(path, text=text)
            return take_tree(path, into=into, without=without)
        if path.is_file():
            return take_archive(path, into=into)
        if (git := git_named(text)) is not None:
            return take_git(git.url, git.commit, into=into, without=without)
    raise NotFoundError(f"{text[:200]!r} is nothing to look at; wanted {WANTED}")


def _is_of_home(text: str) -> bool:
    from tournament_sync.champion import is_champion_digest, is_champion_name

    return is_champion_name(text) or is_champion_digest(text)


def _of_home(name: str, *, home: str | None) -> Candidate:
    from appliance.assembly import open_appliance
    from appliance.champion_report import kept_report
    from appliance.dossier import find_champion
    from appliance.store.engine import reading
    from tournament_sync.inspection.links import with_release
    from tournament_sync.inspection.run import inspect_tree
    from tournament_sync.release import claimed_links

    appliance = open_appliance(read_settings(home=home))
    with reading(appliance.engine) as connection:
        champion = find_champion(connection, name)
        report = kept_report(connection, champion.manifest_sha256, trust=appliance.home.trust())
    folder = appliance.store.path(champion.manifest_sha256)
    if report is None:
        with progress(f"inspecting {name}"):
            report = inspect_tree(folder, manifest_sha256=champion.manifest_sha256)
            report = with_release(
                report,
                links=claimed_links(champion.release_bundle),
                epoch=champion.contract_epoch,
                channel=champion.channel,
            )
    return Candidate(
        folder=folder,
        origin=f"home {appliance.home.root}",
        commit=champion.commit,
        tree=champion.tree,
        competed_commit=None,
        claims=None,
        released=None,
        report=report,
    )


def _inspected(text: str, taken: "Taken") -> Candidate:
    from tournament_sync.commit_claims import commit_claims
    from tournament_sync.inspection.links import with_links
    from tournament_sync.inspection.run import inspect_tree
    from tournament_sync.intake import ORIGIN_TREE

    with progress(f"inspecting {text}"):
        report = inspect_tree(taken.folder, manifest_sha256=taken.manifest.root_sha256)
        report = with_links(report, taken.links)
    # A folder's commit is made here and exists nowhere: what it would claim is our own words.
    is_committed = taken.origin != ORIGIN_TREE
    return Candidate(
        folder=taken.folder,
        origin=taken.origin if is_committed else text,
        commit=taken.commit if is_committed else None,
        tree=taken.tree,
        competed_commit=taken.competed_commit if is_committed else None,
        claims=commit_claims(taken.raw_commit) if is_committed else None,
        released=_released(local_path(text)),
        report=report,
    )


def _released(archive: Path) -> str | None:
    """What the release in an archive says of itself; None for what is no archive."""
    from attestation.bundle import parse_bundle
    from attestation.errors import AttestationError
    from tournament_sync.archive import ArchiveSource

    if not archive.is_file():
        return None
    (offer,) = ArchiveSource(archive).offers()
    try:
        key = parse_bundle(offer.bundle).hint
    except AttestationError as error:
        return f"by nobody: {error}"
    return f"as {offer.name}, by key {key[:16]}… (claimed; `champions import` verifies it)"
