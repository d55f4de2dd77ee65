"""What may become of a champion: adopted by policy, held, released again, revoked; each signed and logged.

    sync ──► proposed ──► approval signed by a second person ──► policy ──► adopted ──hold──► held
                                                                   └─► refused     ◄─release─┘
    revoke, from anywhere: that tree never runs here again, under whatever name it comes back

A statement is signed before the transaction, and it, the change and the event are written in one: a crash
leaves the old state or the new one.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Connection

from appliance.approvals import approval_statement, approve, approve_signed
from appliance.assembly import Appliance
from appliance.errors import ConflictError, InvalidOrderError
from appliance.facts import Gathered, gather_facts
from appliance.home import checked_name
from appliance.policy import Decision, decide
from appliance.stopping import Stopped, stop_runs
from appliance.store import champions, decisions
from appliance.store.champions import ChampionRow
from appliance.store.decisions import EVENT_OF_DECISION, Block, ChampionDecision, DecisionKind
from appliance.verdicts import sign_admission, sign_decision, sign_refusal
from attestation.digest import sha256_hex
from attestation.statement import Subject
from attestation.trust import TrustRoot
from audit.event import Event, EventKind
from audit.store import enqueue

# Approvals stand in a module of their own, and are part of what this one offers.
__all__ = [
    "ChampionState",
    "ChampionStatus",
    "adopt",
    "approval_statement",
    "approve",
    "approve_signed",
    "checked_reason",
    "hold",
    "hold_for_feed",
    "release_hold",
    "revoke",
    "revoke_tree",
    "status_of",
]

MAX_REASON_CHARS = 2000


class ChampionState(StrEnum):
    """Where a champion is. Only an adopted one can be ordered."""

    PROPOSED = "proposed"
    APPROVED = "approved"
    ADOPTED = "adopted"
    REFUSED = "refused"
    HELD = "held"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChampionStatus:
    """The state with its reasons, one sentence each, and who brought it about; nobody, while it is proposed.

    `approvers` are those whose approvals are kept; whether they count is decided when it is adopted.
    """

    state: ChampionState
    reasons: tuple[str, ...]
    approvers: tuple[str, ...]
    decided_by: str | None
    decided_at: datetime | None


def adopt(appliance: Appliance, champion: ChampionRow, *, actor: str) -> Decision:
    """Decide by policy whether `champion` may run here; sign and record the decision, whichever it is.

    An adopted champion becomes nobody's default by that (appliance.defaults). Raises AdmissionError, and decides
    nothing, if database and log differ on who proposed it.
    """
    policy = appliance.admission_policy()
    gathered = gather_facts(appliance, champion, policy=policy)
    decision = decide(policy, actor=actor, champion=champion.manifest_sha256, facts=gathered.facts)
    # The rules themselves travel with the evidence, so they are kept before anything refers to them.
    appliance.home.keep_policy(policy.files, sha256=policy.sha256)
    if decision.allowed:
        bundle = sign_admission(appliance, champion, gathered, policy=policy)
    else:
        bundle = sign_refusal(appliance, champion, gathered, decision=decision, actor=actor)
    _record(appliance, champion, decision, gathered=gathered, bundle=bundle, actor=actor)
    return decision


def hold(appliance: Appliance, champion: ChampionRow, *, actor: str, reason: str) -> Stopped:
    """Let nothing new start with `champion` until the hold is released; runs that started go on.

    Queued runs fail with the reason. Raises ConflictError if it is held or revoked already.
    """
    checked_name(actor)
    checked_reason(reason)
    held = _decision(
        appliance, _subject(champion), DecisionKind.HELD, tree=champion.tree, actor=actor, reason=reason
    )
    trust = appliance.home.trust()
    with appliance.engine.begin() as connection:
        block = _block(connection, champion, trust)
        if block is not None:
            raise ConflictError(f"{champion.name} was {block}")
        why = f"champion {champion.name} was held by {actor}: {reason}"
        stopped = stop_runs(connection, {champion.manifest_sha256}, actor=actor, why=why, now=held.decided_at)
        _keep(connection, held, ended=stopped)
    return stopped


def hold_for_feed(appliance: Appliance, subject: Subject, *, tree: str, actor: str, reason: str) -> None:
    """`hold` that a feed demands: also beside one that stands, and of a champion that is only about to come."""
    checked_name(actor)
    checked_reason(reason)
    held = _decision(appliance, subject, DecisionKind.HELD, tree=tree, actor=actor, reason=reason)
    with appliance.engine.begin() as connection:
        why = f"champion {subject.name} was held by {actor}: {reason}"
        stopped = stop_runs(connection, {subject.sha256}, actor=actor, why=why, now=held.decided_at)
        _keep(connection, held, ended=stopped)


def release_hold(appliance: Appliance, champion: ChampionRow, *, actor: str, reason: str) -> None:
    """End the hold; the last decision before or during it counts again. Raises ConflictError if it is not held."""
    checked_name(actor)
    checked_reason(reason)
    released = _decision(
        appliance, _subject(champion), DecisionKind.RELEASED, tree=champion.tree, actor=actor, reason=reason
    )
    trust = appliance.home.trust()
    with appliance.engine.begin() as connection:
        block = _block(connection, champion, trust)
        if block is None or block.decision is not DecisionKind.HELD:
            found = "is not held" if block is None else f"was {block}"
            raise ConflictError(f"{champion.name} {found}; only a hold can be released")
        _keep(connection, released)


def revoke(appliance: Appliance, champion: ChampionRow, *, actor: str, reason: str) -> Stopped:
    """Never run this tree again, under whatever name; there is no way back. What became of its runs.

    Queued runs fail with the reason, started ones are ended by the worker; only runs whose claims are signed
    already go on to the log. Models that were trained with it stay, and are flagged
    (`appliance.store.decisions.models_trained_with`). Raises ConflictError if it was revoked before.
    """
    return revoke_tree(appliance, _subject(champion), tree=champion.tree, actor=actor, reason=reason)


def revoke_tree(appliance: Appliance, subject: Subject, *, tree: str, actor: str, reason: str) -> Stopped:
    """`revoke` for a champion that may never have come here: it will not be taken when it does."""
    checked_name(actor)
    checked_reason(reason)
    revoked = _decision(appliance, subject, DecisionKind.REVOKED, tree=tree, actor=actor, reason=reason)
    with appliance.engine.begin() as connection:
        block = decisions.revocation_of(connection, subject.sha256, tree=tree)
        if block is not None:
            raise ConflictError(f"{subject.name} was {block}")
        why = f"champion {subject.name} was revoked by {actor}: {reason}"
        same = {subject.sha256, *champions.of_tree(connection, tree)}
        stopped = stop_runs(
            connection, same, actor=actor, why=why, now=revoked.decided_at, is_started_too=True
        )
        _keep(connection, revoked, ended=stopped)
    return stopped


def status_of(connection: Connection, champion: ChampionRow, *, trust: TrustRoot) -> ChampionStatus:
    """Where `champion` is by what is recorded; the worker checks the signatures again before it starts a run."""
    manifest = champion.manifest_sha256
    approvals = champions.approvals(connection, manifest)
    approvers = tuple(sorted({approval.approver for approval in approvals}))
    block = _block(connection, champion, trust)
    if block is not None:
        return ChampionStatus(
            state=ChampionState(block.decision.value),
            reasons=(block.reason,),
            approvers=approvers,
            decided_by=block.decided_by,
            decided_at=block.decided_at,
        )
    decision = champions.newest_decision(connection, manifest)
    if decision is None or (
        not decision.allowed and any(approval.approved_at > decision.decided_at for approval in approvals)
    ):
        return ChampionStatus(
            state=ChampionState.APPROVED if approvals else ChampionState.PROPOSED,
            reasons=() if decision is None else decision.reasons,  # why it was refused before the approval
            approvers=approvers,
            decided_by=None,
            decided_at=None,
        )
    return ChampionStatus(
        state=ChampionState.ADOPTED if decision.allowed else ChampionState.REFUSED,
        reasons=decision.reasons,
        approvers=approvers,
        decided_by=decision.decided_by,
        decided_at=decision.decided_at,
    )


def checked_reason(reason: str) -> str:
    """`reason` if it is one: it becomes part of what is signed and logged. Raises InvalidOrderError."""
    if not reason.strip() or len(reason) > MAX_REASON_CHARS:
        raise InvalidOrderError(
            f"a reason of 1 to {MAX_REASON_CHARS} characters is wanted, for the record",
            checked="reason",
            found=f"{len(reason)} characters",
        )
    return reason


def _record(
    appliance: Appliance,
    champion: ChampionRow,
    decision: Decision,
    *,
    gathered: Gathered,
    bundle: bytes,
    actor: str,
) -> None:
    now = appliance.clock.now()
    detail: dict[str, str | int] = {"policy": decision.policy_sha256}
    if decision.allowed:
        detail["admission"] = sha256_hex(bundle)
    else:
        detail["decision"] = sha256_hex(bundle)
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
            approvals=[approval.sha256 for approval in gathered.approvals],
        )
        enqueue(connection, event)


def _subject(champion: ChampionRow) -> Subject:
    return Subject(name=champion.name, sha256=champion.manifest_sha256)


def _decision(
    appliance: Appliance, subject: Subject, kind: DecisionKind, *, tree: str, actor: str, reason: str
) -> ChampionDecision:
    return ChampionDecision(
        champion=subject.sha256,
        tree=tree,
        name=subject.name,
        decision=kind,
        reason=reason,
        bundle=sign_decision(appliance, subject, kind=kind, tree=tree, actor=actor, reason=reason),
        decided_by=actor,
        decided_at=appliance.clock.now(),
    )


def _keep(connection: Connection, decision: ChampionDecision, *, ended: Stopped | None = None) -> None:
    """The decision with its event, in the caller's transaction."""
    detail: dict[str, str | int] = {
        "decision": sha256_hex(decision.bundle),
        "name": decision.name,
        "reason": decision.reason,
        "tree": decision.tree,
    }
    if ended is not None:
        detail |= {"failed": len(ended.failed), "cancelling": len(ended.cancelling)}
    decisions.add(connection, decision)
    event = Event(
        kind=EVENT_OF_DECISION[decision.decision],
        subject=decision.champion,
        actor=decision.decided_by,
        at=decision.decided_at,
        detail=detail,
    )
    enqueue(connection, event)


def _block(connection: Connection, champion: ChampionRow, trust: TrustRoot) -> Block | None:
    return decisions.block_of(connection, champion.manifest_sha256, tree=champion.tree, trust=trust)
