"""Copying a dead guest's output out of its volume, without trusting a single name in it.

What is covered: links, special files, hard links, other mounts, sparse and setuid files, hostile names, floods of
files and of names, deep folders, files that change; pickles, which are left where they are and listed. Declared names
are taken first so that junk cannot crowd them out.
What is not covered: the meaning of the bytes. Nothing is unpacked or loaded here.
"""

import codecs
import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field

from runner import linux
from runner.errors import HarvestError
from runner.hashed_copy import ChangedError, HashedCopier
from runner.pickles import holds_pickle, is_pickle_name

MAX_FILES = 500
MAX_DEPTH = 8
MAX_NAMES = 100_000  # looked at in all folders together: hard links make names without inodes
PICKLE = "pickle"
MAX_REJECTED = 1000  # more are counted, not named
SPARSE_ABOVE_BYTES = 4096
SPARSE_FACTOR = 64

# Now: once rights are dropped, the interpreter's own library may be out of reach.
codecs.lookup("unicode_escape")
_NAME = re.compile(r"(?!\.\.)[A-Za-z0-9_.][A-Za-z0-9._ +=@-]{0,200}")
_SPECIAL = {
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "pipe",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HarvestedFile:
    """One file as taken; `path` is relative, with slashes."""

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Harvest:
    """What was taken, sorted by path, and what was not, with the reason."""

    files: tuple[HarvestedFile, ...]
    rejected: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class HarvestLimits:
    """The most that is taken."""

    total_bytes: int
    files: int = MAX_FILES
    depth: int = MAX_DEPTH
    names: int = MAX_NAMES


@dataclass(slots=True)
class _Work:
    source: int
    destination: int
    limits: HarvestLimits
    copier: HashedCopier
    files: dict[str, HarvestedFile] = field(default_factory=dict)
    rejected: dict[str, str] = field(default_factory=dict)
    names: int = 0
    unnamed: int = 0
    total_bytes: int = 0

    def reject(self, path: bytes, reason: str) -> None:
        if len(self.rejected) < MAX_REJECTED:
            self.rejected[shown(path)] = reason
        else:
            self.unnamed += 1


class _RefusedError(Exception):
    """One file is not taken; the harvest goes on."""


def collect(
    source: int, destination: int, *, limits: HarvestLimits, declared: tuple[str, ...] = ()
) -> Harvest:
    """Copy the regular files below the open folder `source` into the open, empty folder `destination`.

    Every process that could write to `source` must be dead. Copies have mode 0644 and are flushed. A declared name may
    be a file, which is the caller's to judge by its name, or a folder, whose files come before all others.

    Raises HarvestError if the destination cannot be written.
    """
    with HashedCopier() as copier:
        work = _Work(source=source, destination=destination, limits=limits, copier=copier)
        for name in declared:
            _take_declared(work, name)
        _take_below(work, b"", depth=0)
    _flush(work)
    if work.unnamed:
        work.rejected["…"] = f"{work.unnamed} more, not named"
    return Harvest(files=tuple(sorted(work.files.values(), key=lambda f: f.path)), rejected=work.rejected)


def encode_harvest(harvest: Harvest) -> bytes:
    """`harvest` as JSON; `parse_harvest` gives the same value back."""
    return json.dumps(asdict(harvest), indent=1, sort_keys=True).encode()


def parse_harvest(data: bytes) -> Harvest:
    """The harvest that `encode_harvest` wrote. Raises HarvestError on anything else."""
    try:
        raw = json.loads(data)
        return Harvest(files=tuple(HarvestedFile(**f) for f in raw["files"]), rejected=raw["rejected"])
    except (ValueError, TypeError, KeyError) as error:
        raise HarvestError(f"the list of harvested files is malformed: {error}") from error


def shown(path: bytes) -> str:
    """`path` for people and JSON: control characters and bad UTF-8 are escaped."""
    text = path.decode(errors="backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _take_declared(work: _Work, name: str) -> None:
    path = name.encode()
    mode = _mode(work, path)
    if mode is None:
        work.reject(path, "declared and missing")
    elif not all(_NAME.fullmatch(part) for part in name.split("/")):
        work.reject(path, "unsafe name")
    elif stat.S_ISDIR(mode):
        _take_below(work, path, depth=name.count("/") + 1)
    else:
        _take(work, path, is_declared=True)


def _take_below(work: _Work, folder: bytes, *, depth: int) -> None:
    for path in _walk(work, folder, depth=depth):
        if path.decode() not in work.files and shown(path) not in work.rejected:
            _take(work, path, is_declared=False)


def _walk(work: _Work, top: bytes, *, depth: int) -> Iterator[bytes]:
    """The paths of all entries below `top` that are no folders, in byte order, folder by folder."""
    pending: list[tuple[bytes, int]] = [(top, depth)]
    while pending:
        folder, depth = pending.pop()
        try:
            descriptor = linux.open_beneath(
                folder or b".", folder=work.source, flags=os.O_RDONLY | os.O_DIRECTORY
            )
        except OSError as error:
            work.reject(folder or b".", f"cannot be opened: {error.strerror}")
            continue
        try:
            for name in _names(work, descriptor, folder=folder):
                path = folder + b"/" + name if folder else name
                mode = _lstat(name, descriptor)
                if not _NAME.fullmatch(name.decode(errors="replace")):
                    work.reject(path, "unsafe name")
                elif mode is None:
                    work.reject(path, "vanished")
                elif not stat.S_ISDIR(mode):
                    yield path
                elif depth + 1 >= work.limits.depth:
                    work.reject(path, "too deep")
                else:
                    pending.append((path, depth + 1))
        finally:
            os.close(descriptor)


def _names(work: _Work, descriptor: int, *, folder: bytes) -> list[bytes]:
    """The names in the open folder, sorted; of too many only those that are still allowed."""
    names: list[bytes] = []
    with os.scandir(descriptor) as entries:
        for entry in entries:
            if work.names >= work.limits.names:
                work.reject(folder or b".", "too many names")
                break
            work.names += 1
            names.append(os.fsencode(entry.name))
    return sorted(names)


def _lstat(name: bytes, folder: int) -> int | None:
    with suppress(OSError):
        return os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    return None


def _mode(work: _Work, path: bytes) -> int | None:
    """What kind of thing is there; 0 for one that cannot be looked at: taking it will say why. None: nothing."""
    try:
        descriptor = linux.open_beneath(path, folder=work.source, flags=linux.O_PATH)
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return 0
    try:
        return os.fstat(descriptor).st_mode
    finally:
        os.close(descriptor)


def _take(work: _Work, path: bytes, *, is_declared: bool) -> None:
    try:
        if len(work.files) >= work.limits.files:
            raise _RefusedError("too many files")
        with os.fdopen(_open_source(work, path), "rb", buffering=0) as file:
            facts = os.fstat(file.fileno())
            _check_kind(facts)
            if not is_declared and is_pickle_name(path.decode().rpartition("/")[2]):
                raise _RefusedError(PICKLE)
            if holds_pickle(file.fileno()):
                raise _RefusedError(PICKLE)
            if work.total_bytes + facts.st_size > work.limits.total_bytes:
                raise _RefusedError("too many bytes")
            taken = _copy(work, file.fileno(), path.decode(), facts=facts)
    except _RefusedError as refusal:
        work.reject(path, str(refusal))
    else:
        work.files[taken.path] = taken
        work.total_bytes += taken.size_bytes


def _open_source(work: _Work, path: bytes) -> int:
    """Open for reading, but only after a look that has no side effect: opening a device may act."""
    try:
        look = linux.open_beneath(path, folder=work.source, flags=linux.O_PATH)
        try:
            before = os.fstat(look)
        finally:
            os.close(look)
        kind = _SPECIAL.get(stat.S_IFMT(before.st_mode))
        if kind is not None or not stat.S_ISREG(before.st_mode):
            raise _RefusedError(kind or "not a regular file")
        opened = linux.open_beneath(path, folder=work.source, flags=os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        raise _RefusedError(f"cannot be opened: {error.strerror}") from error
    after = os.fstat(opened)
    if (after.st_ino, after.st_dev, after.st_mode) != (before.st_ino, before.st_dev, before.st_mode):
        os.close(opened)
        raise _RefusedError("changed while it was taken")
    return opened


def _check_kind(facts: os.stat_result) -> None:
    if facts.st_nlink != 1:
        raise _RefusedError(f"{facts.st_nlink} hard links")
    if facts.st_mode & (stat.S_ISUID | stat.S_ISGID):
        raise _RefusedError("setuid or setgid")
    if facts.st_size > SPARSE_ABOVE_BYTES and facts.st_blocks * 512 * SPARSE_FACTOR < facts.st_size:
        raise _RefusedError("sparse")


def _copy(work: _Work, source: int, path: str, *, facts: os.stat_result) -> HarvestedFile:
    try:
        with os.fdopen(_create(work.destination, path), "wb", buffering=0) as file:
            sha256 = work.copier.copy(source, file.fileno(), size_bytes=facts.st_size)
            os.fchmod(file.fileno(), 0o644)
        if _version(os.fstat(source)) != _version(facts):
            raise ChangedError
    except ChangedError as error:
        os.unlink(path, dir_fd=work.destination)
        raise _RefusedError("changed while it was taken") from error
    except OSError as error:
        raise HarvestError(f"{path} cannot be copied out: {error.strerror}") from error
    return HarvestedFile(path=path, size_bytes=facts.st_size, sha256=sha256)


def _version(facts: os.stat_result) -> tuple[int, int, int, int]:
    """What a write, a new name or a change of rights alters, whatever times the guest sets."""
    return facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_nlink


def _flush(work: _Work) -> None:
    """Flush every copy, all of them at the end: so the disk's journal is written once and not for each file."""
    for path in work.files:
        try:
            copy = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=work.destination)
            try:
                os.fsync(copy)
            finally:
                os.close(copy)
        except OSError as error:
            raise HarvestError(f"{path} cannot be flushed: {error.strerror}") from error


def _create(destination: int, path: str) -> int:
    folders = path.split("/")[:-1]
    for end in range(1, len(folders) + 1):
        with suppress(FileExistsError):
            os.mkdir("/".join(folders[:end]), 0o755, dir_fd=destination)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    return os.open(path, flags, 0o600, dir_fd=destination)
