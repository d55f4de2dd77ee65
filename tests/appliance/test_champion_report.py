"""Reports are made once, kept byte for byte, and believed only if the log has them."""

import pytest
from sqlalchemy import update

from appliance.assembly import Appliance
from appliance.champion_report import (
    crosscheck_findings,
    encode_findings,
    inspect_champion,
    is_complete,
    keep_crosscheck,
    kept_report,
    parse_findings,
    sign_report,
)
from appliance.errors import ArtifactError
from appliance.store import inspections, tables
from appliance.store.champions import ChampionRow
from appliance.store.engine import reading
from appliance.store.inspections import OriginKind
from attestation.claims import open_signed
from attestation.digest import sha256_hex
from attestation.predicates import CHAMPION_INSPECTION
from attestation.trust import Role
from audit.event import EventKind
from tests.appliance.archives import failing
from tests.appliance.vetting import DETAILS, NAME, events_about
from tests.appliance.world import PROPOSER, START, finding, propose, report_of
from tournament_sync.errors import ReportError
from tournament_sync.inspection.report import InspectionReport, Severity, encode_report, sorted_findings
from tournament_sync.tournament.crosscheck import CrossCheck

FOUND = (finding("python-exec", Severity.HIGH), finding("docker-base", Severity.LOW))


def kept(appliance: Appliance, champion: ChampionRow) -> InspectionReport | None:
    with reading(appliance.engine) as conn:
        return kept_report(conn, champion.manifest_sha256, trust=appliance.home.trust())


def test_a_report_comes_back_as_it_was(appliance: Appliance) -> None:
    champion = propose(appliance, findings=FOUND)
    assert kept(appliance, champion) == report_of(champion.manifest_sha256, findings=FOUND)


def test_the_log_has_its_digest_and_counts(appliance: Appliance) -> None:
    champion = propose(appliance, findings=FOUND)
    event = events_about(appliance, champion)[-1]
    report = encode_report(report_of(champion.manifest_sha256, findings=FOUND))
    assert event.kind is EventKind.CHAMPION_INSPECTED
    assert event.detail == {
        "report": sha256_hex(report),
        "critical": 0,
        "high": 1,
        "medium": 0,
        "low": 1,
        "info": 0,
    }


def test_a_report_is_signed_by_whoever_inspected(appliance: Appliance, champion: ChampionRow) -> None:
    with reading(appliance.engine) as conn:
        newest = inspections.newest_inspection(conn, champion.manifest_sha256)
    assert newest is not None
    statement, key = open_signed(newest.bundle, appliance.home.trust())
    assert (statement.predicate_type, key.role) == (CHAMPION_INSPECTION, Role.APPLIANCE)
    assert statement.subjects[0].sha256 == champion.manifest_sha256
    assert statement.predicate["report"]["sha256"] == newest.sha256


@pytest.mark.parametrize("spoilt", ["bundle", "report", "release"])
def test_a_report_whose_signature_is_not_of_it_is_none(
    appliance: Appliance, champion: ChampionRow, spoilt: str
) -> None:
    other = report_of(champion.manifest_sha256, findings=FOUND)
    bundles = {
        "bundle": b"garbage",
        "report": sign_report(other, signer=appliance.signer, now=START),
        "release": champion.release_bundle,
    }
    with appliance.engine.begin() as conn:
        conn.execute(update(tables.inspection).values(bundle=bundles[spoilt]))
    assert kept(appliance, champion) is None


def test_a_champion_is_inspected_once(appliance: Appliance, champion: ChampionRow) -> None:
    never = failing(AssertionError("inspected again"))
    assert inspect_champion(appliance, champion, actor=PROPOSER, inspect=never) == kept(appliance, champion)


def test_a_champion_without_a_report_gets_one(appliance: Appliance) -> None:
    champion = propose(appliance, findings=None)
    assert kept(appliance, champion) is None
    made = inspect_champion(
        appliance, champion, actor="cleo", inspect=lambda _, manifest_sha256: report_of(manifest_sha256)
    )
    assert kept(appliance, champion) == made
    assert events_about(appliance, champion)[-1].actor == "cleo"


def test_a_report_of_another_version_is_made_again(appliance: Appliance, champion: ChampionRow) -> None:
    older = encode_report(report_of(champion.manifest_sha256)).replace(b'"version":1', b'"version":0')
    with appliance.engine.begin() as conn:
        conn.execute(update(tables.inspection).values(report=older, sha256=sha256_hex(older)))
    assert kept(appliance, champion) is None


def test_earlier_reports_stay_since_decisions_name_them(appliance: Appliance, champion: ChampionRow) -> None:
    with appliance.engine.begin() as conn:
        conn.execute(update(tables.inspection).values(report=b"spoilt"))
    inspect_champion(
        appliance, champion, actor=PROPOSER, inspect=lambda _, manifest_sha256: report_of(manifest_sha256)
    )
    with reading(appliance.engine) as conn:
        newest = inspections.newest_inspection(conn, champion.manifest_sha256)
        rows = conn.execute(tables.inspection.select()).all()
    assert newest is not None
    assert newest.report == encode_report(report_of(champion.manifest_sha256))
    assert [row.report for row in rows] == [b"spoilt", newest.report]


def test_a_champion_that_is_not_in_the_store_cannot_be_inspected(appliance: Appliance) -> None:
    champion = propose(appliance, findings=None)
    appliance.store.path(champion.manifest_sha256).rename(appliance.home.root / "elsewhere")
    with pytest.raises(ArtifactError, match="no artifact"):
        inspect_champion(appliance, champion, actor=PROPOSER)


def test_a_fault_of_ours_is_raised_and_nothing_kept(appliance: Appliance) -> None:
    champion = propose(appliance, findings=None)
    with pytest.raises(ReportError, match="no child"):
        inspect_champion(appliance, champion, actor=PROPOSER, inspect=failing(ReportError("no child")))
    assert kept(appliance, champion) is None


@pytest.mark.parametrize(
    ("rule", "complete"), [("could-not-inspect", False), ("python-exec", True)], ids=["ended-early", "whole"]
)
def test_a_report_that_says_it_could_not_inspect_is_not_complete(rule: str, complete: bool) -> None:
    assert is_complete(report_of("0" * 64, findings=(finding(rule, Severity.CRITICAL),))) is complete


# What the tournament said.


def test_what_all_comparisons_found_counts(appliance: Appliance, champion: ChampionRow) -> None:
    """Comparing again with another answer takes nothing back."""
    for findings in (FOUND[1:], FOUND[:1], ()):
        found = CrossCheck(facts=None, findings=findings)
        keep_crosscheck(appliance, champion, found, details=DETAILS, source="api.json", actor=PROPOSER)
    with reading(appliance.engine) as conn:
        assert crosscheck_findings(conn, champion.manifest_sha256) == sorted_findings(list(FOUND))
    event = events_about(appliance, champion)[-2]
    assert (event.kind, event.detail["findings"]) == (EventKind.CHAMPION_CROSSCHECKED, 1)
    assert event.detail["crosscheck"] == sha256_hex(encode_findings(FOUND[:1]))


def test_the_same_finding_of_two_comparisons_is_one(appliance: Appliance, champion: ChampionRow) -> None:
    for findings in (FOUND, FOUND[:1]):
        found = CrossCheck(facts=None, findings=findings)
        keep_crosscheck(appliance, champion, found, details=DETAILS, source="api.json", actor=PROPOSER)
    with reading(appliance.engine) as conn:
        assert len(crosscheck_findings(conn, champion.manifest_sha256)) == len(FOUND)


@pytest.mark.parametrize(
    ("source", "logged"),
    [
        ("answers/latest.json", "answers/latest.json"),
        ("https://ada:secret@api.example.org/v1", "https://api.example.org/v1"),
        ("odd\nname\udcff", "odd\\nname\\udcff"),
        ("x" * 1000, "x" * 500),
    ],
    ids=["file", "password", "unprintable", "long"],
)
def test_the_log_has_where_the_answer_is_from(
    appliance: Appliance, champion: ChampionRow, source: str, logged: str
) -> None:
    found = CrossCheck(facts=None, findings=())
    keep_crosscheck(appliance, champion, found, details=DETAILS, source=source, actor=PROPOSER)
    assert events_about(appliance, champion)[-1].detail["source"] == logged


@pytest.mark.parametrize(
    ("name", "kind", "rules"),
    [
        (NAME, OriginKind.GIT, ["tournament-not-compared"]),
        (NAME, OriginKind.FEED, []),  # its publisher compared, or did not, and says so in the release
        ("god-text-house", OriginKind.GIT, []),
    ],
    ids=["of-a-tournament", "from-a-feed", "of-no-tournament"],
)
def test_that_nobody_compared_is_a_finding(
    appliance: Appliance, name: str, kind: OriginKind, rules: list[str]
) -> None:
    champion = propose(appliance, name=name, note="x", kind=kind)
    with reading(appliance.engine) as conn:
        found = crosscheck_findings(conn, champion.manifest_sha256)
    assert [(one.rule, one.severity) for one in found] == [(rule, Severity.MEDIUM) for rule in rules]
    agreed = CrossCheck(facts=None, findings=())
    keep_crosscheck(appliance, champion, agreed, details=DETAILS, source="api.json", actor=PROPOSER)
    with reading(appliance.engine) as conn:
        assert crosscheck_findings(conn, champion.manifest_sha256) == ()


def test_no_comparison_found_nothing(appliance: Appliance, champion: ChampionRow) -> None:
    with reading(appliance.engine) as conn:
        assert crosscheck_findings(conn, champion.manifest_sha256) == ()


def test_a_comparison_that_was_changed_is_told(appliance: Appliance, champion: ChampionRow) -> None:
    found = CrossCheck(facts=None, findings=FOUND)
    keep_crosscheck(appliance, champion, found, details=DETAILS, source="api.json", actor=PROPOSER)
    with appliance.engine.begin() as conn:
        conn.execute(update(tables.crosscheck).values(findings=b"[]"))
    with (
        reading(appliance.engine) as conn,
        pytest.raises(ReportError, match="are not those that were logged"),
    ):
        crosscheck_findings(conn, champion.manifest_sha256)


@pytest.mark.parametrize("findings", [(), FOUND, FOUND * 3])
def test_findings_come_back_as_they_were(findings: tuple[object, ...]) -> None:
    assert parse_findings(encode_findings(findings)) == findings  # type: ignore[arg-type]  # are findings


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[{}]",
        b"[ ]",
        b"[1]",
        encode_findings(FOUND).replace(b'"line":3', b'"line":"3"'),
        encode_findings(FOUND).replace(b'"high"', b'"awful"'),
        encode_findings(FOUND).replace(b'"line"', b'"lines"'),
        b"[" * 5_000,
    ],
)
def test_refuses_what_are_no_findings(data: bytes) -> None:
    with pytest.raises(ReportError, match="not findings"):
        parse_findings(data)
