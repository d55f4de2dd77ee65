"""The whole check of an evidence pack, from the reader's pin to the trained model. Pure: no I/O, no clock.

What `verify_evidence` does, in this order; the first failure ends it:

 1. pack        The folder is well-formed: safe names, no two that meet, sizes within limits.
 2. trust       The trust folder is the one the reader pinned, and parses.
 3. manifest    MANIFEST.json is signed by an appliance key and lists exactly the files that are there.
 4. claims      Each line of claims.jsonl is signed by a trusted key, of the right role, valid at that time.
 5. kinds       Every kind of claim is there once; approvals at least once.
 6. log         Each claim is proved to be in the log, under one head signed by the trusted log key.
 7. checkpoint  That head is the log which the reader remembers, or a proved continuation of it.
 8. links       All claims are about one run: model, data, champion, base model, policy, approval, image. No fact
                of the walls contradicts that they held, and no byte passed any network interface but lo.
 9. model       The trained files are those of the model claim; the evaluation recomputes exactly.
10. verdict     The model differs from its base as training would make it: not the base again, not noise.
11. expected    The evidence is about what the reader asked for.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType

from attestation import canonical
from attestation.checkpoint import Checkpoint
from attestation.claims import Claims, Kind, check_kinds, open_claim, open_signed, split_lines
from attestation.crosslinks import check_links
from attestation.digest import parse_sha256_hex, sha256_hex
from attestation.errors import MalformedError, VerificationError, locating
from attestation.expectations import Expectations
from attestation.isolation import caveats, ways_out
from attestation.logged import check_logged, check_remembered
from attestation.oms import parse_oms
from attestation.pack import (
    CLAIMS,
    LOSSES,
    MANIFEST,
    MANIFEST_BUNDLE,
    EvidenceManifest,
    Pack,
    compare_files,
    parse_manifest,
)
from attestation.paired import Interval, encode_losses, paired_interval
from attestation.predicates import EVIDENCE_MANIFEST
from attestation.times import format_time, parse_time
from attestation.trust import TrustRoot, encode_trust, parse_trust, trust_sha256

CHECKS: Mapping[str, str] = MappingProxyType(
    {
        "pack": "the folder is well-formed",
        "trust": "the trust root is the pinned one",
        "manifest": "every file is the one that was sealed",
        "claims": "every claim is signed by the right, valid key",
        "kinds": "no claim is missing",
        "log": "every claim is in the signed log",
        "checkpoint": "the log is the one remembered",
        "links": "all claims are about one run",
        "model": "the model's files and the evaluation match",
        "verdict": "the model differs from its base as training would make it",
        "expected": "it is what was asked for",
    }
)
MAX_CLOCK_SKEW = timedelta(minutes=5)
MAX_LOSSES_BYTES = 8 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedBy:
    """Who signed a claim."""

    kind: str
    role: str
    name: str
    key_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What was proved. There is no other way to get one than a check that passed.

    `skipped`: checks that nobody asked for. `not_proved`: sentences that a reader must not forget.
    """

    run_id: str
    model_root: str
    trust_sha256: str
    policy_sha256: str
    sealed_at: datetime
    head: Checkpoint
    interval: Interval
    claims: Claims
    signers: tuple[SignedBy, ...]
    checks: tuple[str, ...]
    skipped: tuple[str, ...]
    not_proved: tuple[str, ...]


def verify_evidence(pack: Pack, *, trust: str | TrustRoot, expected: Expectations, now: datetime) -> Verified:
    """Everything that `pack` proves to a reader who believes `trust`.

    `trust` is the pin of the trust folder inside the pack (attestation.trust.trust_sha256), or a trust
    root of the reader's own, which is then used instead; it may know of later revocations.

    Raises VerificationError, MalformedError, UndecidedError, each with `check` and `file`.
    """
    # 1. `Pack` and `Manifest` cannot be made of unsafe names; files.read_pack applies the size limits.

    # 2.
    root = _trust_root(pack, trust)

    # 3.
    with locating("manifest", file=MANIFEST_BUNDLE):
        manifest, sealed_at = _open_manifest(pack, root=root, now=now)
    with locating("manifest", file=MANIFEST):
        compare_files(pack, manifest)

    # 4.
    claims = _open_claims(pack, root=root, sealed_at=sealed_at)

    # 5.
    with locating("kinds", file=CLAIMS):
        check_kinds(claims)

    # 6.
    with locating("log", file=CLAIMS):
        head = check_logged(pack, claims, run_id=manifest.run_id, trust=root, sealed_at=sealed_at)

    # 7.
    check_remembered(head, expected=expected, trust=root)

    # 8.
    with locating("links", file=CLAIMS):
        check_links(claims, pack=pack, run_id=manifest.run_id)

    # 9.
    with locating("model", file=LOSSES):
        _same_files(claims, found=pack.digests_below("model"))
        interval = _check_evaluation(pack, claims)

    # 10.
    with locating("verdict", file=claims.one(Kind.VERDICT).file):
        _check_verdict(claims)

    # 11.
    with locating("expected", file=CLAIMS):
        _check_expected(claims, expected=expected)

    return _verified(
        manifest,
        sealed_at,
        root=root,
        head=head,
        interval=interval,
        claims=claims,
        expected=expected,
        is_pinned=isinstance(trust, str),
    )


def _trust_root(pack: Pack, trust: str | TrustRoot) -> TrustRoot:
    if isinstance(trust, TrustRoot):
        return trust
    pin = parse_sha256_hex(trust)
    files = pack.below("trust")
    with locating("trust", file="trust/"):
        found = trust_sha256(files)
        if found != pin:
            raise VerificationError(f"pinned {pin}, found {found}")
        return parse_trust(files)


def _open_manifest(pack: Pack, *, root: TrustRoot, now: datetime) -> tuple[EvidenceManifest, datetime]:
    statement, key = open_signed(pack.content(MANIFEST_BUNDLE), root)
    if statement.predicate_type != EVIDENCE_MANIFEST:
        raise VerificationError(f"signs a {statement.predicate_type}, not the manifest")
    sealed_at = parse_time(statement.predicate["sealedAt"])
    key.check_valid(sealed_at)
    if sealed_at > now + MAX_CLOCK_SKEW:
        raise VerificationError(f"sealed at {format_time(sealed_at)}, which is after {format_time(now)}")
    data = pack.content(MANIFEST)
    if statement.subjects[0].sha256 != sha256_hex(data):
        raise VerificationError(
            f"the signature is over {statement.subjects[0].sha256}, found {sha256_hex(data)}", file=MANIFEST
        )
    with locating("manifest", file=MANIFEST):
        manifest = parse_manifest(data)
    said = {"files": len(manifest.files.files), "runId": manifest.run_id}
    for field, value in said.items():
        if statement.predicate[field] != value:
            raise VerificationError(f"{field} is {statement.predicate[field]!r}, the manifest says {value!r}")
    return manifest, sealed_at


def _open_claims(pack: Pack, *, root: TrustRoot, sealed_at: datetime) -> Claims:
    with locating("claims", file=CLAIMS):
        lines = split_lines(pack.content(CLAIMS))
    claims = []
    for number, line in enumerate(lines, start=1):
        file = f"{CLAIMS} line {number}"
        with locating("claims", file=file):
            claim = open_claim(line, root, file=file)
            if claim.claimed_at is not None and claim.claimed_at > sealed_at:
                raise VerificationError(f"{claim.kind}: made after the pack was sealed")
        claims.append(claim)
    return Claims(all=tuple(claims))


def _same_files(claims: Claims, *, found: Mapping[str, str]) -> None:
    """Raise VerificationError unless `found`, name → digest, is exactly what the model claim lists."""
    # By name, not by root alone: an OMS root does not cover names.
    listed = {file.name: file.sha256 for file in parse_oms(claims.one(Kind.MODEL).statement).files}
    for name in sorted(listed.keys() | found.keys()):
        if listed.get(name) != found.get(name):
            said, is_there = listed.get(name, "nothing"), found.get(name, "nothing")
            raise VerificationError(f"the model claim says {said}, found {is_there}", file=f"model/{name}")


def _check_evaluation(pack: Pack, claims: Claims) -> Interval:
    said, data = claims.one(Kind.EVALUATION).predicate, pack.content(LOSSES)
    if said["losses"]["sha256"] != sha256_hex(data):
        raise VerificationError(f"the evaluation says {said['losses']['sha256']}, found {sha256_hex(data)}")
    before, after = _parse_losses(data)
    interval = paired_interval(
        before, after, resamples=said["resamples"], confidence_permille=said["confidencePermille"]
    )
    recomputed = {
        "rows": interval.rows,
        "meanBefore": interval.mean_before,
        "meanAfter": interval.mean_after,
        "meanDifference": interval.mean_difference,
        "low": interval.low,
        "high": interval.high,
    }
    for field, value in recomputed.items():
        if said[field] != value:
            raise VerificationError(f"the evaluation says {field} {said[field]}, recomputed {value}")
    return interval


def _parse_losses(data: bytes) -> tuple[list[int], list[int]]:
    raw = canonical.decode(data, max_bytes=MAX_LOSSES_BYTES)
    if not isinstance(raw, dict) or not all(isinstance(raw.get(name), list) for name in ("after", "before")):
        raise MalformedError("not losses before and after")
    if encode_losses(raw["before"], raw["after"]) != data:
        raise MalformedError("not canonical JSON of losses before and after")
    return raw["before"], raw["after"]


def _check_verdict(claims: Claims) -> None:
    said = claims.one(Kind.VERDICT).predicate
    if said["verdict"] != "trained":
        raise VerificationError(f"the verdict on the model is {said['verdict']!r}, expected 'trained'")
    for rule in said["rules"]:
        if not rule["holds"]:
            raise VerificationError(f"rule {rule['rule']!r} does not hold: {rule['detail']}")


def _check_expected(claims: Claims, *, expected: Expectations) -> None:
    run = claims.one(Kind.TRAINING_RUN)
    about = {
        "champion": run.predicate["champion"]["manifest"]["sha256"],
        "base model": run.predicate["baseModel"]["manifest"]["sha256"],
        "dataset": run.predicate["dataset"]["manifest"]["sha256"],
        "policy": _policy(claims),
    }
    for name, root in expected.roots.items():
        if about[name] != root:
            raise VerificationError(f"{name} {root} was asked for, the evidence is about {about[name]}")
    if expected.model_files is not None:
        _same_files(claims, found={file.name: file.sha256 for file in expected.model_files.files})


def _policy(claims: Claims) -> str:
    policy: str = claims.one(Kind.ADMISSION).predicate["verifier"]["policies"][0]["digest"]["sha256"]
    return policy


def _verified(
    manifest: EvidenceManifest,
    sealed_at: datetime,
    *,
    root: TrustRoot,
    head: Checkpoint,
    interval: Interval,
    claims: Claims,
    expected: Expectations,
    is_pinned: bool,
) -> Verified:
    skipped = {
        "checkpoint": expected.checkpoint is None,
        "expected": not expected.is_demanding,
    }
    return Verified(
        run_id=manifest.run_id,
        model_root=claims.one(Kind.MODEL).subject.sha256,
        trust_sha256=trust_sha256(encode_trust(root)),
        policy_sha256=_policy(claims),
        sealed_at=sealed_at,
        head=head,
        interval=interval,
        claims=claims,
        signers=tuple(
            SignedBy(kind=claim.kind, role=claim.key.role, name=claim.key.name, key_id=claim.key.key_id)
            for claim in claims.all
        ),
        checks=tuple(check for check in CHECKS if not skipped.get(check)),
        skipped=tuple(check for check in CHECKS if skipped.get(check)),
        not_proved=_not_proved(claims, expected=expected, is_pinned=is_pinned),
    )


def _not_proved(claims: Claims, *, expected: Expectations, is_pinned: bool) -> tuple[str, ...]:
    guests = {
        "training": claims.one(Kind.ISOLATION_TRAIN).predicate["measured"],
        "evaluation": claims.one(Kind.ISOLATION_EVALUATE).predicate["measured"],
    }
    walls = (
        *(sentence for guest, measured in guests.items() for sentence in caveats(measured, guest=guest)),
        *ways_out(*guests.values()),
    )
    always = (
        "When it happened: no trusted time source signed. Times are the signers' own clocks.",
        "Hardware: no hardware attestation. The host's kernel and administrators are trusted.",
        "Whose hand: each approval shows which key signed, not who held that key.",
        "One log for all: no witness cosigned the log head. The operator could show others another log.",
        "Benefit elsewhere: losses were measured by the appliance on its held-out rows, not by the reader.",
    )
    sometimes = {
        "The past: no remembered log head was given, so a rewritten log would not be noticed.": (
            expected.checkpoint is None
        ),
        "Purpose: no model, data or champion was asked for, so only the evidence's own word says which.": (
            not expected.is_demanding
        ),
        "Later revocations: the trust root is as old as the pack.": is_pinned,
    }
    return (*walls, *always, *(sentence for sentence, holds in sometimes.items() if holds))
