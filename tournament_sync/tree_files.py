"""The files of a champion on disk: which ones may be there, how they are written, flushed and read back.

Covered: links, special files, LFS pointers, names that some system reads otherwise or cannot hold, more than the
limits, and files or folders that change while they are read.
Not covered: who else may write to the folder later; a quarantine is private to its appliance.
Links are refused even where they stay inside: an OMS manifest without links (allow_symlinks false) has no line for
them, so the signature would not say where they lead, and systems without links would hold another tree.
"""

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from attestation.errors import MalformedError
from attestation.oms import FileDigest, Manifest, check_file_names
from tournament_sync.errors import TreeError
from tournament_sync.git_objects import Link, TreeFile, link_entry, tree_id

MAX_FILES = 20_000  # the largest champion read so far has some hundreds
MAX_FILE_BYTES = 256 << 20
MAX_TOTAL_BYTES = 1 << 30
MAX_DEPTH = 32  # parts of a name
READ_BYTES = 1 << 20
_FLUSH_THREADS = 16  # they wait for the disk, which flushes neighbours together
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"  # git-lfs docs/spec.md
_FOREIGN_CHARACTERS = frozenset('<>:"|?*')  # no file name on Windows; a colon names a hidden stream there
_DEVICES = frozenset(
    ["con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in "0123456789¹²³")]
)
_GIT_FOLDERS = frozenset([".git", "git~1"])  # the second is how Windows shortens the first


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """A regular file as the file system knows it; another stamp means that somebody changed it."""

    device: int
    inode: int
    mode: int
    size_bytes: int
    modified_ns: int
    changed_ns: int

    @property
    def is_executable(self) -> bool:
        """What git records of the mode."""
        return bool(self.mode & 0o100)


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What lies below a folder; both sorted by name."""

    files: dict[str, Stamp]
    links: tuple[Link, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeHash:
    """Both names of the same files: git's and the one that is trusted."""

    tree: str
    manifest: Manifest


def check_files(sizes: Mapping[str, int]) -> None:
    """Raise TreeError unless files of these names and sizes may be taken together."""
    check_sizes(sizes)
    check_names(sizes)


def check_sizes(sizes: Mapping[str, int]) -> None:
    """Raise TreeError for no files, or more than the limits."""
    if not sizes:
        raise TreeError("there are no files")
    if len(sizes) > MAX_FILES:
        raise TreeError(f"more than {MAX_FILES} files")
    for name, size in sizes.items():
        if size > MAX_FILE_BYTES:
            raise TreeError(f"{name[:120]!r} of {size} bytes is over the limit of {MAX_FILE_BYTES}")
    if (total := sum(sizes.values())) > MAX_TOTAL_BYTES:
        raise TreeError(f"{total} bytes of files are over the limit of {MAX_TOTAL_BYTES}")


def check_names(names: Iterable[str]) -> None:
    """Raise TreeError unless all names are safe, and distinct, on every system that may hold them."""
    names = list(names)
    for name in names:
        # Before the names are compared: that takes the square of their depth.
        if name.count("/") >= MAX_DEPTH:
            raise TreeError(f"{name[:120]!r} lies more than {MAX_DEPTH} levels deep")
    try:
        check_file_names(names)
    except MalformedError as error:
        raise TreeError(str(error)) from error
    for name in names:
        for part in name.split("/"):
            if problem := _part_problem(part):
                raise TreeError(f"{name[:120]!r} {problem}")


def write_file(folder: Path, name: str, chunks: Iterable[bytes], *, is_executable: bool) -> None:
    """Write a new file of a tree, read-only; flushed by `flush_tree`. Raises TreeError for an LFS pointer."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    is_first = True
    with path.open("xb", buffering=0) as out:
        for chunk in chunks:
            if is_first and chunk.startswith(_LFS_POINTER):
                raise TreeError(f"{name[:120]!r} is a Git LFS pointer, not the file")
            is_first = False
            out.write(chunk)
    path.chmod(0o555 if is_executable else 0o444)


def survey(folder: Path) -> dict[str, Stamp]:
    """Name → stamp of every file below `folder`, sorted by name. Raises TreeError for all but files and folders."""
    found = survey_all(folder)
    if found.links:
        first = found.links[0]
        raise TreeError(f"{first.name[:120]!r} is a symbolic link to {first.target[:120]!r}")
    return found.files


def survey_all(folder: Path) -> Survey:
    """As `survey`, with the links: none is followed. Raises TreeError for all but files, folders and links."""
    if folder.is_symlink() or not folder.is_dir():
        raise TreeError(f"{folder} is not a folder")
    found: dict[str, Stamp] = {}
    links: list[Link] = []
    top = str(folder)
    for root, folders, files, handle in os.fwalk(top, onerror=_unreadable):
        below = root[len(top) + 1 :]
        if below.count("/") >= MAX_DEPTH:
            raise TreeError(f"{below[:120]!r} lies more than {MAX_DEPTH} levels deep")
        for name in (*folders, *files):
            path = f"{below}/{name}" if below else name
            status = _status(name, handle, shown=path)
            if stat.S_ISREG(status.st_mode):
                found[path] = _stamp(status)
            elif stat.S_ISLNK(status.st_mode):
                links.append(_link(name, handle, path=path))
            elif not stat.S_ISDIR(status.st_mode):
                raise TreeError(f"{path[:120]!r} is neither a file nor a folder")
        if len(found) + len(links) > MAX_FILES:
            raise TreeError(f"more than {MAX_FILES} files")
    return Survey(files=dict(sorted(found.items())), links=tuple(sorted(links, key=lambda link: link.name)))


def read_chunks(folder: Path, name: str, stamp: Stamp) -> Iterator[bytes]:
    """The content of a file that `survey` found. Raises TreeError if it is not, or does not stay, that file."""
    try:
        # Not following links and not blocking on pipes, should the file have been swapped since.
        handle = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(handle, "rb", buffering=0) as file:  # noqa: PTH123  # a descriptor, not a path
            left = stamp.size_bytes
            while left and (chunk := file.read(min(left, READ_BYTES))):
                yield chunk
                left -= len(chunk)
            if left or file.read(1) or _stamp(os.fstat(handle)) != stamp:
                raise TreeError(f"{name[:120]!r} changed while it was read")
    except OSError as error:
        raise TreeError(f"{name[:120]!r} cannot be read: {error.strerror}") from error


def hash_tree(folder: Path, *, links: Sequence[Link] = ()) -> TreeHash:
    """Both ids of the files below `folder`, whatever git says; `links` count in the tree only. Raises TreeError."""
    return hash_files(folder, survey(folder), links=links)


def hash_files(folder: Path, stamps: Mapping[str, Stamp], *, links: Sequence[Link] = ()) -> TreeHash:
    """Both ids of the surveyed files, each read once. Raises TreeError, also for what may not be taken."""
    check_files({name: stamp.size_bytes for name, stamp in stamps.items()})
    if links:
        check_names([*stamps, *(link.name for link in links)])
    files, digests = [], []
    for name, stamp in stamps.items():
        sha1 = hashlib.sha1(f"blob {stamp.size_bytes}\0".encode(), usedforsecurity=False)
        sha256 = hashlib.sha256()
        for chunk in read_chunks(folder, name, stamp):
            sha1.update(chunk)
            sha256.update(chunk)
        files.append(TreeFile(name=name, blob=sha1.hexdigest(), is_executable=stamp.is_executable))
        digests.append(FileDigest(name=name, sha256=sha256.hexdigest(), size_bytes=stamp.size_bytes))
    files += [link_entry(link) for link in links]
    return TreeHash(tree=tree_id(files), manifest=Manifest(files=tuple(digests)))


def flush_tree(folder: Path) -> None:
    """Everything below `folder`, and its folders' entries, on disk for good."""
    paths = [folder, *folder.rglob("*")]
    shares = [paths[first::_FLUSH_THREADS] for first in range(_FLUSH_THREADS)]
    with ThreadPoolExecutor(max_workers=_FLUSH_THREADS) as threads:
        for _ in threads.map(_flush_all, shares):  # an error of one thread is raised here
            pass


def flush(path: Path) -> None:
    """One file, or the entries of one folder, on disk for good."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _flush_all(paths: Iterable[Path]) -> None:
    for path in paths:
        flush(path)


def _part_problem(part: str) -> str | None:
    if part.casefold() in _GIT_FOLDERS:
        return "lies in a .git folder"
    if part[-1] in {".", " "}:
        return "has a part that ends with a dot or a space: some systems cut it off"
    if part.partition(".")[0].rstrip().casefold() in _DEVICES:
        return "has a part that names a device on some systems"
    if foreign := _FOREIGN_CHARACTERS.intersection(part):
        return f"has {min(foreign)!r}, which some systems cannot hold"
    return None


def _link(name: str, handle: int, *, path: str) -> Link:
    try:
        target = os.readlink(name, dir_fd=handle)
        target.encode()
    except OSError as error:
        raise TreeError(f"{path[:120]!r} cannot be read: {error.strerror}") from error
    except UnicodeEncodeError as error:
        raise TreeError(f"{path[:120]!r} is a symbolic link whose target is not UTF-8") from error
    return Link(name=path, target=target)


def _status(name: str, handle: int, *, shown: str) -> os.stat_result:
    try:
        return os.stat(name, dir_fd=handle, follow_symlinks=False)
    except OSError as error:
        raise TreeError(f"{shown[:120]!r} cannot be read: {error.strerror}") from error


def _stamp(status: os.stat_result) -> Stamp:
    return Stamp(
        device=status.st_dev,
        inode=status.st_ino,
        mode=status.st_mode,
        size_bytes=status.st_size,
        modified_ns=status.st_mtime_ns,
        changed_ns=status.st_ctime_ns,
    )


def _unreadable(error: OSError) -> NoReturn:
    raise TreeError(f"{str(error.filename)[-120:]!r} cannot be read: {error.strerror}") from error
