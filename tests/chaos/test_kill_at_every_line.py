"""Kills the worker at each line it runs on a run's way, starts it again, and verifies what came of it.

What is covered: SIGKILL between any two lines of the pipeline, the worker's loop, the evidence and the store.
What is not covered: lines inside the log, which tests/audit kills at, and of the real launcher (tests/e2e).
"""

import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

import appliance.artifacts
import appliance.evidence
import appliance.home
import appliance.pipeline
import appliance.worker
from appliance.domain import RunState
from appliance.store import claims
from appliance.worker import work
from attestation.claims import Kind
from tests.appliance.world import RUN_ID, World, build_world, copy_world, open_world
from tests.chaos.kills import Begun, Tracer, first_and_last, folder_for_worlds, in_children, record

WATCHED = {
    str(module.__file__)
    for module in (
        appliance.artifacts,
        appliance.evidence,
        appliance.home,
        appliance.pipeline,
        appliance.worker,
    )
}
STEPS = ["submitted", "placed", "started", "harvested", "evaluated", "attested", "logged"]
ROUNDS_AT_MOST = 40

pytestmark = pytest.mark.chaos


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world with a submitted run. No database is open here: a connection must not cross a fork."""
    root = tmp_path_factory.mktemp("chaos")
    build_world(root)
    with open_world(root) as world:
        world.submit()
    return root


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    with folder_for_worlds(tmp_path) as made:
        yield made


def test_survives_a_kill_at_every_line(template: Path, folder: Path) -> None:
    begun = _record(template, folder)
    assert {Path(file).name for at in begun for file, _ in at.lines} == {Path(file).name for file in WATCHED}
    kills = first_and_last(begun)
    assert len(kills) > 300  # the tracer saw the modules at work
    assert in_children(kills, act=_work, recover=_recover, folder=folder, watched=WATCHED) == {}


def _record(template: Path, folder: Path) -> tuple[Begun, ...]:
    """Every state of an undisturbed run, in order."""
    begun: list[Begun] = []
    at = template
    for _ in STEPS[1:]:
        after = copy_world(at, folder / f"begun-{len(begun) + 1}")
        lines = record(partial(_work, moves=1), after, watched=WATCHED)
        begun.append(Begun(root=at, lines=lines))
        at = after
    with open_world(at) as world:
        _check(world)
    return tuple(begun)


def _recover(root: Path) -> None:
    with open_world(root) as world:
        _work_on(world)
        _check(world)


def _work(root: Path, tracer: Tracer, *, moves: int = 99) -> None:
    """The worker's own loop until the run was moved that often, or is at its end."""
    with open_world(root) as world:
        _work_on(world, tracer=tracer, moves=moves)


def _work_on(world: World, *, tracer: Tracer = None, moves: int = 99) -> None:
    rounds = iter(range(ROUNDS_AT_MOST))
    enough = world.run().version + moves

    def should_stop() -> bool:
        run = world.run()
        return next(rounds, None) is None or run.state.is_final or run.version >= enough

    sys.settrace(tracer)
    try:
        work(world.ports, poll_interval_s=0, should_stop=should_stop)
    finally:
        sys.settrace(None)


def _check(world: World) -> None:
    """The run was done once: verified evidence, a sound log, one event a state, nothing left lying about."""
    assert (world.run().state, world.run().reason) == (RunState.LOGGED, None)
    assert world.verify().model_root == world.run().model
    assert world.fsck() == ()
    kinds = Counter(world.kinds())
    assert kinds == Counter([f"run:{step}" for step in STEPS] + ["claim:signed"] * len(Kind))
    _check_claims(world)
    _check_folders(world)


def _check_claims(world: World) -> None:
    with world.ports.engine.connect() as conn:
        kept = claims.of_run(conn, RUN_ID)
    assert [claim.kind for claim in kept] == list(Kind)
    packed = (world.appliance.home.evidence_dir / RUN_ID / "claims.jsonl").read_bytes()
    assert packed == b"".join(claim.bundle + b"\n" for claim in kept)


def _check_folders(world: World) -> None:
    home = world.appliance.home
    assert [path.name for path in home.evidence_dir.iterdir()] == [RUN_ID]
    assert {path.name for path in home.jobs_dir.iterdir()} == {RUN_ID, f"{RUN_ID}-evaluate"}
    stored = {
        world.order.champion,
        world.order.base_model,
        world.order.dataset,
        world.run().model,
        world.ports.evaluator,
    }
    assert {path.name for path in home.store_dir.iterdir()} == stored
