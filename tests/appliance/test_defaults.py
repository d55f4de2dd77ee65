"""What an order gets that names no champion: what a person said, and only what fits."""

import pytest

from appliance.adoption import hold, revoke
from appliance.assembly import Appliance
from appliance.champion_report import record_report, sign_report
from appliance.defaults import CHANNEL_OF_TASK, default_for, set_default
from appliance.errors import ConflictError, HomeError, InvalidOrderError
from appliance.orders import check_order, resolve_champion
from appliance.store import champions, defaults
from appliance.store.champions import ChampionRow
from appliance.store.engine import reading
from audit.event import EventKind
from tests.appliance.vetting import events_about
from tests.appliance.world import PROPOSER, START, SUBMITTER, World, report_of
from tournament_sync.inspection.report import Capability, Support

TASK = "InstructTextTask"


@pytest.fixture
def adopted(world: World) -> ChampionRow:
    with reading(world.appliance.engine) as conn:
        return champions.get(conn, world.order.champion)


def set_it(appliance: Appliance, champion: ChampionRow, *, task: str = TASK, channel: str = "text") -> None:
    set_default(appliance, channel=channel, task_type=task, champion=champion, actor=PROPOSER)


def test_an_order_without_a_champion_gets_the_default(world: World, adopted: ChampionRow) -> None:
    set_it(world.appliance, adopted)
    with reading(world.appliance.engine) as conn:
        assert resolve_champion(conn, None, task_type=TASK) == adopted.manifest_sha256
        found = default_for(conn, channel="text", task_type=TASK)
    assert found is not None
    assert (found.set_by, found.set_at) == (PROPOSER, START)


def test_an_order_that_names_one_gets_that(world: World, adopted: ChampionRow) -> None:
    set_it(world.appliance, adopted)
    with reading(world.appliance.engine) as conn:
        assert resolve_champion(conn, "9" * 64, task_type=TASK) == "9" * 64


@pytest.mark.parametrize("task", [TASK, "ImageTask", "NoSuchTask"])
def test_an_order_without_either_is_refused(world: World, task: str) -> None:
    with (
        reading(world.appliance.engine) as conn,
        pytest.raises(InvalidOrderError, match=f"names no champion, and there is no default for {task}"),
    ):
        resolve_champion(conn, None, task_type=task)


def test_setting_a_default_is_an_event(world: World, adopted: ChampionRow) -> None:
    set_it(world.appliance, adopted)
    event = events_about(world.appliance, adopted)[-1]
    assert (event.kind, event.actor) == (EventKind.CHAMPION_DEFAULT, PROPOSER)
    assert event.detail == {"channel": "text", "name": adopted.name, "task": TASK}


def test_a_default_is_one_for_each_task_and_the_last_one_counts(world: World, adopted: ChampionRow) -> None:
    for task in (TASK, "DpoTask", TASK):
        set_it(world.appliance, adopted, task=task)
    with reading(world.appliance.engine) as conn:
        found = [(one.channel, one.task_type) for one in defaults.list_defaults(conn)]
    assert found == [("text", "DpoTask"), ("text", TASK)]


@pytest.mark.parametrize("decide_so", [hold, revoke], ids=["held", "revoked"])
def test_a_default_that_may_not_run_any_more_is_refused_and_not_replaced(
    world: World, adopted: ChampionRow, decide_so: object
) -> None:
    set_it(world.appliance, adopted)
    decide_so(world.appliance, adopted, actor="cleo", reason="it phones home")  # type: ignore[operator]
    with reading(world.appliance.engine) as conn:
        assert resolve_champion(conn, None, task_type=TASK) == adopted.manifest_sha256
        with pytest.raises(InvalidOrderError, match="it phones home"):
            check_order(conn, world.order, submitter=SUBMITTER, trust=world.appliance.home.trust())


@pytest.mark.parametrize("decide_so", [hold, revoke], ids=["held", "revoked"])
def test_only_an_adopted_champion_becomes_a_default(
    world: World, adopted: ChampionRow, decide_so: object
) -> None:
    decide_so(world.appliance, adopted, actor="cleo", reason="no")  # type: ignore[operator]
    with pytest.raises(ConflictError, match=r"is (held|revoked); only an adopted champion"):
        set_it(world.appliance, adopted)


def test_a_proposed_champion_becomes_no_default(appliance: Appliance, champion: ChampionRow) -> None:
    with pytest.raises(ConflictError, match="is proposed; only an adopted champion"):
        set_it(appliance, champion)
    assert EventKind.CHAMPION_DEFAULT not in {event.kind for event in events_about(appliance, champion)}


@pytest.mark.parametrize(
    ("channel", "task", "match"),
    [
        ("text", "ImageTask", "ImageTask is a task type of image, not of text"),
        ("image", TASK, "not of image"),
        ("text", "NoSuchTask", "is no task type of any"),
        ("film", TASK, "not of film"),
    ],
)
def test_a_task_type_of_another_channel_is_refused(
    world: World, adopted: ChampionRow, channel: str, task: str, match: str
) -> None:
    with pytest.raises(InvalidOrderError, match=match):
        set_it(world.appliance, adopted, channel=channel, task=task)


def test_a_champion_of_another_channel_is_refused(world: World, adopted: ChampionRow) -> None:
    with pytest.raises(ConflictError, match="is of channel text, not of image"):
        set_it(world.appliance, adopted, channel="image", task="ImageTask")


@pytest.mark.parametrize(("support", "is_taken"), [(Support.NO, False), (Support.UNKNOWN, True)])
def test_a_champion_that_cannot_do_the_task_is_refused(
    world: World, adopted: ChampionRow, support: Support, is_taken: bool
) -> None:
    row = Capability(
        task_type="DpoTask", support=support, dockerfile="", entrypoint="", reason="no parser takes it"
    )
    with world.appliance.engine.begin() as conn:
        report = report_of(adopted.manifest_sha256, capabilities=(row,))
        bundle = sign_report(report, signer=world.appliance.signer, now=START)
        record_report(conn, report, bundle=bundle, actor=PROPOSER, at=START)
    if is_taken:
        set_it(world.appliance, adopted, task="DpoTask")
    else:
        with pytest.raises(ConflictError, match="cannot do DpoTask: no parser takes it"):
            set_it(world.appliance, adopted, task="DpoTask")


def test_nobody_in_particular_sets_no_default(world: World, adopted: ChampionRow) -> None:
    with pytest.raises(HomeError, match="wanted up to 40 lower-case letters"):
        set_default(world.appliance, channel="text", task_type=TASK, champion=adopted, actor="A B")


def test_every_channel_has_a_task_type() -> None:
    assert {channel.value for channel in CHANNEL_OF_TASK.values()} == {"text", "image", "environment"}
