"""Keys in PEM files (PKCS#8, mode 0600): for development and small sites.

Not covered: somebody who can read the files signs as the appliance. Hardware-backed providers stand behind
the same two protocols (`attestation.keys.Signer`, `NoteSigner`).
"""

import os
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from appliance.errors import HomeError
from attestation.checkpoint import format_vkey
from attestation.keys import key_id, low_s


class FileSigner:
    """Signs claims with an ECDSA P-256 key; `attestation.keys.Signer`."""

    def __init__(self, private: ec.EllipticCurvePrivateKey) -> None:
        self._private = private
        self.public_pem = private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self.key_id = key_id(self.public_pem)

    def sign(self, message: bytes) -> bytes:
        """DER signature over SHA-256 of `message`, in its one form."""
        return low_s(self._private.sign(message, ec.ECDSA(hashes.SHA256())))


class FileNoteSigner:
    """Signs log heads with an Ed25519 key; `attestation.keys.NoteSigner`."""

    def __init__(self, private: ed25519.Ed25519PrivateKey, *, name: str) -> None:
        self._private = private
        self.name = name
        public = private.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        self.vkey = format_vkey(name, public)

    def sign(self, message: bytes) -> bytes:
        """The 64 raw bytes."""
        return self._private.sign(message)


def create_claim_key(path: Path) -> FileSigner:
    """A new P-256 key at `path`, which must not exist."""
    private = ec.generate_private_key(ec.SECP256R1())
    _write_private(path, private)
    return FileSigner(private)


def load_claim_key(path: Path) -> FileSigner:
    """The P-256 key at `path`. Raises HomeError if it is missing, readable by others or of another kind."""
    private = _read_private(path)
    if not isinstance(private, ec.EllipticCurvePrivateKey) or private.curve.name != "secp256r1":
        raise HomeError(f"{path}: wanted an ECDSA P-256 private key")
    return FileSigner(private)


def create_log_key(path: Path, *, name: str) -> FileNoteSigner:
    """A new Ed25519 key at `path`, which must not exist."""
    private = ed25519.Ed25519PrivateKey.generate()
    _write_private(path, private)
    return FileNoteSigner(private, name=name)


def load_log_key(path: Path, *, name: str) -> FileNoteSigner:
    """The Ed25519 key at `path`. Raises HomeError as `load_claim_key` does."""
    private = _read_private(path)
    if not isinstance(private, ed25519.Ed25519PrivateKey):
        raise HomeError(f"{path}: wanted an Ed25519 private key")
    return FileNoteSigner(private, name=name)


def _write_private(path: Path, private: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> None:
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())


def _read_private(path: Path) -> object:
    try:
        mode = path.stat().st_mode & 0o777
        if mode & 0o077:
            raise HomeError(f"{path}: private key has mode {mode:o}, wanted 600")
        return serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise HomeError(f"{path}: private key cannot be read: {error}") from error
