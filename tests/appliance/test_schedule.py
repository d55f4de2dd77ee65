"""Sources take their turns: each when it is due, less often while it fails, and none at the cost of another."""

import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from appliance.adoption import ChampionState, status_of
from appliance.assembly import Appliance
from appliance.errors import ConflictError, HomeError, InvalidOrderError, NotFoundError
from appliance.feed_places import pinned_root
from appliance.feeds import sync_by_hand
from appliance.schedule import (
    JITTER_FRACTION,
    MAX_WAIT_S,
    add_source,
    due_sources,
    open_feed,
    remove_source,
    run_due,
)
from appliance.store import sources
from appliance.store.engine import reading
from appliance.store.sources import SyncSource
from appliance.syncing import champion_named
from attestation.digest import sha256_hex
from audit.event import Event
from audit.store import events_of
from tests.appliance.archives import FIRST, Stall, release
from tests.appliance.world import PROPOSER, START, FixedClock
from tournament_sync.errors import SourceUnavailableError
from tournament_sync.feed.publisher import add_release, init_feed, revoke_release
from tournament_sync.source import Source

HOUR_S = 3600
LOCATION = "https://feed.example.org"


def schedule_one(appliance: Appliance, location: str = LOCATION, *, root: bytes = b"root") -> SyncSource:
    return add_source(appliance, location=location, root=root, interval_s=HOUR_S, actor=PROPOSER)


def the_source(appliance: Appliance) -> SyncSource:
    with reading(appliance.engine) as conn:
        (source,) = sources.list_sources(conn)
    return source


def due(appliance: Appliance) -> list[str]:
    with reading(appliance.engine) as conn:
        return [source.location for source in due_sources(conn, appliance.clock.now())]


def turn(appliance: Appliance, *stalls: Stall, random: float = 0.5) -> list[str]:
    """One turn of all that is due; what it was. `stalls` stand at the locations in the order of their turns."""
    left = iter(stalls)

    def open_source(_: Appliance, source: SyncSource) -> Source:
        return next(left)

    passes = run_due(appliance, appliance.clock.now(), lambda: random, open_source=open_source)
    return [done.result for done in passes]


def wait(appliance: Appliance, seconds: float) -> None:
    clock = appliance.clock
    assert isinstance(clock, FixedClock)
    clock.at += timedelta(seconds=seconds)


def test_a_new_source_is_due_at_once_and_again_after_its_interval(appliance: Appliance) -> None:
    schedule_one(appliance)
    assert due(appliance) == [LOCATION]
    assert turn(appliance, Stall()) == ["0 new, 0 known, 0 refused"]
    assert due(appliance) == []
    wait(appliance, HOUR_S - 1)
    assert due(appliance) == []
    wait(appliance, 1)
    assert due(appliance) == [LOCATION]


@pytest.mark.parametrize("random", [0.0, 1.0])
def test_turns_are_spread_by_chance(appliance: Appliance, random: float) -> None:
    schedule_one(appliance)
    turn(appliance, Stall(), random=random)
    spread = timedelta(seconds=HOUR_S * JITTER_FRACTION) * (1 if random else -1)
    assert the_source(appliance).next_at == START + timedelta(seconds=HOUR_S) + spread


def test_a_source_that_fails_waits_longer_each_time_up_to_a_day(appliance: Appliance) -> None:
    schedule_one(appliance)
    waits = []
    for _ in range(7):
        assert turn(appliance, Stall(is_dead=True)) == ["failed: no route to host"]
        waits.append((the_source(appliance).next_at - appliance.clock.now()).total_seconds() / HOUR_S)
        wait(appliance, waits[-1] * HOUR_S)
    assert waits == [2, 4, 8, 16, 24, 24, 24]
    assert MAX_WAIT_S == 24 * HOUR_S
    assert the_source(appliance).failures == 7
    assert the_source(appliance).last_result == "failed: no route to host"


def test_one_success_ends_the_waiting(appliance: Appliance) -> None:
    schedule_one(appliance)
    turn(appliance, Stall(is_dead=True))
    wait(appliance, 2 * HOUR_S)
    turn(appliance, Stall())
    source = the_source(appliance)
    assert (source.failures, source.next_at) == (0, appliance.clock.now() + timedelta(seconds=HOUR_S))


def test_a_dead_source_keeps_no_other_from_its_turn(appliance: Appliance) -> None:
    schedule_one(appliance, "https://a.example.org")
    schedule_one(appliance, "https://b.example.org")
    assert turn(appliance, Stall(is_dead=True), Stall((release(appliance),))) == [
        "failed: no route to host",
        "1 new, 0 known, 0 refused",
    ]
    assert champion_named(appliance, FIRST).proposed_by == PROPOSER


def test_a_pass_that_was_killed_counts_as_failed(appliance: Appliance) -> None:
    class Killed(Stall):
        def offers(self) -> tuple[()]:
            raise KeyboardInterrupt

    schedule_one(appliance)
    with pytest.raises(KeyboardInterrupt):
        turn(appliance, Killed())
    source = the_source(appliance)
    assert (source.failures, source.last_result) == (1, "begun, and not ended yet")
    assert source.next_at == START + timedelta(seconds=2 * HOUR_S)


def test_no_two_processes_take_the_same_turn(appliance: Appliance) -> None:
    schedule_one(appliance)
    read_before = the_source(appliance)
    turn(appliance, Stall())
    with appliance.engine.begin() as conn:
        assert not sources.claim(conn, read_before, now=START, next_at=START)


def test_a_pass_under_way_elsewhere_is_a_failure_that_is_tried_again(appliance: Appliance) -> None:
    schedule_one(appliance)
    with appliance.home.sync_lock():
        (result,) = turn(appliance, Stall())
    assert "being synced or imported by another process" in result


def test_a_clock_that_was_set_back_stops_no_sync(appliance: Appliance) -> None:
    schedule_one(appliance)
    turn(appliance, Stall())
    wait(appliance, -30 * 86_400)
    assert due(appliance) == [LOCATION]


# Adding and removing.


def events(appliance: Appliance) -> list[Event]:
    with reading(appliance.engine) as conn:
        return [logged.event for logged in events_of(conn, LOCATION)]


def test_adding_and_removing_are_logged(appliance: Appliance) -> None:
    source = schedule_one(appliance)
    remove_source(appliance, LOCATION, actor="cleo")
    assert [(event.kind.value, event.actor) for event in events(appliance)] == [
        ("source:added", PROPOSER),
        ("source:removed", "cleo"),
    ]
    assert events(appliance)[0].detail["root"] == source.root_sha256
    assert due(appliance) == []


def test_a_location_is_there_once(appliance: Appliance) -> None:
    schedule_one(appliance)
    with pytest.raises(ConflictError, match="is synced already"):
        schedule_one(appliance)
    assert len(events(appliance)) == 1


@pytest.mark.parametrize("location", [LOCATION, f"{LOCATION}/"])
def test_another_root_for_a_scheduled_feed_is_refused_and_the_pinned_one_stays(
    appliance: Appliance, location: str
) -> None:
    source = schedule_one(appliance)
    kept, given = source.root_sha256, sha256_hex(b"evil")
    told = f"another root is kept for {LOCATION}: sha256:{kept}, given was sha256:{given}"
    with pytest.raises(ConflictError, match=told):
        schedule_one(appliance, location, root=b"evil")
    assert open_feed(appliance, source).root_sha256 == source.root_sha256
    assert len(events(appliance)) == 1


def test_another_root_for_a_feed_that_was_synced_by_hand_is_refused(appliance: Appliance, feed: Path) -> None:
    root = (feed.parent / "keys" / "root.json").read_bytes()
    sync_by_hand(appliance, str(feed), actor=PROPOSER, root=root)
    with pytest.raises(
        ConflictError, match=f"sha256:{sha256_hex(root)}, given was sha256:{sha256_hex(b'evil')}"
    ):
        schedule_one(appliance, str(feed), root=b"evil")
    assert due(appliance) == []
    sync_by_hand(appliance, str(feed), actor=PROPOSER)


def test_a_wrong_root_is_taken_back_by_removing_its_source(appliance: Appliance) -> None:
    schedule_one(appliance, root=b"a slip")
    remove_source(appliance, f"{LOCATION}/", actor="cleo")
    assert schedule_one(appliance).root_sha256 == sha256_hex(b"root")


@pytest.mark.parametrize("table", ["sync_source", "log_outbox"])
def test_a_source_that_cannot_be_recorded_pins_nothing(appliance: Appliance, table: str) -> None:
    with appliance.engine.begin() as conn:
        full = f"CREATE TRIGGER full BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'no room'); END"
        conn.execute(text(full))
    with pytest.raises(ConflictError):
        schedule_one(appliance)
    with reading(appliance.engine) as conn:
        assert pinned_root(conn, appliance.home, LOCATION) is None


def test_what_is_not_there_cannot_be_removed(appliance: Appliance) -> None:
    with pytest.raises(NotFoundError, match="is not synced on schedule"):
        remove_source(appliance, LOCATION, actor="cleo")


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"location": "feed"}, "is no feed"),
        ({"location": "ftp://example.org"}, "is no feed"),
        ({"location": "https://ada:s3cret@feed.example.org"}, "carries a user or password"),
        ({"location": "https://feed.example.org/?token=s3cret"}, "carries a query"),
        ({"location": "/" + "x" * 500}, "is no feed"),
        ({"interval_s": 59}, "an interval of 59 s"),
        ({"interval_s": 31 * 86_400}, "an interval of"),
        ({"root": b""}, "a root of 0 bytes"),
        ({"root": b"x" * 512_001}, "a root of 512001 bytes"),
    ],
)
def test_refuses_a_source_that_cannot_be_one(
    appliance: Appliance, changed: dict[str, object], match: str
) -> None:
    given = {"location": LOCATION, "root": b"root", "interval_s": HOUR_S, "actor": PROPOSER} | changed
    with pytest.raises(InvalidOrderError, match=match):
        add_source(appliance, **given)  # type: ignore[arg-type]  # one of them is wrong
    assert due(appliance) == []


@pytest.mark.parametrize("is_gone", [True, False])
def test_a_pinned_root_that_was_changed_is_not_used(appliance: Appliance, is_gone: bool) -> None:
    source = schedule_one(appliance)
    (root,) = appliance.home.feeds_dir.glob("*/root.json")
    root.unlink()
    if not is_gone:
        root.write_bytes(b"an attacker's")
    with pytest.raises(HomeError, match=f"the pinned root of {LOCATION} "):
        open_feed(appliance, source)


# A real feed.


def older_stick(feed: Path) -> Path:
    """The feed as it is now, carried away before its champion is revoked."""
    stick = feed.with_name("stick")
    shutil.copytree(feed, stick)
    revoke_release(feed, keys=feed.parent / "keys", name=FIRST, reason="it phones home", now=START)
    return stick


def test_an_older_stick_is_refused_by_hand_of_a_feed_that_is_synced_on_schedule(
    appliance: Appliance, feed: Path
) -> None:
    stick, root = older_stick(feed), (feed.parent / "keys" / "root.json").read_bytes()
    schedule_one(appliance, str(feed), root=root)
    (done,) = run_due(appliance, START, lambda: 0.5)
    assert done.report is not None, done.result
    with pytest.raises(SourceUnavailableError, match="rollback"):
        sync_by_hand(appliance, str(stick), actor=PROPOSER, root=root)


def test_an_older_place_is_refused_on_schedule_of_a_feed_that_was_synced_by_hand(
    appliance: Appliance, feed: Path
) -> None:
    stick, root = older_stick(feed), (feed.parent / "keys" / "root.json").read_bytes()
    sync_by_hand(appliance, str(feed), actor=PROPOSER, root=root)
    schedule_one(appliance, str(stick), root=root)
    (done,) = run_due(appliance, START, lambda: 0.5)
    assert "rollback" in done.result


@pytest.fixture
def feed(appliance: Appliance, tmp_path: Path) -> Path:
    init_feed(tmp_path / "feed", keys=tmp_path / "keys", now=START)
    archive = release(appliance).path
    add_release(tmp_path / "feed", keys=tmp_path / "keys", archive=archive, now=START)
    return tmp_path / "feed"


def test_a_feed_is_synced_and_its_revocation_too(appliance: Appliance, feed: Path) -> None:
    keys = feed.parent / "keys"
    add_source(
        appliance,
        location=str(feed),
        root=(keys / "root.json").read_bytes(),
        interval_s=HOUR_S,
        actor=PROPOSER,
    )
    (first,) = run_due(appliance, START, lambda: 0.5)
    assert first.result == "1 new, 0 known, 0 refused"
    assert the_source(appliance).etag == "timestamp 2"
    champion = champion_named(appliance, FIRST)
    wait(appliance, HOUR_S)
    revoke_release(feed, keys=keys, name=FIRST, reason="it phones home", now=appliance.clock.now())
    (second,) = run_due(appliance, appliance.clock.now(), lambda: 0.5)
    assert second.result == "0 new, 0 known, 0 refused, 1 revoked"
    with reading(appliance.engine) as conn:
        status = status_of(conn, champion, trust=appliance.home.trust())
    assert status.state is ChampionState.REVOKED
    assert "it phones home" in status.reasons[0]


def test_an_expired_feed_is_a_failure_and_not_ignored(appliance: Appliance, feed: Path) -> None:
    root = (feed.parent / "keys" / "root.json").read_bytes()
    add_source(appliance, location=str(feed), root=root, interval_s=HOUR_S, actor=PROPOSER)
    wait(appliance, 400 * 86_400)
    (done,) = run_due(appliance, appliance.clock.now(), lambda: 0.5)
    assert done.report is None
    assert "expired" in done.result
