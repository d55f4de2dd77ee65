"""Whoever writes to the database cannot make the appliance start or claim what the log contradicts."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy import text

from appliance.adoption import hold, release_hold, revoke
from appliance.domain import ChosenWalls, Classification, RunState
from appliance.errors import EvidenceError
from appliance.isolation_policy import Defaults, choose_walls, load_isolation_policy
from appliance.recorded import check_walls, read_record
from appliance.store import champions, decisions
from appliance.store.champions import ChampionRow
from appliance.store.decisions import ChampionDecision, DecisionKind
from appliance.store.engine import reading
from attestation.digest import sha256_hex
from audit.event import Event, EventKind
from audit.store import enqueue
from tests.appliance.isolation_facts import good_facts
from tests.appliance.test_pipeline import bring_to
from tests.appliance.world import World

Tamper = Callable[..., None]


@pytest.fixture
def tamper(world: World) -> Tamper:
    """Runs SQL behind the appliance's back."""

    def execute(statement: str, **values: object) -> None:
        with world.ports.engine.begin() as conn:
            conn.execute(text(statement), values)

    return execute


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        ("submitted_by", "mallory", "submitter is mallory, the log says bob"),
        ("hours_to_complete", 9.0, "hours_to_complete is 9.0"),
        ("champion", "0" * 64, "champion is 0000"),
        ("dataset", "0" * 64, "dataset is 0000"),
    ],
)
def test_changed_order_is_not_started(
    world: World, tamper: Tamper, column: str, value: object, told: str
) -> None:
    bring_to(world, RunState.PLACED)
    tamper(f"UPDATE run SET {column} = :value", value=value)
    run = world.settle()
    assert run.state is RunState.FAILED
    assert told in (run.reason or "")
    assert world.launcher.poll(run.id) is None


def with_walls(world: World) -> ChosenWalls:
    """What internal data gets where podman is the default."""
    policy = load_isolation_policy(world.appliance.settings.policies_dir)
    return choose_walls(policy, Classification.INTERNAL, asked=None, defaults=Defaults(driver="oci"))


@pytest.mark.parametrize("state", [RunState.PLACED, RunState.EVALUATED])
@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("UPDATE run_walls SET driver = 'bubblewrap'", "driver is bubblewrap, the log says oci"),
        ("UPDATE run_walls SET evaluation_driver = 'bubblewrap'", "evaluation_driver is bubblewrap"),
        ("UPDATE run_walls SET demand = '{}'", "isolation_demand is {}"),
        ("UPDATE run_walls SET classification = 'public'", "classification is public, the log says internal"),
        ("DELETE FROM run_walls", "classification is None, the log says internal"),
    ],
    ids=["driver", "evaluation", "demand", "classification", "all"],
)
def test_a_run_whose_walls_were_changed_is_neither_started_nor_signed(
    world: World, tamper: Tamper, state: RunState, statement: str, told: str
) -> None:
    world.submit(walls=with_walls(world))
    for _ in range(20):
        if world.run().state is not state:
            world.advance()
    tamper(statement)
    run = world.settle()
    assert run.state is RunState.FAILED
    assert told in (run.reason or "")
    assert "claim:signed" not in world.kinds()


@pytest.mark.parametrize(
    ("placed", "told"),
    [
        (
            {"driver": "bubblewrap"},
            "the champion had other walls than ordered: ordered oci, placed with bubblewrap",
        ),
        ({"evaluation_driver": "gvisor"}, "the evaluation had other walls .* placed with gvisor"),
        ({"gpus": "GPU-1 GPU-2"}, "found GPU GPU-3, granted GPU-1, GPU-2"),
    ],
    ids=["driver", "evaluation", "gpus"],
)
def test_walls_are_those_with_which_the_run_was_placed(
    world: World, placed: dict[str, str], told: str
) -> None:
    run = world.submit(walls=with_walls(world))
    world.advance()
    record = read_record(world.run(), world.ports)
    assert record is not None
    event = record[EventKind.RUN_PLACED]
    told_otherwise = {**record, EventKind.RUN_PLACED: replace(event, detail={**event.detail, **placed})}
    measured = good_facts() | {"driver": "oci", "tier": 2, "gpus": ["GPU-3"] if "gpus" in placed else []}
    with pytest.raises(EvidenceError, match=told):
        check_walls(run, told_otherwise, train=measured, evaluate=measured)
    check_walls(run, record, train={**measured, "gpus": []}, evaluate={**measured, "gpus": []})


@pytest.mark.parametrize(
    ("spoiled", "told"),
    [
        ({"uids": [0] * 4}, "the walls of the evaluation were not whole: the guest's uids"),
        ({"open_files": [0, 1, 2, 7]}, "the walls of the evaluation were not whole: open files"),
        ({"violations": ["eth0 is there"]}, "the walls of the evaluation are not told as claimed: .*eth0"),
        ({"mounts": None}, "the walls of the evaluation are not told as claimed: measured.mounts"),
    ],
    ids=["root", "file", "violation", "shape"],
)
def test_walls_that_a_reader_would_refuse_are_not_signed(
    world: World, spoiled: dict[str, object], told: str
) -> None:
    run = world.submit(walls=with_walls(world))
    world.advance()
    record = read_record(world.run(), world.ports)
    assert record is not None
    whole = good_facts() | {"driver": "oci", "tier": 2}
    with pytest.raises(EvidenceError, match=told):
        check_walls(run, record, train=whole, evaluate=whole | spoiled)


@pytest.mark.parametrize(
    ("state", "column", "value", "told"),
    [
        (RunState.HARVESTED, "model", "9" * 64, None),
        (RunState.EVALUATED, "model", "9" * 64, "model is 9999"),
        (RunState.EVALUATED, "verdict", "unchanged", "verdict is unchanged"),
        (RunState.EVALUATED, "submitted_by", "mallory", "submitter is mallory"),
        (RunState.EVALUATED, "base_model", "0" * 64, "base_model is 0000"),
    ],
)
def test_changed_run_is_not_signed(
    world: World, tamper: Tamper, state: RunState, column: str, value: str, told: str | None
) -> None:
    bring_to(world, state)
    tamper(f"UPDATE run SET {column} = :value", value=value)
    run = world.settle()
    assert run.state is RunState.FAILED
    assert told is None or told in (run.reason or "")
    assert "claim:signed" not in world.kinds()


def test_losses_of_another_run_are_not_signed(world: World, tamper: Tamper) -> None:
    bring_to(world, RunState.EVALUATED)
    tamper('UPDATE run SET metrics = replace(metrics, \'"losses_sha256":"\', \'"losses_sha256":"0\')')
    run = world.settle()
    assert run.state is RunState.FAILED
    assert "losses is 0" in (run.reason or "")


def test_log_entry_changed_together_with_the_run_is_not_believed(world: World, tamper: Tamper) -> None:
    bring_to(world, RunState.EVALUATED)
    world.ports.log.sequence(world.clock.now())
    tamper("UPDATE run SET submitted_by = 'eve'")
    tamper(
        'UPDATE log_entry SET entry = CAST(replace(CAST(entry AS TEXT), \'"actor":"bob"\', \'"actor":"eve"\') AS BLOB)'
    )
    run = world.settle()
    assert run.state is not RunState.LOGGED
    assert "claim:signed" not in world.kinds()


def test_invented_admission_starts_nothing(world: World, tamper: Tamper) -> None:
    world.submit()
    tamper("UPDATE admission SET bundle = X'00'")
    run = world.settle()
    assert run.state is RunState.FAILED
    assert "its admission does not verify" in (run.reason or "")
    assert world.launcher.poll(run.id) is None


def test_admission_without_its_approvals_starts_nothing(world: World, tamper: Tamper) -> None:
    world.submit()
    tamper("DELETE FROM counted_approval")
    tamper("DELETE FROM approval")
    run = world.settle()
    assert run.state is RunState.FAILED
    assert "there is no approval" in (run.reason or "")
    assert world.launcher.poll(run.id) is None


def test_another_champions_admission_starts_nothing(world: World, tamper: Tamper) -> None:
    world.submit()
    tamper('UPDATE champion SET "commit" = :commit', commit="0" * 40)
    run = world.settle()
    assert run.state is RunState.FAILED
    assert "another commit" in (run.reason or "")


def test_approver_who_became_submitter_starts_nothing(world: World, tamper: Tamper) -> None:
    world.submit()
    tamper("UPDATE run SET submitted_by = 'olu'")
    run = world.settle()
    assert run.state is RunState.FAILED
    assert "olu approved" in (run.reason or "")


def test_changed_held_out_rows_are_not_evaluated(world: World) -> None:
    bring_to(world, RunState.HARVESTED)
    held_out = world.ports.store.path(world.order.dataset) / "held-out.json"
    held_out.chmod(0o644)
    held_out.write_bytes(held_out.read_bytes().replace(b"o", b"0"))
    run = world.settle()
    assert run.state is RunState.FAILED
    assert "held-out.json" in (run.reason or "")


# What the log says of the run's champion.


def the_champion(world: World) -> ChampionRow:
    with reading(world.ports.engine) as conn:
        return champions.get(conn, world.order.champion)


@pytest.mark.parametrize(
    ("decide_so", "told"),
    [(hold, "was held by cleo at 2026-11-21T02:00:00Z: wait"), (revoke, "was revoked by cleo")],
    ids=["held", "revoked"],
)
def test_a_placed_run_is_not_started_once_the_log_stops_its_champion(
    world: World, tamper: Tamper, decide_so: Callable[..., object], told: str
) -> None:
    bring_to(world, RunState.PLACED)
    decide_so(world.appliance, the_champion(world), actor="cleo", reason="wait")
    tamper("DELETE FROM champion_decision")
    tamper("UPDATE run SET cancel_requested_by = NULL")
    run = world.settle()
    assert run.state is RunState.FAILED
    assert told in (run.reason or "")
    assert world.launcher.poll(run.id) is None


def test_a_hold_that_was_released_stops_nothing(world: World) -> None:
    bring_to(world, RunState.PLACED)
    hold(world.appliance, the_champion(world), actor="cleo", reason="wait")
    release_hold(world.appliance, the_champion(world), actor="cleo", reason="go")
    assert world.settle().state is RunState.LOGGED
    world.verify()


def test_a_hold_released_in_the_rows_alone_stops_still(world: World, tamper: Tamper) -> None:
    bring_to(world, RunState.PLACED)
    hold(world.appliance, the_champion(world), actor="cleo", reason="wait")
    tamper("UPDATE champion_decision SET decision = 'released'")
    assert world.settle().state is RunState.FAILED


def forge_release(world: World, tamper: Tamper, bundle: bytes) -> None:
    """A row and a waiting event that end the hold: what whoever reaches the database can write."""
    champion, now = the_champion(world), world.clock.now()
    forged = ChampionDecision(
        champion=champion.manifest_sha256,
        tree=champion.tree,
        name=champion.name,
        decision=DecisionKind.RELEASED,
        reason="go",
        bundle=bundle,
        decided_by="cleo",
        decided_at=now,
    )
    event = Event(
        kind=EventKind.CHAMPION_RELEASED,
        subject=champion.manifest_sha256,
        actor="cleo",
        at=now,
        detail={"decision": sha256_hex(bundle), "name": champion.name, "reason": "go", "tree": champion.tree},
    )
    with world.ports.engine.begin() as conn:
        decisions.add(conn, forged)
        enqueue(conn, event)
    world.ports.log.sequence(now)
    assert world.fsck() == ()  # the log takes what waits in the outbox, and signs it


def test_a_placed_run_is_not_started_for_a_release_that_nobody_signed(world: World, tamper: Tamper) -> None:
    bring_to(world, RunState.PLACED)
    hold(world.appliance, the_champion(world), actor="cleo", reason="wait")
    forge_release(world, tamper, b"garbage")
    run = world.settle()
    assert run.state is RunState.FAILED
    assert "was held by cleo" in (run.reason or "")
    assert world.launcher.poll(run.id) is None


def test_a_placed_run_is_not_started_for_an_earlier_release_that_is_written_again(
    world: World, tamper: Tamper
) -> None:
    bring_to(world, RunState.PLACED)
    champion = the_champion(world)
    hold(world.appliance, champion, actor="cleo", reason="wait")
    release_hold(world.appliance, champion, actor="cleo", reason="go")
    with reading(world.ports.engine) as conn:
        earlier = decisions.decisions_about(conn, champion.manifest_sha256)[-1]
    hold(world.appliance, champion, actor="cleo", reason="wait again")
    world.ports.log.sequence(world.clock.now())
    forge_release(world, tamper, earlier.bundle)
    run = world.settle()
    assert run.state is RunState.FAILED
    assert "wait again" in (run.reason or "")


@pytest.mark.parametrize("state", [RunState.SUBMITTED, RunState.EVALUATED])
def test_a_champion_whose_proposer_was_changed_neither_starts_nor_is_signed_for(
    world: World, tamper: Tamper, state: RunState
) -> None:
    bring_to(world, state)
    tamper("UPDATE champion SET proposed_by = 'nobody'")
    run = world.settle()
    assert run.state is RunState.FAILED
    assert "proposed by nobody, the log says ada" in (run.reason or "")
    assert "claim:signed" not in world.kinds()
