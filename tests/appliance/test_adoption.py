"""Who may run what: the decision that is kept, and what people decide after it."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from sqlalchemy import delete, text, update
from sqlalchemy.exc import IntegrityError

from appliance.adoption import (
    ChampionState,
    ChampionStatus,
    adopt,
    hold,
    release_hold,
    revoke,
    revoke_tree,
    status_of,
)
from appliance.assembly import Appliance
from appliance.attest import AdmittedChampion
from appliance.champion_report import record_report, sign_report
from appliance.domain import RunState
from appliance.errors import ConflictError, HomeError, InvalidOrderError
from appliance.home import add_person
from appliance.orders import check_order
from appliance.permission import check_permission
from appliance.policy import decide, parse_policy
from appliance.stopping import Stopped
from appliance.store import champions, decisions, inspections, tables
from appliance.store import defaults as store_defaults
from appliance.store.champions import ChampionRow
from appliance.store.decisions import ChampionDecision, DecisionKind
from appliance.store.engine import reading
from appliance.verdicts import sign_decision
from attestation.bundle import sign_statement
from attestation.claims import Kind, open_claim, open_signed
from attestation.digest import sha256_hex
from attestation.predicates import CHAMPION_ADMITTED, CHAMPION_DECISION
from attestation.statement import Subject
from attestation.trust import Role
from audit.event import Event, EventKind
from audit.store import enqueue, log_outbox
from tests.appliance.vetting import approved_by, events_about, refused_rules
from tests.appliance.world import (
    APPROVER,
    PROPOSER,
    RUN_ID,
    START,
    SUBMITTER,
    FixedClock,
    World,
    finding,
    propose,
    report_of,
)
from tournament_sync.inspection.report import Severity

# The way it goes.


def test_an_approved_champion_is_admitted_by_a_verdict_that_verifies(
    appliance: Appliance, champion: ChampionRow
) -> None:
    approved_by(appliance, champion, APPROVER)
    decision = adopt(appliance, champion, actor=PROPOSER)
    assert (decision.allowed, decision.reasons) == (True, ())
    with appliance.engine.connect() as conn:
        admitted = champions.admitted(conn, champion.manifest_sha256, trust=appliance.home.trust())
    assert admitted is not None
    claim = open_claim(admitted.admission_bundle, appliance.home.trust(), file="admission")
    assert (claim.kind, claim.subject.sha256) == (Kind.ADMISSION, champion.manifest_sha256)
    assert claim.predicate["properties"] == [CHAMPION_ADMITTED]
    assert claim.predicate["verifier"]["policies"][0]["digest"]["sha256"] == decision.policy_sha256
    assert claim.claimed_at == START


def test_the_rules_of_an_admission_are_kept(appliance: Appliance, champion: ChampionRow) -> None:
    decision = adopt(appliance, champion, actor=PROPOSER)
    assert appliance.home.policy_files(decision.policy_sha256) == appliance.admission_policy().files


def test_rules_that_were_changed_where_they_are_kept_are_kept_anew(
    appliance: Appliance, champion: ChampionRow
) -> None:
    sha256 = adopt(appliance, champion, actor=PROPOSER).policy_sha256
    for left_behind in ("champions.cedar", ".champions.cedar.new"):
        (appliance.home.root / "policies" / sha256 / left_behind).write_bytes(b"permit (everything);")
    with pytest.raises(HomeError, match="not the one of that digest"):
        appliance.home.policy_files(sha256)
    adopt(appliance, champion, actor=PROPOSER)
    assert appliance.home.policy_files(sha256) == appliance.admission_policy().files


def test_admission_is_an_event(appliance: Appliance, champion: ChampionRow) -> None:
    approved_by(appliance, champion, APPROVER)
    adopt(appliance, champion, actor=PROPOSER)
    *_, approving, admitting = events_about(appliance, champion)
    assert (approving.kind, approving.actor) == (EventKind.CHAMPION_APPROVED, APPROVER)
    assert (admitting.kind, admitting.actor) == (EventKind.CHAMPION_ADMITTED, PROPOSER)
    assert admitting.detail.keys() == {"policy", "admission"}


def test_admission_is_signed_with_facts_approvals_and_report(
    appliance: Appliance, champion: ChampionRow
) -> None:
    approved_by(appliance, champion, APPROVER)
    decision = adopt(appliance, champion, actor=PROPOSER)
    with reading(appliance.engine) as conn:
        admitted = champions.admitted(conn, champion.manifest_sha256, trust=appliance.home.trust())
        report = inspections.newest_inspection(conn, champion.manifest_sha256)
    assert admitted is not None
    assert report is not None
    said = open_claim(admitted.admission_bundle, appliance.home.trust(), file="admission").predicate
    assert said["approvals"] == [{"sha256": sha256_hex(bundle)} for bundle in admitted.approval_bundles]
    assert said["report"] == {"sha256": report.sha256}
    assert said["facts"]["approval_count"] == 1
    # Whoever has facts and rules can decide again.
    rules = parse_policy(appliance.home.policy_files(decision.policy_sha256))
    again = decide(rules, actor="anybody", champion=champion.manifest_sha256, facts=said["facts"])
    assert again.allowed


def test_refusal_is_signed_and_logged_with_the_rules(appliance: Appliance, champion: ChampionRow) -> None:
    decision = adopt(appliance, champion, actor=PROPOSER)
    assert refused_rules(decision) == ["four-eyes"]
    event = events_about(appliance, champion)[-1]
    with reading(appliance.engine) as conn:
        kept = champions.newest_decision(conn, champion.manifest_sha256)
        assert champions.admitted(conn, champion.manifest_sha256, trust=appliance.home.trust()) is None
    assert kept is not None
    assert kept.bundle is not None
    assert event.kind is EventKind.CHAMPION_DENIED
    assert event.detail == {
        "decision": sha256_hex(kept.bundle),
        "policy": decision.policy_sha256,
        "rules": "four-eyes",
    }
    said = signed(appliance, kept.bundle)
    assert said["decision"] == "refused"
    assert said["facts"]["approval_count"] == 0
    assert (said["decidedBy"], said["reason"]) == (PROPOSER, str(decision.reasons[0]))
    assert kept.reasons == tuple(map(str, decision.reasons))


def test_adopting_makes_nothing_a_default(world: World) -> None:
    assert admitted(world) is not None
    with reading(world.appliance.engine) as conn:
        assert store_defaults.list_defaults(conn) == ()


def test_an_approval_that_came_after_the_decision_is_no_part_of_it(
    appliance: Appliance, champion: ChampionRow
) -> None:
    add_person(appliance.home, name="eve", role=Role.APPROVER, now=START)
    approved_by(appliance, champion, APPROVER)
    adopt(appliance, champion, actor=PROPOSER)
    approved_by(appliance, champion, "eve")  # in the same second
    with reading(appliance.engine) as conn:
        admitted = champions.admitted(conn, champion.manifest_sha256, trust=appliance.home.trust())
    assert admitted is not None
    assert admitted.approvers == {APPROVER}
    check_permission(admitted, appliance.home.trust(), submitter="bob", proposer=PROPOSER)


# Holds.


def test_a_held_champion_is_not_admitted_until_the_hold_is_released(world: World) -> None:
    champion = the_champion(world)
    hold(world.appliance, champion, actor="cleo", reason="its author asked us to wait")
    assert status(world).state is ChampionState.HELD
    assert status(world).reasons == ("its author asked us to wait",)
    assert admitted(world) is None
    release_hold(world.appliance, champion, actor="cleo", reason="the author said go")
    assert status(world).state is ChampionState.ADOPTED
    assert admitted(world) is not None


def test_a_held_champion_cannot_be_adopted(appliance: Appliance, champion: ChampionRow) -> None:
    approved_by(appliance, champion, APPROVER)
    hold(appliance, champion, actor="cleo", reason="wait")
    assert refused_rules(adopt(appliance, champion, actor=PROPOSER)) == ["not-held"]


def test_a_hold_fails_what_is_queued_and_what_is_placed_is_not_started(world: World) -> None:
    world.submit("run-1")
    world.advance("run-1")
    world.clock.pass_s(1)
    world.submit("run-2")
    stopped = hold(world.appliance, the_champion(world), actor="cleo", reason="wait")
    assert (stopped.failed, stopped.cancelling) == (("run-2",), ())
    failed = world.run("run-2")
    assert (failed.state, failed.reason) == (
        RunState.FAILED,
        "champion god-text-reference was held by cleo: wait",
    )
    # The worker asks the log before it starts anything.
    assert world.settle("run-1").state is RunState.FAILED
    assert "god-text-reference was held by cleo" in str(world.run("run-1").reason)


def test_a_run_that_trains_outlives_a_hold(world: World) -> None:
    world.submit()
    while world.run().state is not RunState.RUNNING:
        world.advance()
    world.clock.pass_s(1)
    hold(world.appliance, the_champion(world), actor="cleo", reason="wait")
    assert world.settle().state is RunState.LOGGED
    world.verify()


def test_every_decision_of_a_person_is_signed_and_logged(world: World) -> None:
    champion = the_champion(world)
    hold(world.appliance, champion, actor="cleo", reason="wait")
    release_hold(world.appliance, champion, actor="dan", reason="go")
    revoke(world.appliance, champion, actor="cleo", reason="it phones home")
    with reading(world.appliance.engine) as conn:
        kept = decisions.decisions_about(conn, champion.manifest_sha256)
    assert [(d.decision.value, d.decided_by, d.reason) for d in kept] == [
        ("held", "cleo", "wait"),
        ("released", "dan", "go"),
        ("revoked", "cleo", "it phones home"),
    ]
    events = events_about(world.appliance, champion)[-3:]
    assert [event.kind.value for event in events] == [
        "champion:held",
        "champion:released",
        "champion:revoked",
    ]
    for decision, event in zip(kept, events, strict=True):
        said = signed(world.appliance, decision.bundle)
        assert (said["decision"], said["decidedBy"], said["reason"], said["tree"]) == (
            decision.decision,
            decision.decided_by,
            decision.reason,
            champion.tree,
        )
        assert event.detail["decision"] == sha256_hex(decision.bundle)
    world.ports.log.sequence(world.clock.now())
    assert world.fsck() == ()


def test_holding_twice_is_a_conflict(appliance: Appliance, champion: ChampionRow) -> None:
    hold(appliance, champion, actor="cleo", reason="wait")
    with pytest.raises(ConflictError, match=r"god-text-reference was held by cleo at .*: wait"):
        hold(appliance, champion, actor="dan", reason="wait longer")


def test_only_a_hold_can_be_released(appliance: Appliance, champion: ChampionRow) -> None:
    with pytest.raises(ConflictError, match="is not held; only a hold can be released"):
        release_hold(appliance, champion, actor="cleo", reason="go")
    revoke(appliance, champion, actor="cleo", reason="no")
    with pytest.raises(ConflictError, match=r"was revoked by cleo .*; only a hold can be released"):
        release_hold(appliance, champion, actor="cleo", reason="go")
    with pytest.raises(ConflictError, match="was revoked by cleo"):
        hold(appliance, champion, actor="cleo", reason="wait")


@pytest.mark.parametrize("reason", ["", "  ", "x" * 2001], ids=["empty", "blank", "too-long"])
def test_a_decision_without_a_reason_is_refused(
    appliance: Appliance, champion: ChampionRow, reason: str
) -> None:
    for decide_so in (hold, release_hold, revoke):
        with pytest.raises(InvalidOrderError, match="a reason of 1 to 2000 characters is wanted"):
            decide_so(appliance, champion, actor="cleo", reason=reason)
    with reading(appliance.engine) as conn:
        assert decisions.decisions_about(conn, champion.manifest_sha256) == ()


def test_a_decision_by_nobody_in_particular_is_refused(appliance: Appliance, champion: ChampionRow) -> None:
    with pytest.raises(HomeError, match="wanted up to 40 lower-case letters"):
        revoke(appliance, champion, actor="Cleo!", reason="no")


# Revocations.


def test_a_revoked_champion_is_never_admitted_again(appliance: Appliance, champion: ChampionRow) -> None:
    approved_by(appliance, champion, APPROVER)
    assert adopt(appliance, champion, actor=PROPOSER).allowed
    revoke(appliance, champion, actor="cleo", reason="it phones home")
    assert refused_rules(adopt(appliance, champion, actor=PROPOSER)) == ["not-revoked"]
    with reading(appliance.engine) as conn:
        assert champions.admitted(conn, champion.manifest_sha256, trust=appliance.home.trust()) is None
        assert status_of(conn, champion, trust=appliance.home.trust()).state is ChampionState.REVOKED
    with pytest.raises(ConflictError, match="god-text-reference was revoked by cleo"):
        revoke(appliance, champion, actor="dan", reason="twice")


def test_a_revocation_ends_what_is_queued_and_what_runs(world: World) -> None:
    world.submit("run-1")
    while world.run("run-1").state is not RunState.RUNNING:
        world.advance("run-1")
    world.clock.pass_s(1)
    world.submit("run-2")
    stopped = revoke(world.appliance, the_champion(world), actor="cleo", reason="it phones home")
    assert (stopped.failed, stopped.cancelling) == (("run-2",), ("run-1",))
    assert world.run("run-2").state is RunState.FAILED
    assert world.run("run-2").reason == "champion god-text-reference was revoked by cleo: it phones home"
    assert world.settle("run-1").state is RunState.CANCELLED
    assert world.fsck() == ()


def test_a_run_whose_claims_are_signed_is_logged_in_spite_of_a_revocation(world: World) -> None:
    world.submit()
    while world.run().state is not RunState.ATTESTED:
        world.advance()
    stopped = revoke(world.appliance, the_champion(world), actor="cleo", reason="it phones home")
    assert (stopped.failed, stopped.cancelling) == ((), ())
    assert world.settle().state is RunState.LOGGED
    world.verify()


def test_models_trained_with_a_revoked_champion_are_flagged(world: World) -> None:
    world.submit()
    world.settle()
    champion = the_champion(world)
    with reading(world.appliance.engine) as conn:
        assert decisions.revoked_among(conn, [champion.manifest_sha256]) == frozenset()
    revoke(world.appliance, champion, actor="cleo", reason="it phones home")
    with reading(world.appliance.engine) as conn:
        (model,) = decisions.models_trained_with(conn, champion.manifest_sha256)
        assert decisions.models_trained_with(conn, "0" * 64) == ()
        flagged = decisions.revoked_among(conn, [champion.manifest_sha256, "0" * 64])
    assert flagged == {champion.manifest_sha256}
    assert (model.run_id, model.model, model.submitted_by) == (RUN_ID, world.run().model, SUBMITTER)


def test_a_new_order_of_a_revoked_champion_is_refused_with_the_reason(world: World) -> None:
    revoke(world.appliance, the_champion(world), actor="cleo", reason="it phones home")
    with (
        reading(world.appliance.engine) as conn,
        pytest.raises(InvalidOrderError, match="not admitted: revoked by cleo: it phones home"),
    ):
        check_order(conn, world.order, submitter=SUBMITTER, trust=world.appliance.home.trust())


@pytest.mark.parametrize("decide_so", [hold, revoke], ids=["held", "revoked"])
@pytest.mark.parametrize("kept", ["rows", "log"])
def test_deleting_either_the_rows_or_the_log_entries_brings_nothing_back(
    world: World, decide_so: Callable[..., Stopped], kept: str
) -> None:
    champion = the_champion(world)
    decide_so(world.appliance, champion, actor="cleo", reason="it phones home")
    with world.appliance.engine.begin() as conn:
        if kept == "log":
            conn.execute(delete(tables.champion_decision))
        else:
            conn.execute(delete(log_outbox).where(log_outbox.c.subject == champion.manifest_sha256))
    assert admitted(world) is None
    assert status(world).reasons == ("it phones home",)


def test_a_queued_run_fails_though_every_row_was_put_right_again(world: World) -> None:
    """An insider deletes the decision and takes back what it did to the run; the log still has it."""
    world.submit()
    world.advance()
    revoke(world.appliance, the_champion(world), actor="cleo", reason="it phones home")
    with world.appliance.engine.begin() as conn:
        conn.execute(delete(tables.champion_decision))
        conn.execute(update(tables.run).values(cancel_requested_by=None))
    assert world.settle().state is RunState.FAILED
    assert "god-text-reference was revoked by cleo at" in str(world.run().reason)
    assert world.launcher.poll(RUN_ID) is None  # nothing was started


def test_a_revocation_is_of_the_tree_whatever_its_name_and_manifest(world: World) -> None:
    champion = the_champion(world)
    subject = Subject(name="another-name", sha256="9" * 64)
    revoke_tree(world.appliance, subject, tree=champion.tree, actor="cleo", reason="it phones home")
    assert status(world).state is ChampionState.REVOKED
    assert admitted(world) is None


def test_a_revocation_of_the_tree_ends_its_runs_too(world: World) -> None:
    world.submit()
    champion = the_champion(world)
    subject = Subject(name="another-name", sha256="9" * 64)
    stopped = revoke_tree(world.appliance, subject, tree=champion.tree, actor="cleo", reason="no")
    assert stopped.failed == (RUN_ID,)


def test_a_revocation_is_of_the_manifest_whatever_its_tree(world: World) -> None:
    subject = Subject(name="another-name", sha256=world.order.champion)
    revoke_tree(world.appliance, subject, tree="9" * 40, actor="cleo", reason="it phones home")
    assert status(world).state is ChampionState.REVOKED


def test_a_decision_that_cannot_be_logged_is_not_kept(world: World) -> None:
    """Row, runs and event are one transaction."""
    world.submit()
    with world.appliance.engine.begin() as conn:
        conn.execute(
            text("CREATE TRIGGER full BEFORE INSERT ON log_outbox BEGIN SELECT RAISE(ABORT, 'no room'); END")
        )
    for decide_so in (hold, revoke):
        with pytest.raises(IntegrityError, match="no room"):
            decide_so(world.appliance, the_champion(world), actor="cleo", reason="no")
    with reading(world.appliance.engine) as conn:
        before = champions.newest_decision(conn, world.order.champion)
    with pytest.raises(IntegrityError, match="no room"):
        adopt(world.appliance, the_champion(world), actor=PROPOSER)
    with reading(world.appliance.engine) as conn:
        assert champions.newest_decision(conn, world.order.champion) == before
    assert status(world).state is ChampionState.ADOPTED
    assert world.run().state is RunState.SUBMITTED


# Where a champion stands.


def test_status_goes_the_whole_way(appliance: Appliance, champion: ChampionRow) -> None:
    clock = appliance.clock
    assert isinstance(clock, FixedClock)

    def state() -> ChampionState:
        clock.pass_s(1)
        with reading(appliance.engine) as conn:
            return status_of(conn, champion, trust=appliance.home.trust()).state

    found = [state()]
    adopt(appliance, champion, actor=PROPOSER)
    found.append(state())
    approved_by(appliance, champion, APPROVER)
    found.append(state())
    adopt(appliance, champion, actor=PROPOSER)
    found.append(state())
    hold(appliance, champion, actor="cleo", reason="wait")
    found.append(state())
    release_hold(appliance, champion, actor="cleo", reason="go")
    found.append(state())
    revoke(appliance, champion, actor="cleo", reason="no")
    found.append(state())
    ways = ChampionState
    assert found == [
        ways.PROPOSED,
        ways.REFUSED,
        ways.APPROVED,
        ways.ADOPTED,
        ways.HELD,
        ways.ADOPTED,
        ways.REVOKED,
    ]
    assert set(found) == set(ChampionState)


def test_status_tells_who_decided_and_why(appliance: Appliance, champion: ChampionRow) -> None:
    decision = adopt(appliance, champion, actor=PROPOSER)
    with reading(appliance.engine) as conn:
        found = status_of(conn, champion, trust=appliance.home.trust())
    assert (found.decided_by, found.decided_at) == (PROPOSER, START)
    assert found.reasons == tuple(map(str, decision.reasons))
    assert found.approvers == ()


def the_champion(world: World) -> ChampionRow:
    with reading(world.appliance.engine) as conn:
        return champions.get(conn, world.order.champion)


def admitted(world: World) -> AdmittedChampion | None:
    with reading(world.appliance.engine) as conn:
        return champions.admitted(conn, world.order.champion, trust=world.appliance.home.trust())


def status(world: World) -> ChampionStatus:
    with reading(world.appliance.engine) as conn:
        return status_of(conn, champions.get(conn, world.order.champion), trust=world.appliance.home.trust())


def signed(appliance: Appliance, bundle: bytes) -> Mapping[str, Any]:
    """What a decision says, if it is signed by the appliance."""
    statement, key = open_signed(bundle, appliance.home.trust())
    assert (statement.predicate_type, key.role) == (CHAMPION_DECISION, Role.APPLIANCE)
    return statement.predicate


# What somebody wrote into the database.


def written(world: World, kind: DecisionKind, bundle: bytes) -> None:
    """A decision as whoever reaches the database writes it: a row, and an event for the log to take."""
    champion, now = the_champion(world), world.clock.now()
    row = ChampionDecision(
        champion=champion.manifest_sha256,
        tree=champion.tree,
        name=champion.name,
        decision=kind,
        reason="go",
        bundle=bundle,
        decided_by="cleo",
        decided_at=now,
    )
    event = Event(
        kind=decisions.EVENT_OF_DECISION[kind],
        subject=champion.manifest_sha256,
        actor="cleo",
        at=now,
        detail={"decision": sha256_hex(bundle), "name": champion.name, "reason": "go", "tree": champion.tree},
    )
    with world.appliance.engine.begin() as conn:
        decisions.add(conn, row)
        enqueue(conn, event)
    world.ports.log.sequence(now)
    assert world.fsck() == ()


def statement_of(world: World, **changes: Any) -> bytes:
    """A release of the champion's hold that counts, but for `changes`."""
    champion = the_champion(world)
    told: dict[str, Any] = {"kind": DecisionKind.RELEASED, "tree": champion.tree, **changes}
    subject = Subject(name=champion.name, sha256=told.pop("sha256", champion.manifest_sha256))
    return sign_decision(world.appliance, subject, actor="cleo", reason="go", **told)


def by_a_stranger(world: World) -> bytes:
    """A release by the approver's key, who may sign approvals and nothing else."""
    statement, _ = open_signed(statement_of(world), world.appliance.home.trust())
    return sign_statement(statement, world.appliance.home.person_signer(APPROVER))


def test_the_release_that_the_following_spoil_does_count(world: World) -> None:
    hold(world.appliance, the_champion(world), actor="cleo", reason="wait")
    written(world, DecisionKind.RELEASED, statement_of(world))
    assert status(world).state is ChampionState.ADOPTED


@pytest.mark.parametrize(
    "bundle",
    [
        lambda world: b"garbage",
        lambda world: statement_of(world, kind=DecisionKind.HELD),
        lambda world: statement_of(world, tree="9" * 40),
        lambda world: statement_of(world, sha256="9" * 64),
        lambda world: the_champion(world).release_bundle,
        by_a_stranger,
    ],
    ids=["garbage", "a-hold", "another-tree", "another-champion", "a-champion's-release", "a-stranger's"],
)
def test_a_hold_ends_by_no_release_that_the_appliance_did_not_sign(
    world: World, bundle: Callable[[World], bytes]
) -> None:
    hold(world.appliance, the_champion(world), actor="cleo", reason="wait")
    written(world, DecisionKind.RELEASED, bundle(world))
    assert status(world).state is ChampionState.HELD
    assert admitted(world) is None
    assert "not-held" in refused_rules(adopt(world.appliance, the_champion(world), actor=PROPOSER))


def test_an_earlier_release_written_again_ends_no_later_hold(world: World) -> None:
    champion = the_champion(world)
    hold(world.appliance, champion, actor="cleo", reason="wait")
    release_hold(world.appliance, champion, actor="cleo", reason="go")
    with reading(world.appliance.engine) as conn:
        earlier = decisions.decisions_about(conn, champion.manifest_sha256)[-1]
    hold(world.appliance, champion, actor="cleo", reason="wait again")
    world.ports.log.sequence(START)
    written(world, DecisionKind.RELEASED, earlier.bundle)
    assert status(world).state is ChampionState.HELD
    assert status(world).reasons == ("wait again",)


@pytest.mark.parametrize("kind", [DecisionKind.HELD, DecisionKind.REVOKED])
def test_what_stops_a_champion_stops_it_signed_or_not(world: World, kind: DecisionKind) -> None:
    written(world, kind, b"garbage")
    assert status(world).state.value == kind.value
    assert admitted(world) is None


def test_a_hold_that_nobody_signed_can_be_released_by_a_statement(world: World) -> None:
    written(world, DecisionKind.HELD, b"garbage")
    release_hold(world.appliance, the_champion(world), actor="cleo", reason="nobody held it")
    assert status(world).state is ChampionState.ADOPTED


def test_a_clean_report_that_somebody_wrote_admits_nothing(appliance: Appliance) -> None:
    """Two INSERTs by whoever reaches the database: the log signs what waits in the outbox."""
    dirty = propose(
        appliance,
        name="god-text-dirty",
        note="x",
        findings=(finding("python-obfuscated", Severity.CRITICAL),),
    )
    appliance.log.sequence(START)
    approved_by(appliance, dirty, APPROVER)
    assert "no-critical-findings" in refused_rules(adopt(appliance, dirty, actor=PROPOSER))
    clean = report_of(dirty.manifest_sha256)
    forged = (b"garbage", sign_report(clean, signer=appliance.home.person_signer(APPROVER), now=START))
    for bundle in forged:
        with appliance.engine.begin() as conn:
            record_report(conn, clean, bundle=bundle, actor=PROPOSER, at=START)
        appliance.log.sequence(START)
        assert "inspected" in refused_rules(adopt(appliance, dirty, actor=PROPOSER))
