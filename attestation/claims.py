"""The lines of claims.jsonl: which kinds there are, who may sign each, and how each is logged."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from attestation import canonical
from attestation.bundle import open_bundle, parse_bundle
from attestation.digest import parse_sha256_hex, sha256_hex
from attestation.errors import MalformedError, VerificationError
from attestation.keys import load_public_key
from attestation.oms import OMS_SIGNATURE
from attestation.predicates import (
    APPROVAL,
    CHAMPION_RELEASE,
    EVALUATION,
    ISOLATION,
    SLSA_PROVENANCE,
    SVR,
    TRAINING_RUN,
    VERDICT,
)
from attestation.statement import Statement, Subject
from attestation.times import format_time, parse_time
from attestation.trust import Role, TrustedKey, TrustRoot

MAX_CLAIMS = 99  # proofs are numbered with two digits
MAX_ENTRY_BYTES = 65_535  # C2SP tlog-tiles


class Kind(StrEnum):
    """What a claim is for. The order is that of claims.jsonl."""

    MODEL = "model"
    DATASET = "dataset"
    CHAMPION_RELEASE = "champion-release"
    APPROVAL = "approval"
    ADMISSION = "admission"
    ISOLATION_TRAIN = "isolation-train"
    ISOLATION_EVALUATE = "isolation-evaluate"
    TRAINING_RUN = "training-run"
    VERDICT = "verdict"
    EVALUATION = "evaluation"
    PROVENANCE = "provenance"


_KINDS = {
    CHAMPION_RELEASE: Kind.CHAMPION_RELEASE,
    APPROVAL: Kind.APPROVAL,
    SVR: Kind.ADMISSION,
    TRAINING_RUN: Kind.TRAINING_RUN,
    VERDICT: Kind.VERDICT,
    EVALUATION: Kind.EVALUATION,
    SLSA_PROVENANCE: Kind.PROVENANCE,
}
_ROLES = {CHAMPION_RELEASE: Role.PUBLISHER, APPROVAL: Role.APPROVER}  # the appliance signs the rest


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One line, its signature verified. `file` names it for messages."""

    kind: Kind
    statement: Statement
    bundle_sha256: str
    key: TrustedKey
    file: str

    @property
    def subject(self) -> Subject:
        """Its only subject; `open_claim` saw to that."""
        return self.statement.subjects[0]

    @property
    def predicate(self) -> Mapping[str, Any]:  # Any: see Statement
        return self.statement.predicate

    @property
    def claimed_at(self) -> datetime | None:
        """When, in its signer's own words, the claim was made; None if it does not say."""
        match self.kind:
            case Kind.CHAMPION_RELEASE:
                return parse_time(self.predicate["publishedAt"])
            case Kind.APPROVAL:
                return parse_time(self.predicate["approvedAt"])
            case Kind.ADMISSION:
                return parse_time(self.predicate["timeCreated"])
            case Kind.TRAINING_RUN:
                return parse_time(self.predicate["endedAt"])
            case Kind.PROVENANCE:
                return parse_time(self.predicate["runDetails"]["metadata"]["finishedOn"])
            case _:
                return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """Every claim of a pack, in file order."""

    all: tuple[Claim, ...]

    def of(self, kind: Kind) -> tuple[Claim, ...]:
        """The claims of one kind."""
        return tuple(claim for claim in self.all if claim.kind is kind)

    def one(self, kind: Kind) -> Claim:
        """The only claim of a kind, once `check_kinds` has passed."""
        (claim,) = self.of(kind)
        return claim


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimEntry:
    """The log entry of a signed claim. `bundle`: SHA-256 of its line without LF."""

    at: datetime
    bundle: str
    kind: Kind
    run_id: str


def role_for(predicate_type: str) -> Role:
    """Whose signature a claim of that type needs."""
    return _ROLES.get(predicate_type, Role.APPLIANCE)


def kind_of(statement: Statement) -> Kind:
    """What a statement is for in a pack. Raises VerificationError for statements that do not belong there."""
    if statement.predicate_type == OMS_SIGNATURE:
        name = statement.subjects[0].name
        if name in {Kind.MODEL, Kind.DATASET}:
            return Kind(name)
    elif statement.predicate_type == ISOLATION:
        return Kind(f"isolation-{statement.predicate['purpose']}")
    elif statement.predicate_type in _KINDS:
        return _KINDS[statement.predicate_type]
    raise VerificationError(f"no claim of evidence: {statement.predicate_type[:120]!r}")


def open_signed(data: bytes, trust: TrustRoot) -> tuple[Statement, TrustedKey]:
    """The statement in a bundle and the trusted key that signed it, allowed to by its role.

    Raises MalformedError, VerificationError.
    """
    bundle = parse_bundle(data)
    key = trust.key(bundle.hint)
    statement = open_bundle(bundle, load_public_key(key.pem))
    wanted = role_for(statement.predicate_type)
    if key.role is not wanted:
        raise VerificationError(
            f"{statement.predicate_type} needs the {wanted}'s signature, found {key.title}"
        )
    return statement, key


def open_claim(line: bytes, trust: TrustRoot, *, file: str) -> Claim:
    """The claim in a line, signed by a trusted key that was valid when the claim says it was made."""
    statement, key = open_signed(line, trust)
    claim = Claim(
        kind=kind_of(statement), statement=statement, bundle_sha256=sha256_hex(line), key=key, file=file
    )
    if claim.claimed_at is not None:
        key.check_valid(claim.claimed_at)
    return claim


def split_lines(data: bytes) -> list[bytes]:
    """The lines of claims.jsonl without LF. Raises MalformedError."""
    *lines, rest = data.split(b"\n")
    if rest or not 0 < len(lines) <= MAX_CLAIMS:
        raise MalformedError(f"expected 1 to {MAX_CLAIMS} lines, each with its LF")
    return lines


def check_kinds(claims: Claims) -> None:
    """Raise VerificationError unless every kind is there once, approvals at least once."""
    for kind in Kind:
        found = len(claims.of(kind))
        if found == 0:
            raise VerificationError(f"no {kind} claim")
        if found > 1 and kind is not Kind.APPROVAL:
            raise VerificationError(f"{found} {kind} claims, expected one")


def encode_entry(entry: ClaimEntry) -> bytes:
    """The bytes that are logged for a claim: the leaf of its inclusion proof."""
    return canonical.encode(
        {
            "at": format_time(entry.at),
            "bundle": parse_sha256_hex(entry.bundle),
            "event": "claim:signed",
            "kind": str(entry.kind),
            "run": entry.run_id,
            "v": 1,
        }
    )


def parse_entry(data: bytes) -> ClaimEntry:
    """The entry in `data`. Raises MalformedError for anything `encode_entry` cannot write."""
    raw = canonical.decode(data, max_bytes=MAX_ENTRY_BYTES)
    if not isinstance(raw, dict) or raw.get("kind") not in list(Kind) or not isinstance(raw.get("run"), str):
        raise MalformedError("not the log entry of a claim")
    entry = ClaimEntry(
        at=parse_time(raw.get("at")),
        bundle=parse_sha256_hex(raw.get("bundle")),
        kind=Kind(raw["kind"]),
        run_id=raw["run"],
    )
    if encode_entry(entry) != data:
        raise MalformedError("not the canonical log entry of a claim")
    return entry
