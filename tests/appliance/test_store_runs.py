from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, text

from appliance.domain import LEGAL_MOVES, ChosenWalls, Classification, Order, Run, RunState
from appliance.errors import ConflictError, NotFoundError, StaleRunError
from appliance.store import runs
from appliance.store.runs import EVENT_OF_STATE
from audit.event import EventKind
from audit.store import events_of

NOW = datetime(2026, 11, 21, 3, 0, 0, tzinfo=UTC)
Submit = Callable[..., Run]
PAIRS = [(old, new) for old in RunState for new in RunState]


def kinds_of(engine: Engine, run: Run) -> list[EventKind]:
    with engine.connect() as conn:
        return [logged.event.kind for logged in events_of(conn, run.id)]


def read(engine: Engine, run: Run) -> Run:
    with engine.connect() as conn:
        return runs.get(conn, run.id)


@pytest.mark.parametrize(("old", "new"), [p for p in PAIRS if p[1] in LEGAL_MOVES[p[0]]])
def test_legal_move_is_recorded_with_its_event(
    engine: Engine, submit: Submit, old: RunState, new: RunState
) -> None:
    run = submit(old)
    with engine.begin() as conn:
        moved = runs.move(conn, run, new, now=NOW)
    assert moved == replace(run, state=new, version=run.version + 1, updated_at=NOW) == read(engine, run)
    assert kinds_of(engine, run) == [EventKind.RUN_SUBMITTED, EVENT_OF_STATE[new]]


@pytest.mark.parametrize(("old", "new"), [p for p in PAIRS if p[1] not in LEGAL_MOVES[p[0]]])
def test_illegal_move_changes_nothing(engine: Engine, submit: Submit, old: RunState, new: RunState) -> None:
    run = submit(old)
    with pytest.raises(ValueError, match=f"cannot move from {old} to {new}"), engine.begin() as conn:
        runs.move(conn, run, new, now=NOW)
    assert read(engine, run) == run
    assert kinds_of(engine, run) == [EventKind.RUN_SUBMITTED]


def test_every_state_has_an_event() -> None:
    assert set(EVENT_OF_STATE) == set(RunState)


def test_second_of_two_movers_is_stale(engine: Engine, submit: Submit) -> None:
    run = submit()
    with engine.begin() as conn:
        runs.move(conn, run, RunState.PLACED, now=NOW)
    with (
        pytest.raises(StaleRunError, match="no longer submitted at version 0"),
        engine.begin() as conn,
    ):
        runs.move(conn, run, RunState.FAILED, now=NOW)
    assert kinds_of(engine, run) == [EventKind.RUN_SUBMITTED, EventKind.RUN_PLACED]


def test_guard_counts_moves_not_only_states(engine: Engine, submit: Submit) -> None:
    run = submit(RunState.RUNNING)
    with pytest.raises(StaleRunError), engine.begin() as conn:
        runs.move(conn, replace(run, version=run.version + 1), RunState.HARVESTED, now=NOW)


def test_event_and_move_fall_together(engine: Engine, submit: Submit) -> None:
    run = submit()
    with pytest.raises(RuntimeError, match="power cut"), engine.begin() as conn:
        runs.move(conn, run, RunState.PLACED, now=NOW)
        raise RuntimeError("power cut")
    assert read(engine, run) == run
    assert kinds_of(engine, run) == [EventKind.RUN_SUBMITTED]


def test_move_keeps_fields_it_is_not_given(engine: Engine, submit: Submit) -> None:
    run = submit(RunState.RUNNING)
    with engine.begin() as conn:
        harvested = runs.move(conn, run, RunState.HARVESTED, now=NOW, verdict="trained", model="a" * 64)
        moved = runs.move(conn, harvested, RunState.EVALUATED, now=NOW, metrics="{}", reason=None)
    assert (moved.verdict, moved.model, moved.metrics) == ("trained", "a" * 64, "{}")


def test_unknown_field_is_a_bug(engine: Engine, submit: Submit) -> None:
    run = submit()
    with pytest.raises(TypeError), engine.begin() as conn:
        runs.move(conn, run, RunState.PLACED, now=NOW, colour="red")  # type: ignore[call-arg]


def test_same_key_and_order_is_one_run(engine: Engine, submit: Submit) -> None:
    first = submit(idempotency_key="k")
    assert submit(idempotency_key="k") == first
    assert kinds_of(engine, first) == [EventKind.RUN_SUBMITTED]


def test_racing_submissions_with_one_key_are_one_run(engine: Engine, submit: Submit) -> None:
    with ThreadPoolExecutor(8) as people:
        made = list(people.map(lambda _: submit(idempotency_key="k").id, range(24)))
    assert len(set(made)) == 1
    with engine.connect() as conn:
        assert len(runs.list_runs(conn, limit=100)) == 1


def test_racing_movers_move_once(engine: Engine, submit: Submit) -> None:
    run = submit()

    def move(_: int) -> bool:
        try:
            with engine.begin() as conn:
                runs.move(conn, run, RunState.PLACED, now=NOW)
        except StaleRunError:
            return False
        return True

    with ThreadPoolExecutor(8) as workers:
        assert sum(workers.map(move, range(16))) == 1
    assert kinds_of(engine, run) == [EventKind.RUN_SUBMITTED, EventKind.RUN_PLACED]


def test_same_key_of_another_person_is_another_run(submit: Submit) -> None:
    assert submit(idempotency_key="k").id != submit(idempotency_key="k", actor="olu").id


def test_no_key_is_always_a_new_run(submit: Submit) -> None:
    assert submit().id != submit().id


def test_same_key_with_another_order_is_refused(engine: Engine, submit: Submit, order: Order) -> None:
    submit(idempotency_key="k")
    other = replace(order, hours_to_complete=9)
    with (
        pytest.raises(ConflictError, match="'k' was used for another order, run run-001") as refused,
        engine.begin() as conn,
    ):
        runs.submit(conn, other, run_id="run-9", actor="ada", idempotency_key="k", now=NOW)
    assert refused.value.found == "an order that differs in hours_to_complete"


def test_run_ids_are_never_used_twice(submit: Submit) -> None:
    submit(run_id="run-1")
    with pytest.raises(ConflictError, match="ids are never used twice"):
        submit(run_id="run-1")


def test_order_comes_back_unchanged(submit: Submit, order: Order) -> None:
    assert submit().order == order


@pytest.mark.parametrize("state", list(RunState))
def test_cancelling_in_every_state(engine: Engine, submit: Submit, state: RunState) -> None:
    run = submit(state)
    if state in (RunState.ATTESTED, RunState.LOGGED, RunState.FAILED):
        with pytest.raises(ConflictError, match=f"is {state} and cannot be"), engine.begin() as conn:
            runs.request_cancel(conn, run.id, actor="olu", now=NOW)
        assert read(engine, run) == run
        return
    with engine.begin() as conn:
        cancelled = runs.request_cancel(conn, run.id, actor="olu", now=NOW)
    match state:
        case RunState.SUBMITTED:
            assert (cancelled.state, cancelled.reason) == (
                RunState.CANCELLED,
                "cancelled by olu before it started",
            )
            assert kinds_of(engine, run)[-1] is EventKind.RUN_CANCELLED
        case RunState.CANCELLED:
            assert cancelled == run
        case _:
            assert (cancelled.state, cancelled.cancel_requested_by) == (state, "olu")
            assert kinds_of(engine, run)[-1] is EventKind.RUN_CANCEL_REQUESTED


def test_asking_twice_to_cancel_is_one_event(engine: Engine, submit: Submit) -> None:
    run = submit(RunState.RUNNING)
    with engine.begin() as conn:
        first = runs.request_cancel(conn, run.id, actor="olu", now=NOW)
        assert runs.request_cancel(conn, run.id, actor="eve", now=NOW) == first
    assert kinds_of(engine, run) == [EventKind.RUN_SUBMITTED, EventKind.RUN_CANCEL_REQUESTED]


def test_step_in_flight_cannot_be_applied_past_a_cancellation(engine: Engine, submit: Submit) -> None:
    run = submit(RunState.EVALUATED)
    with engine.begin() as conn:
        runs.request_cancel(conn, run.id, actor="olu", now=NOW)
    with pytest.raises(StaleRunError), engine.begin() as conn:
        runs.move(conn, run, RunState.ATTESTED, now=NOW)


def test_cancellation_is_by_who_asked(engine: Engine, submit: Submit) -> None:
    run = submit(RunState.RUNNING)
    with engine.begin() as conn:
        marked = runs.request_cancel(conn, run.id, actor="olu", now=NOW)
        runs.move(conn, marked, RunState.CANCELLED, now=NOW, reason="cancelled by olu")
        assert events_of(conn, run.id)[-1].event.actor == "olu"


def test_unknown_run_is_not_found(engine: Engine) -> None:
    with engine.begin() as conn, pytest.raises(NotFoundError, match="no run run-9"):
        runs.request_cancel(conn, "run-9", actor="olu", now=NOW)


def test_pages_show_every_run_once_newest_first(engine: Engine, submit: Submit) -> None:
    made = [submit(now=NOW + timedelta(seconds=i // 2)).id for i in range(7)]  # pairs share a second
    seen: list[str] = []
    with engine.connect() as conn:
        while page := runs.list_runs(conn, limit=3, after=seen[-1] if seen else None):
            seen += [run.id for run in page]
    assert seen == sorted(made, reverse=True)


def test_unfinished_are_those_with_a_way_to_go(engine: Engine, submit: Submit) -> None:
    made = [submit(state) for state in RunState]
    with engine.connect() as conn:
        assert runs.unfinished(conn) == tuple(run for run in made if not run.state.is_final)


def test_times_are_stored_as_utc_text(engine: Engine, submit: Submit) -> None:
    submit(now=NOW)
    with engine.connect() as conn:
        assert conn.execute(text("SELECT submitted_at FROM run")).scalar_one() == "2026-11-21T03:00:00Z"


# The walls of a run.

WALLS = ChosenWalls(
    classification=Classification.RESTRICTED,
    driver="gvisor",
    evaluation_driver="gvisor",
    demand='{"min_tier":3}',
    policy_sha256="e" * 64,
)


def submit_with(engine: Engine, order: Order, run_id: str = "run-1", key: str | None = None) -> Run:
    with engine.begin() as conn:
        return runs.submit(conn, order, run_id=run_id, actor="ada", idempotency_key=key, now=NOW)


def test_walls_are_kept_with_their_run_and_moved_with_it(engine: Engine, order: Order) -> None:
    walled = replace(order, driver="gvisor", walls=WALLS)
    run = submit_with(engine, walled)
    assert run.order == walled
    with engine.begin() as conn:
        moved = runs.move(conn, run, RunState.PLACED, now=NOW)
        assert moved.order == walled
        assert [found.order for found in runs.list_runs(conn, limit=1)] == [walled]
        assert [found.order for found in runs.unfinished(conn)] == [walled]


def test_walls_stand_in_the_log_entry_of_the_submission(engine: Engine, order: Order) -> None:
    run = submit_with(engine, replace(order, driver="gvisor", walls=WALLS))
    with engine.connect() as conn:
        (logged,) = events_of(conn, run.id)
    assert dict(logged.event.detail) == runs.order_detail(run.order)
    assert {
        "driver": "gvisor",
        "driver_asked": "gvisor",
        "classification": "restricted",
        "isolation_demand": WALLS.demand,
    }.items() <= logged.event.detail.items()


def test_a_run_of_an_older_home_has_no_walls_and_its_old_log_entry(engine: Engine, order: Order) -> None:
    run = submit_with(engine, order)
    assert run.order.walls is None
    assert set(runs.order_detail(run.order)) == {
        "champion",
        "base_model",
        "dataset",
        "hours_to_complete",
        "task_type",
    }


def test_the_same_wish_with_the_same_key_is_the_same_run_whatever_walls_it_would_get_now(
    engine: Engine, order: Order
) -> None:
    first = submit_with(engine, replace(order, walls=WALLS), key="k")
    other = replace(order, walls=replace(WALLS, driver="oci", policy_sha256="f" * 64))
    assert submit_with(engine, other, run_id="run-2", key="k") == first
    with engine.connect() as conn:
        assert runs.submitted_before(conn, other, actor="ada", idempotency_key="k") == first
        assert runs.submitted_before(conn, other, actor="bob", idempotency_key="k") is None
        assert runs.submitted_before(conn, other, actor="ada", idempotency_key=None) is None


def test_another_driver_with_the_same_key_is_another_order(engine: Engine, order: Order) -> None:
    submit_with(engine, replace(order, walls=WALLS), key="k")
    with pytest.raises(ConflictError, match="another order") as refused:
        submit_with(engine, replace(order, driver="gvisor", walls=WALLS), run_id="run-2", key="k")
    assert refused.value.found == "an order that differs in driver"
