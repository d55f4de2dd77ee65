"""The feed's private keys: one Ed25519 key a file, PKCS#8, mode 0600, so that each can lie somewhere else.

A key's file is named after its role for people; what counts is the key id that the signed metadata names.
The folder also has `root.json`, the first root: what a publisher, like a client, begins its trust with.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Role

from tournament_sync.errors import PublishError

ROOT_FILE = "root.json"
STATE_FOLDER = "state"  # what this publisher saw of the feed last
_MAX_KEY_BYTES = 4096  # an encrypted Ed25519 key has some 500
_FILE = re.compile(r"([a-z]+)-([1-9][0-9]{0,5})\.pem", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFolder:
    """Keys at hand. Keys that are needed and not here are named by role and number in the error."""

    folder: Path
    passphrase: bytes | None = None

    @property
    def first_root(self) -> Path:
        """The first root of the feed; public, and what clients are given."""
        return self.folder / ROOT_FILE

    @property
    def state(self) -> Path:
        """What this publisher saw of the feed last, against a feed folder that was rolled back."""
        return self.folder / STATE_FOLDER

    def create(self, role: str) -> CryptoSigner:
        """A new key of `role` in a new file, flushed to disk. An existing file is never replaced."""
        private = Ed25519PrivateKey.generate()
        path = self.folder / f"{role}-{1 + max(self._numbers(role), default=0)}.pem"
        encryption: KeySerializationEncryption = NoEncryption()
        if self.passphrase is not None:
            encryption = BestAvailableEncryption(self.passphrase)
        pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        return CryptoSigner(private)

    def signers(self, name: str, role: Role) -> tuple[CryptoSigner, ...]:
        """All keys of `role` that are here. Raises PublishError if they are fewer than its threshold."""
        found = {}
        for number in self._numbers(name):
            signer = self._load(self.folder / f"{name}-{number}.pem")
            if signer.public_key.keyid in role.keyids:
                found[signer.public_key.keyid] = signer
        if len(found) < role.threshold:
            raise PublishError(
                f"role {name} needs {role.threshold} of its {len(role.keyids)} keys,"
                f" {len(found)} found in {self.folder} ({name}-<number>.pem)"
            )
        return tuple(found[key_id] for key_id in sorted(found))

    def at_least(self, count: int, role: str) -> tuple[CryptoSigner, ...]:
        """The keys of `role` that are here, and new ones up to `count`."""
        signers = [self._load(self.folder / f"{role}-{number}.pem") for number in self._numbers(role)]
        while len(signers) < count:
            signers.append(self.create(role))
        return tuple(signers)

    def _numbers(self, role: str) -> list[int]:
        if not self.folder.is_dir():
            raise PublishError(f"{self.folder} is no folder of keys")
        matches = (_FILE.fullmatch(path.name) for path in self.folder.iterdir())
        return sorted(int(match[2]) for match in matches if match and match[1] == role)

    def _load(self, path: Path) -> CryptoSigner:
        try:
            with path.open("rb") as file:
                pem = file.read(_MAX_KEY_BYTES + 1)
                mode = os.fstat(file.fileno()).st_mode & 0o777
            # The library refuses a passphrase for a key without; online keys lie beside offline ones.
            is_encrypted = b"ENCRYPTED PRIVATE KEY" in pem
            private = load_pem_private_key(pem, password=self.passphrase if is_encrypted else None)
        except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise PublishError(f"{path}: key cannot be read: {error}") from error
        if mode & 0o077 and not is_encrypted:
            raise PublishError(f"{path}: key without passphrase has mode {mode:o}, wanted 600")
        if not isinstance(private, Ed25519PrivateKey):
            raise PublishError(f"{path}: not an Ed25519 key")
        return CryptoSigner(private)
