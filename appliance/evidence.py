"""The evidence folder of one run: written whole or not at all, and verified before anybody may have it."""

import os
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from appliance.errors import EvidenceError
from attestation.bundle import sign_statement
from attestation.digest import sha256_hex
from attestation.errors import AttestationError
from attestation.expectations import Expectations
from attestation.files import hash_folder, read_pack
from attestation.keys import Signer
from attestation.pack import (
    CHECKPOINT,
    CLAIMS,
    LOSSES,
    MANIFEST,
    MANIFEST_BUNDLE,
    EvidenceManifest,
    encode_manifest,
)
from attestation.predicates import EVIDENCE_MANIFEST
from attestation.statement import Statement, Subject
from attestation.times import format_time
from attestation.trust import trust_sha256
from attestation.verify import verify_evidence
from audit.durable import fsync_folder
from audit.log import Receipt

README = """\
Evidence of Assay run {run_id}

claims.jsonl     signed claims, one sigstore bundle a line; what each is: proofs/NN.entry
proofs/          for each claim its entry in the audit log and the proof that it is there
checkpoint       the signed head of the log that all proofs are against
model/           the trained model                    evaluation/   losses per held-out row
run/             what the champion printed            policy/       rules under which it was admitted
trust/           keys and log key that signed all this
MANIFEST.json    digest of every file here, signed in MANIFEST.sigstore.json

Verify it on a machine of yours, without network and without trusting us:

    assay-verify evidence . --trust-sha256 {pin}

Compare the trust digest with one you got another way (by telephone, on paper): it is the root of it all.

Training script by a champion of Gradients-on-Demand.
Gradients.io (https://gradients.io) is owned by Grads LLC.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceInputs:
    """What goes into the folder of one run."""

    run_id: str
    claims: tuple[bytes, ...]  # bundles
    entries: tuple[bytes, ...]
    receipts: tuple[Receipt, ...]
    trust_files: Mapping[str, bytes]
    policy_files: Mapping[str, bytes]
    losses: bytes
    stdout_log: Path
    model: Path
    report: str


def write_evidence(inputs: EvidenceInputs, target: Path, *, signer: Signer, now: datetime) -> None:
    """Write the evidence folder `target`, verify it, then make it visible by one rename.

    An existing `target` is complete, since only complete folders get that name: it is kept.
    Raises EvidenceError if what was written does not verify; then nothing is left behind.
    """
    if target.exists():
        return
    building = target.parent / f".building-{target.name}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    try:
        _write_files(inputs, building)
        _seal(inputs.run_id, building, signer=signer, now=now)
        _refuse_unverifiable(building, pin=trust_sha256(inputs.trust_files), now=now)
        _flush(building)
        try:
            building.rename(target)
        except OSError:
            if not target.exists():  # else a second worker was faster, with the same content
                raise
        fsync_folder(target.parent)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _write_files(inputs: EvidenceInputs, folder: Path) -> None:
    pin = trust_sha256(inputs.trust_files)
    files: dict[str, bytes] = {
        "README.txt": README.format(run_id=inputs.run_id, pin=pin).encode(),
        "report.txt": inputs.report.encode(),
        CLAIMS: b"".join(bundle + b"\n" for bundle in inputs.claims),
        CHECKPOINT: inputs.receipts[0].checkpoint,
        LOSSES: inputs.losses,
    }
    files |= {f"trust/{name}": content for name, content in inputs.trust_files.items()}
    files |= {f"policy/{name}": content for name, content in inputs.policy_files.items()}
    for number, (entry, receipt) in enumerate(zip(inputs.entries, inputs.receipts, strict=True), start=1):
        files[f"proofs/{number:02}.entry"] = entry
        files[f"proofs/{number:02}.tlog-proof"] = receipt.proof
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "run").mkdir()
    shutil.copyfile(inputs.stdout_log, folder / "run" / "stdout.log")
    shutil.copytree(inputs.model, folder / "model", copy_function=shutil.copyfile)


def _seal(run_id: str, folder: Path, *, signer: Signer, now: datetime) -> None:
    files = hash_folder(folder)
    manifest = encode_manifest(EvidenceManifest(run_id=run_id, files=files))
    statement = Statement(
        subjects=(Subject(name="evidence", sha256=sha256_hex(manifest)),),
        predicate_type=EVIDENCE_MANIFEST,
        predicate={"runId": run_id, "sealedAt": format_time(now), "files": len(files.files)},
    )
    (folder / MANIFEST).write_bytes(manifest)
    (folder / MANIFEST_BUNDLE).write_bytes(sign_statement(statement, signer))


def _flush(folder: Path) -> None:
    """Onto the disk with all of it: the name that it gets next says that it is complete."""
    for path in folder.rglob("*"):
        if path.is_dir():
            fsync_folder(path)
            continue
        with path.open("rb") as file:
            os.fsync(file.fileno())
    fsync_folder(folder)


def _refuse_unverifiable(folder: Path, *, pin: str, now: datetime) -> None:
    try:
        verify_evidence(read_pack(folder), trust=pin, expected=Expectations(), now=now)
    except AttestationError as error:
        raise EvidenceError(f"the evidence just written does not verify: {error}") from error
