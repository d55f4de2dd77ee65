"""Publishes a repository into a feed the way upstream publishes champions, with the signature it lacks."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from attestation.bundle import open_bundle, parse_bundle, sign_statement
from attestation.errors import AttestationError
from attestation.files import hash_folder
from attestation.keys import Signer, load_public_key
from attestation.oms import check_file_names
from attestation.predicates import CHAMPION_RELEASE
from attestation.statement import Statement, Subject
from attestation.times import format_time
from tournament_sync.champion import Channel, ContractEpoch, ReleaseOffer, is_champion_name
from tournament_sync.errors import PublishError, RefusedError
from tournament_sync.folder import release_path, repository_path
from tournament_sync.git_objects import export_commit, folder_tree_id, git_environment
from tournament_sync.licence import read_licence

_LEFTOVERS = "__pycache__"  # written by whoever ran the tree before; never part of a release
# One identity and one moment, so that a tree has one commit id wherever it is published.
_COMMIT_AT = datetime(2026, 1, 1, tzinfo=UTC)
_IDENTITY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (
        ("NAME", "Assay publisher"),
        ("EMAIL", "publisher@assay.invalid"),
        ("DATE", f"@{int(_COMMIT_AT.timestamp())} +0000"),
    )
}


def publish_release(
    tree: Path,
    feed: Path,
    *,
    name: str,
    channel: Channel,
    contract_epoch: ContractEpoch,
    signer: Signer,
    now: datetime,
) -> ReleaseOffer:
    """Commit `tree` to `feed` as the champion `name` and sign its release.

    Publishing the same tree under the same name again returns the release that is there. The commit has no
    parent and upstream's message; where upstream names the commit that competed, it has the tree's id.
    Raises PublishError, also for another tree under a name that was released.
    """
    if not is_champion_name(name):
        raise PublishError(f"champion name {name[:120]!r} is not lower case, digits and inner hyphens")
    feed.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".publish-", dir=feed) as work:
        repository, exported = Path(work) / "repository", Path(work) / "tree"
        exported.mkdir()
        try:
            commit = _commit(tree, repository)
            export_commit(repository, commit, into=exported)  # what a reader will get, by the reader's rules
            statement = _statement(
                exported, name=name, commit=commit, channel=channel, contract_epoch=contract_epoch, now=now
            )
        except (RefusedError, AttestationError) as error:
            raise PublishError(f"{tree} cannot be released: {error}") from error
        released = release_path(feed, name)
        if released.exists():
            return _released_before(released, statement, name=name, signer=signer)
        # The release comes last: whoever sees it finds the repository.
        _replace_folder(repository, repository_path(feed, name))
        bundle = sign_statement(statement, signer)
        _write_release(bundle, released, work=Path(work))
    return ReleaseOffer(name=name, bundle=bundle)


def _statement(
    exported: Path,
    *,
    name: str,
    commit: str,
    channel: Channel,
    contract_epoch: ContractEpoch,
    now: datetime,
) -> Statement:
    licence = read_licence(exported)
    return Statement(
        subjects=(Subject(name=name, sha256=hash_folder(exported).root_sha256),),
        predicate_type=CHAMPION_RELEASE,
        predicate={
            "name": name,
            "channel": channel.value,
            "commit": commit,
            "tree": folder_tree_id(exported),
            "contractEpoch": contract_epoch.value,
            "licence": {"sha256": licence.licence_sha256},
            "notice": {"sha256": licence.notice_sha256},
            "publishedAt": format_time(now),
        },
    )


def _released_before(path: Path, wanted: Statement, *, name: str, signer: Signer) -> ReleaseOffer:
    bundle = path.read_bytes()
    try:
        found = open_bundle(parse_bundle(bundle), load_public_key(signer.public_pem))
    except AttestationError as error:
        raise PublishError(f"{path} is not a release of this publisher: {error}") from error
    if found.subjects != wanted.subjects or _content(found) != _content(wanted):
        raise PublishError(f"{name} was released with other content: choose another name")
    return ReleaseOffer(name=name, bundle=bundle)


def _content(statement: Statement) -> dict[str, object]:
    return {field: value for field, value in statement.predicate.items() if field != "publishedAt"}


def _commit(tree: Path, repository: Path) -> str:
    """Make `repository` a bare one with `tree` as the one commit of `main`; the commit's id."""
    files = _files(tree)
    environment = {**git_environment(repository), **_IDENTITY, "GIT_INDEX_FILE": str(repository / "index")}
    _git(environment, "init", "--quiet", "--bare", "--template=", "--initial-branch=main", str(repository))
    paths = "".join(f"{path}\n" for _, path in files)
    # Without filters: the bytes are what counts, whatever the tree's own attributes ask for.
    blobs = _git(environment, "hash-object", "-w", "--no-filters", "--stdin-paths", given=paths).split()
    rows = "".join(
        f"{'100755' if path.stat().st_mode & 0o100 else '100644'} {blob} 0\t{name}\0"
        for (name, path), blob in zip(files, blobs, strict=True)
    )
    _git(environment, "update-index", "-z", "--index-info", given=rows)
    tree_id = _git(environment, "write-tree").strip()
    message = f"Tournament winner repository - Commit: {tree_id[:8]}\n"
    commit = _git(environment, "commit-tree", tree_id, given=message).strip()
    _git(environment, "update-ref", "refs/heads/main", commit)
    (repository / "index").unlink()
    return commit


def _files(tree: Path) -> Sequence[tuple[str, Path]]:
    """Name and absolute path of every file to release, sorted by name."""
    root = tree.resolve()
    found = []
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root)
        if _LEFTOVERS in name.parts or (path.is_dir() and not path.is_symlink()):
            continue
        if path.is_symlink() or not path.is_file():
            raise PublishError(f"{tree} cannot be released: {name.as_posix()!r} is no plain file")
        found.append((name.as_posix(), path))
    check_file_names([name for name, _ in found])
    return found


def _git(environment: dict[str, str], *arguments: str, given: str = "") -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], env=environment, input=given.encode(), capture_output=True, check=True
        )
    except FileNotFoundError as error:
        raise PublishError("git is not installed") from error
    except subprocess.CalledProcessError as error:
        reason = error.stderr.decode(errors="replace").strip()
        raise PublishError(f"git {arguments[0]} failed: {reason}") from error
    return done.stdout.decode()


def _replace_folder(folder: Path, target: Path) -> None:
    """Put `folder` at `target`, in place of what an interrupted call left there."""
    target.parent.mkdir(exist_ok=True)
    if target.exists():
        shutil.rmtree(target)
    folder.rename(target)


def _write_release(bundle: bytes, path: Path, *, work: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = work / path.name
    with beside.open("wb") as file:
        file.write(bundle)
        file.flush()
        os.fsync(file.fileno())
    beside.rename(path)
