"""Proof files: an entry is in a log (C2SP tlog-proof), and a log only grew (C2SP tlog-witness request).

Parsing encodes again and compares. Nothing here is verified: see attestation.merkle and
attestation.checkpoint.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from attestation.checkpoint import MAX_NOTE_BYTES, parse_size, unbase64
from attestation.errors import MalformedError
from attestation.merkle import HASH_BYTES

_HEADER = "c2sp.org/tlog-proof@v1"
MAX_PATH = 63  # levels of a tree of 2^63 leaves; a consistency proof has at most one hash more
MAX_PROOF_BYTES = MAX_NOTE_BYTES + 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class TlogProof:
    """Where an entry is in a log, and the hashes from there to the root of the head."""

    index: int
    path: tuple[bytes, ...]
    checkpoint_note: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsistencyProof:
    """The hashes from a log head of `old_size` to the head in `checkpoint_note`."""

    old_size: int
    path: tuple[bytes, ...]
    checkpoint_note: bytes


def encode_proof(proof: TlogProof) -> bytes:
    """`proof` as a tlog-proof file. Source: c2sp.org/tlog-proof@v1."""
    return _encode([_HEADER, f"index {proof.index}"], proof.path, note=proof.checkpoint_note)


def parse_proof(data: bytes) -> TlogProof:
    """The proof in `data`. Raises MalformedError, also for proofs with extra data: ours have none."""
    lines, note = _split(data)
    if len(lines) < 2 or lines[0] != _HEADER or not lines[1].startswith("index "):
        raise MalformedError("not a tlog-proof@v1")
    index = parse_size(lines[1].removeprefix("index "))
    return TlogProof(index=index, path=_path(lines[2:]), checkpoint_note=note)


def encode_consistency(proof: ConsistencyProof) -> bytes:
    """`proof` as the body of a witness's add-checkpoint request. Source: c2sp.org/tlog-witness v1.0.0."""
    return _encode([f"old {proof.old_size}"], proof.path, note=proof.checkpoint_note)


def parse_consistency(data: bytes) -> ConsistencyProof:
    """The proof in `data`. Raises MalformedError."""
    lines, note = _split(data)
    if not lines[0].startswith("old "):
        raise MalformedError("not a consistency proof: the first line is not `old <size>`")
    old_size = parse_size(lines[0].removeprefix("old "))
    return ConsistencyProof(old_size=old_size, path=_path(lines[1:]), checkpoint_note=note)


def _encode(head: list[str], path: Sequence[bytes], *, note: bytes) -> bytes:
    lines = [*head, *(base64.b64encode(step).decode() for step in path)]
    return "\n".join([*lines, "", ""]).encode() + note


def _split(data: bytes) -> tuple[list[str], bytes]:
    if len(data) > MAX_PROOF_BYTES:
        raise MalformedError(f"proof of {len(data)} bytes is over the limit of {MAX_PROOF_BYTES}")
    head, separator, note = data.partition(b"\n\n")
    if not separator or not note:
        raise MalformedError("proof lacks its checkpoint")
    try:
        return head.decode("ascii").split("\n"), note
    except UnicodeDecodeError as error:
        raise MalformedError("proof is not plain text") from error


def _path(lines: list[str]) -> tuple[bytes, ...]:
    if len(lines) > MAX_PATH + 1:
        raise MalformedError(f"proof of {len(lines)} hashes is longer than any tree is high")
    path = tuple(unbase64(line) for line in lines)
    if any(len(step) != HASH_BYTES for step in path):
        raise MalformedError(f"a hash in the proof has not {HASH_BYTES} bytes")
    return path
