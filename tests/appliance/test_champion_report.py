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
)
from appliance.errors import ArtifactError
from appliance.store import inspections, tables
from appliance.store.champions import ChampionRow
from appliance.store.engine import reading
from attestation.digest import sha256_hex
from audit.event import EventKind
from tests.appliance.archives import failing
from tests.appliance.vetting import DETAILS, events_about
from tests.appliance.world import PROPOSER, finding, propose, report_of
from tournament_sync.errors import ReportError
from tournament_sync.inspection.report import InspectionReport, Severity, encode_report
from tournament_sync.tournament.crosscheck import CrossCheck

FOUND = (finding("python-exec", Severity.HIGH), finding("docker-base", Severity.LOW))


def kept(appliance: Appliance, champion: ChampionRow) -> InspectionReport | None:
    with reading(appliance.engine) as conn:
        return kept_report(conn, champion.manifest_sha256)


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


def test_the_newest_comparison_counts(appliance: Appliance, champion: ChampionRow) -> None:
    for findings in (FOUND, FOUND[:1]):
        found = CrossCheck(facts=None, findings=findings)
        keep_crosscheck(appliance, champion, found, details=DETAILS, actor=PROPOSER)
    with reading(appliance.engine) as conn:
        assert crosscheck_findings(conn, champion.manifest_sha256) == FOUND[:1]
    event = events_about(appliance, champion)[-1]
    assert (event.kind, event.detail["findings"]) == (EventKind.CHAMPION_CROSSCHECKED, 1)
    assert event.detail["crosscheck"] == sha256_hex(encode_findings(FOUND[:1]))


def test_no_comparison_found_nothing(appliance: Appliance, champion: ChampionRow) -> None:
    with reading(appliance.engine) as conn:
        assert crosscheck_findings(conn, champion.manifest_sha256) == ()


def test_a_comparison_that_was_changed_is_told(appliance: Appliance, champion: ChampionRow) -> None:
    found = CrossCheck(facts=None, findings=FOUND)
    keep_crosscheck(appliance, champion, found, details=DETAILS, actor=PROPOSER)
    with appliance.engine.begin() as conn:
        conn.execute(update(tables.crosscheck).values(findings=b"[]"))
    with (
        reading(appliance.engine) as conn,
        pytest.raises(ReportError, match="is not the one that was logged"),
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
