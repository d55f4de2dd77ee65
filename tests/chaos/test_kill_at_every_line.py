"""Kills the worker at each line it runs on a run's way, starts it again, and verifies what came of it.

What is covered: SIGKILL between any two lines of the pipeline, the worker's loop, the evidence and the store.
What is not covered: lines inside the log, which tests/audit kills at, and of the real launcher (tests/e2e).
"""

import gc
import hashlib
import os
import shutil
import signal
import sqlite3
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

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

WATCHED = {
    module.__file__
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
PARALLEL = os.cpu_count() or 1
MEMORY = Path("/dev/shm")
DATABASE = "assay.db"  # and its write-ahead log, whose bytes are never twice the same

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
    """In memory where that can be: SIGKILL loses nothing that was written, flushed or not."""
    if not os.access(MEMORY, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=MEMORY) as made:
        yield Path(made)


def test_survives_a_kill_at_every_line(template: Path, folder: Path) -> None:
    begun = _record(template, folder)
    assert {Path(file).name for at in begun for file, _ in at.lines} == {
        Path(file).name for file in WATCHED if file
    }
    kills = _first_and_last(begun)
    assert len(kills) > 300  # the tracer saw the modules at work
    assert _in_children(kills, folder=folder) == {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A world whose run is in some state, and the lines that the worker then runs until the next."""

    root: Path
    lines: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """The kill at the n-th line, from 1, of a worker that finds the world `root`."""

    root: Path
    number: int
    line: str


def _record(template: Path, folder: Path) -> tuple[Begun, ...]:
    """Every state of an undisturbed run, in order."""
    begun: list[Begun] = []
    at = template
    for _ in STEPS[1:]:
        lines: list[tuple[str, int]] = []
        after = copy_world(at, folder / f"begun-{len(begun) + 1}")
        _work(after, tracer=_tracer(lambda frame, seen=lines: seen.append(_place(frame))), moves=1)
        begun.append(Begun(root=at, lines=tuple(lines)))
        at = after
    with open_world(at) as world:
        _check(world)
    return tuple(begun)


def _first_and_last(begun: tuple[Begun, ...]) -> list[Kill]:
    """A kill at the first and at the last time that each line of source is run: all of them take minutes."""
    first: dict[tuple[str, int], Kill] = {}
    last: dict[tuple[str, int], Kill] = {}
    for at in begun:
        for number, (file, line) in enumerate(at.lines, start=1):
            kill = Kill(root=at.root, number=number, line=f"{Path(file).name}:{line}")
            first.setdefault((file, line), kill)
            last[file, line] = kill
    return list(dict.fromkeys([*first.values(), *last.values()]))


def _in_children(kills: list[Kill], *, folder: Path) -> dict[str, str]:
    """What went wrong after which kill. The children share the work; each forks the workers it kills."""
    children = [os.fork() or _each_in_child(kills[part::PARALLEL], folder) for part in range(PARALLEL)]
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    return {file.stem: file.read_text() for file in folder.glob("*.failed")}


def _each_in_child(kills: list[Kill], folder: Path) -> int:
    gc.disable()  # nothing here lives long enough, and sweeping would unshare the parent's memory
    sound: set[str] = set()
    for kill in kills:
        root = copy_world(kill.root, folder / f"{kill.root.name}-{kill.number}")
        victim = os.fork() or _killed_in_child(root, kill.number)
        status = os.waitstatus_to_exitcode(os.waitpid(victim, 0)[1])
        try:
            assert status == -signal.SIGKILL, f"the worker ended by itself with {status}"
            found = _state(root)
            if found not in sound:  # what follows depends on nothing but what is on the disk
                with open_world(root) as world:
                    _work_on(world)
                    _check(world)
                sound.add(found)
        except Exception:  # noqa: BLE001 - a forked child must end here, whatever it was
            (folder / f"{root.name} at {kill.line}.failed").write_text(traceback.format_exc())
        shutil.rmtree(root)
    os._exit(0)


def _state(root: Path) -> str:
    """Digest of all that a worker can find: names and content of files, rows of the database."""
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        digest.update(f"\n{path.relative_to(root)}\n".encode())
        if path.is_file() and not path.name.startswith(DATABASE):
            digest.update(path.read_bytes())
    with closing(sqlite3.connect(f"file:{root}/home/{DATABASE}?mode=ro", uri=True)) as database:
        digest.update("\n".join(database.iterdump()).encode())
    return digest.hexdigest()


def _killed_in_child(root: Path, number: int) -> int:
    left = iter(range(number - 1, -1, -1))

    def kill(_frame: FrameType) -> None:
        if next(left) == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    try:
        _work(root, tracer=_tracer(kill))
    finally:
        os._exit(1)


def _work(root: Path, *, tracer: Any = None, moves: int = 99) -> None:  # Any: a trace function returns itself
    """The worker's own loop until the run was moved that often, or is at its end."""
    with open_world(root) as world:
        _work_on(world, tracer=tracer, moves=moves)


def _work_on(world: World, *, tracer: Any = None, moves: int = 99) -> None:  # Any: as above
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


def _tracer(on_line: Any) -> Any:  # Any: as above
    def in_watched(frame: FrameType, kind: str, _argument: object) -> Any:
        if kind == "line":
            on_line(frame)
        return in_watched

    def on_call(frame: FrameType, _kind: str, _argument: object) -> Any:
        return in_watched if frame.f_code.co_filename in WATCHED else None

    return on_call


def _place(frame: FrameType) -> tuple[str, int]:
    return (frame.f_code.co_filename, frame.f_lineno)
