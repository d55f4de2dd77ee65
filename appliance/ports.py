"""Everything the pipeline touches outside itself, in one value; each part has a fake in the tests."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from attestation.keys import NoteSigner, Signer
from attestation.oms import Manifest
from runner.launcher.port import Launcher


class Clock(Protocol):
    def now(self) -> datetime:
        """The present moment, aware, UTC, whole seconds."""


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        return datetime.now(UTC).replace(microsecond=0)


class Store(Protocol):
    """Content-addressed, read-only folders: models, datasets, champions' trees, trained outputs.

    A folder is named by the root digest of its manifest (attestation.oms). `put` twice is `put` once.
    """

    def put(self, folder: Path) -> Manifest:
        """Take a copy of `folder`; visible only when complete and flushed to disk.

        Raises ArtifactError for links, special files, unsafe names, too many or too large files.
        """

    def path(self, root_sha256: str) -> Path:
        """The folder of that digest. Raises ArtifactError if there is none."""

    def manifest(self, root_sha256: str) -> Manifest:
        """Its manifest as taken. Raises ArtifactError if there is none."""

    def verify(self, root_sha256: str) -> None:
        """Hash every file again. Raises ArtifactError naming the first file that changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """The appliance's own signers."""

    appliance: Signer
    log: NoteSigner
