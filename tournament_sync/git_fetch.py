"""Fetches one commit, by its full id, from wherever git can reach it, into a repository of our own.

Covered: the remote can name no other protocol, ask for no password, run no helper, send no more than the limits and
take no longer; what it sends is checked by git (fsck) on arrival. Local repositories are not fetched from, because
git would read their configuration: their objects are read where they lie.
Not covered: whether the content is what somebody signed. TLS and SSH only protect the way.
"""

import os
import re
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from time import monotonic
from types import MappingProxyType
from urllib.parse import urlsplit

from tournament_sync.errors import SourceUnavailableError, TreeError
from tournament_sync.git_export import git_environment, init_repository
from tournament_sync.git_objects import check_commit_id
from tournament_sync.tree_files import MAX_TOTAL_BYTES

MAX_FETCH_BYTES = MAX_TOTAL_BYTES  # compressed, so champions have far less
MAX_URL_CHARS = 2048
FETCH_TIMEOUT_S = 900
_POLL_S = 0.1
_MAX_MEMORY_BYTES = 4 << 30  # a pack may claim objects that unfold to any size
_TOLD_CHARS = 300  # of what git, or the remote through git, says
_PROTOCOLS = frozenset(["https", "ssh", "git"])
_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9+.-]*::")  # ext::, fd::, and whatever else git would run
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_HOST_AND_PATH = re.compile(r"[^/:]+:")  # git's short form of ssh
# How this site reaches the network is its operator's to say; nothing else of the environment counts.
_SITE_SETTINGS = (
    "HTTPS_PROXY",
    "https_proxy",
    "NO_PROXY",
    "no_proxy",
    "GIT_SSL_CAINFO",
    "SSH_AUTH_SOCK",
)
_SETTINGS: Mapping[str, str] = MappingProxyType(
    {
        "fetch.fsckObjects": "true",
        "fetch.unpackLimit": "1",  # one pack, to which the size limit of one file applies
        "fetch.recurseSubmodules": "false",
        "fetch.uriProtocols": "",
        "transfer.bundleURI": "false",
        "transfer.credentialsInUrl": "die",
        "protocol.version": "2",
        "http.sslVerify": "true",
        "http.followRedirects": "initial",
        "http.lowSpeedLimit": "1",
        "http.lowSpeedTime": "60",
        "core.bigFileThreshold": "16m",  # larger ones are checked in passing, not in memory
        "pack.threads": "1",
        "gc.auto": "0",
        "maintenance.auto": "false",
    }
)


def fetch_commit(url: str, commit: str, *, work: Path) -> Path:
    """A repository that holds `commit`: the local one that `url` names, or a new one below `work`.

    Raises TreeError if the id is none, or what comes may not be taken; SourceUnavailableError for a URL that is
    refused or does not answer.
    """
    check_commit_id(commit)
    protocol = url_protocol(url)
    if protocol == "file":
        return _local_repository(Path(url.removeprefix("file://")))
    repository = work / "repository"
    environment = git_environment(repository, settings=_SETTINGS) | {
        "GIT_ALLOW_PROTOCOL": protocol,
        "GIT_SSH_COMMAND": "ssh -oBatchMode=yes",
        "GIT_SSH_VARIANT": "ssh",
        **{name: os.environ[name] for name in _SITE_SETTINGS if name in os.environ},
    }
    init_repository(repository, environment=environment)
    _fetch(url, commit, repository=repository, environment=environment, log=work / "fetch.log")
    return repository


def url_protocol(url: str) -> str:
    """What `url` is reached by: https, ssh, git, or file for local paths. Raises SourceUnavailableError."""
    if not 0 < len(url) <= MAX_URL_CHARS or not url.isprintable() or " " in url:
        raise SourceUnavailableError(f"URL of {len(url)} characters is empty, too long, or has blanks")
    if url.startswith("-"):
        raise SourceUnavailableError(f"URL {url[:120]!r} begins with '-' and would be read as an option")
    if helper := _HELPER.match(url):
        raise SourceUnavailableError(f"URL begins with {helper[0]!r}: git would run a program to reach it")
    scheme = _SCHEME.match(url)
    if scheme is None:
        return "ssh" if _HOST_AND_PATH.match(url) else "file"
    if scheme[1] == "file":
        return "file"
    if scheme[1] not in _PROTOCOLS:
        raise SourceUnavailableError(
            f"URL has protocol {scheme[1]!r}; allowed are {', '.join(sorted(_PROTOCOLS | {'file'}))}"
        )
    _check_authority(url)
    return scheme[1]


def _check_authority(url: str) -> None:
    """A secret in the URL would be signed into the release and shown to everybody."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise SourceUnavailableError(f"URL cannot be read: {error}") from error
    if not parts.hostname or parts.hostname.startswith("-"):
        raise SourceUnavailableError("URL names no host")
    if parts.password is not None or (parts.username is not None and parts.scheme != "ssh"):
        raise SourceUnavailableError("URL carries a user or password: these stay out of releases")
    if parts.username is not None and parts.username.startswith("-"):
        raise SourceUnavailableError("URL has a user that would be read as an option")


def _local_repository(path: Path) -> Path:
    inner = path / ".git"
    return inner if inner.is_dir() and not inner.is_symlink() else path


def _fetch(url: str, commit: str, *, repository: Path, environment: Mapping[str, str], log: Path) -> None:
    limits = ["prlimit", f"--fsize={MAX_FETCH_BYTES}", f"--as={_MAX_MEMORY_BYTES}", "--core=0"]
    arguments = ["git", "fetch", "--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules"]
    arguments += ["--no-auto-maintenance", "--no-write-fetch-head", "--", url, commit]
    with log.open("wb") as told:
        process = subprocess.Popen(
            [*limits, *arguments],  # by prlimit, so that no child starts before they hold
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=told,  # a file, under the same limits: the remote may talk without end
            start_new_session=True,
        )
    try:
        _wait(process, url, watched=repository.parent)
    finally:
        # Its children too: the transport, and whatever unpacks.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.returncode != 0:
        raise _failure(url, commit, told=_tail(log))


def _wait(process: subprocess.Popen[bytes], url: str, *, watched: Path) -> None:
    deadline = monotonic() + FETCH_TIMEOUT_S
    while True:
        try:
            process.wait(timeout=_POLL_S)
        except subprocess.TimeoutExpired:
            is_over = False
        else:
            is_over = True
        if (size := _size_of(watched)) >= MAX_FETCH_BYTES:
            raise TreeError(f"{url} hands over {size} bytes or more, the limit is {MAX_FETCH_BYTES}")
        if is_over:
            return
        if monotonic() > deadline:
            raise SourceUnavailableError(f"{url} did not hand over the commit within {FETCH_TIMEOUT_S} s")


def _size_of(folder: Path) -> int:
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):  # git renames and removes as it goes
                total += os.lstat(f"{root}/{name}").st_size
    return total


def _tail(log: Path) -> str:
    """The end of what git said, fit to be shown: the remote wrote some of it."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 4096))
        text = file.read().decode(errors="replace")
    return "".join(char if char.isprintable() else " " for char in text).strip()[-_TOLD_CHARS:]


def _failure(url: str, commit: str, *, told: str) -> SourceUnavailableError | TreeError:
    if "unadvertised object" in told:
        return SourceUnavailableError(f"{url} hands out branches only, no commit by its id: {told}")
    if "not our ref" in told:
        return TreeError(f"{url} has no commit {commit}, or does not hand it out")
    if "fsck error" in told:
        return TreeError(f"{url} sends an object that git refuses: {told}")
    return SourceUnavailableError(f"{url} cannot be fetched from: {told or 'git failed without a word'}")
