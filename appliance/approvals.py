"""Approvals: signed here or elsewhere by a second person, counted by the rules of whoever verifies evidence later."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from appliance.assembly import Appliance
from appliance.errors import AdmissionError
from appliance.recorded import FOUR_EYES, intake_of
from appliance.store import champions
from appliance.store.champions import ChampionRow
from attestation.bundle import sign_statement
from attestation.claims import Kind, open_claim, open_signed
from attestation.digest import sha256_hex
from attestation.errors import AttestationError, VerificationError
from attestation.predicates import APPROVAL, CHAMPION_RELEASE
from attestation.statement import Statement, Subject
from attestation.times import format_time
from attestation.trust import TrustRoot
from audit.event import Event, EventKind
from audit.store import enqueue


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """An approval that counts; `sha256` is the bundle's."""

    approver: str
    sha256: str


def approve(
    appliance: Appliance, champion: ChampionRow, *, approver: str, printed_name: str, reason: str
) -> None:
    """Sign `approver`'s approval of exactly this champion under exactly the active policy set.

    Raises AdmissionError if the approver proposed or released the champion or is none, HomeError if their key is
    not here.
    """
    _check_other_person(appliance, champion, approver)
    signer = appliance.home.person_signer(approver)
    statement = approval_statement(
        champion,
        approver=approver,
        printed_name=printed_name,
        reason=reason,
        policy_sha256=appliance.admission_policy().sha256,
        now=appliance.clock.now(),
    )
    approve_signed(appliance, champion, sign_statement(statement, signer))


def approval_statement(
    champion: ChampionRow,
    *,
    approver: str,
    printed_name: str,
    reason: str,
    policy_sha256: str,
    now: datetime,
) -> Statement:
    """What an approver signs, here or on a machine of their own."""
    return Statement(
        subjects=(Subject(name=champion.name, sha256=champion.manifest_sha256),),
        predicate_type=APPROVAL,
        predicate={
            "approver": approver,
            "printedName": printed_name,
            "meaning": "approval",
            "reason": reason,
            "approvedAt": format_time(now),
            "policy": {"sha256": policy_sha256},
        },
    )


def approve_signed(appliance: Appliance, champion: ChampionRow, bundle: bytes) -> None:
    """Take an approval, wherever it was signed, if it counts for this champion today; the same again is no change.

    Raises AdmissionError for any other: it would count for nothing, and spoil the evidence of every run that
    carried it.
    """
    trust, now = appliance.home.trust(), appliance.clock.now()
    policy_sha256 = appliance.admission_policy().sha256
    try:
        approver = _approver(bundle, champion, policy_sha256=policy_sha256, trust=trust, now=now)
    except AttestationError as error:
        raise AdmissionError(
            f"the approval of {champion.name} does not count: {error}", reasons=FOUR_EYES
        ) from error
    _check_other_person(appliance, champion, approver)
    event = Event(
        kind=EventKind.CHAMPION_APPROVED,
        subject=champion.manifest_sha256,
        actor=approver,
        at=now,
        detail={"approval": sha256_hex(bundle), "policy": policy_sha256},
    )
    with appliance.engine.begin() as connection:
        is_new = champions.add_approval(
            connection,
            champion.manifest_sha256,
            approver=approver,
            policy_sha256=policy_sha256,
            bundle=bundle,
            approved_at=now,  # when it came here: the approver's own clock is in the bundle
        )
        if is_new:
            enqueue(connection, event)


def counted_approvals(
    connection: Connection,
    champion: ChampionRow,
    *,
    proposer: str,
    policy_sha256: str,
    trust: TrustRoot,
    now: datetime,
) -> tuple[Counted, ...]:
    """One approval each of distinct people that verify under this policy, by name.

    None of `proposer` (by the log: appliance.recorded.intake_of), none of who released the champion.
    """
    barred = {proposer.casefold(), releaser(champion, trust).casefold()}
    found: dict[str, Counted] = {}
    for approval in champions.approvals(connection, champion.manifest_sha256):
        try:
            approver = _approver(approval.bundle, champion, policy_sha256=policy_sha256, trust=trust, now=now)
        except AttestationError:
            continue  # an approval that does not verify does not count; the count decides
        if approver.casefold() not in barred:
            found.setdefault(
                approver.casefold(), Counted(approver=approver, sha256=sha256_hex(approval.bundle))
            )
    return tuple(found[name] for name in sorted(found))


def claimed(bundle: bytes, trust: TrustRoot, *, kind: Kind, now: datetime) -> tuple[Statement, str]:
    """The statement in `bundle` and the name of its signer, by the rules of whoever verifies evidence later.

    Stricter in one point: nothing that a revoked key ever signed counts any more, since its times may lie.
    Raises MalformedError, VerificationError.
    """
    claim = open_claim(bundle, trust, file=kind)
    if claim.kind is not kind:
        raise VerificationError(f"{claim.kind}, expected {kind}")
    if claim.claimed_at is None or claim.claimed_at > now:
        raise VerificationError(f"{kind}: made after {format_time(now)}")
    if claim.key.revoked_at is not None and claim.key.revoked_at <= now:
        raise VerificationError(f"{claim.key.title} was revoked at {format_time(claim.key.revoked_at)}")
    return claim.statement, claim.key.name


def releaser(champion: ChampionRow, trust: TrustRoot) -> str:
    """The name behind the key that released `champion`, whether or not it may still; "" if nobody believed did."""
    try:
        statement, key = open_signed(champion.release_bundle, trust)
    except AttestationError:
        return ""  # such a release is refused by its own rule
    return key.name if statement.predicate_type == CHAMPION_RELEASE else ""


def _check_other_person(appliance: Appliance, champion: ChampionRow, approver: str) -> None:
    others = {
        "proposed": intake_of(champion, appliance).actor,
        "released": releaser(champion, appliance.home.trust()),
    }
    for did, name in others.items():
        if approver.casefold() == name.casefold():
            raise AdmissionError(
                f"{approver} {did} {champion.name}: another person must approve it", reasons=FOUR_EYES
            )


def _approver(
    bundle: bytes, champion: ChampionRow, *, policy_sha256: str, trust: TrustRoot, now: datetime
) -> str:
    """Who approved exactly this champion under exactly this policy set. Raises MalformedError, VerificationError."""
    statement, name = claimed(bundle, trust, kind=Kind.APPROVAL, now=now)
    said = statement.predicate
    wanted = {
        "subject": (statement.subjects[0].sha256, champion.manifest_sha256),
        "champion's name": (statement.subjects[0].name, champion.name),
        "policy": (said["policy"]["sha256"], policy_sha256),
        "meaning": (said["meaning"], "approval"),
        "approver": (said["approver"], name),
    }
    for what, (found, expected) in wanted.items():
        if found != expected:
            raise VerificationError(f"its {what} is {found[:120]}, expected {expected}")
    return name
