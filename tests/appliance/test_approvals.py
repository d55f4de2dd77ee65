"""Approvals that count, and approvals that do not, however they came into the database."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, text, update

from appliance.adoption import adopt, approval_statement, approve, approve_signed
from appliance.assembly import Appliance
from appliance.errors import AdmissionError, HomeError
from appliance.facts import gather_facts
from appliance.home import add_person, trust_person
from appliance.keys.file import FileSigner, create_claim_key
from appliance.store import champions, tables
from appliance.store.champions import ChampionRow
from appliance.store.engine import reading
from attestation.bundle import sign_statement
from attestation.digest import sha256_hex
from attestation.times import format_time
from attestation.trust import Role
from audit.event import Event, EventKind
from audit.store import enqueue, log_outbox
from tests.appliance.vetting import (
    add_bundle,
    approval,
    approved_by,
    change_key,
    events_about,
    refused_rules,
    set_trust,
)
from tests.appliance.world import APPROVER, PROPOSER, PUBLISHER, START, FixedClock

# Approving.


def test_whoever_proposed_a_champion_cannot_approve_it(appliance: Appliance, champion: ChampionRow) -> None:
    add_person(appliance.home, name=PROPOSER, role=Role.APPROVER, now=START)
    with pytest.raises(AdmissionError, match="another person must approve") as refused:
        approved_by(appliance, champion, PROPOSER)
    assert refused.value.reasons == ("four-eyes",)


@pytest.mark.parametrize(
    ("name", "told"), [(PUBLISHER, "feed released god-text-reference"), ("appliance", "does not count")]
)
def test_whoever_is_no_approver_cannot_approve(
    appliance: Appliance, champion: ChampionRow, name: str, told: str
) -> None:
    with pytest.raises(AdmissionError, match=told):
        approved_by(appliance, champion, name)
    assert EventKind.CHAMPION_APPROVED not in {event.kind for event in events_about(appliance, champion)}


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
    with pytest.raises(AdmissionError, match="does not count"):
        approved_by(appliance, champion, APPROVER)


# Approvals that do not count, however they came into the database.


def test_the_approval_that_the_following_spoil_does_count(
    appliance: Appliance, champion: ChampionRow
) -> None:
    signer = appliance.home.person_signer(APPROVER)
    add_bundle(appliance, champion, approval(appliance, champion, signer=signer))
    assert adopt(appliance, champion, actor=PROPOSER).allowed


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
    assert refused_rules(adopt(appliance, champion, actor=PROPOSER)) == ["four-eyes"]


def test_approval_by_a_stranger_does_not_count(
    appliance: Appliance, champion: ChampionRow, tmp_path: Path
) -> None:
    stranger = create_claim_key(tmp_path / "stranger.pem")
    add_bundle(appliance, champion, approval(appliance, champion, signer=stranger))
    assert refused_rules(adopt(appliance, champion, actor=PROPOSER)) == ["four-eyes"]


@pytest.mark.parametrize("name", [PUBLISHER, "appliance"])
def test_approval_by_a_key_of_another_role_does_not_count(
    appliance: Appliance, champion: ChampionRow, name: str
) -> None:
    signer = appliance.home.person_signer(name)
    add_bundle(appliance, champion, approval(appliance, champion, signer=signer, approver=name))
    assert refused_rules(adopt(appliance, champion, actor=PROPOSER)) == ["four-eyes"]


def test_approval_by_the_proposer_does_not_count(appliance: Appliance, champion: ChampionRow) -> None:
    signer = add_person(appliance.home, name=PROPOSER, role=Role.APPROVER, now=START)
    add_bundle(
        appliance,
        champion,
        approval(appliance, champion, signer=signer, approver=PROPOSER),
        approver="somebody-else",  # the database may say what it likes
    )
    assert refused_rules(adopt(appliance, champion, actor=PROPOSER)) == ["four-eyes"]


def test_approval_by_a_key_that_left_the_trust_root_does_not_count(
    appliance: Appliance, champion: ChampionRow
) -> None:
    approved_by(appliance, champion, APPROVER)
    trust = appliance.home.trust()
    set_trust(appliance, replace(trust, keys=tuple(key for key in trust.keys if key.name != APPROVER)))
    assert refused_rules(adopt(appliance, champion, actor=PROPOSER)) == ["four-eyes"]


def test_nothing_that_a_revoked_key_ever_signed_counts(appliance: Appliance, champion: ChampionRow) -> None:
    approved_by(appliance, champion, APPROVER)
    clock = appliance.clock
    assert isinstance(clock, FixedClock)
    clock.pass_s(60)
    change_key(appliance, APPROVER, revoked_at=clock.now())
    assert refused_rules(adopt(appliance, champion, actor=PROPOSER)) == ["four-eyes"]


def test_a_revocation_to_come_changes_nothing_today(appliance: Appliance, champion: ChampionRow) -> None:
    approved_by(appliance, champion, APPROVER)
    change_key(appliance, APPROVER, revoked_at=START + timedelta(days=1))
    assert adopt(appliance, champion, actor=PROPOSER).allowed


def test_what_stopped_being_a_bundle_does_not_count(appliance: Appliance, champion: ChampionRow) -> None:
    add_bundle(appliance, champion, b"{}")
    assert refused_rules(adopt(appliance, champion, actor=PROPOSER)) == ["four-eyes"]


def test_a_release_is_no_approval(appliance: Appliance, champion: ChampionRow) -> None:
    add_bundle(appliance, champion, champion.release_bundle)
    assert refused_rules(adopt(appliance, champion, actor=PROPOSER)) == ["four-eyes"]


def test_two_approvals_by_one_person_are_one(appliance: Appliance, champion: ChampionRow) -> None:
    approved_by(appliance, champion, APPROVER)
    approve(appliance, champion, approver=APPROVER, printed_name="Olu", reason="and again")
    gathered = gather_facts(appliance, champion, policy=appliance.admission_policy())
    assert gathered.facts["approval_count"] == len(gathered.approvals) == 1


# Approvals that were signed elsewhere.


def elsewhere(appliance: Appliance, tmp_path: Path, name: str = "eve") -> FileSigner:
    """An approver whose private key never was in the home."""
    signer = create_claim_key(tmp_path / f"{name}.pem")
    trust_person(
        appliance.home, name=name, role=Role.APPROVER, public_pem=signer.public_pem, valid_from=START
    )
    return signer


def test_an_approval_that_was_signed_elsewhere_counts(
    appliance: Appliance, champion: ChampionRow, tmp_path: Path
) -> None:
    statement = approval_statement(
        champion,
        approver="eve",
        printed_name="Eve Elsewhere",
        reason="read whole",
        policy_sha256=appliance.admission_policy().sha256,
        now=START,
    )
    bundle = sign_statement(statement, elsewhere(appliance, tmp_path))
    approve_signed(appliance, champion, bundle)
    event = events_about(appliance, champion)[-1]
    assert (event.kind, event.actor) == (EventKind.CHAMPION_APPROVED, "eve")
    assert event.detail["approval"] == sha256_hex(bundle)
    assert adopt(appliance, champion, actor=PROPOSER).allowed


def test_the_same_approval_again_is_no_change(
    appliance: Appliance, champion: ChampionRow, tmp_path: Path
) -> None:
    bundle = approval(appliance, champion, signer=elsewhere(appliance, tmp_path), approver="eve")
    for _ in range(2):
        approve_signed(appliance, champion, bundle)
    approved = [e for e in events_about(appliance, champion) if e.kind is EventKind.CHAMPION_APPROVED]
    assert len(approved) == 1


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"subject": "0" * 64}, "its subject is 0000"),
        ({"policy": {"sha256": "0" * 64}}, "its policy is 0000"),
        ({"meaning": "review"}, "its meaning is review, expected approval"),
        ({"approver": "somebody-else"}, "its approver is somebody-else, expected eve"),
        ({"approvedAt": format_time(START + timedelta(seconds=1))}, "made after"),
        ({"approvedAt": format_time(START - timedelta(days=1))}, "valid only from"),
    ],
    ids=["other-champion", "other-policy", "review", "other-name", "from-the-future", "before-the-key"],
)
def test_an_approval_that_would_not_count_is_not_taken(
    appliance: Appliance, champion: ChampionRow, tmp_path: Path, fields: dict[str, Any], told: str
) -> None:
    signer = elsewhere(appliance, tmp_path)
    bundle = approval(appliance, champion, signer=signer, **{"approver": "eve", **fields})
    with pytest.raises(AdmissionError, match=f"does not count: .*{told}") as refused:
        approve_signed(appliance, champion, bundle)
    assert refused.value.reasons == ("four-eyes",)
    with reading(appliance.engine) as conn:
        assert champions.approvals(conn, champion.manifest_sha256) == ()


def test_an_approval_of_another_champion_with_the_same_files_name_is_not_taken(
    appliance: Appliance, champion: ChampionRow, tmp_path: Path
) -> None:
    bundle = approval(appliance, champion, signer=elsewhere(appliance, tmp_path), approver="eve")
    renamed = replace(champion, name="god-text-renamed")
    with pytest.raises(AdmissionError, match="its champion's name is god-text-reference"):
        approve_signed(appliance, renamed, bundle)


@pytest.mark.parametrize("name", ["ada", "Ada"])
def test_the_proposer_cannot_approve_from_elsewhere_however_spelt(
    appliance: Appliance, champion: ChampionRow, tmp_path: Path, name: str
) -> None:
    signer = create_claim_key(tmp_path / "ada.pem")
    trust = appliance.home.trust()
    key = replace(trust.keys[0], key_id=signer.key_id, pem=signer.public_pem, name=name, role=Role.APPROVER)
    set_trust(appliance, replace(trust, keys=(*trust.keys, key)))
    bundle = approval(appliance, champion, signer=signer, approver=name)
    with pytest.raises(AdmissionError, match=f"{name} proposed god-text-reference: another person"):
        approve_signed(appliance, champion, bundle)
    add_bundle(appliance, champion, bundle, approver="somebody")
    assert refused_rules(adopt(appliance, champion, actor=PROPOSER)) == ["four-eyes"]


@pytest.mark.parametrize("bundle", [b"", b"{}", b"x" * 200_000], ids=["empty", "no-bundle", "huge"])
def test_bytes_that_are_no_approval_are_not_taken(
    appliance: Appliance, champion: ChampionRow, bundle: bytes
) -> None:
    with pytest.raises(AdmissionError, match="does not count"):
        approve_signed(appliance, champion, bundle)


def test_a_release_is_not_taken_for_an_approval(appliance: Appliance, champion: ChampionRow) -> None:
    with pytest.raises(AdmissionError, match="champion-release, expected approval"):
        approve_signed(appliance, champion, champion.release_bundle)


# Who proposed it says the log, whatever the database says.


def said_proposer(appliance: Appliance, champion: ChampionRow, name: str) -> ChampionRow:
    """The champion after somebody changed in the database who proposed it."""
    with appliance.engine.begin() as conn:
        conn.execute(update(tables.champion).values(proposed_by=name))
    with reading(appliance.engine) as conn:
        return champions.get(conn, champion.manifest_sha256)


CHANGED = "was changed in the database: proposed by nobody, the log says ada"


@pytest.mark.parametrize("is_sequenced", [True, False], ids=["in-the-log", "in-the-outbox"])
def test_the_proposer_cannot_approve_though_the_database_names_another(
    appliance: Appliance, champion: ChampionRow, is_sequenced: bool
) -> None:
    add_person(appliance.home, name=PROPOSER, role=Role.APPROVER, now=START)
    if is_sequenced:
        appliance.log.sequence(START)
    champion = said_proposer(appliance, champion, "nobody")
    with pytest.raises(AdmissionError, match=CHANGED) as refused:
        approved_by(appliance, champion, PROPOSER)
    assert refused.value.reasons == ("four-eyes",)
    signer = appliance.home.person_signer(PROPOSER)
    add_bundle(appliance, champion, approval(appliance, champion, signer=signer, approver=PROPOSER))
    with pytest.raises(AdmissionError, match=CHANGED):
        adopt(appliance, champion, actor=PROPOSER)
    with reading(appliance.engine) as conn:
        assert champions.newest_decision(conn, champion.manifest_sha256) is None


def test_an_invented_proposal_behind_the_true_one_makes_nobody_else_the_proposer(
    appliance: Appliance, champion: ChampionRow
) -> None:
    appliance.log.sequence(START)
    said_proposer(appliance, champion, "nobody")
    invented = Event(
        kind=EventKind.CHAMPION_SYNCED, subject=champion.manifest_sha256, actor="nobody", at=START
    )
    with appliance.engine.begin() as conn:
        enqueue(conn, invented)
    for named in ("nobody", PROPOSER):
        with pytest.raises(AdmissionError, match="was changed in the database"):
            adopt(appliance, said_proposer(appliance, champion, named), actor=PROPOSER)


def test_an_entry_that_was_changed_together_with_the_row_is_not_believed(
    appliance: Appliance, champion: ChampionRow
) -> None:
    approved_by(appliance, champion, APPROVER)
    champion = said_proposer(appliance, champion, "eve")
    changed = 'CAST(replace(CAST(entry AS TEXT), \'"actor":"ada"\', \'"actor":"eve"\') AS BLOB)'
    with appliance.engine.begin() as conn:
        conn.execute(text(f"UPDATE log_entry SET entry = {changed}"))
    with pytest.raises(AdmissionError, match="the signed log does not say how god-text-reference came here"):
        adopt(appliance, champion, actor=PROPOSER)


def test_a_champion_of_whose_coming_nothing_is_logged_is_not_adopted(
    appliance: Appliance, champion: ChampionRow
) -> None:
    with appliance.engine.begin() as conn:
        conn.execute(delete(log_outbox))
    with pytest.raises(AdmissionError, match="the signed log does not say how god-text-reference came here"):
        adopt(appliance, champion, actor=PROPOSER)


def test_a_log_that_was_rolled_back_proves_nobody_s_proposal(
    appliance: Appliance, champion: ChampionRow
) -> None:
    appliance.log.sequence(START)
    with appliance.engine.begin() as conn:
        conn.execute(text("UPDATE log_head SET size = 0"))
    with pytest.raises(AdmissionError, match=r"the log does not prove how .* came here: log .* has size 0"):
        adopt(appliance, champion, actor=PROPOSER)


# Whoever released it is one of the two.


def publisher_who_approves(appliance: Appliance, tmp_path: Path, *, name: str) -> FileSigner:
    """A second key of the publisher's, trusted for approvals past `trust_person`."""
    signer = create_claim_key(tmp_path / "second.pem")
    trust = appliance.home.trust()
    key = replace(trust.keys[0], key_id=signer.key_id, pem=signer.public_pem, name=name, role=Role.APPROVER)
    set_trust(appliance, replace(trust, keys=(*trust.keys, key)))
    return signer


@pytest.mark.parametrize("name", [PUBLISHER, PUBLISHER.upper()])
def test_whoever_released_a_champion_cannot_approve_it(
    appliance: Appliance, champion: ChampionRow, tmp_path: Path, name: str
) -> None:
    signer = publisher_who_approves(appliance, tmp_path, name=name)
    bundle = approval(appliance, champion, signer=signer, approver=name)
    with pytest.raises(AdmissionError, match=f"{name} released god-text-reference: another person"):
        approve_signed(appliance, champion, bundle)
    add_bundle(appliance, champion, bundle, approver="somebody")
    assert refused_rules(adopt(appliance, champion, actor=PROPOSER)) == ["four-eyes"]


def test_a_publisher_whose_key_was_revoked_is_still_who_released_it(
    appliance: Appliance, champion: ChampionRow, tmp_path: Path
) -> None:
    signer = publisher_who_approves(appliance, tmp_path, name=PUBLISHER)
    trust = appliance.home.trust()
    keys = tuple(replace(key, revoked_at=START) if key.role is Role.PUBLISHER else key for key in trust.keys)
    set_trust(appliance, replace(trust, keys=keys))
    add_bundle(appliance, champion, approval(appliance, champion, signer=signer, approver=PUBLISHER))
    assert "four-eyes" in refused_rules(adopt(appliance, champion, actor=PROPOSER))
