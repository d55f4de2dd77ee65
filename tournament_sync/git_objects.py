"""Git's objects, read without git's conveniences, and its ids, computed again.

Covered: no configuration, hook, attribute, filter, replacement, alternate or reference of the repository
that is read has any effect; nothing is checked out, fetched or run. Links, submodules, LFS pointers,
unknown modes, unsafe names and anything over the limits are refused before their bytes are used.
Not covered: collisions of SHA-1; what is trusted is the SHA-256 manifest, git ids only name the content.
"""

import hashlib
import os
import re
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from attestation.errors import MalformedError
from attestation.oms import check_file_names
from tournament_sync.errors import SourceUnavailableError, TreeError

MAX_FILES = 20_000  # the largest champion read so far has some hundreds
MAX_FILE_BYTES = 256 << 20
MAX_TOTAL_BYTES = 1 << 30
MAX_COMMIT_BYTES = 1 << 20
_MAX_LISTING_BYTES = MAX_FILES * 1200  # a line has mode, id, size and a name of at most 1024 bytes
_READ_BYTES = 1 << 20
_GIT_TIMEOUT_S = 300  # for one command; the largest trees allowed take seconds
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"  # git-lfs docs/spec.md
# Git shows every mode as one of four; a tree that really has another one fails by its id.
_LINE = re.compile(
    rb"(100644|100755|120000|160000) (?:blob|commit) ([0-9a-f]{40}) +([0-9]+|-|BAD)\t(.+)", re.DOTALL
)
_HEADER = re.compile(rb"tree ([0-9a-f]{40})\n")
_COMPETED = re.compile(r"^Tournament winner repository - Commit: ([0-9a-f]{8})$", re.ASCII | re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeFile:
    """One file of a commit's tree."""

    name: str
    blob: str
    is_executable: bool
    size_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """What a commit object says."""

    tree: str
    competed_commit: str | None  # first 8 digits of the commit that competed, where the message tells it


def export_commit(repository: Path, commit: str, *, into: Path) -> bytes:
    """Write the files of `commit` into the empty folder `into`; the raw commit object.

    Raises TreeError for what may not be taken, SourceUnavailableError without git or repository.
    """
    objects = _objects_of(repository)
    with _git_beside(objects) as git:
        if git("cat-file", "-t", commit, max_bytes=64) != b"commit\n":
            raise TreeError(f"{commit} is not a commit")
        raw = git("cat-file", "commit", commit, max_bytes=MAX_COMMIT_BYTES)
        listing = git("ls-tree", "-r", "-z", "-l", "--full-tree", commit, max_bytes=_MAX_LISTING_BYTES)
        files = _parse_listing(listing)
        _write_blobs(git, files, into=into)
    return raw


def object_id(kind: str, data: bytes) -> str:
    """The git id of an object."""
    return hashlib.sha1(f"{kind} {len(data)}\0".encode() + data, usedforsecurity=False).hexdigest()


def parse_commit(raw: bytes) -> Commit:
    """What a raw commit object says. Raises TreeError."""
    match = _HEADER.match(raw)
    if match is None:
        raise TreeError("commit object does not begin with its tree")
    _, _, message = raw.partition(b"\n\n")
    competed = _COMPETED.search(message.decode(errors="replace"))
    return Commit(tree=match[1].decode(), competed_commit=competed[1] if competed else None)


def folder_tree_id(folder: Path) -> str:
    """The git tree id that the files in `folder` have, whatever git says. Raises TreeError."""
    return tree_id(
        [
            TreeFile(
                name=path.relative_to(folder).as_posix(),
                blob=_blob_id(path),
                is_executable=bool(path.stat().st_mode & 0o100),
            )
            for path in _regular_files(folder)
        ]
    )


def tree_id(files: Sequence[TreeFile]) -> str:
    """The git tree id of `files`, whose names must be safe and unique."""
    rows: list[tuple[bytes, bytes, str]] = []  # what git sorts by, mode and name, id
    folders: dict[str, list[TreeFile]] = {}
    for file in files:
        first, slash, rest = file.name.partition("/")
        if slash:
            inner = TreeFile(name=rest, blob=file.blob, is_executable=file.is_executable)
            folders.setdefault(first, []).append(inner)
        else:
            mode = b"100755 " if file.is_executable else b"100644 "
            rows.append((first.encode(), mode + first.encode(), file.blob))
    for name, inside in folders.items():
        # Git sorts a folder as if its name ended with a slash.
        rows.append((name.encode() + b"/", b"40000 " + name.encode(), tree_id(inside)))
    return object_id("tree", b"".join(row + b"\0" + bytes.fromhex(child) for _, row, child in sorted(rows)))


def _parse_listing(listing: bytes) -> tuple[TreeFile, ...]:
    files = []
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
    if not files:
        raise TreeError("the commit holds no files")
    if (total := sum(file.size_bytes for file in files)) > MAX_TOTAL_BYTES:
        raise TreeError(f"{total} bytes of files are over the limit of {MAX_TOTAL_BYTES}")
    _check_names([file.name for file in files])
    return tuple(files)


def _tree_file(name: str, *, mode: str, blob: str, size: bytes) -> TreeFile:
    if mode == "120000":
        raise TreeError(f"{name[:120]!r} is a symbolic link")
    if mode == "160000":
        raise TreeError(f"{name[:120]!r} is a submodule")
    if not size.isdigit():
        raise TreeError(f"{name[:120]!r}: blob {blob} is absent or damaged")
    if int(size) > MAX_FILE_BYTES:
        raise TreeError(f"{name[:120]!r} of {int(size)} bytes is over the limit of {MAX_FILE_BYTES}")
    return TreeFile(name=name, blob=blob, is_executable=mode == "100755", size_bytes=int(size))


def _check_names(names: Sequence[str]) -> None:
    try:
        check_file_names(names)
    except MalformedError as error:
        raise TreeError(str(error)) from error
    for name in names:
        if any(part.casefold() == ".git" for part in name.split("/")):
            raise TreeError(f"{name[:120]!r} lies in a .git folder")


def _write_blobs(git: "_Git", files: Sequence[TreeFile], *, into: Path) -> None:
    with git.started("cat-file", "--batch") as process:
        assert process.stdin is not None and process.stdout is not None  # both are pipes
        try:
            for file in files:
                # One at a time: git answers each line at once, and neither side fills the other's pipe.
                process.stdin.write(f"{file.blob}\n".encode())
                process.stdin.flush()
                _write_blob(process.stdout, file, path=into / file.name)
        except BrokenPipeError as error:
            raise TreeError("git stopped while it read the commit's files") from error


def _write_blob(stream: IO[bytes], file: TreeFile, *, path: Path) -> None:
    header = stream.readline(128)
    if header != f"{file.blob} blob {file.size_bytes}\n".encode():
        raise TreeError(f"{file.name!r}: git has no blob {file.blob} of {file.size_bytes} bytes")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as out:
        left = file.size_bytes
        while left:
            part = stream.read(min(left, _READ_BYTES))
            if not part:
                raise TreeError(f"{file.name!r}: blob {file.blob} is cut short")
            if left == file.size_bytes and part.startswith(_LFS_POINTER):
                raise TreeError(f"{file.name!r} is a Git LFS pointer, not the file")
            out.write(part)
            left -= len(part)
        out.flush()
        os.fsync(out.fileno())
    path.chmod(0o555 if file.is_executable else 0o444)
    if stream.read(1) != b"\n":
        raise TreeError(f"{file.name!r}: blob {file.blob} is longer than git lists it")


def _blob_id(path: Path) -> str:
    size = path.stat().st_size
    digest = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while part := file.read(_READ_BYTES):
            digest.update(part)
    return digest.hexdigest()


def _regular_files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            raise TreeError(f"{path.relative_to(folder).as_posix()!r} is neither a file nor a folder")
        if path.is_dir():
            yield from _regular_files(path)
        else:
            yield path


class _Git:
    """Runs read-only git commands in an environment that is ours alone."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def __call__(self, *arguments: str, max_bytes: int) -> bytes:
        """What the command prints. Raises TreeError if it fails or prints more than `max_bytes`."""
        with self.started(*arguments) as process:
            assert process.stdout is not None  # a pipe
            # A tree whose folders repeat themselves lists for ever: read up to the limit, then kill.
            output = process.stdout.read(max_bytes + 1)
            if len(output) > max_bytes:
                raise TreeError(f"git {arguments[0]} prints more than {max_bytes} bytes")
            if process.wait() != 0:
                raise TreeError(f"git {' '.join(arguments)} failed: an object is absent or damaged")
        return output

    @contextmanager
    def started(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """The command with pipes; killed at the end of the block, or when its time is over."""
        with subprocess.Popen(
            ["git", *arguments],
            env=dict(self._environment),
            stdin=subprocess.PIPE,
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
        try:
            subprocess.run(
                ["git", "init", "--quiet", "--bare", "--template=", own],
                env=environment,
                check=True,
                capture_output=True,
                timeout=_GIT_TIMEOUT_S,
            )
        except FileNotFoundError as error:
            raise SourceUnavailableError("git is not installed") from error
        yield _Git({**environment, "GIT_OBJECT_DIRECTORY": str(objects)})


def git_environment(git_dir: Path) -> dict[str, str]:
    """An environment for git in which only `git_dir` configures it and nothing can be fetched."""
    return {
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
        # Derived files that a hostile repository could bring along: git shall read the objects themselves.
        "GIT_CONFIG_COUNT": "2",
        "GIT_CONFIG_KEY_0": "core.commitGraph",
        "GIT_CONFIG_VALUE_0": "false",
        "GIT_CONFIG_KEY_1": "core.multiPackIndex",
        "GIT_CONFIG_VALUE_1": "false",
    }


def _objects_of(repository: Path) -> Path:
    objects = repository / "objects"
    if repository.is_symlink() or objects.is_symlink() or not objects.is_dir():
        raise SourceUnavailableError(f"{repository} is not a bare git repository")
    for name in ("alternates", "http-alternates"):
        if os.path.lexists(objects / "info" / name):
            raise TreeError(f"{repository.name} borrows objects from elsewhere (objects/info/{name})")
    return objects
