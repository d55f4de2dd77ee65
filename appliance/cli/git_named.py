"""Git as a person names it: `URL@COMMIT`, and what to say of a repository that is given as if it were a folder.

Covered: a repository's HEAD is read as plain files; git does not run in it, so nothing of its configuration counts.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.errors import InvalidOrderError
from tournament_sync.errors import SyncError

_NAMED: Final = re.compile(r"(?P<url>.+)@(?P<commit>[0-9a-f]{40})", re.ASCII)
_COMMIT: Final = re.compile(r"[0-9a-f]{40}", re.ASCII)
_BRANCH: Final = re.compile(r"ref: (?P<name>refs/[A-Za-z0-9._/-]{1,200})", re.ASCII)
_MAX_HEAD_BYTES: Final = 4096
_MAX_PACKED_BYTES: Final = 16 << 20
_FILE: Final = "file://"


@dataclass(frozen=True, slots=True, kw_only=True)
class GitCommit:
    """A commit where git has it; a local URL is absolute, since it is signed as the origin."""

    url: str
    commit: str


def git_named(text: str) -> GitCommit | None:
    """The commit that `text` names, None if it is not of the form `URL@COMMIT`."""
    found = _NAMED.fullmatch(text)
    return None if found is None else GitCommit(url=absolute_url(found["url"]), commit=found["commit"])


def absolute_url(url: str) -> str:
    """`url`, and if it is a path of this machine, from its root: a relative one means nothing to anybody else."""
    from tournament_sync.git_fetch import url_protocol

    if url_protocol(url) != "file":
        return url
    prefix = _FILE if url.startswith(_FILE) else ""
    return prefix + os.path.abspath(url.removeprefix(_FILE))  # noqa: PTH100  # of "..", too; follows no link


def local_path(text: str) -> Path:
    """The file or folder that `text` names, as a path or as file://…"""
    return Path(text.removeprefix(_FILE))


def check_no_repository(path: Path, *, text: str) -> None:
    """Raise InvalidOrderError, with the commit to ask for, if the folder `path` is git's: its files are at a commit."""
    inner = path / ".git"
    is_bare = (path / "HEAD").is_file() and (path / "objects").is_dir() and (path / "refs").is_dir()
    if not os.path.lexists(inner) and not is_bare:
        return
    head = _head(path if is_bare else inner)
    told = "it has no commit that HEAD names" if head is None else f"its HEAD is {head}"
    raise InvalidOrderError(f"{text} is git: give {text.rstrip('/')}@COMMIT; {told}")


def _head(repository: Path) -> str | None:
    """The commit that is checked out, None where plain files do not say it."""
    try:
        head = _first_line(_read(repository / "HEAD", max_bytes=_MAX_HEAD_BYTES))
        branch = _BRANCH.fullmatch(head)
        if branch is not None:
            head = _of_branch(repository, branch["name"]) or ""
    except SyncError:
        return None
    return head if _COMMIT.fullmatch(head) else None


def _of_branch(repository: Path, name: str) -> str | None:
    if ".." not in name and (repository / name).is_file():
        return _first_line(_read(repository / name, max_bytes=_MAX_HEAD_BYTES))
    packed = _read(repository / "packed-refs", max_bytes=_MAX_PACKED_BYTES).decode(errors="replace")
    for line in packed.splitlines():
        commit, _, branch = line.partition(" ")
        if branch == name:
            return commit
    return None


def _read(path: Path, *, max_bytes: int) -> bytes:
    from tournament_sync.tournament.saved import read_saved  # which knows of links and pipes

    return read_saved(path, max_bytes=max_bytes)


def _first_line(data: bytes) -> str:
    return data.decode(errors="replace").partition("\n")[0].strip()
