"""A feed revokes what it vouches for and nothing else; what else it lists is held until a person looks at it."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text, update
from sqlalchemy.exc import IntegrityError

from appliance.adoption import ChampionState, ChampionStatus, hold, release_hold, status_of
from appliance.assembly import Appliance
from appliance.domain import RunState
from appliance.feeds import sync_by_hand
from appliance.store import champions, tables
from appliance.store.engine import reading
from appliance.syncing import champion_named, import_archive, sync_source
from attestation.bundle import parse_bundle
from attestation.statement import parse_statement
from audit.store import events_of
from tests.appliance.archives import FIRST, SECOND, Released, Stall, inspects, release
from tests.appliance.world import PROPOSER, START, World
from tournament_sync.champion import Channel
from tournament_sync.feed.edition import DEFAULT_LIFETIMES, open_edition
from tournament_sync.feed.files import write_file
from tournament_sync.feed.keys import KeyFolder
from tournament_sync.feed.layout import revocations_target, target_file
from tournament_sync.feed.publisher import init_feed
from tournament_sync.feed.revocations import Revocation, encode_revocations
from tournament_sync.sync import SyncReport

FEED = "https://feed.example.org"
WHY = f"{FEED}, channel text, revoked {FIRST} at 2026-11-21T02:00:00Z: it phones home"
STATE = ChampionState


def sync(appliance: Appliance, stall: Stall, *, at: str = FEED, actor: str = PROPOSER) -> SyncReport:
    return sync_source(appliance, stall, actor=actor, location=at, inspect=inspects)


def state(appliance: Appliance, name: str = FIRST) -> ChampionStatus:
    champion = champion_named(appliance, name)
    with reading(appliance.engine) as conn:
        return status_of(conn, champion, trust=appliance.home.trust())


def names(appliance: Appliance) -> list[str]:
    with reading(appliance.engine) as conn:
        return [champion.name for champion in champions.list_champions(conn)]


def kinds(appliance: Appliance, released: Released) -> list[str]:
    with reading(appliance.engine) as conn:
        logged = events_of(conn, released.taken.manifest.root_sha256)
    return [entry.event.kind.value for entry in logged]


@pytest.fixture
def first(appliance: Appliance) -> Released:
    return release(appliance)


@pytest.fixture
def revoking(first: Released) -> Stall:
    """The feed, once it lists the first champion as revoked, and offers it still."""
    return Stall((first,), revoked=(first.revocation(START),))


# What the feed vouches for.


def test_what_came_from_the_feed_is_revoked_by_its_own_channel(
    appliance: Appliance, first: Released, revoking: Stall
) -> None:
    sync(appliance, Stall((first,)))
    sync(appliance, revoking)
    found = state(appliance)
    assert (found.state, found.reasons, found.decided_by) == (STATE.REVOKED, (WHY,), PROPOSER)


def test_the_same_feed_at_another_place_is_the_same_feed(
    appliance: Appliance, first: Released, revoking: Stall
) -> None:
    sync(appliance, Stall((first,)), at="/media/stick")
    sync(appliance, revoking)
    assert state(appliance).state is STATE.REVOKED


# What it does not vouch for.


def of_another_channel(stall: Stall) -> Stall:
    return replace(stall, revoked_in=Channel.IMAGE)


def of_another_feed(stall: Stall) -> Stall:
    return replace(stall, root_sha256="b" * 64)


STRANGERS = pytest.mark.parametrize("stranger", [of_another_channel, of_another_feed])


@STRANGERS
def test_a_stranger_s_revocation_holds_until_a_person_says_otherwise(
    appliance: Appliance, first: Released, revoking: Stall, stranger: Callable[[Stall], Stall]
) -> None:
    sync(appliance, Stall((first,)), actor="cleo")
    sync(appliance, stranger(revoking))
    found = state(appliance)
    assert (found.state, found.decided_by) == (STATE.HELD, PROPOSER)
    assert found.reasons[0].startswith(
        f"{FEED}, channel {stranger(revoking).revoked_in}, revoked {FIRST} at "
    )
    release_hold(appliance, champion_named(appliance, FIRST), actor="olu", reason="asked its publisher")
    for _ in range(2):
        sync(appliance, stranger(revoking))
    assert state(appliance).state is STATE.PROPOSED  # it was heard once
    assert kinds(appliance, first)[2:] == ["champion:held", "champion:released"]


def test_what_the_site_imported_itself_is_held(
    appliance: Appliance, first: Released, revoking: Stall
) -> None:
    import_archive(appliance, first.path, actor="cleo", inspect=inspects)
    sync(appliance, revoking)
    assert state(appliance).state is STATE.HELD


def test_whose_origin_is_not_known_is_held(appliance: Appliance, first: Released, revoking: Stall) -> None:
    sync(appliance, Stall((first,)))
    with appliance.engine.begin() as conn:
        conn.execute(update(tables.champion_origin).values(feed_root=""))
    sync(appliance, revoking)
    assert state(appliance).state is STATE.HELD


def test_the_signed_decision_says_that_the_feed_demanded_it(
    appliance: Appliance, first: Released, revoking: Stall
) -> None:
    import_archive(appliance, first.path, actor="cleo", inspect=inspects)
    sync(appliance, revoking)
    with reading(appliance.engine) as conn:
        (row,) = conn.execute(tables.champion_decision.select())
        event = events_of(conn, first.taken.manifest.root_sha256)[-1].event
    said = parse_statement(parse_bundle(row.bundle).payload).predicate
    assert (said["decision"], said["decidedBy"], said["reason"]) == ("held", PROPOSER, WHY)
    assert (event.actor, event.detail["reason"]) == (PROPOSER, WHY)


def test_one_entry_with_the_ids_of_two_champions_ends_only_the_one_of_the_feed(appliance: Appliance) -> None:
    """Manifest of one, tree of another: each is judged by how it came."""
    mine, other = release(appliance), release(appliance, SECOND)
    sync(appliance, Stall((mine,)))
    import_archive(appliance, other.path, actor="cleo", inspect=inspects)
    mixed = replace(mine.revocation(START), tree=other.taken.tree)
    sync(appliance, Stall((mine,), revoked=(mixed,)))
    assert [state(appliance, name).state for name in (FIRST, SECOND)] == [STATE.REVOKED, STATE.HELD]


def test_a_hold_of_a_person_does_not_swallow_what_the_feed_says(
    appliance: Appliance, first: Released, revoking: Stall
) -> None:
    import_archive(appliance, first.path, actor="cleo", inspect=inspects)
    hold(appliance, champion_named(appliance, FIRST), actor="olu", reason="loss looks odd")
    sync(appliance, revoking)
    assert state(appliance).reasons == (WHY,)


def test_a_hold_by_a_feed_fails_what_waits(world: World, tmp_path: Path) -> None:
    world.submit()
    with reading(world.appliance.engine) as conn:
        champion = champions.get(conn, world.order.champion)
    entry = Revocation(
        name="any", manifest_root=champion.manifest_sha256, tree="0" * 40, reason="odd", revoked_at=START
    )
    sync(world.appliance, Stall(revoked=(entry,)))
    assert world.run().state is RunState.FAILED
    assert f"held by {PROPOSER}: {FEED}, channel text, revoked any" in str(world.run().reason)


# What is not here yet.


def test_what_the_feed_revoked_before_it_came_is_refused_from_there_and_not_fetched(
    appliance: Appliance, first: Released, revoking: Stall
) -> None:
    sync(appliance, replace(revoking, released=()))
    stall = Stall((first,))  # the list is shorter again: what it said counts
    (refusal,) = sync(appliance, stall).refused
    assert refusal.reason == f"its feed revoked it: {WHY}"
    assert (names(appliance), stall.fetched) == ([], [])


def test_its_tree_is_refused_under_another_name_too(appliance: Appliance, first: Released) -> None:
    elsewhere = replace(first.revocation(START), manifest_root="9" * 64)
    sync(appliance, Stall(revoked=(elsewhere,)))
    assert len(sync(appliance, Stall((release(appliance, SECOND, of=FIRST),))).refused) == 1
    assert names(appliance) == []


@STRANGERS
def test_what_a_stranger_revoked_before_it_came_is_held_when_it_comes(
    appliance: Appliance, first: Released, revoking: Stall, stranger: Callable[[Stall], Stall]
) -> None:
    sync(appliance, replace(stranger(revoking), released=()))
    sync(appliance, Stall((first,)), actor="cleo")
    found = state(appliance)
    assert (found.state, found.decided_by) == (STATE.HELD, PROPOSER)  # who had that feed synced
    assert kinds(appliance, first) == ["champion:held", "champion:synced", "champion:inspected"]
    release_hold(appliance, champion_named(appliance, FIRST), actor="olu", reason="asked its publisher")
    assert state(appliance).state is STATE.PROPOSED


def test_what_was_revoked_elsewhere_and_is_imported_by_hand_is_held(
    appliance: Appliance, first: Released, revoking: Stall
) -> None:
    sync(appliance, replace(revoking, released=()))
    import_archive(appliance, first.path, actor="cleo", inspect=inspects)
    assert state(appliance).state is STATE.HELD


def test_what_never_comes_costs_no_decision(appliance: Appliance, first: Released, revoking: Stall) -> None:
    for _ in range(2):
        sync(appliance, replace(revoking, released=()))
    assert kinds(appliance, first) == []
    with reading(appliance.engine) as conn:
        assert len(conn.execute(tables.feed_revocation.select()).all()) == 1


# Crashes.


def test_a_crash_before_it_is_remembered_decides_nothing_twice(
    appliance: Appliance, first: Released, revoking: Stall
) -> None:
    import_archive(appliance, first.path, actor="cleo", inspect=inspects)
    full = "CREATE TRIGGER full BEFORE INSERT ON feed_revocation BEGIN SELECT RAISE(ABORT, 'no room'); END"
    with appliance.engine.begin() as conn:
        conn.execute(text(full))
    with pytest.raises(IntegrityError, match="no room"):
        sync(appliance, revoking)
    assert state(appliance).state is STATE.HELD
    with appliance.engine.begin() as conn:
        conn.execute(text("DROP TRIGGER full"))
    sync(appliance, revoking)
    assert kinds(appliance, first).count("champion:held") == 1


# With a real feed.


def list_revoked(feed: Path, keys: Path, channel: Channel, *entries: Revocation) -> None:
    """What whoever has the keys in `keys` can sign, without anything that the publisher's program checks."""
    folder = KeyFolder(folder=keys, passphrase=None)
    edition = open_edition(feed, keys=folder, now=START, lifetimes=DEFAULT_LIFETIMES)
    path, data = revocations_target(channel), encode_revocations(entries)
    target = type(edition.read(channel.value).targets[path]).from_data(path, data, ["sha256"])
    write_file(feed / target_file(path, target.hashes["sha256"]), data)
    edition.targets(channel.value).targets[path] = target
    edition.publish()


def test_a_stolen_channel_key_ends_no_champion_of_another_channel_or_origin(
    world: World, tmp_path: Path
) -> None:
    feed, keys, thief = (tmp_path / name for name in ("feed", "keys", "thief"))
    init_feed(feed, keys=keys, now=START)
    thief.mkdir(mode=0o700)
    for part in ("image", "snapshot", "timestamp"):
        shutil.copy2(keys / f"{part}-1.pem", thief)
    shutil.copy2(keys / "root.json", thief)
    with reading(world.appliance.engine) as conn:
        champion = champions.get(conn, world.order.champion)
    named = Revocation(
        name="anything",
        manifest_root=champion.manifest_sha256,
        tree=champion.tree,
        reason="because",
        revoked_at=START,
    )
    list_revoked(feed, thief, Channel.IMAGE, named)
    root = (keys / "root.json").read_bytes()
    sync_by_hand(world.appliance, str(feed), actor=PROPOSER, root=root)
    found = state(world.appliance, champion.name)
    assert found.state is STATE.HELD
    assert found.reasons[0].startswith(f"{feed}, channel image, revoked anything at ")
    release_hold(world.appliance, champion, actor="olu", reason="that key was stolen")
    assert state(world.appliance, champion.name).state is STATE.ADOPTED
