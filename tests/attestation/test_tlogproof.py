from pathlib import Path

import pytest

from attestation import merkle
from attestation.checkpoint import open_checkpoint
from attestation.errors import MalformedError, VerificationError
from attestation.tlogproof import (
    ConsistencyProof,
    TlogProof,
    encode_consistency,
    encode_proof,
    parse_consistency,
    parse_proof,
)

PROOF = TlogProof(index=3, path=(b"\1" * 32, b"\2" * 32), checkpoint_note=b"origin\n4\nroot\n\nsignature\n")


def test_parses_what_it_encodes() -> None:
    for path in (PROOF.path, ()):
        proof = TlogProof(index=3, path=path, checkpoint_note=PROOF.checkpoint_note)
        assert parse_proof(encode_proof(proof)) == proof


def test_parses_consistency_proofs_that_it_encodes() -> None:
    proof = ConsistencyProof(old_size=3, path=PROOF.path, checkpoint_note=PROOF.checkpoint_note)
    assert parse_consistency(encode_consistency(proof)) == proof
    assert encode_consistency(proof).startswith(b"old 3\nAQEB")


def test_verifies_a_proof_made_elsewhere(vectors: Path) -> None:
    data, entry = (vectors / "proof.tlog-proof").read_bytes(), (vectors / "entry.json").read_bytes()
    proof = parse_proof(data)
    assert encode_proof(proof) == data
    head = open_checkpoint(proof.checkpoint_note, vkey=(vectors / "log.vkey").read_text().strip())
    where = {"index": proof.index, "size": head.size, "path": proof.path, "root": head.root}
    merkle.verify_inclusion(merkle.leaf_hash(entry), **where)  # type: ignore[arg-type]  # by name
    with pytest.raises(VerificationError, match="another root"):
        merkle.verify_inclusion(merkle.leaf_hash(entry + b" "), **where)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"@v1", b"@v2", "not a tlog-proof"),
        (b"index 3", b"index 03", "not a tree size"),
        (b"index 3", b"index -1", "not a tree size"),
        (b"index 3\n", b"", "not a tlog-proof"),
        (b"index 3", b"extra AAAA\nindex 3", "not a tlog-proof"),
        (b"AQEB", b"AQE", "not base64"),
        (b"AQEBAQEB", b"AQEB", "has not 32 bytes"),
        (b"AQ", b"\xff\xff", "not plain text"),
        (b"\n\norigin\n4\nroot\n\nsignature\n", b"\n", "lacks its checkpoint"),
        (b"\n\norigin\n4\nroot\n\nsignature\n", b"\n\n", "lacks its checkpoint"),
    ],
)
def test_refuses(old: bytes, new: bytes, message: str) -> None:
    data = encode_proof(PROOF)
    assert old in data
    with pytest.raises(MalformedError, match=message):
        parse_proof(data.replace(old, new))


def test_refuses_more_hashes_than_a_tree_is_high() -> None:
    long = TlogProof(index=0, path=(bytes(32),) * 65, checkpoint_note=PROOF.checkpoint_note)
    with pytest.raises(MalformedError, match="65 hashes"):
        parse_proof(encode_proof(long))


def test_refuses_an_oversized_proof() -> None:
    with pytest.raises(MalformedError, match="over the limit"):
        parse_proof(b"x" * 100_000)


def test_refuses_a_consistency_proof_without_its_first_line() -> None:
    with pytest.raises(MalformedError, match="first line is not `old <size>`"):
        parse_consistency(encode_proof(PROOF))
