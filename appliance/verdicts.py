"""Signs what was decided about a champion: an admission as SVR, everything else as a decision of our own type."""

from collections.abc import Sequence

from appliance.assembly import Appliance
from appliance.facts import Gathered
from appliance.policy import Decision, PolicySet
from appliance.store.champions import ChampionRow
from appliance.store.decisions import DecisionKind
from attestation.bundle import sign_statement
from attestation.predicates import CHAMPION_ADMITTED, CHAMPION_DECISION, SVR
from attestation.shapes import MAX_TEXT_CHARS
from attestation.statement import Statement, Subject
from attestation.times import format_time

POLICY_URI = "urn:assay:policy:admission"
APPLIANCE_ID = "urn:assay:appliance:"
REFUSED = "refused"


def sign_admission(
    appliance: Appliance, champion: ChampionRow, gathered: Gathered, *, policy: PolicySet
) -> bytes:
    """Source: in-toto SVR v0.2; it lists passed properties only, so refusals never become one.

    `proposedBy`, `facts`, `approvals` and `report` are ours: readers of SVR skip what they do not know.
    """
    predicate = {
        "verifier": {
            "id": f"{APPLIANCE_ID}{appliance.signer.key_id}",
            "policies": [{"uri": POLICY_URI, "digest": _digest(policy.sha256)}],
        },
        "timeCreated": format_time(appliance.clock.now()),
        "proposedBy": gathered.proposed_by,
        "properties": [CHAMPION_ADMITTED],
        "facts": dict(gathered.facts),
        "approvals": [_digest(approval.sha256) for approval in gathered.approvals],
        "report": _optional_digest(gathered.report_sha256),
    }
    subject = Subject(name=champion.name, sha256=champion.manifest_sha256)
    statement = Statement(subjects=(subject,), predicate_type=SVR, predicate=predicate)
    return sign_statement(statement, appliance.signer)


def sign_refusal(
    appliance: Appliance, champion: ChampionRow, gathered: Gathered, *, decision: Decision, actor: str
) -> bytes:
    """That the policy refused `champion`, by which rules and on which facts."""
    return _sign_decision(
        appliance,
        Subject(name=champion.name, sha256=champion.manifest_sha256),
        kind=REFUSED,
        tree=champion.tree,
        actor=actor,
        reason="; ".join(map(str, decision.reasons))[:MAX_TEXT_CHARS],
        policy=_digest(decision.policy_sha256),
        facts=dict(gathered.facts),
        approvals=[_digest(approval.sha256) for approval in gathered.approvals],
        report=_optional_digest(gathered.report_sha256),
    )


def sign_decision(
    appliance: Appliance, subject: Subject, *, kind: DecisionKind, tree: str, actor: str, reason: str
) -> bytes:
    """A person's decision about the champion `subject`, whose git tree is `tree`."""
    return _sign_decision(
        appliance,
        subject,
        kind=kind.value,
        tree=tree,
        actor=actor,
        reason=reason,
        policy=None,
        facts=None,
        approvals=[],
        report=None,
    )


def _sign_decision(
    appliance: Appliance,
    subject: Subject,
    *,
    kind: str,
    tree: str,
    actor: str,
    reason: str,
    policy: dict[str, str] | None,
    facts: dict[str, object] | None,
    approvals: Sequence[dict[str, str]],
    report: dict[str, str] | None,
) -> bytes:
    predicate = {
        "decision": kind,
        "decidedBy": actor,
        "decidedAt": format_time(appliance.clock.now()),
        "reason": reason,
        "tree": tree,
        "policy": policy,
        "facts": facts,
        "approvals": list(approvals),
        "report": report,
    }
    statement = Statement(subjects=(subject,), predicate_type=CHAMPION_DECISION, predicate=predicate)
    return sign_statement(statement, appliance.signer)


def _digest(sha256: str) -> dict[str, str]:
    return {"sha256": sha256}


def _optional_digest(sha256: str | None) -> dict[str, str] | None:
    return None if sha256 is None else _digest(sha256)
