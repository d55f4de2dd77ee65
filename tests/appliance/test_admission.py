"""Who may run what: approvals that count, approvals that do not, and the decision that is kept."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from appliance.admission import admit, approve, gather_facts
from appliance.assembly import Appliance
from appliance.errors import AdmissionError, HomeError
from appliance.home import add_person, create_home, open_home
from appliance.keys.file import create_claim_key
from appliance.policy import Decision
from appliance.store import champions
from appliance.store.champions import ChampionRow
from appliance.store.engine import open_database
from attestation.bundle import sign_statement
from attestation.claims import Kind, open_claim
from attestation.keys import Signer
from attestation.predicates import APPROVAL, CHAMPION_ADMITTED
from attestation.statement import Statement, Subject
from attestation.times import format_time
from attestation.trust import Role, TrustedKey, TrustRoot, encode_trust
from audit.event import Event, EventKind
from audit.store import events_of
from tests.appliance.world import APPROVER, PROPOSER, PUBLISHER, START, FixedClock, open_appliance, propose


@pytest.fixture
def appliance(tmp_path: Path) -> Iterator[Appliance]:
    """A home with people, and nothing admitted."""
    create_home(tmp_path / "home", name="test", now=START)
    add_person(open_home(tmp_path / "home"), name=APPROVER, role=Role.APPROVER, now=START)
    add_person(open_home(tmp_path / "home"), name=PUBLISHER, role=Role.PUBLISHER, now=START)
    open_database(tmp_path / "home" / "assay.db").dispose()
    with open_appliance(tmp_path / "home", FixedClock()) as opened:
        yield opened


@pytest.fixture
def champion(appliance: Appliance) -> ChampionRow:
    return propose(appliance)


def approved_by(appliance: Appliance, champion: ChampionRow, name: str) -> None:
    approve(appliance, champion, approver=name, printed_name=name.title(), reason="read whole")


def refused_rules(decision: Decision) -> list[str]:
    assert not decision.allowed
    return [reason.rule for reason in decision.reasons]


def set_trust(appliance: Appliance, root: TrustRoot) -> None:
    folder = appliance.home.trust_dir.resolve()
    for name, content in encode_trust(root).items():
        (folder / name).write_bytes(content)
    for pem in (folder / "keys").iterdir():
        if pem.stem not in {key.key_id for key in root.keys}:
            pem.unlink()


def change_key(appliance: Appliance, name: str, **fields: Any) -> None:
    trust = appliance.home.trust()
    keys = tuple(replace(key, **fields) if key.name == name else key for key in trust.keys)
    set_trust(appliance, replace(trust, keys=keys))


def add_bundle(
    appliance: Appliance, champion: ChampionRow, bundle: bytes, *, approver: str = APPROVER
) -> None:
    """Put an approval into the database past `approve`."""
    with appliance.engine.begin() as conn:
        champions.add_approval(
            conn,
            champion.manifest_sha256,
            approver=approver,
            policy_sha256=appliance.admission_policy().sha256,
            bundle=bundle,
            approved_at=appliance.clock.now(),
        )


def approval(appliance: Appliance, champion: ChampionRow, *, signer: Signer, **fields: Any) -> bytes:
    """An approval that counts, but for `fields`."""
    subject = Subject(name=champion.name, sha256=fields.pop("subject", champion.manifest_sha256))
    predicate = {
        "approver": APPROVER,
        "printedName": "Olu Approver",
        "meaning": "approval",
        "reason": "read whole",
        "approvedAt": format_time(START),
        "policy": {"sha256": appliance.admission_policy().sha256},
    }
    statement = Statement(subjects=(subject,), predicate_type=APPROVAL, predicate={**predicate, **fields})
    return sign_statement(statement, signer)


def events_about(appliance: Appliance, champion: ChampionRow) -> list[Event]:
    with appliance.engine.connect() as conn:
        return [logged.event for logged in events_of(conn, champion.manifest_sha256)]


# The way it goes.


def test_an_approved_champion_is_admitted_by_a_verdict_that_verifies(
    appliance: Appliance, champion: ChampionRow
) -> None:
    approved_by(appliance, champion, APPROVER)
    decision = admit(appliance, champion, actor=PROPOSER)
    assert (decision.allowed, decision.reasons) == (True, ())
    with appliance.engine.connect() as conn:
        admitted = champions.admitted(conn, champion.manifest_sha256)
    assert admitted is not None
    claim = open_claim(admitted.admission_bundle, appliance.home.trust(), file="admission")
    assert (claim.kind, claim.subject.sha256) == (Kind.ADMISSION, champion.manifest_sha256)
    assert claim.predicate["properties"] == [CHAMPION_ADMITTED]
    assert claim.predicate["verifier"]["policies"][0]["digest"]["sha256"] == decision.policy_sha256
    assert claim.claimed_at == START


def test_the_rules_of_an_admission_are_kept(appliance: Appliance, champion: ChampionRow) -> None:
    decision = admit(appliance, champion, actor=PROPOSER)
    assert appliance.home.policy_files(decision.policy_sha256) == appliance.admission_policy().files


def test_rules_that_were_changed_where_they_are_kept_are_kept_anew(
    appliance: Appliance, champion: ChampionRow
) -> None:
    sha256 = admit(appliance, champion, actor=PROPOSER).policy_sha256
    for left_behind in ("champions.cedar", ".champions.cedar.new"):
        (appliance.home.root / "policies" / sha256 / left_behind).write_bytes(b"permit (everything);")
    with pytest.raises(HomeError, match="not the one of that digest"):
        appliance.home.policy_files(sha256)
    admit(appliance, champion, actor=PROPOSER)
    assert appliance.home.policy_files(sha256) == appliance.admission_policy().files


def test_admission_is_an_event(appliance: Appliance, champion: ChampionRow) -> None:
    approved_by(appliance, champion, APPROVER)
    admit(appliance, champion, actor=PROPOSER)
    approving, admitting = events_about(appliance, champion)
    assert (approving.kind, approving.actor) == (EventKind.CHAMPION_APPROVED, APPROVER)
    assert (admitting.kind, admitting.actor) == (EventKind.CHAMPION_ADMITTED, PROPOSER)
    assert admitting.detail.keys() == {"policy", "admission"}


def test_refusal_is_an_event_that_names_the_rules_and_signs_nothing(
    appliance: Appliance, champion: ChampionRow
) -> None:
    decision = admit(appliance, champion, actor=PROPOSER)
    assert refused_rules(decision) == ["four-eyes"]
    (event,) = events_about(appliance, champion)
    assert event.kind is EventKind.CHAMPION_DENIED
    assert event.detail == {"policy": decision.policy_sha256, "rules": "four-eyes"}
    with appliance.engine.connect() as conn:
        kept = champions.newest_decision(conn, champion.manifest_sha256)
        assert champions.admitted(conn, champion.manifest_sha256) is None
    assert kept is not None
    assert kept.bundle is None
    assert kept.reasons == tuple(map(str, decision.reasons))


# Approving.


def test_whoever_proposed_a_champion_cannot_approve_it(appliance: Appliance, champion: ChampionRow) -> None:
    add_person(appliance.home, name=PROPOSER, role=Role.APPROVER, now=START)
    with pytest.raises(AdmissionError, match="another person must approve") as refused:
        approved_by(appliance, champion, PROPOSER)
    assert refused.value.reasons == ("four-eyes",)


@pytest.mark.parametrize("name", [PUBLISHER, "appliance"])
def test_whoever_is_no_approver_cannot_approve(
    appliance: Appliance, champion: ChampionRow, name: str
) -> None:
    with pytest.raises(AdmissionError, match="is no approver whose key is trusted"):
        approved_by(appliance, champion, name)
    assert events_about(appliance, champion) == []


def test_whoever_has_no_key_here_cannot_approve(appliance: Appliance, champion: ChampionRow) -> None:
    with pytest.raises(HomeError):
        approved_by(appliance, champion, "eve")


@pytest.mark.parametrize(
    "fields",
    [
        {"revoked_at": START},
        {"valid_until": START - timedelta(seconds=1)},
        {"valid_from": START + timedelta(seconds=1)},
    ],
    ids=["revoked", "expired", "not-yet"],
)
def test_key_that_is_not_valid_today_cannot_approve(
    appliance: Appliance, champion: ChampionRow, fields: dict[str, Any]
) -> None:
    change_key(appliance, APPROVER, **fields)
    with pytest.raises(AdmissionError, match="is no approver whose key is trusted"):
        approved_by(appliance, champion, APPROVER)


# Approvals that do not count, however they came into the database.


def test_the_approval_that_the_following_spoil_does_count(
    appliance: Appliance, champion: ChampionRow
) -> None:
    signer = appliance.home.person_signer(APPROVER)
    add_bundle(appliance, champion, approval(appliance, champion, signer=signer))
    assert admit(appliance, champion, actor=PROPOSER).allowed


@pytest.mark.parametrize(
    "fields",
    [
        {"subject": "0" * 64},
        {"policy": {"sha256": "0" * 64}},
        {"meaning": "review"},
        {"approver": "somebody-else"},
        {"approvedAt": format_time(START + timedelta(seconds=1))},
        {"approvedAt": format_time(START - timedelta(days=1))},
    ],
    ids=["other-champion", "other-policy", "review", "other-name", "from-the-future", "before-the-key"],
)
def test_approval_of_something_else_does_not_count(
    appliance: Appliance, champion: ChampionRow, fields: dict[str, Any]
) -> None:
    signer = appliance.home.person_signer(APPROVER)
    add_bundle(appliance, champion, approval(appliance, champion, signer=signer, **fields))
    assert refused_rules(admit(appliance, champion, actor=PROPOSER)) == ["four-eyes"]


def test_approval_by_a_stranger_does_not_count(
    appliance: Appliance, champion: ChampionRow, tmp_path: Path
) -> None:
    stranger = create_claim_key(tmp_path / "stranger.pem")
    add_bundle(appliance, champion, approval(appliance, champion, signer=stranger))
    assert refused_rules(admit(appliance, champion, actor=PROPOSER)) == ["four-eyes"]


@pytest.mark.parametrize("name", [PUBLISHER, "appliance"])
def test_approval_by_a_key_of_another_role_does_not_count(
    appliance: Appliance, champion: ChampionRow, name: str
) -> None:
    signer = appliance.home.person_signer(name)
    add_bundle(appliance, champion, approval(appliance, champion, signer=signer, approver=name))
    assert refused_rules(admit(appliance, champion, actor=PROPOSER)) == ["four-eyes"]


def test_approval_by_the_proposer_does_not_count(appliance: Appliance, champion: ChampionRow) -> None:
    signer = add_person(appliance.home, name=PROPOSER, role=Role.APPROVER, now=START)
    add_bundle(
        appliance,
        champion,
        approval(appliance, champion, signer=signer, approver=PROPOSER),
        approver="somebody-else",  # the database may say what it likes
    )
    assert refused_rules(admit(appliance, champion, actor=PROPOSER)) == ["four-eyes"]


def test_approval_by_a_key_that_left_the_trust_root_does_not_count(
    appliance: Appliance, champion: ChampionRow
) -> None:
    approved_by(appliance, champion, APPROVER)
    trust = appliance.home.trust()
    set_trust(appliance, replace(trust, keys=tuple(key for key in trust.keys if key.name != APPROVER)))
    assert refused_rules(admit(appliance, champion, actor=PROPOSER)) == ["four-eyes"]


def test_nothing_that_a_revoked_key_ever_signed_counts(appliance: Appliance, champion: ChampionRow) -> None:
    approved_by(appliance, champion, APPROVER)
    clock = appliance.clock
    assert isinstance(clock, FixedClock)
    clock.pass_s(60)
    change_key(appliance, APPROVER, revoked_at=clock.now())
    assert refused_rules(admit(appliance, champion, actor=PROPOSER)) == ["four-eyes"]


def test_a_revocation_to_come_changes_nothing_today(appliance: Appliance, champion: ChampionRow) -> None:
    approved_by(appliance, champion, APPROVER)
    change_key(appliance, APPROVER, revoked_at=START + timedelta(days=1))
    assert admit(appliance, champion, actor=PROPOSER).allowed


def test_what_stopped_being_a_bundle_does_not_count(appliance: Appliance, champion: ChampionRow) -> None:
    add_bundle(appliance, champion, b"{}")
    assert refused_rules(admit(appliance, champion, actor=PROPOSER)) == ["four-eyes"]


def test_a_release_is_no_approval(appliance: Appliance, champion: ChampionRow) -> None:
    add_bundle(appliance, champion, champion.release_bundle)
    assert refused_rules(admit(appliance, champion, actor=PROPOSER)) == ["four-eyes"]


def test_two_approvals_by_one_person_are_one(appliance: Appliance, champion: ChampionRow) -> None:
    approved_by(appliance, champion, APPROVER)
    approve(appliance, champion, approver=APPROVER, printed_name="Olu", reason="and again")
    facts = gather_facts(appliance, champion, policy=appliance.admission_policy())
    assert facts["approval_count"] == 1


# The other facts.


def test_release_by_a_key_that_publishes_nothing_is_refused(appliance: Appliance) -> None:
    champion = propose(appliance, signer=APPROVER)
    approved_by(appliance, champion, APPROVER)
    assert refused_rules(admit(appliance, champion, actor=PROPOSER)) == ["release-signed"]


def test_release_by_a_revoked_key_is_refused(appliance: Appliance, champion: ChampionRow) -> None:
    approved_by(appliance, champion, APPROVER)
    change_key(appliance, PUBLISHER, revoked_at=START)
    assert refused_rules(admit(appliance, champion, actor=PROPOSER)) == ["release-signed"]


def test_a_signed_statement_that_is_no_release_is_refused(
    appliance: Appliance, champion: ChampionRow
) -> None:
    approved_by(appliance, champion, APPROVER)
    signer = appliance.home.person_signer(APPROVER)
    other = replace(champion, release_bundle=approval(appliance, champion, signer=signer))
    assert refused_rules(admit(appliance, other, actor=PROPOSER)) == ["release-signed"]


def test_release_of_another_tree_is_refused(appliance: Appliance, champion: ChampionRow) -> None:
    approved_by(appliance, champion, APPROVER)
    released = propose(appliance, name="another", note="one more file").release_bundle
    other = replace(champion, release_bundle=released)
    assert refused_rules(admit(appliance, other, actor=PROPOSER)) == ["release-signed"]


def test_the_decision_flips_when_the_stored_tree_changes_and_back(
    appliance: Appliance, champion: ChampionRow
) -> None:
    approved_by(appliance, champion, APPROVER)
    assert admit(appliance, champion, actor=PROPOSER).allowed
    script = appliance.store.path(champion.manifest_sha256) / "scripts" / "text_trainer.py"
    before = script.read_bytes()
    script.chmod(0o644)
    script.write_bytes(before + b"\n")
    assert refused_rules(admit(appliance, champion, actor=PROPOSER)) == ["tree-pinned"]
    with appliance.engine.connect() as conn:
        assert champions.admitted(conn, champion.manifest_sha256) is None
    script.write_bytes(before)
    assert admit(appliance, champion, actor=PROPOSER).allowed


def test_a_tree_without_its_licence_is_refused_by_every_rule_it_breaks(
    appliance: Appliance, champion: ChampionRow
) -> None:
    approved_by(appliance, champion, APPROVER)
    (appliance.store.path(champion.manifest_sha256) / "NOTICE").unlink()
    rules = refused_rules(admit(appliance, champion, actor=PROPOSER))
    assert rules == ["licence-present", "notice-present", "tree-pinned"]


def test_an_epoch_that_is_not_supported_is_refused(appliance: Appliance, champion: ChampionRow) -> None:
    approved_by(appliance, champion, APPROVER)
    old = replace(champion, contract_epoch="E1")
    assert "epoch-supported" in refused_rules(admit(appliance, old, actor=PROPOSER))


def test_trusted_keys_of_the_fixture_are_what_they_seem(appliance: Appliance) -> None:
    """Else the tests above would refuse for another reason."""
    keys: dict[str, TrustedKey] = {key.name: key for key in appliance.home.trust().keys}
    assert {name: key.role for name, key in keys.items()} == {
        "appliance": Role.APPLIANCE,
        APPROVER: Role.APPROVER,
        PUBLISHER: Role.PUBLISHER,
    }
