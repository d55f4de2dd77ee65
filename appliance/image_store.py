"""The images that champions start in, unpacked once each: HOME/images/<SHA-256 of the manifest>/.

Being here lets nothing run: which image belongs to which champion is in the champion's signed release, see
`appliance.image_keeping`. A crash leaves nothing that counts; what it leaves is removed by the next unpacking
of the same image, or by `sweep`.
"""

import platform
import re
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from fcntl import LOCK_EX, LOCK_NB, flock
from os import close
from pathlib import Path
from typing import Final

from appliance.errors import ArtifactError, ConflictError, HomeError, NotFoundError
from appliance.home import Home
from audit.durable import fsync_folder, locked
from runner.images.config import MAX_JSON_BYTES
from runner.images.errors import ImageError
from runner.images.layers import LayerBlob
from runner.images.lease import claim_image
from runner.images.unpack import (
    PackedImage,
    UnpackedImage,
    open_image,
    remove_folder,
    unpack_image,
    verify_image,
)
from tournament_sync.images.oci import OciArchive

# Architectures by the names that images have for them.
_MACHINES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
_NAME = re.compile(r"[0-9a-f]{64}", re.ASCII)
_REMOVED = ".removed-"
_UNPACKING = re.compile(r"\.([0-9a-f]{64})\.unpacking", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """An image that lies here; `image` is None if it cannot be used, `problem` says why, "" otherwise."""

    manifest_sha256: str
    image: UnpackedImage | None
    problem: str
    is_in_use: bool


class ImageStore:
    """The images of one home. Methods take manifests as 64 hexadecimal digits."""

    def __init__(self, home: Home, *, machine: str = platform.machine()) -> None:
        """`machine` is what the images are to run on."""
        self.root = home.root / "images"
        self._machine = _MACHINES.get(machine, machine)

    def find(self, manifest_sha256: str) -> UnpackedImage | None:
        """The image, None if it is not here. Raises ArtifactError for one whose documents were changed."""
        folder = self._folder(manifest_sha256)
        if not folder.is_dir():
            return None
        try:
            found = open_image(folder)
        except ImageError as error:
            raise ArtifactError(f"image sha256:{manifest_sha256} cannot be used: {error}") from error
        if found.facts.manifest_sha256 != manifest_sha256:
            raise ArtifactError(f"{folder} holds image sha256:{found.facts.manifest_sha256}")
        return found

    def unpack(self, archive: OciArchive, *, now: datetime) -> UnpackedImage:
        """Unpack an archive that was opened and found to be the wanted one. Idempotent; concurrent calls do it once.

        An image that is here and is not as it was unpacked is replaced. Raises ArtifactError for an image that
        cannot be unpacked or is of another architecture, ConflictError for a damaged one that is in use.
        """
        if archive.config.architecture != self._machine:
            raise ArtifactError(
                f"{archive.path} is for {archive.config.architecture[:40]!r}, this machine is {self._machine!r}"
            )
        folder = self._folder(archive.manifest_sha256)
        with _told(self.root), self._locked(folder):
            if folder.is_dir() and (kept := self._intact(archive.manifest_sha256)) is not None:
                return kept
            try:
                return unpack_image(
                    _packed(archive), manifest_sha256=archive.manifest_sha256, into=folder, now=now
                )
            except ImageError as error:
                raise ArtifactError(f"{archive.path} cannot be unpacked: {error}") from error

    def list(self) -> tuple[Kept, ...]:
        """Every image that lies here, by manifest."""
        if not self.root.is_dir():
            return ()
        names = sorted(path.name for path in self.root.iterdir() if _NAME.fullmatch(path.name))
        return tuple(self._kept(name) for name in names)

    def verify(self, manifest_sha256: str) -> UnpackedImage:
        """Read every file of the image again. Raises ArtifactError naming one that changed, NotFoundError."""
        found = self.find(manifest_sha256)
        if found is None:
            raise NotFoundError(f"no image sha256:{manifest_sha256} here; `assay images list` shows all")
        try:
            verify_image(self._folder(manifest_sha256))
        except ImageError as error:
            raise ArtifactError(f"image sha256:{manifest_sha256} was changed: {error}") from error
        return found

    def remove(
        self, manifest_sha256: str, *, if_still: Callable[[], bool], then: Callable[[], object]
    ) -> bool:
        """Remove the image unless it is in use or, once nobody else can begin to use it, `if_still` is false.

        `then` is called when it is gone for good as far as anybody can see; `sweep` does so after a crash.
        """
        folder = self._folder(manifest_sha256)
        with _told(self.root), self._locked(folder):
            lock = _claim(folder)
            if lock is None:
                return False
            try:
                if not if_still():
                    return False
                self._set_aside(folder)
            finally:
                close(lock)
            then()
            remove_folder(self._aside(manifest_sha256))
        return True

    def sweep(self, then: Callable[[str], object]) -> None:
        """Finish removals that were cut short, `then` called with each manifest; drop half-unpacked images."""
        with _told(self.root):
            for path in sorted(self.root.glob(f"{_REMOVED}*")):
                folder = self.root / path.name.removeprefix(_REMOVED)
                with self._locked(folder):
                    if path.is_dir() and not folder.is_dir():  # else it was imported again since
                        then(folder.name)
                    remove_folder(path)
            for path in sorted(self.root.glob(".*.unpacking")):
                if name := _UNPACKING.fullmatch(path.name):
                    _remove_unless_locked(path, lock=self.root / f".{name[1]}.lock")

    def _folder(self, manifest_sha256: str) -> Path:
        if not _NAME.fullmatch(manifest_sha256):
            raise NotFoundError(f"{manifest_sha256[:80]!r} is no manifest: wanted 64 hexadecimal digits")
        return self.root / manifest_sha256

    @contextmanager
    def _locked(self, folder: Path) -> Iterator[None]:
        self.root.mkdir(mode=0o700, exist_ok=True)
        with locked(folder):
            yield

    def _aside(self, manifest_sha256: str) -> Path:
        return self.root / f"{_REMOVED}{manifest_sha256}"

    def _set_aside(self, folder: Path) -> None:
        aside = self._aside(folder.name)
        remove_folder(aside)  # of a removal that was cut short, and imported again since
        folder.rename(aside)
        fsync_folder(self.root)

    def _intact(self, manifest_sha256: str) -> UnpackedImage | None:
        """The image, or None after a damaged one was set aside."""
        with suppress(ArtifactError):
            return self.verify(manifest_sha256)
        folder = self._folder(manifest_sha256)
        lock = _claim(folder)
        if lock is None:
            raise ConflictError(
                f"image sha256:{manifest_sha256} was changed and is in use; import it when it is not"
            )
        try:
            self._set_aside(folder)
        finally:
            close(lock)
        remove_folder(self._aside(manifest_sha256))
        return None

    def _kept(self, manifest_sha256: str) -> Kept:
        image, problem = None, ""
        try:
            image = self.find(manifest_sha256)
        except ArtifactError as error:
            problem = str(error)
        lock = _claim(self._folder(manifest_sha256))
        if lock is not None:
            close(lock)
        return Kept(manifest_sha256=manifest_sha256, image=image, problem=problem, is_in_use=lock is None)


@contextmanager
def _told(root: Path) -> Iterator[None]:
    """What the disk refuses is the operator's to mend."""
    try:
        yield
    except OSError as error:
        raise HomeError(f"{root}: {error.filename or 'cannot be used'}: {error.strerror}") from error


def _claim(folder: Path) -> int | None:
    try:
        return claim_image(folder)
    except ImageError as error:
        raise ArtifactError(str(error)) from error


def _remove_unless_locked(path: Path, *, lock: Path) -> None:
    """Remove what a dead process was unpacking; who unpacks holds the lock (audit.durable.locked)."""
    with lock.open("wb") as file, suppress(BlockingIOError):
        flock(file, LOCK_EX | LOCK_NB)
        remove_folder(path)


def _packed(archive: OciArchive) -> PackedImage:
    return PackedImage(
        manifest=_blob(archive.path, archive.manifest_sha256),
        config=_blob(archive.path, archive.config_sha256),
        layers=[
            LayerBlob(path=archive.path, offset=layer.offset, size_bytes=layer.size_bytes)
            for layer in archive.layers
        ],
    )


def _blob(path: Path, sha256: str) -> bytes:
    """A document of an archive that was verified as a whole; whoever unpacks compares its digest again."""
    try:
        with tarfile.open(path, "r:") as tar:
            member = tar.extractfile(f"blobs/sha256/{sha256}")
            return b"" if member is None else member.read(MAX_JSON_BYTES + 1)
    except (OSError, KeyError, tarfile.TarError) as error:
        raise ArtifactError(f"{path}: cannot be read again: {error}") from error
