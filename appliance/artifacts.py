"""The store: content-addressed, read-only folders on disk.

STORE/<root digest>/files/…        as taken, read-only
                    manifest.json  names, sizes and digests, from the copy and not from the source
A folder becomes visible by one rename, when all of it is on disk. Interrupted copies are removed by the next
`put`. A root digest covers contents and not names (attestation.oms), so `put` compares these with what is
there already.
"""

import errno
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock
from pathlib import Path

from appliance.errors import ArtifactError, HomeError
from attestation.canonical import decode, encode
from attestation.digest import parse_sha256_hex
from attestation.errors import AttestationError
from attestation.files import hash_folder
from attestation.oms import FileDigest, Manifest
from audit.durable import fsync_folder, write_durably

MAX_FILES = 20_000
MAX_MANIFEST_BYTES = 32 << 20
_HOST_STANDS_IN_THE_WAY = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM}
)


class FolderStore:
    """`appliance.ports.Store` on a local disk."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True, mode=0o700)

    def put(self, folder: Path) -> Manifest:
        """See the port. The manifest is computed from the copy, so a racing source cannot lie."""
        if not folder.is_dir():
            raise ArtifactError(f"{folder}: wanted a folder")
        try:
            self._remove_interrupted()
            with self._taking() as taking:
                _copy_plain(folder, taking / "files")
                manifest = _hash(taking / "files")
                write_durably(taking / "manifest.json", _encode_manifest(manifest))
                self._show(taking, manifest, source=folder)
        except OSError as error:
            if error.errno in _HOST_STANDS_IN_THE_WAY:
                raise HomeError(f"{self._root}: {error.strerror}; nothing was taken") from error
            raise ArtifactError(f"{folder}: cannot be taken: {error}") from error
        return manifest

    def path(self, root_sha256: str) -> Path:
        """See the port."""
        folder = self._folder(root_sha256) / "files"
        if not folder.is_dir():
            raise ArtifactError(f"no artifact sha256:{root_sha256} in the store")
        return folder

    def manifest(self, root_sha256: str) -> Manifest:
        """See the port. The digest of the stored manifest is checked against its name."""
        file = self._folder(root_sha256) / "manifest.json"
        try:
            manifest = _decode_manifest(file.read_bytes())
        except FileNotFoundError as error:
            raise ArtifactError(f"no artifact sha256:{root_sha256} in the store") from error
        except (OSError, AttestationError, KeyError, TypeError) as error:
            raise ArtifactError(f"manifest of sha256:{root_sha256} is unreadable: {error}") from error
        if manifest.root_sha256 != root_sha256:
            raise ArtifactError(f"manifest of sha256:{root_sha256} names sha256:{manifest.root_sha256}")
        return manifest

    def verify(self, root_sha256: str) -> None:
        """See the port."""
        wanted = {f.name: f.sha256 for f in self.manifest(root_sha256).files}
        found = {f.name: f.sha256 for f in _hash(self.path(root_sha256)).files}
        for name in sorted(wanted.keys() | found.keys()):
            if wanted.get(name) != found.get(name):
                raise ArtifactError(
                    f"artifact sha256:{root_sha256[:16]}… changed in the store: {name}:"
                    f" found {found.get(name, 'no such file')}, wanted {wanted.get(name, 'no such file')}"
                )

    @contextmanager
    def _taking(self) -> Iterator[Path]:
        """A new folder that is locked while it is filled; a crash releases the lock and leaves the folder."""
        taking = self._root / f".taking-{uuid.uuid4().hex}"
        with _locked(self._root, LOCK_SH):  # nobody tidies between the next two lines
            taking.mkdir(mode=0o755)
            lock = os.open(taking, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            flock(lock, LOCK_EX)
        try:
            yield taking
        finally:
            shutil.rmtree(taking, ignore_errors=True)
            os.close(lock)

    def _remove_interrupted(self) -> None:
        with _locked(self._root, LOCK_EX):
            for abandoned in self._root.glob(".taking-*"):
                with suppress(BlockingIOError, FileNotFoundError), _locked(abandoned, LOCK_EX | LOCK_NB):
                    shutil.rmtree(abandoned, ignore_errors=True)

    def _show(self, taking: Path, manifest: Manifest, *, source: Path) -> None:
        target = self._folder(manifest.root_sha256)
        try:
            taking.rename(target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            _check_names(manifest, self.manifest(manifest.root_sha256), source=source)
            return  # taken before
        fsync_folder(self._root)

    def _folder(self, root_sha256: str) -> Path:
        try:
            return self._root / parse_sha256_hex(root_sha256)
        except AttestationError as error:
            raise ArtifactError(f"not a SHA-256 digest: {root_sha256!r}") from error


@contextmanager
def _locked(folder: Path, how: int) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)


def _check_names(new: Manifest, stored: Manifest, *, source: Path) -> None:
    """Raise ArtifactError unless two manifests with one root digest, so equal contents, have equal names."""
    for ours, theirs in zip(new.files, stored.files, strict=True):
        if ours.name != theirs.name:
            raise ArtifactError(
                f"{source}: has the contents of sha256:{stored.root_sha256[:16]}… in the store,"
                f" but {ours.name} for {theirs.name}; one digest cannot stand for both"
            )


def _copy_plain(source: Path, target: Path) -> None:
    """Copy regular files only, without following links, flushed to disk and read-only."""
    target.mkdir(mode=0o755)
    count = 0
    for folder, folders, files in os.walk(source):
        here = target / Path(folder).relative_to(source)
        for name in sorted(folders):
            if (Path(folder) / name).is_symlink():
                raise ArtifactError(f"{Path(folder) / name}: is a link; copy the real files instead (cp -rL)")
            (here / name).mkdir(mode=0o755)
        for name in sorted(files):
            count += 1
            if count > MAX_FILES:
                raise ArtifactError(f"{source}: more than {MAX_FILES} files")
            _copy_file(Path(folder) / name, here / name)
        fsync_folder(here)


def _copy_file(source: Path, target: Path) -> None:
    try:
        descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ArtifactError(f"{source}: is a link; copy the real files instead (cp -rL)") from error
        raise
    with os.fdopen(descriptor, "rb") as reader:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ArtifactError(f"{source}: is not a regular file")
        with target.open("xb") as writer:
            shutil.copyfileobj(reader, writer, 1 << 20)
            writer.flush()
            os.fsync(writer.fileno())
        target.chmod(0o444)


def _hash(folder: Path) -> Manifest:
    try:
        return hash_folder(folder)
    except AttestationError as error:
        raise ArtifactError(str(error)) from error


def _encode_manifest(manifest: Manifest) -> bytes:
    return encode([{"name": f.name, "sha256": f.sha256, "size": f.size_bytes} for f in manifest.files])


def _decode_manifest(data: bytes) -> Manifest:
    rows = decode(data, max_bytes=MAX_MANIFEST_BYTES)
    return Manifest(
        files=tuple(FileDigest(name=r["name"], sha256=r["sha256"], size_bytes=r["size"]) for r in rows)
    )
