"""Signed log heads: C2SP tlog-checkpoint in a C2SP signed note, Ed25519.

Parsing encodes again and compares, so a head has one spelling. Lines of unknown signers (witnesses) are
allowed, as the format demands, and prove nothing here.
Source: c2sp.org/signed-note v1.0.0, c2sp.org/tlog-checkpoint v1.0.0.
"""

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from attestation.errors import MalformedError, VerificationError
from attestation.keys import NoteSigner
from attestation.merkle import HASH_BYTES

MAX_NOTE_BYTES = 64 << 10  # C2SP allows 1 MB; a head with 16 signatures has 4 KB
MAX_SIGNATURES = 16  # C2SP signed-note
MAX_TREE_SIZE = 2**63 - 1
_ED25519_LOG = b"\x01"
_KEY_ID_BYTES = 4
_NAME = re.compile(r"[^\s+\x00-\x1f\x7f-\x9f]{1,255}")
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """How long a log is and what it holds. `root`: 32 bytes."""

    origin: str
    size: int
    root: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierKey:
    """A log's public key: its name, the first 4 bytes of its digest, and 32 raw Ed25519 bytes."""

    name: str
    key_id: bytes
    public_raw: bytes


def sign_checkpoint(checkpoint: Checkpoint, signer: NoteSigner) -> bytes:
    """`checkpoint` as a note signed by the log. Raises MalformedError when the signer is another log."""
    key = parse_vkey(signer.vkey)
    if key.name != checkpoint.origin or signer.name != checkpoint.origin:
        raise MalformedError(f"log {checkpoint.origin!r} cannot be signed by {signer.name!r}")
    body = _encode_body(checkpoint)
    signature = base64.b64encode(key.key_id + signer.sign(body)).decode()
    return body + f"\n— {key.name} {signature}\n".encode()


def open_checkpoint(note: bytes, *, vkey: str) -> Checkpoint:
    """The log head in `note`, proved to be signed with `vkey` under its own name.

    Raises MalformedError, VerificationError.
    """
    key = parse_vkey(vkey)
    body, signatures = _split_note(note)
    checkpoint = _parse_body(body)
    if checkpoint.origin != key.name:
        raise VerificationError(f"head of log {checkpoint.origin!r}, expected {key.name!r}")
    ours = [raw for name, raw in signatures if name == key.name and raw[:_KEY_ID_BYTES] == key.key_id]
    if len(ours) != 1:
        raise VerificationError(f"expected one signature of log {key.name!r}, found {len(ours)}")
    try:
        Ed25519PublicKey.from_public_bytes(key.public_raw).verify(ours[0][_KEY_ID_BYTES:], body)
    except InvalidSignature as error:
        raise VerificationError(f"head is not signed by log {key.name!r}") from error
    return checkpoint


def format_vkey(name: str, public_raw: bytes) -> str:
    """The verifier key of log `name` with the 32 raw bytes of an Ed25519 public key."""
    _check_name(name)
    if len(public_raw) != HASH_BYTES:
        raise MalformedError(f"an Ed25519 public key has 32 bytes, found {len(public_raw)}")
    key = _ED25519_LOG + public_raw
    return f"{name}+{_key_id(name, key).hex()}+{base64.b64encode(key).decode()}"


def parse_vkey(text: str) -> VerifierKey:
    """The verifier key in `text`. Raises MalformedError; only Ed25519 log keys are known."""
    name, _, rest = text.partition("+")
    _, _, key_text = rest.partition("+")
    raw = unbase64(key_text)
    if raw[:1] != _ED25519_LOG:
        raise MalformedError("not an Ed25519 log key")
    if format_vkey(name, raw[1:]) != text:
        raise MalformedError("verifier key does not match its own key id")
    return VerifierKey(name=name, key_id=_key_id(name, raw), public_raw=raw[1:])


def unbase64(text: str) -> bytes:
    """The bytes that `text` spells in standard base64. Raises MalformedError for any other spelling."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedError(f"not base64: {text[:80]!r}") from error
    if base64.b64encode(data).decode() != text:  # stray bits in the last letter
        raise MalformedError(f"not canonical base64: {text[:80]!r}")
    return data


def parse_size(text: str) -> int:
    """A tree size or index: decimal without sign or leading zeros. Raises MalformedError."""
    if not _SIZE.fullmatch(text) or int(text) > MAX_TREE_SIZE:
        raise MalformedError(f"not a tree size: {text[:40]!r}")
    return int(text)


def _encode_body(checkpoint: Checkpoint) -> bytes:
    root = base64.b64encode(checkpoint.root).decode()
    return f"{checkpoint.origin}\n{checkpoint.size}\n{root}\n".encode()


def _parse_body(body: bytes) -> Checkpoint:
    lines = body.decode().split("\n")
    if len(lines) != 4:
        raise MalformedError(f"expected origin, size and root, found {len(lines) - 1} lines")
    origin, size, root = lines[0], parse_size(lines[1]), unbase64(lines[2])
    if len(root) != HASH_BYTES:
        raise MalformedError(f"a root has {HASH_BYTES} bytes, found {len(root)}")
    return Checkpoint(origin=origin, size=size, root=root)


def _split_note(note: bytes) -> tuple[bytes, list[tuple[str, bytes]]]:
    if len(note) > MAX_NOTE_BYTES:
        raise MalformedError(f"note of {len(note)} bytes is over the limit of {MAX_NOTE_BYTES}")
    try:
        text = note.decode()
    except UnicodeDecodeError as error:
        raise MalformedError("note is not UTF-8") from error
    body, separator, tail = text.rpartition("\n\n")
    lines = tail.split("\n")
    if not separator or lines.pop() != "":
        raise MalformedError("note does not end with signature lines")
    if not 0 < len(lines) <= MAX_SIGNATURES:
        raise MalformedError(f"note has {len(lines)} signatures, expected 1 to {MAX_SIGNATURES}")
    return f"{body}\n".encode(), [_parse_signature(line) for line in lines]


def _parse_signature(line: str) -> tuple[str, bytes]:
    dash, _, rest = line.partition(" ")
    name, _, encoded = rest.partition(" ")
    raw = unbase64(encoded)
    if dash != "—" or len(raw) <= _KEY_ID_BYTES:
        raise MalformedError("not a signature line")
    _check_name(name)
    return name, raw


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise MalformedError(f"not a log name: {name[:80]!r}")


def _key_id(name: str, key: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + key).digest()[:_KEY_ID_BYTES]
