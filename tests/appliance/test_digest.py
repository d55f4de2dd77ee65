"""What changed since last week, read from the log alone."""

import json
from datetime import timedelta

import pytest

from appliance.adoption import adopt, hold, release_hold, revoke
from appliance.assembly import Appliance
from appliance.defaults import set_default
from appliance.digest import ChangesDigest, changes_since, render_text
from appliance.schedule import add_source, remove_source
from appliance.syncing import champion_named, record_break_glass, sync_source
from tests.appliance.archives import FIRST, SECOND, Stall, inspects, release
from tests.appliance.vetting import approved_by
from tests.appliance.world import (
    APPROVER,
    PROPOSER,
    START,
    FixedClock,
    World,
    finding,
    propose,
)
from tournament_sync.inspection.report import Severity

LAST_WEEK = START - timedelta(days=7)


def pass_day(appliance: Appliance) -> None:
    clock = appliance.clock
    assert isinstance(clock, FixedClock)
    clock.pass_s(86_400)


def names(digest: ChangesDigest, part: str) -> list[str]:
    return [change.name for change in digest.changes[part]]


@pytest.fixture
def busy(appliance: Appliance) -> Appliance:
    """A week in which everything happened."""
    stall = Stall((release(appliance), release(appliance, SECOND, signer=APPROVER)))
    sync_source(appliance, stall, actor=PROPOSER, inspect=inspects)
    champion = champion_named(appliance, FIRST)
    adopt(appliance, champion, actor=PROPOSER)
    approved_by(appliance, champion, APPROVER)
    adopt(appliance, champion, actor=PROPOSER)
    set_default(appliance, channel="text", task_type="InstructTextTask", champion=champion, actor=PROPOSER)
    hold(appliance, champion, actor="cleo", reason="wait")
    release_hold(appliance, champion, actor="cleo", reason="go")
    revoke(appliance, champion, actor="cleo", reason="it phones home")
    location = "https://feed.example.org"
    add_source(appliance, location=location, root=b"root", interval_s=60, actor=PROPOSER)
    record_break_glass(appliance, location, reference_time=START, actor="cleo", reason="no courier")
    remove_source(appliance, location, actor=PROPOSER)
    return appliance


def test_every_change_has_its_part(busy: Appliance) -> None:
    digest = changes_since(busy, LAST_WEEK)
    assert {part: len(changes) for part, changes in digest.changes.items()} == dict.fromkeys(
        (
            "synced",
            "refused",
            "approved",
            "adopted",
            "denied",
            "held",
            "released",
            "revoked",
            "defaults",
            "sources_added",
            "sources_removed",
            "break_glass",
        ),
        1,
    )
    assert names(digest, "synced") == names(digest, "revoked") == [FIRST]
    assert names(digest, "refused") == [SECOND]
    (revoked,) = digest.changes["revoked"]
    assert (revoked.actor, revoked.note) == ("cleo", "it phones home")
    (denied,) = digest.changes["denied"]
    assert denied.note == "four-eyes"


def test_what_is_in_the_log_and_what_is_on_its_way_there_are_one(busy: Appliance) -> None:
    before = changes_since(busy, LAST_WEEK)
    busy.log.sequence(busy.clock.now())
    assert changes_since(busy, LAST_WEEK) == before


def test_only_what_happened_since_is_told(appliance: Appliance) -> None:
    propose(appliance)
    pass_day(appliance)
    since = appliance.clock.now()
    assert changes_since(appliance, since).is_empty
    propose(appliance, name="god-text-newer", note="newer")
    assert names(changes_since(appliance, since), "synced") == ["god-text-newer"]
    assert len(names(changes_since(appliance, START), "synced")) == 2


def test_findings_are_summed_by_severity_worst_first(appliance: Appliance) -> None:
    propose(appliance, findings=(finding("python-exec", Severity.HIGH), finding("docker-base", Severity.LOW)))
    propose(appliance, name="god-text-other", note="x", findings=(finding("python-exec", Severity.HIGH),))
    found = changes_since(appliance, LAST_WEEK).findings
    assert list(found.items()) == [("critical", 0), ("high", 2), ("medium", 0), ("low", 1), ("info", 0)]
    assert "Findings in what was inspected: 2 high, 1 low" in render_text(changes_since(appliance, LAST_WEEK))


def test_runs_are_no_part_of_it(world: World) -> None:
    world.submit()
    world.settle()
    since = START + timedelta(seconds=1)
    assert changes_since(world.appliance, since).is_empty
    assert "nothing changed" in render_text(changes_since(world.appliance, since))


def test_plain_json_says_the_same(busy: Appliance) -> None:
    digest = changes_since(busy, LAST_WEEK)
    plain = json.loads(json.dumps(digest.plain()))
    assert (plain["since"], plain["until"]) == ("2026-11-14T02:00:00Z", "2026-11-21T02:00:00Z")
    assert plain["synced"][0]["name"] == FIRST
    assert plain["synced"][0]["at"] == "2026-11-21T02:00:00Z"
    assert plain["attribution"] == "Gradients.io (https://gradients.io)"


def test_text_has_every_part_and_the_attribution(busy: Appliance) -> None:
    text = render_text(changes_since(busy, LAST_WEEK))
    assert "Revoked (1)\n  2026-11-21T02:00:00Z  god-text-first  by cleo: it phones home" in text
    assert "BREAK-GLASS" in text
    assert text.endswith("Gradients.io (https://gradients.io)\n")


def test_nothing_that_others_wrote_reaches_a_terminal_unescaped(
    appliance: Appliance,
) -> None:
    champion = propose(appliance)
    revoke(appliance, champion, actor="cleo", reason="\x1b[2Jgone\r\nRevoked (0)")
    text = render_text(changes_since(appliance, LAST_WEEK))
    assert "\x1b" not in text
    assert "\r" not in text
    assert len(text.splitlines()) == 6


def test_an_event_that_names_nobody_is_told_by_the_champions_name(appliance: Appliance) -> None:
    champion = propose(appliance)
    approved_by(appliance, champion, APPROVER)
    (change,) = changes_since(appliance, LAST_WEEK).changes["approved"]
    assert (change.name, change.subject) == (champion.name, champion.manifest_sha256)
