"""Builds valid evidence in memory, and evidence that is wrong in exactly one way.

`build()` gives the files of a pack that verifies. Its hooks change one thing *before* signing, so that a
test reaches the check it is about; `reseal` signs the manifest again after a change to finished files.
Keys are fixed; ECDSA signatures differ from build to build.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attestation import merkle, predicates
from attestation.bundle import sign_statement
from attestation.checkpoint import Checkpoint, format_vkey, sign_checkpoint
from attestation.claims import ClaimEntry, Kind, encode_entry
from attestation.digest import folder_sha256, sha256_hex
from attestation.keys import key_id, low_s
from attestation.oms import FileDigest, Manifest, oms_statement
from attestation.pack import MANIFEST, MANIFEST_BUNDLE, EvidenceManifest, encode_manifest, manifest_of
from attestation.paired import encode_losses, paired_interval
from attestation.statement import Statement, Subject
from attestation.tlogproof import TlogProof, encode_proof
from attestation.trust import Role, TrustedKey, TrustRoot, encode_trust, trust_sha256

RUN_ID = "run-0042"
ORIGIN = "example.org/appliance/audit"
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
SEALED_AT = "2026-11-21T03:00:00Z"
Edit = Callable[[Statement], Statement]


class P256Signer:
    """A claim signer whose key is made from a number."""

    def __init__(self, number: int) -> None:
        self._private = ec.derive_private_key(number, ec.SECP256R1())
        self.public_pem = self._private.public_key().public_bytes(
            Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
        )
        self.key_id = key_id(self.public_pem)

    def sign(self, message: bytes) -> bytes:
        return low_s(self._private.sign(message, ec.ECDSA(SHA256())))


class LogSigner:
    """A log signer whose key is made from a number."""

    def __init__(self, number: int, *, name: str = ORIGIN) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(number.to_bytes(32, "big"))
        self.name = name
        self.vkey = format_vkey(name, self._private.public_key().public_bytes_raw())

    def sign(self, message: bytes) -> bytes:
        return self._private.sign(message)


APPLIANCE, APPROVER, PUBLISHER, STRANGER = (P256Signer(number) for number in (1, 2, 3, 4))
LOG, OTHER_LOG = LogSigner(1), LogSigner(2)


def digest(text: str) -> dict[str, str]:
    """A digest field of something that is only named."""
    return {"sha256": sha256_hex(text.encode())}


RUNTIME = {"python": "3.11.7", "packages": digest("packages")}


def trusted(signer: P256Signer, role: Role, name: str, **fields: Any) -> TrustedKey:
    return TrustedKey(
        key_id=signer.key_id,
        pem=signer.public_pem,
        role=role,
        name=name,
        **{"valid_from": datetime(2026, 1, 1, tzinfo=UTC), **fields},
    )


def trust_root(**changes: TrustedKey) -> TrustRoot:
    """The trust root of the pack; `changes` replaces the keys of the appliance, approver or publisher."""
    keys = {
        "appliance": trusted(APPLIANCE, Role.APPLIANCE, "appliance-7"),
        "approver": trusted(APPROVER, Role.APPROVER, "carol"),
        "publisher": trusted(PUBLISHER, Role.PUBLISHER, "gradients"),
        **changes,
    }
    return TrustRoot(keys=tuple(sorted(keys.values(), key=lambda key: key.key_id)), log_vkey=LOG.vkey)


def pin(root: TrustRoot | None = None) -> str:
    return trust_sha256(encode_trust(root or trust_root()))


MODEL_FILES = {"config.json": b"{}", "sub/weights.safetensors": b"\0" * 64}
POLICY_FILES = {"admission.cedar": b"permit(principal, action, resource);", "README.md": b"# Policy"}
POLICY = {"sha256": folder_sha256({name: sha256_hex(data) for name, data in POLICY_FILES.items()})}
STDOUT = b"step 1 loss 3.1\n"
BEFORE = [3_000_000 + 1_000 * row for row in range(20)]
AFTER = [2_700_000 + 1_500 * row for row in range(20)]
CHAMPION = Subject(name="text-winner", sha256=sha256_hex(b"champion"))
COMMIT, TREE = "ab" * 20, "cd" * 20
STARTED_AT, ENDED_AT = "2026-11-21T01:00:10Z", "2026-11-21T02:00:00Z"


def base_statements(bundles: Mapping[Kind, bytes]) -> dict[Kind, Callable[[], Statement]]:
    """Kind → how to make its statement, in the order of claims.jsonl; later ones may use earlier bundles."""
    model = manifest_of(MODEL_FILES)
    dataset = Manifest(
        files=(
            FileDigest(name="held-out.json", sha256=digest("held-out")["sha256"]),
            FileDigest(name="train.json", sha256=digest("train")["sha256"]),
        )
    )
    subject = Subject(name="model", sha256=model.root_sha256)

    def about_model(kind: str, predicate: Mapping[str, Any]) -> Statement:
        return Statement(subjects=(subject,), predicate_type=kind, predicate=predicate)

    def about_champion(kind: str, predicate: Mapping[str, Any]) -> Statement:
        return Statement(subjects=(CHAMPION,), predicate_type=kind, predicate=predicate)

    def isolation(purpose: str) -> Statement:
        measured = measured_walls()
        return about_model(predicates.ISOLATION, {"runId": RUN_ID, "purpose": purpose, "measured": measured})

    def bundle_digest(kind: Kind) -> dict[str, str]:
        return {"sha256": sha256_hex(bundles[kind])}

    return {
        Kind.MODEL: lambda: oms_statement("model", model),
        Kind.DATASET: lambda: oms_statement("dataset", dataset),
        Kind.CHAMPION_RELEASE: lambda: about_champion(predicates.CHAMPION_RELEASE, release_predicate()),
        Kind.APPROVAL: lambda: about_champion(predicates.APPROVAL, approval_predicate()),
        Kind.ADMISSION: lambda: about_champion(
            predicates.SVR, admission_predicate(approval=bundle_digest(Kind.APPROVAL))
        ),
        Kind.ISOLATION_TRAIN: lambda: isolation("train"),
        Kind.ISOLATION_EVALUATE: lambda: isolation("evaluate"),
        Kind.TRAINING_RUN: lambda: about_model(
            predicates.TRAINING_RUN,
            run_predicate(dataset.root_sha256, isolation=bundle_digest(Kind.ISOLATION_TRAIN)),
        ),
        Kind.VERDICT: lambda: about_model(predicates.VERDICT, verdict_predicate()),
        Kind.EVALUATION: lambda: about_model(
            predicates.EVALUATION, evaluation_predicate(isolation=bundle_digest(Kind.ISOLATION_EVALUATE))
        ),
        Kind.PROVENANCE: lambda: about_model(
            predicates.SLSA_PROVENANCE, provenance_predicate(dataset.root_sha256)
        ),
    }


def release_predicate() -> dict[str, Any]:
    return {
        "name": CHAMPION.name,
        "channel": "text",
        "commit": COMMIT,
        "tree": TREE,
        "contractEpoch": "E4",
        "origin": "tree",
        "licence": digest("LICENSE"),
        "notice": digest("NOTICE"),
        "links": [],
        "images": [],
        "tournament": None,
        "publishedAt": "2026-11-01T00:00:00Z",
    }


def approval_predicate() -> dict[str, Any]:
    return {
        "approver": "carol",
        "printedName": "Carol Example",
        "meaning": "approval",
        "reason": "reviewed the code",
        "approvedAt": "2026-11-20T09:00:00Z",
        "policy": POLICY,
    }


def admission_predicate(*, approval: Mapping[str, str]) -> dict[str, Any]:
    return {
        "verifier": {
            "id": "urn:assay:appliance:example",
            "policies": [{"uri": "urn:assay:policy", "digest": POLICY}],
        },
        "timeCreated": "2026-11-20T10:00:00Z",
        "proposedBy": "pat",
        "properties": [predicates.CHAMPION_ADMITTED],
        "facts": {"licence": "Apache-2.0", "approval_count": 1, "held": False, "findings": ["python-exec"]},
        "approvals": [approval],
        "report": digest("report"),
    }


def decision_predicate() -> dict[str, Any]:
    """A refusal; no claim of evidence, so it is in no pack."""
    return {
        "decision": "refused",
        "decidedBy": "pat",
        "decidedAt": "2026-11-20T10:00:00Z",
        "reason": "licence-present: found licence = none; wanted Apache-2.0",
        "tree": TREE,
        "policy": POLICY,
        "facts": {"licence": "none"},
        "approvals": [digest("approval")],
        "report": digest("report"),
    }


def inspection_predicate() -> dict[str, Any]:
    """That a champion was inspected; no claim of evidence either."""
    return {"report": digest("report"), "inspectedAt": "2026-11-20T10:00:00Z"}


def run_predicate(dataset_root: str, *, isolation: Mapping[str, str]) -> dict[str, Any]:
    return {
        "runId": RUN_ID,
        "submittedBy": "bob",
        "submittedAt": "2026-11-21T01:00:00Z",
        "order": digest("order"),
        "contractEpoch": "E4",
        "champion": {
            "name": CHAMPION.name,
            "commit": COMMIT,
            "tree": TREE,
            "manifest": {"sha256": CHAMPION.sha256},
        },
        "baseModel": {"name": "base", "manifest": digest("base")},
        "dataset": {
            "manifest": {"sha256": dataset_root},
            "train": digest("train"),
            "heldOut": digest("held-out"),
        },
        "runtime": RUNTIME,
        "image": None,
        "startedAt": STARTED_AT,
        "endedAt": ENDED_AT,
        "exit": {"reason": "exited", "code": 0},
        "limits": {"memoryBytes": 8 << 30, "wallClockS": 3600},
        "log": {"sha256": sha256_hex(STDOUT), "bytes": len(STDOUT)},
        "isolation": isolation,
    }


def measured_walls() -> dict[str, Any]:
    """What is measured of a guest, with one fact of a driver's own beside those that are demanded."""
    read_only = ["nodev", "nosuid", "relatime", "ro"]
    return {
        "driver": "bubblewrap",
        "driver_version": "bubblewrap 0.8.0",
        "tier": 1,
        "profile": "champion",
        "image": None,
        "gpus": [],
        "inputs_mounted": "after the first measurement",
        "host": {"kernel": "6.18.44", "machine": "x86_64", "cpu": "a processor"},
        "cgroup": "v2",
        "cgroup_joined": True,
        "cgroup_limits": {"memory_bytes": 1 << 30, "pids": 64, "cpu_quota_and_period_us": "200000 100000"},
        "own_user_id": True,
        "uids": [1900000001] * 4,
        "gids": [1900000001] * 4,
        "groups": [],
        "uid_map": [[0, 1900000001, 1]],
        "gid_map": [[0, 1900000001, 1]],
        "capabilities": dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), "0" * 16),
        "no_new_privs": True,
        "seccomp": {
            "mode": 2,
            "filters": 1,
            "sha256": "9b" * 32,
            "sha256_is": "measured",
            "wanted_sha256": "9b" * 32,
        },
        "namespaces": {
            "compared_with": "the host's first process",
            "own": dict.fromkeys(("ipc", "mnt", "net", "pid", "user", "uts"), True),
        },
        "mounts": [{"target": "/", "filesystem": "overlay", "flags": read_only}],
        "interfaces": ["lo"],
        "network_bytes": {"lo": {"received_bytes": 0, "sent_bytes": 0}},
        "routes": 0,
        "limits": {"core_bytes": 0},
        "open_files": [0, 1, 2],
        "environment_names": ["HOME"],
        "devices": ["c 1:3 /dev/null"],
        "platform": "systrap",
        "inside": {
            "status": {"Groups": ""},
            "interfaces": {"lo": {"received_bytes": 0, "sent_bytes": 0}},
            "write_tries": {"/": "refused"},
            "connect_tries": dict.fromkeys(("192.0.2.1", "169.254.169.254", "2001:db8::1"), "refused"),
        },
        "unenforced": [],
        "violations": [],
        "measured_at": STARTED_AT,
        "released_at": STARTED_AT,
        "after": {
            "ended_at": ENDED_AT,
            "network_bytes": {"lo": {"received_bytes": 42, "sent_bytes": 42}},
            "out_of_memory": None,
            "survivors": 0,
            "usage": {"wall_ms": 3_590_000},
            "remnants": [],
        },
    }


def verdict_predicate() -> dict[str, Any]:
    return {
        "runId": RUN_ID,
        "verdict": "trained",
        "rules": [{"rule": "weights-differ", "holds": True, "detail": "2 of 2 tensors differ"}],
        "baseModel": digest("base"),
    }


def evaluation_predicate(*, isolation: Mapping[str, str]) -> dict[str, Any]:
    interval = paired_interval(BEFORE, AFTER, resamples=1000)
    return {
        "runId": RUN_ID,
        "metric": "held-out loss per token",
        "unit": "micronat",
        "rows": interval.rows,
        "heldOut": digest("held-out"),
        "baseModel": digest("base"),
        "evaluator": digest("evaluator"),
        "losses": {"sha256": sha256_hex(encode_losses(BEFORE, AFTER))},
        "runtime": RUNTIME,
        "meanBefore": interval.mean_before,
        "meanAfter": interval.mean_after,
        "meanDifference": interval.mean_difference,
        "low": interval.low,
        "high": interval.high,
        "confidencePermille": 950,
        "resamples": 1000,
        "isolation": isolation,
    }


def provenance_predicate(dataset_root: str) -> dict[str, Any]:
    return {
        "buildDefinition": {
            "buildType": predicates.BUILD_TYPE,
            "externalParameters": {
                "taskType": "InstructTextTask",
                "hoursToComplete": "1",
                "model": digest("base")["sha256"],
                "dataset": dataset_root,
                "champion": CHAMPION.sha256,
            },
            "internalParameters": {},
            "resolvedDependencies": [
                {"uri": "urn:c", "digest": {"gitCommit": COMMIT, "sha256": CHAMPION.sha256}},
                {"uri": "urn:b", "digest": digest("base")},
                {"uri": "urn:d", "digest": digest("train")},
                {"uri": "urn:r", "digest": digest("packages")},
            ],
        },
        "runDetails": {
            "builder": {"id": f"urn:assay:appliance:{APPLIANCE.key_id}"},
            "metadata": {
                "invocationId": RUN_ID,
                "startedOn": STARTED_AT,
                "finishedOn": ENDED_AT,
            },
        },
    }


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """What to do differently. `kinds`: the claims to write, in order; may leave out or repeat."""

    edits: Mapping[Kind, Edit]
    signers: Mapping[Kind, P256Signer]
    kinds: Sequence[Kind]
    entry: Callable[[ClaimEntry], ClaimEntry]
    log: LogSigner
    root: TrustRoot


def set_at(*path: str | int, value: Any) -> Edit:
    """An edit that sets one field of the predicate, given the keys and indexes that lead to it."""

    def replaced(node: Any, keys: Sequence[str | int]) -> Any:
        if not keys:
            return value
        key, *rest = keys
        if isinstance(node, Mapping):
            return {**node, key: replaced(node.get(key), rest)}
        return [replaced(item, rest) if index == key else item for index, item in enumerate(node)]

    return lambda statement: replace(statement, predicate=replaced(statement.predicate, path))


def about(name: str, sha256: str) -> Edit:
    """An edit that sets the subject."""
    return lambda statement: replace(statement, subjects=(Subject(name=name, sha256=sha256),))


def build(
    *,
    edits: Mapping[Kind, Edit] | None = None,
    signers: Mapping[Kind, P256Signer] | None = None,
    kinds: Sequence[Kind] = tuple(Kind),
    entry: Callable[[ClaimEntry], ClaimEntry] = lambda entry: entry,
    log: LogSigner = LOG,
    root: TrustRoot | None = None,
    files: Mapping[str, bytes] | None = None,
) -> dict[str, bytes]:
    """The files of a pack; `files` are put in, or replace others, before the seal."""
    hooks = Hooks(
        edits=edits or {}, signers=signers or {}, kinds=kinds, entry=entry, log=log, root=root or trust_root()
    )
    lines = _claim_lines(hooks)
    pack = {
        "README.txt": b"Verify with assay-verify.\n",
        "report.txt": b"Report of run-0042.\n",
        "claims.jsonl": b"".join(line + b"\n" for _, line in lines),
        "evaluation/losses.json": encode_losses(BEFORE, AFTER),
        "run/stdout.log": STDOUT,
        **{f"model/{name}": data for name, data in MODEL_FILES.items()},
        **{f"policy/{name}": data for name, data in POLICY_FILES.items()},
        **{f"trust/{name}": data for name, data in encode_trust(hooks.root).items()},
        **_proofs(lines, hooks),
        **(files or {}),
    }
    return reseal(pack)


def reseal(
    files: Mapping[str, bytes],
    *,
    signer: P256Signer = APPLIANCE,
    sealed_at: str = SEALED_AT,
    edit: Edit = lambda statement: statement,
) -> dict[str, bytes]:
    """`files` with a manifest that fits them, signed by `signer`."""
    kept = {name: data for name, data in files.items() if name not in {MANIFEST, MANIFEST_BUNDLE}}
    manifest = encode_manifest(EvidenceManifest(run_id=RUN_ID, files=manifest_of(kept)))
    statement = Statement(
        subjects=(Subject(name="evidence", sha256=sha256_hex(manifest)),),
        predicate_type=predicates.EVIDENCE_MANIFEST,
        predicate={"runId": RUN_ID, "sealedAt": sealed_at, "files": len(kept)},
    )
    return {**kept, MANIFEST: manifest, MANIFEST_BUNDLE: sign_statement(edit(statement), signer)}


def _claim_lines(hooks: Hooks) -> list[tuple[Kind, bytes]]:
    bundles: dict[Kind, bytes] = {}
    default = {Kind.APPROVAL: APPROVER, Kind.CHAMPION_RELEASE: PUBLISHER}
    for kind, make in base_statements(bundles).items():
        statement = make()
        if kind in hooks.edits:
            statement = hooks.edits[kind](statement)
        signer = hooks.signers.get(kind, default.get(kind, APPLIANCE))
        bundles[kind] = sign_statement(statement, signer)
    return [(kind, bundles[kind]) for kind in hooks.kinds]


def log_entries(lines: Sequence[tuple[Kind, bytes]], hooks: Hooks) -> list[bytes]:
    at = datetime(2026, 11, 21, 2, 30, tzinfo=UTC)
    return [
        encode_entry(hooks.entry(ClaimEntry(at=at, bundle=sha256_hex(line), kind=kind, run_id=RUN_ID)))
        for kind, line in lines
    ]


def _proofs(lines: Sequence[tuple[Kind, bytes]], hooks: Hooks) -> dict[str, bytes]:
    entries = log_entries(lines, hooks)
    # Strangers before and after, so that index and line number differ.
    leaves = [merkle.leaf_hash(entry) for entry in (b"older", *entries, b"newer")]
    note = note_over(leaves, log=hooks.log)
    files = {"checkpoint": note}
    for number, entry in enumerate(entries, start=1):
        proof = TlogProof(index=number, path=merkle.inclusion_path(leaves, number), checkpoint_note=note)
        files[f"proofs/{number:02}.entry"] = entry
        files[f"proofs/{number:02}.tlog-proof"] = encode_proof(proof)
    return files


def note_over(leaves: Sequence[bytes], *, log: LogSigner = LOG) -> bytes:
    """The signed head of a log with these leaf hashes."""
    head = Checkpoint(origin=log.name, size=len(leaves), root=merkle.root_hash(leaves))
    return sign_checkpoint(head, log)


def leaves_of(files: Mapping[str, bytes]) -> list[bytes]:
    """The leaf hashes of the log that a pack of `build` was logged in."""
    entries = [files[name] for name in sorted(files) if name.endswith(".entry")]
    return [merkle.leaf_hash(entry) for entry in (b"older", *entries, b"newer")]
