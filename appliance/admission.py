"""Champions: from a signed feed into the store, past two people and the policy.

    sync ──► fetched, pinned, stored ──► approval signed by a second person ──► policy ──► signed admission

Whoever proposes (syncs) a champion cannot approve it: only approvals by others count.
"""

from pathlib import Path
from typing import Any

from appliance.assembly import Appliance
from appliance.errors import AdmissionError, ArtifactError
from appliance.policy import Decision, PolicySet, decide
from appliance.store import champions
from appliance.store.champions import ChampionRow
from attestation.bundle import open_bundle, parse_bundle, sign_statement
from attestation.digest import sha256_hex
from attestation.errors import AttestationError
from attestation.keys import load_public_key
from attestation.predicates import APPROVAL, CHAMPION_ADMITTED, CHAMPION_RELEASE, SVR, check_predicate
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

    Raises AdmissionError if the approver proposed the champion, HomeError if their key is not here.
    """
    if approver == champion.proposed_by:
        raise AdmissionError(
            f"{approver} proposed {champion.name}: another person must approve it", reasons=("four-eyes",)
        )
    now, policy = appliance.clock.now(), appliance.admission_policy()
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
    bundle = sign_statement(statement, appliance.home.person_signer(approver))
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
        "release_signed": _is_release_signed(champion, trust),
        "tree_pinned": _is_unchanged(appliance, champion),
        "licence": licence,
        "notice_present": notice_present,
        "contract_epoch": champion.contract_epoch,
        "approval_count": len(_approvers(appliance, champion, policy=policy, trust=trust)),
    }


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


def _is_release_signed(champion: ChampionRow, trust: TrustRoot) -> bool:
    try:
        statement = _signed_by(champion.release_bundle, trust, role=Role.PUBLISHER)[0]
    except AttestationError:
        return False
    return (
        statement.predicate_type == CHAMPION_RELEASE
        and statement.subjects[0].sha256 == champion.manifest_sha256
    )


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
            statement, name = _signed_by(bundle, trust, role=Role.APPROVER)
        except AttestationError:
            continue  # an approval that does not verify does not count; the count decides
        if (
            statement.predicate_type == APPROVAL
            and statement.subjects[0].sha256 == champion.manifest_sha256
            and statement.predicate["policy"]["sha256"] == policy.sha256
            and statement.predicate["meaning"] == "approval"
            and statement.predicate["approver"] == name
        ):
            names.add(name)
    return frozenset(names - {champion.proposed_by})


def _signed_by(bundle: bytes, trust: TrustRoot, *, role: Role) -> tuple[Statement, str]:
    """The statement in `bundle` and the name of its signer, if that is a trusted key of `role`."""
    parsed = parse_bundle(bundle)
    key = trust.key(parsed.hint)
    statement = open_bundle(parsed, load_public_key(key.pem))
    check_predicate(statement)
    if key.role is not role:
        raise AttestationError(f"{key.title} may not sign as {role}")
    return statement, key.name
