"""Champions: from a signed feed into the store, past two people and the policy.

    sync ──► fetched, pinned, stored ──► approval signed by a second person ──► policy ──► signed admission

Whoever proposes (syncs) a champion cannot approve it: only approvals by others count.
"""

from datetime import datetime
from pathlib import Path
from typing import Any

from appliance.assembly import Appliance
from appliance.errors import AdmissionError, ArtifactError
from appliance.policy import Decision, PolicySet, decide
from appliance.store import champions
from appliance.store.champions import ChampionRow
from attestation.bundle import sign_statement
from attestation.claims import Kind, open_claim
from attestation.digest import sha256_hex
from attestation.errors import AttestationError, VerificationError
from attestation.keys import Signer
from attestation.predicates import APPROVAL, CHAMPION_ADMITTED, SVR
from attestation.statement import Statement, Subject
from attestation.times import format_time
from attestation.trust import Role, TrustRoot
from audit.event import Event, EventKind
from audit.store import enqueue
from tournament_sync.errors import LicenceError
from tournament_sync.licence import read_licence

POLICY_URI = "urn:assay:policy:admission"
APPLIANCE_ID = "urn:assay:appliance:"


def approve(
    appliance: Appliance, champion: ChampionRow, *, approver: str, printed_name: str, reason: str
) -> None:
    """Sign `approver`'s approval of exactly this champion under exactly the active policy set.

    Raises AdmissionError if the approver proposed the champion or is none, HomeError if their key is not here.
    """
    if approver == champion.proposed_by:
        raise AdmissionError(
            f"{approver} proposed {champion.name}: another person must approve it", reasons=("four-eyes",)
        )
    now, policy = appliance.clock.now(), appliance.admission_policy()
    signer = appliance.home.person_signer(approver)
    # It would count for nothing, and spoil the evidence of every run that carried it.
    if not _may_approve(appliance.home.trust(), signer, approver=approver, now=now):
        raise AdmissionError(f"{approver} is no approver whose key is trusted today", reasons=("four-eyes",))
    statement = Statement(
        subjects=(Subject(name=champion.name, sha256=champion.manifest_sha256),),
        predicate_type=APPROVAL,
        predicate={
            "approver": approver,
            "printedName": printed_name,
            "meaning": "approval",
            "reason": reason,
            "approvedAt": format_time(now),
            "policy": {"sha256": policy.sha256},
        },
    )
    bundle = sign_statement(statement, signer)
    event = Event(
        kind=EventKind.CHAMPION_APPROVED,
        subject=champion.manifest_sha256,
        actor=approver,
        at=now,
        detail={"approval": sha256_hex(bundle), "policy": policy.sha256},
    )
    with appliance.engine.begin() as connection:
        champions.add_approval(
            connection,
            champion.manifest_sha256,
            approver=approver,
            policy_sha256=policy.sha256,
            bundle=bundle,
            approved_at=now,
        )
        enqueue(connection, event)


def admit(appliance: Appliance, champion: ChampionRow, *, actor: str) -> Decision:
    """Decide by policy whether `champion` may run here, and record the decision, whichever it is.

    An admission is a signed statement (SVR); a refusal is an audit event that names the rules.
    """
    policy = appliance.admission_policy()
    facts = gather_facts(appliance, champion, policy=policy)
    decision = decide(policy, actor=actor, champion=champion.manifest_sha256, facts=facts)
    # The rules themselves travel with the evidence, so they are kept before anything refers to them.
    appliance.home.keep_policy(policy.files, sha256=policy.sha256)
    bundle = _sign_admission(appliance, champion, policy) if decision.allowed else None
    _record(appliance, champion, decision, bundle=bundle, actor=actor)
    return decision


def gather_facts(appliance: Appliance, champion: ChampionRow, *, policy: PolicySet) -> dict[str, Any]:
    """The facts of the admission policy, read again from the stored tree and the signed bytes."""
    trust = appliance.home.trust()
    licence, notice_present = _licence_facts(appliance.store.path(champion.manifest_sha256))
    return {
        "release_signed": _is_release_signed(champion, trust, now=appliance.clock.now()),
        "tree_pinned": _is_unchanged(appliance, champion),
        "licence": licence,
        "notice_present": notice_present,
        "contract_epoch": champion.contract_epoch,
        "approval_count": len(_approvers(appliance, champion, policy=policy, trust=trust)),
    }


def _may_approve(trust: TrustRoot, signer: Signer, *, approver: str, now: datetime) -> bool:
    try:
        key = trust.key(signer.key_id)
        key.check_valid(now)
    except AttestationError:
        return False
    return key.role is Role.APPROVER and key.name == approver


def _sign_admission(appliance: Appliance, champion: ChampionRow, policy: PolicySet) -> bytes:
    """Source: in-toto SVR v0.2; it lists passed properties only, so refusals never become one."""
    statement = Statement(
        subjects=(Subject(name=champion.name, sha256=champion.manifest_sha256),),
        predicate_type=SVR,
        predicate={
            "verifier": {
                "id": f"{APPLIANCE_ID}{appliance.signer.key_id}",
                "policies": [{"uri": POLICY_URI, "digest": {"sha256": policy.sha256}}],
            },
            "timeCreated": format_time(appliance.clock.now()),
            "proposedBy": champion.proposed_by,  # ours: readers of SVR skip what they do not know
            "properties": [CHAMPION_ADMITTED],
        },
    )
    return sign_statement(statement, appliance.signer)


def _record(
    appliance: Appliance, champion: ChampionRow, decision: Decision, *, bundle: bytes | None, actor: str
) -> None:
    now = appliance.clock.now()
    detail: dict[str, str | int] = {"policy": decision.policy_sha256}
    if bundle is not None:
        detail["admission"] = sha256_hex(bundle)
    else:
        detail["rules"] = " ".join(reason.rule for reason in decision.reasons)
    event = Event(
        kind=EventKind.CHAMPION_ADMITTED if decision.allowed else EventKind.CHAMPION_DENIED,
        subject=champion.manifest_sha256,
        actor=actor,
        at=now,
        detail=detail,
    )
    with appliance.engine.begin() as connection:
        champions.add_admission(
            connection,
            champion.manifest_sha256,
            policy_sha256=decision.policy_sha256,
            allowed=decision.allowed,
            reasons=[str(reason) for reason in decision.reasons],
            bundle=bundle,
            decided_by=actor,
            decided_at=now,
        )
        enqueue(connection, event)


def _is_release_signed(champion: ChampionRow, trust: TrustRoot, *, now: datetime) -> bool:
    try:
        statement = _claimed(champion.release_bundle, trust, kind=Kind.CHAMPION_RELEASE, now=now)[0]
    except AttestationError:
        return False
    return statement.subjects[0].sha256 == champion.manifest_sha256


def _is_unchanged(appliance: Appliance, champion: ChampionRow) -> bool:
    try:
        appliance.store.verify(champion.manifest_sha256)
    except ArtifactError:
        return False
    return True


def _licence_facts(tree: Path) -> tuple[str, bool]:
    try:
        read_licence(tree)
    except LicenceError as error:
        return f"none ({error})", False
    return "Apache-2.0", True


def _approvers(
    appliance: Appliance, champion: ChampionRow, *, policy: PolicySet, trust: TrustRoot
) -> frozenset[str]:
    """Distinct people, other than the proposer, whose approval of this champion under this policy verifies."""
    with appliance.engine.connect() as connection:
        bundles = [approval.bundle for approval in champions.approvals(connection, champion.manifest_sha256)]
    names = set()
    for bundle in bundles:
        try:
            statement, name = _claimed(bundle, trust, kind=Kind.APPROVAL, now=appliance.clock.now())
        except AttestationError:
            continue  # an approval that does not verify does not count; the count decides
        if (
            statement.subjects[0].sha256 == champion.manifest_sha256
            and statement.predicate["policy"]["sha256"] == policy.sha256
            and statement.predicate["meaning"] == "approval"
            and statement.predicate["approver"] == name
        ):
            names.add(name)
    return frozenset(names - {champion.proposed_by})


def _claimed(bundle: bytes, trust: TrustRoot, *, kind: Kind, now: datetime) -> tuple[Statement, str]:
    """The statement in `bundle` and the name of its signer, by the rules of whoever verifies evidence later.

    Stricter in one point: nothing that a revoked key ever signed counts any more, since its times may lie.
    """
    claim = open_claim(bundle, trust, file=kind)
    if claim.kind is not kind:
        raise VerificationError(f"{claim.kind}, expected {kind}")
    if claim.claimed_at is None or claim.claimed_at > now:
        raise VerificationError(f"{kind}: made after {format_time(now)}")
    if claim.key.revoked_at is not None and claim.key.revoked_at <= now:
        raise VerificationError(f"{claim.key.title} was revoked at {format_time(claim.key.revoked_at)}")
    return claim.statement, claim.key.name
