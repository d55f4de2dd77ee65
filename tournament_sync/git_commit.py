"""Commits a plain tree the way upstream publishes champions: one commit without parent, with upstream's message."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

from tournament_sync.errors import PublishError
from tournament_sync.git_export import git_environment, init_repository
from tournament_sync.release import Taken
from tournament_sync.tree_files import survey

# One identity and one moment, so that a tree has one commit id wherever it is published.
_WHO = "Assay publisher <publisher@assay.invalid> 1767225600 +0000"  # 2026-01-01


def commit_object(tree: str) -> bytes:
    """The raw commit of a tree id. Where upstream names the commit that competed, it has the tree's id."""
    message = f"Tournament winner repository - Commit: {tree[:8]}"
    return f"tree {tree}\nauthor {_WHO}\ncommitter {_WHO}\n\n{message}\n".encode()


def write_repository(taken: Taken, repository: Path) -> None:
    """Make `repository` a bare one with `taken` as the one commit of `main`. Raises PublishError."""
    environment = git_environment(repository) | {"GIT_INDEX_FILE": str(repository / "index")}
    init_repository(repository, environment=environment)
    stamps = survey(taken.folder)
    paths = "".join(f"{taken.folder / name}\n" for name in stamps)
    # Without filters: the bytes are what counts, whatever the tree's own attributes ask for.
    blobs = _git(environment, "hash-object", "-w", "--no-filters", "--stdin-paths", given=paths.encode())
    rows = "".join(
        f"{'100755' if stamp.is_executable else '100644'} {blob} 0\t{name}\0"
        for (name, stamp), blob in zip(stamps.items(), blobs.split(), strict=True)
    )
    _git(environment, "update-index", "-z", "--index-info", given=rows.encode())
    _git(environment, "write-tree")
    _git(environment, "hash-object", "-w", "-t", "commit", "--stdin", given=taken.raw_commit)
    _git(environment, "update-ref", "refs/heads/main", taken.commit)
    (repository / "index").unlink()


def _git(environment: Mapping[str, str], *arguments: str, given: bytes = b"") -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], env=dict(environment), input=given, capture_output=True, check=True
        )
    except subprocess.CalledProcessError as error:
        reason = error.stderr.decode(errors="replace").strip()
        raise PublishError(f"git {arguments[0]} failed: {reason}") from error
    return done.stdout.decode()
