"""Writes the files of one commit of a hostile repository, read without git's conveniences.

Covered: no configuration, hook, attribute, filter, replacement, graft, alternate or reference of the repository
that is read has any effect; nothing is checked out, fetched or run. Links (unless whoever imports them names them
to be left out), submodules, unknown modes, unsafe names and anything over the limits (tournament_sync.tree_files)
are refused before their bytes are used.
Not covered: whether the files are those of the commit; who reads them back compares ids.
"""

import os
import re
import subprocess
import tempfile
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO

from tournament_sync.errors import SourceUnavailableError, TreeError
from tournament_sync.git_objects import MAX_COMMIT_BYTES, MAX_TARGET_BYTES, Link, TreeFile, check_commit_id
from tournament_sync.tree_files import MAX_FILES, READ_BYTES, check_names, check_sizes, write_file

_MAX_LISTING_BYTES = MAX_FILES * 1200  # a line has mode, id, size and a name of at most 1024 bytes
_GIT_TIMEOUT_S = 300  # for one command; the largest trees allowed take seconds
# Git shows every mode as one of four; a tree that really has another one fails by its id.
_LINE = re.compile(
    rb"(100644|100755|120000|160000) (?:blob|commit) ([0-9a-f]{40}) +([0-9]+|-|BAD)\t(.+)", re.DOTALL
)
_CHECKED = re.compile(rb"[0-9a-f]{40} ([a-z]+) ([0-9]+)\n")
_MAX_MEMORY_BYTES = (
    2 << 30
)  # a file of the limit, its base and what makes one of the other, and maps of packs
_SETTINGS: Mapping[str, str] = MappingProxyType(
    {
        # Derived files that a hostile repository could bring along: git shall read the objects themselves.
        "core.commitGraph": "false",
        "core.multiPackIndex": "false",
        # Maps of packs count as memory; a repository may have more history than fits.
        "core.packedGitWindowSize": "32m",
        "core.packedGitLimit": "256m",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """The raw commit object, and the links that were left out of its files."""

    raw_commit: bytes
    links: tuple[Link, ...]


def export_commit(
    repository: Path, commit: str, *, into: Path, without: Collection[str] | None = frozenset()
) -> Exported:
    """Write the files of `commit` into the empty folder `into`, but for the links that `without` names; None: any.

    Raises TreeError for what may not be taken, SourceUnavailableError without git or repository.
    """
    check_commit_id(commit)
    objects = _objects_of(repository)
    with _git_beside(objects) as git:
        _check_commit(git, commit)
        raw = git("cat-file", "commit", commit, max_bytes=MAX_COMMIT_BYTES)
        listing = git("ls-tree", "-r", "-z", "-l", "--full-tree", commit, max_bytes=_MAX_LISTING_BYTES)
        entries = _parse_listing(git, listing)
        links = tuple(_left_out(git, entry, without=without) for entry in entries if entry.is_link)
        if strange := sorted(set(without or ()) - {link.name for link in links}):
            raise TreeError(f"{strange[0][:120]!r} was to be left out, but the commit has no such link")
        _write_blobs(git, [entry for entry in entries if not entry.is_link], into=into)
    return Exported(raw_commit=raw, links=links)


def git_environment(git_dir: Path, *, settings: Mapping[str, str] = _SETTINGS) -> dict[str, str]:
    """An environment for git in which only `git_dir` and `settings` configure it and nothing can be fetched."""
    environment = {
        "PATH": os.defpath,
        "LC_ALL": "C",
        "TZ": "UTC",
        "HOME": "/nonexistent",
        "GIT_DIR": str(git_dir),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_ALLOW_PROTOCOL": "none",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_CONFIG_COUNT": str(len(settings)),
    }
    for number, (key, value) in enumerate(settings.items()):
        environment[f"GIT_CONFIG_KEY_{number}"] = key
        environment[f"GIT_CONFIG_VALUE_{number}"] = value
    return environment


def init_repository(repository: Path, *, environment: Mapping[str, str]) -> None:
    """An empty bare repository of our own, with no hook. Raises SourceUnavailableError without git."""
    try:
        subprocess.run(
            ["git", "init", "--quiet", "--bare", "--template=", "--initial-branch=main", str(repository)],
            env=dict(environment),
            check=True,
            capture_output=True,
            timeout=_GIT_TIMEOUT_S,
        )
    except FileNotFoundError as error:
        raise SourceUnavailableError("git is not installed") from error
    except subprocess.SubprocessError as error:
        raise SourceUnavailableError(f"git cannot make an empty repository: {error}") from error


def _parse_listing(git: "_Git", listing: bytes) -> tuple[TreeFile, ...]:
    files: list[TreeFile] = []
    for line in listing.split(b"\0")[:-1]:
        match = _LINE.fullmatch(line)
        if match is None:
            raise TreeError(f"git lists what it should not: {line[:120]!r}")
        mode, blob, size, raw_name = match.groups()
        try:
            name = raw_name.decode()
        except UnicodeDecodeError as error:
            raise TreeError(f"file name {raw_name[:120]!r} is not UTF-8") from error
        files.append(_tree_file(name, mode=mode.decode(), blob=blob.decode(), size=size))
        if len(files) > MAX_FILES:
            raise TreeError(f"more than {MAX_FILES} files")
    check_names([file.name for file in files])  # with its repetitions, which a mapping would lose
    check_sizes({file.name: file.size_bytes for file in files})
    return tuple(files)


def _check_commit(git: "_Git", commit: str) -> None:
    """Before its content is asked for, which git reads whole into memory, whatever its size."""
    with tempfile.TemporaryFile() as asked:
        asked.write(f"{commit}\n".encode())
        asked.seek(0)
        found = git("cat-file", "--batch-check", stdin=asked, max_bytes=128)
    match = _CHECKED.fullmatch(found)
    if match is None:
        raise TreeError(f"{commit}: an object is absent or damaged")
    kind, size = match.groups()
    if kind != b"commit":
        raise TreeError(f"{commit} is not a commit")
    if int(size) > MAX_COMMIT_BYTES:
        raise TreeError(f"commit {commit} of {int(size)} bytes is over the limit of {MAX_COMMIT_BYTES}")


def _left_out(git: "_Git", entry: TreeFile, *, without: Collection[str] | None) -> Link:
    if entry.size_bytes > MAX_TARGET_BYTES:
        raise TreeError(
            f"{entry.name[:120]!r} is a symbolic link whose target of {entry.size_bytes} bytes is over the limit"
            f" of {MAX_TARGET_BYTES}"
        )
    raw = git("cat-file", "blob", entry.blob, max_bytes=MAX_TARGET_BYTES)
    if without is not None and entry.name not in without:
        raise TreeError(
            f"{entry.name[:120]!r} is a symbolic link to {raw.decode(errors='replace')[:120]!r}; who imports it "
            f"may look at it and name it to be left out: --leave-out {entry.name[:120]}"
        )
    try:
        return Link(name=entry.name, target=raw.decode())
    except UnicodeDecodeError as error:
        raise TreeError(f"{entry.name[:120]!r} is a symbolic link whose target is not UTF-8") from error


def _tree_file(name: str, *, mode: str, blob: str, size: bytes) -> TreeFile:
    if mode == "160000":
        raise TreeError(f"{name[:120]!r} is a submodule")
    if not size.isdigit():
        raise TreeError(f"{name[:120]!r}: blob {blob} is absent or damaged")
    return TreeFile(
        name=name,
        blob=blob,
        is_executable=mode == "100755",
        is_link=mode == "120000",
        size_bytes=int(size),
    )


def _write_blobs(git: "_Git", files: Sequence[TreeFile], *, into: Path) -> None:
    with tempfile.TemporaryFile() as wanted:
        # A file, not a pipe: git need not wait for us, nor we for git, between two blobs.
        wanted.write("".join(f"{file.blob}\n" for file in files).encode())
        wanted.seek(0)
        with git.started("cat-file", "--batch", "--buffer", stdin=wanted) as process:
            assert process.stdout is not None  # a pipe
            for file in files:
                chunks = _blob_chunks(process.stdout, file)
                write_file(into, file.name, chunks, is_executable=file.is_executable)


def _blob_chunks(stream: IO[bytes], file: TreeFile) -> Iterator[bytes]:
    header = stream.readline(128)
    if header != f"{file.blob} blob {file.size_bytes}\n".encode():
        raise TreeError(f"{file.name!r}: git has no blob {file.blob} of {file.size_bytes} bytes")
    left = file.size_bytes
    while left:
        part = stream.read(min(left, READ_BYTES))
        if not part:
            raise TreeError(f"{file.name!r}: blob {file.blob} is cut short")
        yield part
        left -= len(part)
    if stream.read(1) != b"\n":
        raise TreeError(f"{file.name!r}: blob {file.blob} is longer than git lists it")


class _Git:
    """Runs read-only git commands in an environment that is ours alone."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def __call__(self, *arguments: str, max_bytes: int, stdin: IO[bytes] | None = None) -> bytes:
        """What the command prints. Raises TreeError if it fails or prints more than `max_bytes`."""
        with self.started(*arguments, stdin=stdin) as process:
            assert process.stdout is not None  # a pipe
            # A tree whose folders repeat themselves lists for ever: read up to the limit, then kill.
            output = process.stdout.read(max_bytes + 1)
            if len(output) > max_bytes:
                raise TreeError(f"git {arguments[0]} prints more than {max_bytes} bytes")
            if process.wait() != 0:
                raise TreeError(
                    f"git {' '.join(arguments)} failed: an object is absent or damaged, or takes more than"
                    f" {_MAX_MEMORY_BYTES} bytes of memory"
                )
        return output

    @contextmanager
    def started(self, *arguments: str, stdin: IO[bytes] | None = None) -> Iterator[subprocess.Popen[bytes]]:
        """The command, its output a pipe; killed at the end of the block, or when its time is over."""
        with subprocess.Popen(
            # By prlimit, so that git does not start before the limits hold.
            ["prlimit", f"--as={_MAX_MEMORY_BYTES}", "--core=0", "git", *arguments],
            env=dict(self._environment),
            stdin=stdin or subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as process:
            # An object that is a pipe nobody writes to would make git wait for ever.
            timer = threading.Timer(_GIT_TIMEOUT_S, process.kill)
            timer.start()
            try:
                yield process
            finally:
                timer.cancel()
                process.kill()


@contextmanager
def _git_beside(objects: Path) -> Iterator[_Git]:
    """Git on an empty repository of our own that borrows only the objects of the hostile one."""
    with tempfile.TemporaryDirectory(prefix="assay-git-") as own:
        environment = git_environment(Path(own))
        init_repository(Path(own), environment=environment)
        yield _Git({**environment, "GIT_OBJECT_DIRECTORY": str(objects)})


def _objects_of(repository: Path) -> Path:
    objects = repository / "objects"
    if repository.is_symlink() or objects.is_symlink() or not objects.is_dir():
        raise SourceUnavailableError(f"{repository} is not a git repository with objects of its own")
    for name in ("alternates", "http-alternates"):
        if os.path.lexists(objects / "info" / name):
            raise TreeError(f"{repository.name} borrows objects from elsewhere (objects/info/{name})")
    return objects
