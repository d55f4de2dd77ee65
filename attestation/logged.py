"""Are the claims in the log, and is it the log that the reader knows? Steps 6 and 7 of attestation.verify."""

from datetime import datetime

from attestation import merkle
from attestation.checkpoint import Checkpoint, open_checkpoint
from attestation.claims import Claim, Claims, parse_entry
from attestation.errors import UndecidedError, VerificationError, locating
from attestation.expectations import Expectations
from attestation.pack import CHECKPOINT, Pack
from attestation.times import format_time
from attestation.tlogproof import parse_proof
from attestation.trust import TrustRoot


def check_logged(
    pack: Pack, claims: Claims, *, run_id: str, trust: TrustRoot, sealed_at: datetime
) -> Checkpoint:
    """The one log head under which every claim is proved to be logged.

    Raises MalformedError, VerificationError.
    """
    note = pack.content(CHECKPOINT)
    with locating("log", file=CHECKPOINT):
        head = open_checkpoint(note, vkey=trust.log_vkey)
    wanted = {
        f"{number:02}.{end}" for number in range(1, len(claims.all) + 1) for end in ("entry", "tlog-proof")
    }
    if odd := sorted(wanted ^ pack.below("proofs").keys()):
        raise VerificationError("expected one proof and one entry per claim", file=f"proofs/{odd[0]}")
    for number, claim in enumerate(claims.all, start=1):
        entry_file, proof_file = f"proofs/{number:02}.entry", f"proofs/{number:02}.tlog-proof"
        entry = pack.content(entry_file)
        with locating("log", file=entry_file):
            _check_entry(entry, claim, run_id=run_id, sealed_at=sealed_at)
        with locating("log", file=proof_file):
            proof = parse_proof(pack.content(proof_file))
            if proof.checkpoint_note != note:
                raise VerificationError(f"proved under another log head than the file {CHECKPOINT}")
            merkle.verify_inclusion(
                merkle.leaf_hash(entry), index=proof.index, size=head.size, path=proof.path, root=head.root
            )
    return head


def check_remembered(head: Checkpoint, *, expected: Expectations, trust: TrustRoot) -> None:
    """Raise unless `head` is the remembered log or a continuation of it; nothing remembered is no check.

    Raises VerificationError for a shorter or another log, UndecidedError for a longer one without proof.
    """
    if expected.checkpoint is None:
        return
    with locating("checkpoint", file="remembered checkpoint"):
        seen = open_checkpoint(expected.checkpoint, vkey=trust.log_vkey)
    with locating("checkpoint", file=CHECKPOINT):
        if head.size < seen.size:
            raise VerificationError(f"size {head.size} is below the remembered size {seen.size}")
        proof = expected.consistency
        if head.size > seen.size and proof is None:
            raise UndecidedError(
                f"size {head.size} is above the remembered size {seen.size}: a consistency proof is needed"
            )
        if head.size > seen.size and proof is not None and proof.old_size != seen.size:
            raise UndecidedError(f"the consistency proof begins at size {proof.old_size}, not {seen.size}")
        merkle.verify_consistency(
            old_size=seen.size,
            old_root=seen.root,
            new_size=head.size,
            new_root=head.root,
            path=proof.path if proof is not None and head.size > seen.size else (),
        )


def _check_entry(data: bytes, claim: Claim, *, run_id: str, sealed_at: datetime) -> None:
    entry = parse_entry(data)
    if entry.bundle != claim.bundle_sha256:
        raise VerificationError(f"logs bundle {entry.bundle}, but {claim.file} is {claim.bundle_sha256}")
    if entry.kind is not claim.kind:
        raise VerificationError(f"logs a {entry.kind} claim, but {claim.file} is a {claim.kind} claim")
    if entry.run_id != run_id:
        raise VerificationError(f"logged for run {entry.run_id!r}, not {run_id!r}")
    if entry.at > sealed_at:
        raise VerificationError(f"logged at {format_time(entry.at)}, after the pack was sealed")
    if claim.claimed_at is None:  # otherwise checked against the claim's own time
        claim.key.check_valid(entry.at)
