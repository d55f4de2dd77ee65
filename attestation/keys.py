"""Public keys that check signatures, and the two kinds of signer that make them.

Claims are signed with ECDSA on P-256 over SHA-256, log heads with Ed25519. Private keys are the
business of key providers outside this package; here they are only what answers to `Signer`.

Whoever has an ECDSA signature (r, s) also has (r, n-s), without the key. Only the one with the lower s
counts here, so that nobody but the signer can write a second form of what is signed.
"""

from dataclasses import dataclass
from typing import Protocol

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from attestation.digest import sha256_hex
from attestation.errors import MalformedError, VerificationError

MAX_PEM_BYTES = 1024  # a P-256 key file has 178
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # n; SEC 2, 2.4.2


class Signer(Protocol):
    """Signs claims. A key provider implements it; `sign` may take a while and may raise its own errors."""

    @property
    def key_id(self) -> str: ...
    @property
    def public_pem(self) -> bytes: ...
    def sign(self, message: bytes) -> bytes:
        """An ECDSA P-256 signature over the SHA-256 of `message`, in DER, as `low_s` gives it."""


class NoteSigner(Protocol):
    """Signs log heads (C2SP signed note)."""

    @property
    def name(self) -> str: ...
    @property
    def vkey(self) -> str: ...
    def sign(self, message: bytes) -> bytes:
        """The 64 raw bytes of an Ed25519 signature over `message`."""


def low_s(signature: bytes) -> bytes:
    """A DER signature with the lower of the two values of s: the one that `PublicKey.verify` takes."""
    r, s = decode_dss_signature(signature)
    return encode_dss_signature(r, min(s, P256_ORDER - s))


def key_id(public_pem: bytes) -> str:
    """The id of a public key: the SHA-256 of its PEM file. It selects a key and grants no trust."""
    return sha256_hex(public_pem)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKey:
    """A P-256 public key. `pem` is the one PEM form: 64-column lines, LF, final newline."""

    key_id: str
    pem: bytes

    def __post_init__(self) -> None:
        if self.key_id != key_id(self.pem):
            raise MalformedError("key id is not the SHA-256 of the PEM file")
        _load_p256(self.pem)

    def verify(self, signature: bytes, message: bytes) -> None:
        """Raise VerificationError unless `signature` is this key's over `message`, in its one form.

        That is strict DER with the lower s.
        """
        try:
            r, s = decode_dss_signature(signature)
            is_strict = encode_dss_signature(r, s) == signature
        except ValueError as error:
            raise VerificationError("signature is not DER") from error
        if not is_strict:
            raise VerificationError("signature is not strict DER")
        if s > P256_ORDER // 2:
            raise VerificationError("signature has the higher of its two values of s")
        try:
            _load_p256(self.pem).verify(signature, message, ec.ECDSA(SHA256()))
        except InvalidSignature as error:
            raise VerificationError(f"signature is not by key {self.key_id[:16]}…") from error


def load_public_key(pem: bytes) -> PublicKey:
    """The key in `pem`. Raises MalformedError unless it is P-256 in the one PEM form."""
    return PublicKey(key_id=key_id(pem), pem=pem)


def _load_p256(pem: bytes) -> ec.EllipticCurvePublicKey:
    if len(pem) > MAX_PEM_BYTES:
        raise MalformedError(f"public key of {len(pem)} bytes is over the limit of {MAX_PEM_BYTES}")
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise MalformedError("not a PEM public key") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise MalformedError("public key is not ECDSA P-256")
    if key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo) != pem:
        raise MalformedError("public key is not in its one PEM form")
    return key
