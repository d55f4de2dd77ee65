"""What the policy is told: read again each time from the stored tree, the signed bytes and the log."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import delete, update

from appliance.adoption import adopt
from appliance.assembly import Appliance
from appliance.champion_report import keep_crosscheck, sign_report
from appliance.facts import gather_facts
from appliance.home import add_person
from appliance.people import intake_signer
from appliance.policy import decide
from appliance.store import champions, inspections, tables
from appliance.store.champions import ChampionRow
from appliance.store.inspections import OriginKind
from attestation.digest import sha256_hex
from attestation.trust import Role, TrustedKey
from audit.event import Event, EventKind
from audit.store import enqueue
from tests.appliance.vetting import DETAILS, approval, approved_by, change_key, refused_rules
from tests.appliance.world import APPROVER, PROPOSER, PUBLISHER, START, finding, propose, report_of
from tournament_sync.inspection.report import Severity, encode_report
from tournament_sync.tournament.crosscheck import CrossCheck

# Signatures, tree, licence, epoch.


def test_release_by_a_key_that_publishes_nothing_is_refused(appliance: Appliance) -> None:
    champion = propose(appliance, signer=APPROVER)
    approved_by(appliance, champion, APPROVER)
    assert refused_rules(adopt(appliance, champion, actor=PROPOSER)) == ["release-signed"]


def test_release_by_a_revoked_key_is_refused(appliance: Appliance, champion: ChampionRow) -> None:
    approved_by(appliance, champion, APPROVER)
    change_key(appliance, PUBLISHER, revoked_at=START)
    assert refused_rules(adopt(appliance, champion, actor=PROPOSER)) == ["release-signed"]


def test_a_signed_statement_that_is_no_release_is_refused(
    appliance: Appliance, champion: ChampionRow
) -> None:
    approved_by(appliance, champion, APPROVER)
    signer = appliance.home.person_signer(APPROVER)
    other = replace(champion, release_bundle=approval(appliance, champion, signer=signer))
    assert refused_rules(adopt(appliance, other, actor=PROPOSER)) == ["release-signed"]


def test_release_of_another_tree_is_refused(appliance: Appliance, champion: ChampionRow) -> None:
    approved_by(appliance, champion, APPROVER)
    released = propose(appliance, name="another", note="one more file").release_bundle
    other = replace(champion, release_bundle=released)
    assert refused_rules(adopt(appliance, other, actor=PROPOSER)) == ["release-signed"]


def test_the_decision_flips_when_the_stored_tree_changes_and_back(
    appliance: Appliance, champion: ChampionRow
) -> None:
    approved_by(appliance, champion, APPROVER)
    assert adopt(appliance, champion, actor=PROPOSER).allowed
    script = appliance.store.path(champion.manifest_sha256) / "scripts" / "text_trainer.py"
    before = script.read_bytes()
    script.chmod(0o644)
    script.write_bytes(before + b"\n")
    assert refused_rules(adopt(appliance, champion, actor=PROPOSER)) == ["tree-pinned"]
    with appliance.engine.connect() as conn:
        assert champions.admitted(conn, champion.manifest_sha256, trust=appliance.home.trust()) is None
    script.write_bytes(before)
    assert adopt(appliance, champion, actor=PROPOSER).allowed


def test_a_tree_without_its_licence_is_refused_by_every_rule_it_breaks(
    appliance: Appliance, champion: ChampionRow
) -> None:
    approved_by(appliance, champion, APPROVER)
    (appliance.store.path(champion.manifest_sha256) / "NOTICE").unlink()
    rules = refused_rules(adopt(appliance, champion, actor=PROPOSER))
    assert rules == ["licence-present", "notice-present", "tree-pinned"]


def test_an_epoch_that_is_not_supported_is_refused(appliance: Appliance, champion: ChampionRow) -> None:
    approved_by(appliance, champion, APPROVER)
    old = replace(champion, contract_epoch="E1")
    assert "epoch-supported" in refused_rules(adopt(appliance, old, actor=PROPOSER))


def test_trusted_keys_of_the_fixture_are_what_they_seem(appliance: Appliance) -> None:
    """Else the tests above would refuse for another reason."""
    keys: dict[str, TrustedKey] = {key.name: key for key in appliance.home.trust().keys}
    assert {name: key.role for name, key in keys.items()} == {
        "appliance": Role.APPLIANCE,
        APPROVER: Role.APPROVER,
        PUBLISHER: Role.PUBLISHER,
    }


def facts_of(appliance: Appliance, champion: ChampionRow) -> Mapping[str, Any]:
    return gather_facts(appliance, champion, policy=appliance.admission_policy()).facts


def test_facts_are_those_of_the_schema(appliance: Appliance, champion: ChampionRow) -> None:
    schema = json.loads(appliance.admission_policy().schema)
    typed = schema[""]["actions"]["admit_champion"]["appliesTo"]["context"]["attributes"]
    assert facts_of(appliance, champion).keys() == typed.keys()


def test_a_champion_that_was_inspected_and_found_clean_is_ready_for_one_approval(
    appliance: Appliance, champion: ChampionRow
) -> None:
    assert facts_of(appliance, champion) == {
        "release_signed": True,
        "publisher": PUBLISHER,
        "origin": "feed",
        "keyless_identity": "",
        "tree_pinned": True,
        "licence": "Apache-2.0",
        "notice_present": True,
        "contract_epoch": "E4",
        "supported_tasks": ["InstructTextTask"],
        "inspected": True,
        "findings": [],
        "critical_findings": 0,
        "high_findings": 0,
        "age_days": 0,
        "approval_count": 0,
        "held": False,
        "revoked": False,
    }


# What was read from the files.


def test_findings_are_counted_by_severity_and_named_by_rule(appliance: Appliance) -> None:
    champion = propose(
        appliance,
        findings=(
            finding("python-exec", Severity.HIGH),
            finding("python-exec", Severity.HIGH),
            finding("python-obfuscated", Severity.CRITICAL),
            finding("docker-base", Severity.MEDIUM),
        ),
    )
    facts = facts_of(appliance, champion)
    assert facts["findings"] == ["docker-base", "python-exec", "python-obfuscated"]
    assert (facts["critical_findings"], facts["high_findings"]) == (1, 2)
    approved_by(appliance, champion, APPROVER)
    assert refused_rules(adopt(appliance, champion, actor=PROPOSER)) == [
        "high-findings-need-two",
        "no-critical-findings",
    ]


def test_high_findings_are_admitted_by_two(appliance: Appliance) -> None:
    add_person(appliance.home, name="eve", role=Role.APPROVER, now=START)
    champion = propose(appliance, findings=(finding("python-exec", Severity.HIGH),))
    approved_by(appliance, champion, APPROVER)
    assert refused_rules(adopt(appliance, champion, actor=PROPOSER)) == ["high-findings-need-two"]
    approved_by(appliance, champion, "eve")
    assert adopt(appliance, champion, actor=PROPOSER).allowed


def test_a_champion_without_a_report_is_refused(appliance: Appliance) -> None:
    champion = propose(appliance, findings=None)
    approved_by(appliance, champion, APPROVER)
    assert facts_of(appliance, champion)["supported_tasks"] == []
    assert refused_rules(adopt(appliance, champion, actor=PROPOSER)) == ["inspected"]


def test_a_report_from_which_somebody_deleted_a_finding_is_none(appliance: Appliance) -> None:
    champion = propose(appliance, findings=(finding("python-exec", Severity.CRITICAL),))
    clean = encode_report(report_of(champion.manifest_sha256))
    with appliance.engine.begin() as conn:
        conn.execute(update(tables.inspection).values(report=clean, sha256=sha256_hex(clean)))
    assert facts_of(appliance, champion)["inspected"] is False


def test_a_report_of_another_tree_is_none(appliance: Appliance) -> None:
    champion = propose(appliance, findings=None)
    other = encode_report(report_of("0" * 64))
    logged = Event(
        kind=EventKind.CHAMPION_INSPECTED,
        subject=champion.manifest_sha256,
        actor=PROPOSER,
        at=START,
        detail={"report": sha256_hex(other)},
    )
    with appliance.engine.begin() as conn:
        bundle = sign_report(report_of("0" * 64), signer=appliance.signer, now=START)
        inspections.add_inspection(
            conn, champion.manifest_sha256, report=other, bundle=bundle, inspected_at=START
        )
        enqueue(conn, logged)
    assert facts_of(appliance, champion)["inspected"] is False


def test_a_disagreement_with_the_tournament_counts_as_a_finding(
    appliance: Appliance, champion: ChampionRow
) -> None:
    found = CrossCheck(facts=None, findings=(finding("tournament-commit", Severity.HIGH),))
    keep_crosscheck(appliance, champion, found, details=DETAILS, source="api.json", actor=PROPOSER)
    facts = facts_of(appliance, champion)
    assert (facts["findings"], facts["high_findings"]) == (["tournament-commit"], 1)
    keep_crosscheck(
        appliance,
        champion,
        CrossCheck(facts=None, findings=()),
        details=DETAILS,
        source="api.json",
        actor=PROPOSER,
    )
    assert facts_of(appliance, champion)["findings"] == [
        "tournament-commit"
    ]  # another answer takes none back


@pytest.mark.parametrize("is_deleted", [True, False], ids=["deleted", "changed"])
def test_a_disagreement_that_somebody_took_away_is_noticed(
    appliance: Appliance, champion: ChampionRow, is_deleted: bool
) -> None:
    found = CrossCheck(facts=None, findings=(finding("tournament-commit", Severity.HIGH),))
    keep_crosscheck(appliance, champion, found, details=DETAILS, source="api.json", actor=PROPOSER)
    with appliance.engine.begin() as conn:
        conn.execute(
            delete(tables.crosscheck) if is_deleted else update(tables.crosscheck).values(findings=b"[]")
        )
    assert facts_of(appliance, champion)["inspected"] is False


# Where it came from, and when.


@pytest.mark.parametrize(("origin", "kind"), [("https://example.org/x.git", "git"), ("tree", "tree")])
def test_what_the_site_released_itself_needs_two_whatever_the_database_says(
    appliance: Appliance, origin: str, kind: str
) -> None:
    intake_signer(appliance, actor=PROPOSER)
    champion = propose(appliance, signer="intake", origin=origin, kind=OriginKind.FEED)
    facts = facts_of(appliance, champion)
    assert (facts["origin"], facts["publisher"]) == (kind, "intake")
    approved_by(appliance, champion, APPROVER)
    assert refused_rules(adopt(appliance, champion, actor=PROPOSER)) == ["git-import-needs-two"]


def test_origin_is_the_kind_of_source_that_a_publishers_release_came_from(appliance: Appliance) -> None:
    champion = propose(appliance, kind=OriginKind.ARCHIVE, origin="https://example.org/x.git")
    assert facts_of(appliance, champion)["origin"] == "archive"


def test_a_keyless_identity_that_was_not_logged_when_it_was_taken_is_none(
    appliance: Appliance, champion: ChampionRow
) -> None:
    with appliance.engine.begin() as conn:
        conn.execute(update(tables.champion_origin).values(keyless_identity="release@example.org"))
    assert facts_of(appliance, champion)["keyless_identity"] == ""
    again = Event(
        kind=EventKind.CHAMPION_SYNCED,
        subject=champion.manifest_sha256,
        actor=PROPOSER,
        at=START,
        detail={"name": champion.name, "origin": "feed", "keyless": "release@example.org"},
    )
    with appliance.engine.begin() as conn:
        enqueue(conn, again)  # the log takes it; it was not there when the champion was taken
    assert facts_of(appliance, champion)["keyless_identity"] == ""


@pytest.mark.parametrize(
    ("name", "published", "days"),
    [
        ("god-text-reference", timedelta(0), 0),
        ("god-text-reference", timedelta(days=9, hours=23), 9),
        # the date in the name is 1 November, START is 21 November, 02:00
        ("god-text-tourn-0123456789abcdef-20261101-position-1", timedelta(days=40), 20),
        ("god-text-tourn-0123456789abcdef-20261101-position-1", timedelta(days=3), 3),
        ("god-text-tourn-0123456789abcdef-20261122-position-1", timedelta(days=3), -1),
    ],
)
def test_age_is_counted_from_the_later_of_release_and_tournament(
    appliance: Appliance, name: str, published: timedelta, days: int
) -> None:
    change_key(appliance, PUBLISHER, valid_from=START - timedelta(days=100))
    champion = propose(appliance, name=name, published_at=START - published)
    assert facts_of(appliance, champion)["age_days"] == days
    approved_by(appliance, champion, APPROVER)
    assert adopt(appliance, champion, actor=PROPOSER).allowed is (days >= 0)


def test_a_release_that_does_not_verify_says_nothing(appliance: Appliance) -> None:
    champion = propose(appliance, published_at=START + timedelta(days=1))
    facts = facts_of(appliance, champion)
    assert (facts["release_signed"], facts["publisher"], facts["age_days"]) == (False, "", 0)


def test_a_fact_that_is_missing_refuses(appliance: Appliance, champion: ChampionRow) -> None:
    approved_by(appliance, champion, APPROVER)
    facts, policy = facts_of(appliance, champion), appliance.admission_policy()
    assert decide(policy, actor=PROPOSER, champion=champion.manifest_sha256, facts=facts).allowed
    for name in facts:
        less = {key: value for key, value in facts.items() if key != name}
        assert not decide(policy, actor=PROPOSER, champion=champion.manifest_sha256, facts=less).allowed
