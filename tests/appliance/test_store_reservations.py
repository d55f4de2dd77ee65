"""No GPU is ever two runs', whoever asks; what a run has ends with the move that ends its jobs."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine, func, insert, select
from sqlalchemy.exc import IntegrityError

from appliance.domain import Run, RunState
from appliance.errors import StaleRunError
from appliance.store import runs
from appliance.store.engine import open_database
from appliance.store.reservations import Reservation, granted, held_by, list_held, reserve
from appliance.store.tables import gpu_grant, reservation
from appliance.waiting import OCCUPYING
from tests.appliance.world import START

Submit = Callable[..., Run]


def want(run: Run, *gpus: str, memory_bytes: int = 1 << 40) -> Reservation:
    return Reservation(
        run_id=run.id, memory_bytes=memory_bytes, cpu_millis=2000, shm_bytes=3, disk_bytes=4, gpus=gpus
    )


def held(engine: Engine) -> tuple[Reservation, ...]:
    with engine.connect() as conn:
        return list_held(conn)


def take(engine: Engine, wanted: Reservation, *, seen: tuple[Reservation, ...] | None = None) -> Reservation:
    with engine.begin() as conn:
        reserve(conn, wanted, seen=list_held(conn) if seen is None else seen)
    return wanted


def rows(engine: Engine) -> tuple[int, int]:
    with engine.connect() as conn:
        counts = [select(func.count()).select_from(table) for table in (reservation, gpu_grant)]
        return conn.execute(counts[0]).scalar_one(), conn.execute(counts[1]).scalar_one()


@pytest.fixture
def other_process(engine: Engine, tmp_path: Path) -> Iterator[Engine]:
    opened = open_database(tmp_path / "assay.db")
    yield opened
    opened.dispose()


def test_what_was_reserved_comes_back(engine: Engine, submit: Submit) -> None:
    one, two = submit(RunState.PLACED), submit(RunState.RUNNING)
    wanted = take(engine, want(one, "GPU-b", "GPU-a")), take(engine, want(two))
    assert held(engine) == wanted
    with engine.connect() as conn:
        assert granted(conn, one.id) == ("GPU-b", "GPU-a")
        assert granted(conn, two.id) == ()
        assert held_by(conn, two.id) == wanted[1]


def test_a_run_that_has_nothing_was_granted_nothing(engine: Engine, submit: Submit) -> None:
    run = submit(RunState.RUNNING)  # placed by an older Assay
    with engine.connect() as conn:
        assert (held_by(conn, run.id), granted(conn, run.id)) == (None, ())


@pytest.mark.parametrize("state", RunState)
def test_a_reservation_counts_while_the_run_needs_it(engine: Engine, submit: Submit, state: RunState) -> None:
    run = submit(state)
    take(engine, want(run, "GPU-a"))
    counts = state is RunState.SUBMITTED or state in OCCUPYING
    assert [one.run_id for one in held(engine)] == ([run.id] if counts else [])
    with engine.connect() as conn:
        assert granted(conn, run.id) == (("GPU-a",) if counts else ())


@pytest.mark.parametrize(
    ("state", "to"),
    [
        (RunState.SUBMITTED, RunState.FAILED),
        (RunState.PLACED, RunState.FAILED),
        (RunState.RUNNING, RunState.CANCELLED),
        (RunState.HARVESTED, RunState.EVALUATED),
    ],
)
def test_the_move_that_ends_the_jobs_ends_the_reservation(
    engine: Engine, submit: Submit, state: RunState, to: RunState
) -> None:
    run = submit(state)
    wanted = take(engine, want(run, "GPU-a"))
    with pytest.raises(KeyboardInterrupt), engine.begin() as conn:
        runs.move(conn, run, to, now=START)
        assert list_held(conn) == ()
        raise KeyboardInterrupt  # the move is not written, so the reservation counts again
    assert held(engine) == (wanted,)
    with engine.begin() as conn:
        runs.move(conn, run, to, now=START)
    assert held(engine) == ()


def test_a_cancellation_before_the_start_ends_it_too(engine: Engine, submit: Submit) -> None:
    run = submit()
    take(engine, want(run, "GPU-a"))
    with engine.begin() as conn:
        runs.request_cancel(conn, run.id, actor="ada", now=START)
    assert held(engine) == ()


def test_what_an_ended_run_had_is_given_to_the_next(engine: Engine, submit: Submit) -> None:
    take(engine, want(submit(RunState.FAILED), "GPU-a", "GPU-b"))
    assert rows(engine) == (1, 2)
    wanted = take(engine, want(submit(RunState.PLACED), "GPU-b"))
    assert held(engine) == (wanted,)
    assert rows(engine) == (1, 1)  # and nothing is left of the ended one


def test_one_gpu_is_never_two_runs(engine: Engine, submit: Submit) -> None:
    first = take(engine, want(submit(RunState.PLACED), "GPU-a", "GPU-b"))
    with pytest.raises(StaleRunError, match="one of GPU-c, GPU-b is granted already"):
        take(engine, want(submit(RunState.PLACED), "GPU-c", "GPU-b"))
    assert held(engine) == (first,)
    assert rows(engine) == (1, 2)


def test_the_database_itself_refuses_a_double_grant(engine: Engine, submit: Submit) -> None:
    """Not only our own code: whoever writes there."""
    take(engine, want(submit(RunState.PLACED), "GPU-a"))
    other = submit(RunState.PLACED)
    with pytest.raises(IntegrityError), engine.begin() as conn:
        conn.execute(insert(gpu_grant).values(uuid="GPU-a", run_id=other.id, ordinal=0))


def test_the_same_gpu_twice_is_refused(engine: Engine, submit: Submit) -> None:
    with pytest.raises(StaleRunError, match="is granted already"):
        take(engine, want(submit(RunState.PLACED), "GPU-a", "GPU-a"))
    assert held(engine) == ()


def test_of_two_workers_that_saw_the_same_one_is_told_to_look_again(
    engine: Engine, other_process: Engine, submit: Submit
) -> None:
    one, two = submit(), submit()
    seen = held(engine)
    assert seen == held(other_process)
    first = take(engine, want(one, "GPU-a"), seen=seen)
    # Another GPU, so only memory would have been given twice.
    with pytest.raises(StaleRunError, match="other reservations were made or ended meanwhile"):
        take(other_process, want(two, "GPU-b"), seen=seen)
    assert held(other_process) == (first,)
    take(other_process, want(two, "GPU-b"), seen=(first,))
    assert len(held(engine)) == 2


def test_of_two_workers_with_one_run_one_is_told_to_look_again(
    engine: Engine, other_process: Engine, submit: Submit
) -> None:
    run = submit()
    first = take(engine, want(run, "GPU-a"), seen=())
    with pytest.raises(StaleRunError, match="meanwhile"):
        take(other_process, want(run, "GPU-b"), seen=())
    assert held(engine) == (first,)


def test_a_reservation_that_shrank_meanwhile_is_noticed(engine: Engine, submit: Submit) -> None:
    one, two = submit(RunState.PLACED), submit()
    seen = (take(engine, want(one, "GPU-a")),)
    take(engine, want(one, "GPU-a", memory_bytes=1))
    with pytest.raises(StaleRunError):
        take(engine, want(two), seen=seen)


def test_reserving_again_replaces_and_doubles_nothing(engine: Engine, submit: Submit) -> None:
    run = submit()
    take(engine, want(run, "GPU-a", "GPU-b"))
    again = take(engine, want(run, "GPU-c", "GPU-a"))
    assert held(engine) == (again,)
    assert rows(engine) == (1, 2)


def test_a_crash_while_it_is_written_leaves_nothing(engine: Engine, submit: Submit) -> None:
    run = submit()
    with pytest.raises(KeyboardInterrupt), engine.begin() as conn:
        reserve(conn, want(run, "GPU-a"), seen=())
        raise KeyboardInterrupt
    assert rows(engine) == (0, 0)


def test_amounts_larger_than_32_bits_are_kept(engine: Engine, submit: Submit) -> None:
    wanted = take(engine, replace(want(submit(RunState.PLACED)), disk_bytes=1 << 50))
    assert held(engine) == (wanted,)
