"""What somebody can do who has the evidence folder, and what an insider can do who also has keys and database."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from appliance.ports import SystemClock
from attestation.bundle import sign_statement
from attestation.claims import Kind, parse_entry
from attestation.digest import sha256_hex
from attestation.files import hash_folder
from attestation.keys import Signer
from attestation.pack import (
    CHECKPOINT,
    CLAIMS,
    MANIFEST,
    MANIFEST_BUNDLE,
    EvidenceManifest,
    encode_manifest,
)
from attestation.predicates import EVIDENCE_MANIFEST
from attestation.statement import Statement, Subject
from attestation.times import format_time
from attestation.tlogproof import encode_proof, parse_proof
from audit.event import APPLIANCE, Event, EventKind
from audit.store import enqueue
from tests.e2e.site import Site


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedClaim:
    """A line of claims.jsonl with its entry and proof."""

    line: bytes
    entry: bytes
    proof: bytes

    @property
    def kind(self) -> Kind:
        return parse_entry(self.entry).kind


def read_claims(folder: Path) -> list[LoggedClaim]:
    return [
        LoggedClaim(
            line=line,
            entry=(folder / f"proofs/{number:02}.entry").read_bytes(),
            proof=(folder / f"proofs/{number:02}.tlog-proof").read_bytes(),
        )
        for number, line in enumerate((folder / CLAIMS).read_bytes().splitlines(), 1)
    ]


def write_claims(folder: Path, claims: Sequence[LoggedClaim]) -> None:
    """Make these the claims of the evidence in `folder`, numbered without gaps."""
    shutil.rmtree(folder / "proofs")
    (folder / "proofs").mkdir()
    (folder / CLAIMS).write_bytes(b"".join(claim.line + b"\n" for claim in claims))
    for number, claim in enumerate(claims, 1):
        (folder / f"proofs/{number:02}.entry").write_bytes(claim.entry)
        (folder / f"proofs/{number:02}.tlog-proof").write_bytes(claim.proof)


def put_under(folder: Path, checkpoint: bytes) -> None:
    """Replay another signed head in the evidence in `folder`, in every proof too."""
    (folder / CHECKPOINT).write_bytes(checkpoint)
    write_claims(
        folder,
        [
            replace(c, proof=encode_proof(replace(parse_proof(c.proof), checkpoint_note=checkpoint)))
            for c in read_claims(folder)
        ],
    )


def reseal(folder: Path, *, run_id: str, signer: Signer) -> None:
    """Sign a manifest that fits what is in `folder` now."""
    for name in (MANIFEST, MANIFEST_BUNDLE):
        (folder / name).unlink()
    files = hash_folder(folder)
    manifest = encode_manifest(EvidenceManifest(run_id=run_id, files=files))
    statement = Statement(
        subjects=(Subject(name="evidence", sha256=sha256_hex(manifest)),),
        predicate_type=EVIDENCE_MANIFEST,
        predicate={
            "runId": run_id,
            "sealedAt": format_time(SystemClock().now()),
            "files": len(files.files),
        },
    )
    (folder / MANIFEST).write_bytes(manifest)
    (folder / MANIFEST_BUNDLE).write_bytes(sign_statement(statement, signer))


def log_again(site: Site, claims: Sequence[LoggedClaim], *, run_id: str) -> tuple[list[LoggedClaim], bytes]:
    """The claims with entries that say they are of `run_id`, really logged, all under one new signed head."""
    entries = []
    for claim in claims:
        detail: dict[str, str | int] = {"bundle": sha256_hex(claim.line), "kind": claim.kind}
        event = Event(
            kind=EventKind.CLAIM_SIGNED,
            subject=run_id,
            actor=APPLIANCE,
            at=SystemClock().now(),
            detail=detail,
        )
        entries.append(claim.entry if parse_entry(claim.entry).run_id == run_id else event.encode())
        if entries[-1] != claim.entry:
            with site.appliance.engine.begin() as connection:
                enqueue(connection, event)
    site.appliance.log.sequence(SystemClock().now())
    receipts = site.appliance.log.receipts(entries)
    assert receipts is not None
    logged = [
        LoggedClaim(line=claim.line, entry=entry, proof=receipt.proof)
        for claim, entry, receipt in zip(claims, entries, receipts, strict=True)
    ]
    return logged, receipts[0].checkpoint
