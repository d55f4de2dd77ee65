"""The only readers of folders: hash one, or read an evidence pack.

What is covered: symbolic links, special files, unsafe names, unreadable and oversized files are refused.
What is not: a folder that somebody changes while it is read gives the digests of what was read.
"""

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from attestation.errors import MalformedError, UndecidedError, locating
from attestation.oms import MAX_FILES, FileDigest, Manifest, check_file_names
from attestation.pack import Pack, is_read

MAX_READ_BYTES = 64 << 20  # of all files that are read and not only hashed; see pack.is_read
_BUFFER_BYTES = 1 << 20
_THREADS = min(8, os.cpu_count() or 1)


def hash_folder(folder: Path) -> Manifest:
    """The manifest of every file below `folder`. Files are hashed in parallel, each read once.

    Raises MalformedError for links, special files, unsafe names and empty folders; UndecidedError for
    what cannot be read.
    """
    return Manifest(files=_digests(folder, list_files(folder)))


def read_folder(folder: Path) -> dict[str, bytes]:
    """Every file below a small folder, such as a trust root, name → content. Raises as `hash_folder`."""
    budget = MAX_READ_BYTES
    contents = {}
    for name in list_files(folder):
        contents[name] = _read(folder, name, limit=budget)
        budget -= len(contents[name])
    return contents


def read_pack(folder: Path) -> Pack:
    """The evidence in `folder`. Raises as `hash_folder`, with check "pack"."""
    with locating("pack", file=str(folder)):
        names = list_files(folder)
        budget, contents = MAX_READ_BYTES, {}
        for name in names:
            if is_read(name):
                contents[name] = _read(folder, name, limit=budget)
                budget -= len(contents[name])
        digests = _digests(folder, (name for name in names if not is_read(name)))
        digests += tuple(
            FileDigest(name=name, sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))
            for name, content in contents.items()
        )
        return Pack(
            files=Manifest(files=tuple(sorted(digests, key=lambda file: file.name))), contents=contents
        )


def list_files(folder: Path) -> list[str]:
    """The names of all regular files below `folder`, `/` between parts, sorted. Raises as `hash_folder`."""
    names: list[str] = []
    pending = [""]
    while pending:
        below = pending.pop()
        for name, is_folder in _entries(folder, below):
            (pending if is_folder else names).append(name)
        if len(names) + len(pending) > MAX_FILES:
            raise MalformedError(f"more than {MAX_FILES} files")
    check_file_names(names)
    return sorted(names)


def read_file(path: Path, *, limit: int) -> bytes:
    """The content of one file. Raises MalformedError over the limit, UndecidedError if unreadable."""
    return _read(path.parent, path.name, limit=limit)


def _entries(folder: Path, below: str) -> Iterator[tuple[str, bool]]:
    """Name and whether it is a folder, of everything directly in `folder`/`below`."""
    try:
        with os.scandir(folder / below) as entries:
            for entry in entries:
                name = f"{below}/{entry.name}" if below else entry.name
                if entry.is_symlink():
                    raise MalformedError("a symbolic link", file=_shown(name))
                if not entry.is_dir(follow_symlinks=False) and not entry.is_file(follow_symlinks=False):
                    raise MalformedError("neither a file nor a folder", file=_shown(name))
                yield name, entry.is_dir(follow_symlinks=False)
    except OSError as error:
        raise UndecidedError(f"cannot be read: {error.strerror}", file=below or str(folder)) from error


def _digests(folder: Path, names: Iterable[str]) -> tuple[FileDigest, ...]:
    with ThreadPoolExecutor(max_workers=_THREADS) as threads:
        return tuple(threads.map(lambda name: _hash(folder, name), names))


def _hash(folder: Path, name: str) -> FileDigest:
    digest, size_bytes = hashlib.sha256(), 0

    def take(chunk: bytes) -> None:
        nonlocal size_bytes
        digest.update(chunk)
        size_bytes += len(chunk)

    _each_chunk(folder, name, take)
    return FileDigest(name=name, sha256=digest.hexdigest(), size_bytes=size_bytes)


def _read(folder: Path, name: str, *, limit: int) -> bytes:
    content = bytearray()

    def take(chunk: bytes) -> None:
        content.extend(chunk)
        if len(content) > limit:
            raise MalformedError(f"larger than the {limit} bytes that may be read", file=name)

    _each_chunk(folder, name, take)
    return bytes(content)


def _each_chunk(folder: Path, name: str, take: Callable[[bytes], None]) -> None:
    try:
        # Not following links and not blocking on pipes, should the file have been swapped since listing.
        handle = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(handle, "rb", buffering=0) as file:  # noqa: PTH123  # a descriptor, not a path
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise MalformedError("not a regular file", file=name)
            while chunk := file.read(_BUFFER_BYTES):
                take(chunk)
    except OSError as error:
        raise UndecidedError(f"cannot be read: {error.strerror}", file=name) from error


def _shown(name: str) -> str:
    return name.encode(errors="backslashreplace").decode()
