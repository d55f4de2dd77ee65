"""Kills what takes champions in and decides about them at each line, does it again, and compares all that is there.

What is covered: SIGKILL between any two lines of sync, adopt, hold, revoke and default; of the store, of what is
remembered of a feed (python-tuf's own lines included), of the database's use.
What is not covered: lines inside the log, which tests/audit kills at, and the inspection, which is a process of
its own and writes nothing.
"""

import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
import tuf.ngclient.updater
from sqlalchemy import Connection

from appliance.adoption import ChampionState, adopt, approve, hold, revoke, status_of
from appliance.assembly import Appliance
from appliance.defaults import default_for, set_default
from appliance.domain import Order, RunState
from appliance.feeds import sync_by_hand
from appliance.home import add_person, create_home, open_home
from appliance.store import champions, runs
from appliance.store.champions import ChampionRow
from appliance.store.engine import reading
from attestation.keys import Signer
from attestation.trust import Role
from audit.event import parse_event
from audit.fsck import check_log
from audit.store import scan_entries
from tests.appliance.archives import FIRST, SECOND, inspects, release
from tests.appliance.vetting import NOBODY
from tests.appliance.world import (
    APPROVER,
    PROPOSER,
    PUBLISHER,
    RUN_ID,
    START,
    SUBMITTER,
    FixedClock,
    copy_world,
    open_appliance,
)
from tests.chaos.kills import (
    Begun,
    Tracer,
    database_of,
    files_of,
    first_and_last,
    folder_for_worlds,
    in_children,
    record,
)
from tournament_sync.champion import Channel
from tournament_sync.feed.publisher import add_release, init_feed, revoke_release

ROOT = Path(__file__).parents[2]
WATCHED = frozenset(
    str(ROOT / f"{module}.py")
    for module in (
        *("appliance/adoption", "appliance/artifacts", "appliance/champion_archive"),
        *("appliance/champion_report", "appliance/defaults", "appliance/feed_places", "appliance/feeds"),
        *("appliance/home", "appliance/proposing", "appliance/revoking", "appliance/stopping"),
        *("appliance/syncing", "appliance/verdicts", "appliance/store/champions"),
        *("appliance/store/decisions", "appliance/store/defaults", "appliance/store/feed_revocations"),
        *("appliance/store/inspections", "appliance/store/runs", "audit/durable"),
        *("tournament_sync/archive", "tournament_sync/quarantine", "tournament_sync/snapshot"),
        *("tournament_sync/feed/client", "tournament_sync/feed/trusted", "tournament_sync/sync"),
        "tournament_sync/tree_files",
    )
) | {tuf.ngclient.updater.__file__}
CHANNEL, TASK = Channel.TEXT.value, "InstructTextTask"
REASON = "it phones home"

pytestmark = pytest.mark.chaos


class RememberingSigner:
    """The appliance's own key, with one signature a message in all processes: so equal states are equal bytes."""

    def __init__(self, signer: Signer, made: dict[bytes, bytes]) -> None:
        self._signer, self._made = signer, made
        self.key_id, self.public_pem = signer.key_id, signer.public_pem

    def sign(self, message: bytes) -> bytes:
        return self._made.setdefault(message, self._signer.sign(message))


@dataclass(frozen=True, slots=True, kw_only=True)
class Worlds:
    """Homes that know a feed's first champion: `approved`, and `adopted` with a queued run; and a stick.

    The stick has the same feed later, and in another place: the first champion is revoked, a second is new.
    """

    approved: Path
    adopted: Path
    stick: Path
    feed_root: bytes
    signatures: dict[bytes, bytes]

    @contextmanager
    def opened(self, root: Path) -> Iterator[Appliance]:
        with open_appliance(root / "home", FixedClock()) as appliance:
            yield replace(appliance, signer=RememberingSigner(appliance.signer, self.signatures))


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """Something that is done at once, or in several `steps` that each leave a sound home.

    `is_done` is what somebody looks at who was interrupted: what looks undone is done again.
    """

    do: Callable[[Appliance, Worlds], object]
    is_done: Callable[[Connection, ChampionRow], bool]
    logs: tuple[str, ...]
    begins: str = "adopted"
    has_steps: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Undisturbed:
    """What an action ran, and what it left: at once, and when all of it is in the signed log."""

    begun: Begun
    rows_before: list[str]
    rows_after: list[str]
    rows: list[str]
    files: dict[str, bytes]
    logged: tuple[str, ...]


def _sync(appliance: Appliance, worlds: Worlds) -> object:
    stick, root = str(worlds.stick), worlds.feed_root
    return sync_by_hand(appliance, stick, actor=PROPOSER, root=root, inspect=inspects)


def _adopt(appliance: Appliance, _: Worlds) -> object:
    return adopt(appliance, _first(appliance), actor=PROPOSER)


def _hold(appliance: Appliance, _: Worlds) -> object:
    return hold(appliance, _first(appliance), actor=APPROVER, reason=REASON)


def _revoke(appliance: Appliance, _: Worlds) -> object:
    return revoke(appliance, _first(appliance), actor=APPROVER, reason=REASON)


def _set_default(appliance: Appliance, _: Worlds) -> None:
    champion = _first(appliance)
    set_default(appliance, channel=CHANNEL, task_type=TASK, champion=champion, actor=PROPOSER)


def _is(state: ChampionState, conn: Connection, champion: ChampionRow) -> bool:
    return status_of(conn, champion, trust=NOBODY).state is state


def _is_default(conn: Connection, champion: ChampionRow) -> bool:
    found = default_for(conn, channel=CHANNEL, task_type=TASK)
    return found is not None and found.champion == champion.manifest_sha256


ACTIONS = {
    "sync": Action(
        do=_sync,
        is_done=lambda _conn, _champion: False,  # syncing again is always right
        logs=("champion:revoked", "champion:synced", "champion:inspected", "run:failed", "source:added"),
        has_steps=True,
    ),
    "adopt": Action(
        do=_adopt,
        is_done=partial(_is, ChampionState.ADOPTED),
        logs=("champion:admitted",),
        begins="approved",
    ),
    "hold": Action(do=_hold, is_done=partial(_is, ChampionState.HELD), logs=("champion:held", "run:failed")),
    "revoke": Action(
        do=_revoke, is_done=partial(_is, ChampionState.REVOKED), logs=("champion:revoked", "run:failed")
    ),
    "default": Action(do=_set_default, is_done=_is_default, logs=("champion:default",)),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with folder_for_worlds(tmp_path_factory.mktemp("chaos")) as made:
        yield made


@pytest.fixture(scope="module")
def worlds(folder: Path) -> Worlds:
    """No database is open here: a connection must not cross a fork."""
    top, keys = folder / "approved", folder / "keys"
    create_home(top / "home", name="test", now=START)
    for name, role in ((APPROVER, Role.APPROVER), (PUBLISHER, Role.PUBLISHER)):
        add_person(open_home(top / "home"), name=name, role=role, now=START)
    init_feed(folder / "feed", keys=keys, now=START)
    worlds = Worlds(
        approved=top,
        adopted=folder / "adopted",
        stick=folder / "stick",
        feed_root=(keys / "root.json").read_bytes(),
        signatures={},
    )
    with worlds.opened(top) as appliance:
        change = partial(add_release, folder / "feed", keys=keys, now=START)
        change(archive=release(appliance, FIRST).path)
        feed, root = str(folder / "feed"), worlds.feed_root
        sync_by_hand(appliance, feed, actor=PROPOSER, root=root, inspect=inspects)
        change(archive=release(appliance, SECOND).path)
        said = {"approver": APPROVER, "printed_name": "Olu Approver", "reason": "read whole"}
        approve(appliance, _first(appliance), **said)
        appliance.log.sequence(START)
    revoke_release(folder / "feed", keys=keys, name=FIRST, reason=REASON, now=START)
    shutil.copytree(folder / "feed", worlds.stick)
    copy_world(top, worlds.adopted)
    with worlds.opened(worlds.adopted) as appliance:
        assert adopt(appliance, _first(appliance), actor=PROPOSER).allowed
        _submit(appliance)
        appliance.log.sequence(START)
    return worlds


@pytest.fixture(scope="module")
def undisturbed(worlds: Worlds, folder: Path) -> dict[str, Undisturbed]:
    """Each action, done once without a kill."""
    return {name: _undisturbed(name, worlds, folder) for name in ACTIONS}


def test_every_watched_module_has_its_part(undisturbed: dict[str, Undisturbed]) -> None:
    assert {file for done in undisturbed.values() for file, _ in done.begun.lines} == WATCHED


@pytest.mark.parametrize("name", ACTIONS)
def test_each_event_of_an_action_is_logged_once(undisturbed: dict[str, Undisturbed], name: str) -> None:
    """The undisturbed run that all others are compared with."""
    assert sorted(undisturbed[name].logged) == sorted(ACTIONS[name].logs)


def test_the_queued_run_fails_with_its_champion(worlds: Worlds, folder: Path) -> None:
    for name in ("sync", "hold", "revoke"):
        root = copy_world(worlds.adopted, folder / f"run-{name}")
        _do(ACTIONS[name], worlds, root, None)
        with worlds.opened(root) as appliance, reading(appliance.engine) as conn:
            run = runs.get(conn, RUN_ID)
        assert run.state is RunState.FAILED
        assert REASON in (run.reason or "")


@pytest.mark.parametrize("name", ACTIONS)
def test_survives_a_kill_at_every_line(
    undisturbed: dict[str, Undisturbed], worlds: Worlds, folder: Path, name: str
) -> None:
    kills = first_and_last([undisturbed[name].begun])
    assert len(kills) > 50  # the tracer saw the modules at work
    killed = folder / f"{name}-killed"
    killed.mkdir()
    failed = in_children(
        kills,
        act=partial(_do, ACTIONS[name], worlds),
        recover=partial(_recover, ACTIONS[name], worlds, undisturbed[name]),
        folder=killed,
        watched=WATCHED,
    )
    assert failed == {}


def _undisturbed(name: str, worlds: Worlds, folder: Path) -> Undisturbed:
    action = ACTIONS[name]
    begins = getattr(worlds, action.begins)
    root, done = copy_world(begins, folder / name), copy_world(begins, folder / f"{name}-done")
    lines = record(partial(_do, action, worlds), done, watched=WATCHED)
    rows_after = database_of(done)
    before = _logged(worlds, root)
    _settle(worlds, done)
    return Undisturbed(
        begun=Begun(root=root, lines=lines),
        rows_before=database_of(root),
        rows_after=rows_after,
        rows=database_of(done),
        files=files_of(done),
        logged=_logged(worlds, done)[len(before) :],
    )


def _do(action: Action, worlds: Worlds, root: Path, tracer: Tracer) -> None:
    with worlds.opened(root) as appliance:
        sys.settrace(tracer)
        try:
            action.do(appliance, worlds)
        finally:
            sys.settrace(None)


def _recover(action: Action, worlds: Worlds, wanted: Undisturbed, root: Path) -> None:
    """The old state or the new one; done again, nothing tells that anybody was killed."""
    if not action.has_steps:
        assert database_of(root) in (wanted.rows_before, wanted.rows_after)
    with worlds.opened(root) as appliance:
        champion = _first(appliance)
        with reading(appliance.engine) as conn:
            is_done = action.is_done(conn, champion)
        if not is_done:
            action.do(appliance, worlds)
    _settle(worlds, root)
    assert _differences(dict.fromkeys(database_of(root)), dict.fromkeys(wanted.rows)) == []
    assert database_of(root) == wanted.rows
    assert _differences(files_of(root), wanted.files) == []


def _differences(found: Mapping[str, object], wanted: Mapping[str, object]) -> list[str]:
    missing = object()
    names = sorted(found.keys() | wanted.keys())
    return [name for name in names if found.get(name, missing) != wanted.get(name, missing)]


def _settle(worlds: Worlds, root: Path) -> None:
    """Sign what waits for the log, and recompute all of it."""
    with worlds.opened(root) as appliance:
        appliance.log.sequence(START)
        home = appliance.home
        found = check_log(
            appliance.engine,
            origin=home.log_origin,
            vkey=home.log_signer().vkey,
            checkpoint_path=home.log_checkpoint_path,
        )
    assert found == ()


def _logged(worlds: Worlds, root: Path) -> tuple[str, ...]:
    with worlds.opened(root) as appliance, reading(appliance.engine) as conn:
        return tuple(parse_event(row.entry).kind.value for row in scan_entries(conn))


def _first(appliance: Appliance) -> ChampionRow:
    with reading(appliance.engine) as conn:
        return champions.by_name(conn, FIRST)


def _submit(appliance: Appliance) -> None:
    champion = _first(appliance).manifest_sha256
    order = Order(champion=champion, base_model="b" * 64, dataset="d" * 64, hours_to_complete=0.5)
    with appliance.engine.begin() as conn:
        runs.submit(conn, order, run_id=RUN_ID, actor=SUBMITTER, idempotency_key=None, now=START)
