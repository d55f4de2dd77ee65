"""Why a run waits is one sentence, computed from the facts."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from appliance.domain import Order, Run, RunState
from appliance.waiting import Capacity, earlier, why_waiting

NOW = datetime(2026, 11, 21, 2, 0, tzinfo=UTC)
ORDER = Order(champion="c" * 64, base_model="b" * 64, dataset="d" * 64, hours_to_complete=1.0)
RUN = Run(
    id="run-b",
    order=ORDER,
    state=RunState.SUBMITTED,
    version=0,
    submitted_by="ada",
    submitted_at=NOW,
    updated_at=NOW,
)
ROOMY = Capacity(max_parallel_runs=1, needed_free_bytes=10)


def test_nothing_stands_in_the_way_of_the_only_run() -> None:
    assert why_waiting(RUN, (), capacity=ROOMY, free_bytes=10) is None


def test_names_the_run_that_takes_the_place() -> None:
    busy = replace(RUN, id="run-a", state=RunState.RUNNING)
    assert "run-a" in (why_waiting(RUN, (busy,), capacity=ROOMY, free_bytes=10) or "")


def test_names_the_run_that_came_first() -> None:
    earlier = replace(RUN, id="run-a", submitted_at=NOW - timedelta(seconds=1))
    assert "next is run-a" in (why_waiting(RUN, (earlier,), capacity=ROOMY, free_bytes=10) or "")


def test_the_next_is_the_first_that_came_whatever_their_order_here() -> None:
    first, second = (
        replace(RUN, id=f"run-{name}", submitted_at=NOW - timedelta(seconds=s))
        for name, s in (("y", 2), ("x", 1))
    )
    told = why_waiting(RUN, (second, first), capacity=ROOMY, free_bytes=10)
    assert told == "2 runs were submitted earlier, the next is run-y"
    assert earlier(RUN, (second, first)) == (first, second)


def test_runs_of_one_second_go_by_their_ids() -> None:
    twins = (replace(RUN, id="run-c"), replace(RUN, id="run-a"))
    assert [run.id for run in earlier(RUN, twins)] == ["run-a"]


def test_later_runs_do_not_hold_it_up() -> None:
    later = replace(RUN, id="run-z", submitted_at=NOW + timedelta(seconds=1))
    assert why_waiting(RUN, (later,), capacity=ROOMY, free_bytes=10) is None


def test_says_how_much_disk_is_missing() -> None:
    needy = Capacity(max_parallel_runs=1, needed_free_bytes=2 << 30)
    assert "1024 MiB free, a run needs 2048 MiB" in (
        why_waiting(RUN, (), capacity=needy, free_bytes=1 << 30) or ""
    )


def test_a_run_that_was_placed_waits_for_nothing() -> None:
    assert why_waiting(replace(RUN, state=RunState.PLACED), (), capacity=ROOMY, free_bytes=0) is None
