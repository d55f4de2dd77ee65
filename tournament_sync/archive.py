"""The one form in which a champion travels: a plain tar of its release, its commit and its tree.

`release.sigstore.json`, `commit`, then `tree/…` sorted by name; no compression, no folders, no times, no owners.
A champion has one archive, byte for byte: each header is written again when it is read, and compared. That leaves no
room for links, devices, sparse files, second names, other metadata or anything behind the end.
"""

import hashlib
import os
import re
import secrets
import stat
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from attestation.bundle import parse_bundle
from attestation.errors import AttestationError
from attestation.statement import parse_statement
from tournament_sync.champion import Champion, ReleaseOffer
from tournament_sync.errors import RefusedError, SourceUnavailableError, TreeError
from tournament_sync.git_objects import MAX_COMMIT_BYTES, object_id, parse_commit
from tournament_sync.intake import verify_taken
from tournament_sync.quarantine import COMMIT_FILE, TREE_FOLDER, read_commit, read_links, staged, write_links
from tournament_sync.release import Taken, claimed_links
from tournament_sync.tree_files import (
    MAX_FILES,
    MAX_TOTAL_BYTES,
    READ_BYTES,
    Stamp,
    check_files,
    flush,
    hash_files,
    read_chunks,
    survey,
    write_file,
)

RELEASE_FILE = "release.sigstore.json"
MAX_RELEASE_BYTES = 64 << 10  # a release has 2 KB
MAX_ARCHIVE_BYTES = MAX_TOTAL_BYTES + (MAX_FILES + 4) * 4096  # headers, long names and padding
_BLOCK = 512
_END = bytes(2 * _BLOCK)
_MAX_LONG_NAME_BYTES = 2048
_LONG_NAME = re.compile(rb"[0-9]+ path=(.+)\n", re.DOTALL)
_OCTAL = re.compile(rb"([0-7]+)\0")
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"(\xb5/\xfd", b"PK\3\4")  # gzip, bzip2, xz, zstd, zip
_KINDS = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a device",
    b"4": "a device",
    b"5": "a folder",
    b"6": "a pipe",
    b"7": "a contiguous file",
    b"g": "a header for all files",
    b"K": "a GNU long link",
    b"L": "a GNU long name",
    b"S": "a sparse file",
    b"\0": "a file of the old form",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveContent:
    """What an archive says besides its files; nothing of it is verified."""

    release: bytes
    raw_commit: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """A file of the archive; its content begins at `offset`."""

    name: str
    size_bytes: int
    is_executable: bool
    offset: int


def write_archive(taken_folder: Path, release: bytes, *, out: Path) -> str:
    """Write the quarantine folder `taken_folder` and its release as the archive `out`; the archive's SHA-256.

    `out` appears only when complete, in place of what was there. Raises TreeError unless the files are the commit's.
    """
    raw, tree = read_commit(taken_folder), taken_folder / TREE_FOLDER
    if not 0 < len(release) <= MAX_RELEASE_BYTES:
        raise TreeError(f"a release of {len(release)} bytes: the limit is {MAX_RELEASE_BYTES}")
    stamps = survey(tree)
    if (found := hash_files(tree, stamps, links=read_links(taken_folder)).tree) != (
        wanted := parse_commit(raw).tree
    ):
        raise TreeError(f"files have tree {found}, the commit has {wanted}")
    # Nobody can know the name beforehand and lay a link there; where one lies, it is not followed.
    digest, part = hashlib.sha256(), out.with_name(f".{out.name}.{secrets.token_hex(8)}.part")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            for block in _blocks(tree, stamps, raw=raw, release=release):
                digest.update(block)
                file.write(block)
        flush(part)
        part.rename(out)
        flush(out.parent)
    finally:
        part.unlink(missing_ok=True)
    return digest.hexdigest()


def read_archive(path: Path, *, into: Path) -> ArchiveContent:
    """Write the files of the archive's tree into the empty folder `into`; the release and the raw commit.

    Everything that an archive tells about itself is checked before the first file is written. Raises TreeError for
    what no archive has, SourceUnavailableError if it cannot be read.
    """
    with _opened(path) as file:
        release, commit, *entries = _entries(file)
        check_files({entry.name.removeprefix(f"{TREE_FOLDER}/"): entry.size_bytes for entry in entries})
        content = ArchiveContent(
            release=b"".join(_content(file, release)), raw_commit=b"".join(_content(file, commit))
        )
        for entry in entries:
            name = entry.name.removeprefix(f"{TREE_FOLDER}/")
            write_file(into, name, _content(file, entry), is_executable=entry.is_executable)
    return content


def take_archive(path: Path, *, into: Path) -> Taken:
    """The archive's files in the quarantine folder `into`, as its commit has them.

    Its release is not verified; only which links it says were left out, which the tree id then shows to be so.
    Raises RefusedError, SourceUnavailableError. One call at a time per folder, which must not be there.
    """
    with staged(into) as part:
        content = read_archive(path, into=part / TREE_FOLDER)
        (part / COMMIT_FILE).write_bytes(content.raw_commit)
        write_links(part, claimed_links(content.release))
        taken = verify_taken(part, origin=str(path))
    return replace(taken, folder=into / TREE_FOLDER)


class ArchiveSource:
    """A source that is one archive: the import file of a site without a network."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def offers(self) -> tuple[ReleaseOffer, ...]:
        """See Source. One release, under the name that it claims."""
        try:
            with _opened(self._path) as file:
                release = b"".join(_content(file, _entries(file)[0]))
        except RefusedError as error:
            raise SourceUnavailableError(f"{self._path} is no champion's archive: {error}") from error
        return (ReleaseOffer(name=_claimed_name(release, self._path), bundle=release),)

    def fetch(self, champion: Champion, into: Path) -> bytes:
        """See Source."""
        content = read_archive(self._path, into=into)
        if (found := object_id("commit", content.raw_commit)) != champion.commit:
            raise TreeError(f"the archive has commit {found}, asked for was {champion.commit}")
        return content.raw_commit


def _blocks(tree: Path, stamps: Mapping[str, Stamp], *, raw: bytes, release: bytes) -> Iterator[bytes]:
    for name, data in ((RELEASE_FILE, release), (COMMIT_FILE, raw)):
        yield _header(name, len(data), is_executable=False)
        yield data + _padding(len(data))
    for name, stamp in stamps.items():
        yield _header(f"{TREE_FOLDER}/{name}", stamp.size_bytes, is_executable=stamp.is_executable)
        yield from read_chunks(tree, name, stamp)
        yield _padding(stamp.size_bytes)
    yield _END


def _header(name: str, size: int, *, is_executable: bool) -> bytes:
    """The one header of a file; names that are long or not ASCII come before it, as POSIX (pax) has them."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o755 if is_executable else 0o644
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


def _padding(size: int) -> bytes:
    return bytes(-size % _BLOCK)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """The archive, open; afterwards still the file that it was. Raises as `read_archive`."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise SourceUnavailableError(f"{path} cannot be read: {error.strerror}") from error
    before = os.fstat(handle)
    if not stat.S_ISREG(before.st_mode):
        os.close(handle)
        raise SourceUnavailableError(f"{path} is not a regular file")
    with open(handle, "rb") as file:  # noqa: PTH123  # a descriptor, not a path
        if before.st_size > MAX_ARCHIVE_BYTES:
            raise TreeError(f"archive of {before.st_size} bytes is over the limit of {MAX_ARCHIVE_BYTES}")
        yield file
        after = os.fstat(handle)
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise TreeError("the archive changed while it was read")


def _entries(file: BinaryIO) -> list[_Entry]:
    """All entries of the archive: at least the release, the commit and one file, in their one order."""
    end = os.fstat(file.fileno()).st_size
    if file.read(8).startswith(_COMPRESSED):
        raise TreeError("the archive is compressed: a champion's never is, so that it cannot unfold")
    file.seek(0)
    entries: list[_Entry] = []
    while (block := _exactly(file, _BLOCK)) != _END[:_BLOCK]:
        entry = _entry(file, block)
        _check_place(entry, entries)
        entries.append(entry)
        file.seek(entry.offset + entry.size_bytes)
        if entry.offset + entry.size_bytes > end:
            raise TreeError(f"the archive is cut short within {entry.name[:120]!r}")
        if any(_exactly(file, len(_padding(entry.size_bytes)))):
            raise TreeError(f"the archive hides bytes behind {entry.name[:120]!r}")
    if _exactly(file, _BLOCK) != _END[:_BLOCK] or file.read(1):
        raise TreeError("the archive goes on behind its end")
    if len(entries) < 3:
        raise TreeError("the archive holds no files")
    return entries


def _entry(file: BinaryIO, block: bytes) -> _Entry:
    head, name = block, block[:100].rstrip(b"\0")
    if block[156:157] == b"x":
        long_name = _exactly(file, min(_octal(block[124:136]), _MAX_LONG_NAME_BYTES))
        padding = _exactly(file, len(_padding(len(long_name))))
        match = _LONG_NAME.fullmatch(long_name)
        if match is None:
            raise TreeError("the archive has an extended header that holds more than one file's name")
        block = _exactly(file, _BLOCK)
        head, name = head + long_name + padding + block, match[1]
    if kind := _KINDS.get(block[156:157]):
        raise TreeError(f"{name[:120]!r} in the archive is {kind}")
    try:
        entry = _Entry(
            name=name.decode(),
            size_bytes=_octal(block[124:136]),
            is_executable=_octal(block[100:108]) == 0o755,
            offset=file.tell(),
        )
    except UnicodeDecodeError as error:
        raise TreeError(f"file name {name[:120]!r} is not UTF-8") from error
    if head != _header(entry.name, entry.size_bytes, is_executable=entry.is_executable):
        raise TreeError(f"{entry.name[:120]!r} has a header that no archive of a champion has")
    return entry


def _check_place(entry: _Entry, before: list[_Entry]) -> None:
    """First the release, then the commit, then the tree in order: nothing twice, nothing else."""
    fixed = ((RELEASE_FILE, MAX_RELEASE_BYTES), (COMMIT_FILE, MAX_COMMIT_BYTES))
    if len(before) < len(fixed):
        wanted, limit = fixed[len(before)]
        if entry.name != wanted or entry.is_executable:
            raise TreeError(f"the archive has {entry.name[:120]!r} in the place of {wanted!r}")
        if entry.size_bytes > limit:
            raise TreeError(f"{wanted!r} of {entry.size_bytes} bytes is over the limit of {limit}")
    elif not entry.name.startswith(f"{TREE_FOLDER}/"):
        raise TreeError(f"{entry.name[:120]!r} lies outside {TREE_FOLDER}/ in the archive")
    elif len(before) > len(fixed) and entry.name <= before[-1].name:
        raise TreeError(f"{entry.name[:120]!r} is listed twice in the archive, or out of order")
    if len(before) >= len(fixed) + MAX_FILES:
        raise TreeError(f"more than {MAX_FILES} files")


def _content(file: BinaryIO, entry: _Entry) -> Iterator[bytes]:
    file.seek(entry.offset)
    left = entry.size_bytes
    while left:
        chunk = _exactly(file, min(left, READ_BYTES))
        yield chunk
        left -= len(chunk)


def _exactly(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise TreeError("the archive is cut short")
    return data


def _octal(field: bytes) -> int:
    match = _OCTAL.fullmatch(field)
    if match is None:
        raise TreeError(f"the archive has {field!r} where a number belongs")
    return int(match[1], 8)


def _claimed_name(release: bytes, path: Path) -> str:
    """The name that the release gives itself; the file's own where it gives none, so that it is refused by that."""
    try:
        return parse_statement(parse_bundle(release).payload).subjects[0].name
    except AttestationError:
        return path.name.partition(".")[0] or "unnamed"
