"""Steps 6 and 7: what somebody could try with the log. Each test changes one thing."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from types import ModuleType
from typing import Any

import pytest

from attestation import merkle
from attestation.claims import Kind
from attestation.errors import AttestationError, UndecidedError
from attestation.expectations import Expectations
from attestation.tlogproof import ConsistencyProof, TlogProof, encode_proof, parse_proof
from attestation.verify import Verified

Check = Callable[..., Verified]


def refused(check: str, file: str, message: str) -> Any:
    return pytest.raises(AttestationError, match=rf"^\[{check}\] {file}: .*{message}")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"bundle": "ab" * 32}, "logs bundle abab.*, but claims.jsonl line 1 is"),
        ({"kind": Kind.DATASET}, "logs a dataset claim, but claims.jsonl line 1 is a model claim"),
        ({"run_id": "run-0041"}, "logged for run 'run-0041'"),
        ({"at": datetime(2026, 11, 21, 4, tzinfo=UTC)}, "after the pack was sealed"),
        ({"at": datetime(2025, 11, 21, tzinfo=UTC)}, "valid only from"),
    ],
)
def test_refuses_an_entry_about_something_else(
    check: Check, packs: ModuleType, fields: dict[str, Any], message: str
) -> None:
    with refused("log", "proofs/01.entry", message):
        check(packs.build(entry=lambda entry: replace(entry, **fields)))


def test_refuses_a_log_of_another_key(check: Check, packs: ModuleType) -> None:
    with refused("log", "checkpoint", "expected one signature of log"):
        check(packs.build(log=packs.OTHER_LOG))


def _with_proof(packs: ModuleType, change: Callable[[TlogProof], TlogProof]) -> dict[str, bytes]:
    files = packs.build()
    files["proofs/03.tlog-proof"] = encode_proof(change(parse_proof(files["proofs/03.tlog-proof"])))
    sealed: dict[str, bytes] = packs.reseal(files)
    return sealed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda proof: replace(proof, index=proof.index + 1), "another root"),
        (lambda proof: replace(proof, index=13), "cannot be in a tree of 13"),
        (lambda proof: replace(proof, path=proof.path[:-1]), "too short"),
        (lambda proof: replace(proof, path=(*proof.path, bytes(32))), "too long"),
        (lambda proof: replace(proof, path=(bytes(32), *proof.path[1:])), "another root"),
        (lambda proof: replace(proof, checkpoint_note=proof.checkpoint_note + b"\n"), "another log head"),
    ],
)
def test_refuses_a_wrong_proof(
    check: Check, packs: ModuleType, change: Callable[[TlogProof], TlogProof], message: str
) -> None:
    with refused("log", "proofs/03.tlog-proof", message):
        check(_with_proof(packs, change))


def test_refuses_a_proof_under_a_shorter_signed_head(check: Check, packs: ModuleType) -> None:
    files = packs.build()
    older = packs.note_over(packs.leaves_of(files)[:5])
    with refused("log", "proofs/03.tlog-proof", "another log head"):
        check(_with_proof(packs, lambda proof: replace(proof, checkpoint_note=older)))


def test_refuses_missing_and_extra_proofs(
    check: Check, packs: ModuleType, valid_pack: dict[str, bytes]
) -> None:
    fewer = {name: data for name, data in valid_pack.items() if name != "proofs/11.entry"}
    with refused("log", "proofs/11.entry", "one proof and one entry per claim"):
        check(packs.reseal(fewer))
    with refused("log", "proofs/12.entry", "one proof and one entry per claim"):
        check(packs.reseal({**valid_pack, "proofs/12.entry": b"{}"}))


def test_accepts_the_remembered_head_and_its_proved_continuation(
    check: Check, packs: ModuleType, valid_pack: dict[str, bytes]
) -> None:
    leaves = packs.leaves_of(valid_pack)
    same = Expectations(checkpoint=valid_pack["checkpoint"])
    assert "checkpoint" in check(valid_pack, expected=same).checks
    proof = ConsistencyProof(old_size=5, path=merkle.consistency_path(leaves, 5), checkpoint_note=b"")
    grown = Expectations(checkpoint=packs.note_over(leaves[:5]), consistency=proof)
    assert "checkpoint" in check(valid_pack, expected=grown).checks


def test_refuses_a_log_that_was_cut_off(
    check: Check, packs: ModuleType, valid_pack: dict[str, bytes]
) -> None:
    longer = packs.note_over([*packs.leaves_of(valid_pack), merkle.leaf_hash(b"later")])
    with refused("checkpoint", "checkpoint", "size 13 is below the remembered size 14"):
        check(valid_pack, expected=Expectations(checkpoint=longer))


def test_refuses_a_forked_log(check: Check, packs: ModuleType, valid_pack: dict[str, bytes]) -> None:
    leaves = packs.leaves_of(valid_pack)
    forked = packs.note_over([merkle.leaf_hash(b"other"), *leaves[1:]])
    with refused("checkpoint", "checkpoint", "forked"):
        check(valid_pack, expected=Expectations(checkpoint=forked))
    shorter = packs.note_over([merkle.leaf_hash(b"other"), *leaves[1:5]])
    proof = ConsistencyProof(old_size=5, path=merkle.consistency_path(leaves, 5), checkpoint_note=b"")
    with refused("checkpoint", "checkpoint", "does not contain the log of size 5"):
        check(valid_pack, expected=Expectations(checkpoint=shorter, consistency=proof))


def test_cannot_decide_about_a_longer_log_without_proof(
    check: Check, packs: ModuleType, valid_pack: dict[str, bytes]
) -> None:
    leaves = packs.leaves_of(valid_pack)
    seen = packs.note_over(leaves[:5])
    with pytest.raises(UndecidedError, match="a consistency proof is needed"):
        check(valid_pack, expected=Expectations(checkpoint=seen))
    proof = ConsistencyProof(old_size=4, path=merkle.consistency_path(leaves, 4), checkpoint_note=b"")
    with pytest.raises(UndecidedError, match="begins at size 4, not 5"):
        check(valid_pack, expected=Expectations(checkpoint=seen, consistency=proof))


def test_refuses_a_remembered_head_of_another_log(
    check: Check, packs: ModuleType, valid_pack: dict[str, bytes]
) -> None:
    seen = packs.note_over(packs.leaves_of(valid_pack), log=packs.OTHER_LOG)
    with refused("checkpoint", "remembered checkpoint", "expected one signature"):
        check(valid_pack, expected=Expectations(checkpoint=seen))
