"""SIGKILL at each line that an action runs in the watched modules: real kills, of forked processes.

An action gets a folder with a world in it (tests.appliance.world) and a trace function that it sets while it runs.
"""

import gc
import hashlib
import os
import re
import shutil
import signal
import sqlite3
import tempfile
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from tests.appliance.world import copy_world

PARALLEL = os.cpu_count() or 1
MEMORY = Path("/dev/shm")
# Parts of names that nobody looks at: of the store, of a feed's client, of python-tuf.
RANDOM = re.compile(r"(?<=/\.taking-)[0-9a-f]{32}|(?<=/fetch-)\w{8}|(?<=/metadata/tmp)\w{8}")
DATABASE = "assay.db"  # and its write-ahead log, whose bytes are never twice the same

Tracer = Any  # a trace function returns itself
Line = tuple[str, int]
Act = Callable[[Path, Tracer], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A world in some state, and the lines that the action then runs."""

    root: Path
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """The kill at the n-th line, from 1, of an action that finds the world `root`."""

    root: Path
    number: int
    line: str


@contextmanager
def folder_for_worlds(otherwise: Path) -> Iterator[Path]:
    """In memory where that can be: SIGKILL loses nothing that was written, flushed or not."""
    if not os.access(MEMORY, os.W_OK):
        yield otherwise
        return
    with tempfile.TemporaryDirectory(dir=MEMORY) as made:
        yield Path(made)


def record(act: Act, root: Path, *, watched: Collection[str]) -> tuple[Line, ...]:
    """The lines of `watched` files that `act` runs on the world `root`, in order."""
    lines: list[Line] = []
    act(root, _tracer(lambda frame: lines.append((frame.f_code.co_filename, frame.f_lineno)), watched))
    return tuple(lines)


def first_and_last(begun: Iterable[Begun]) -> list[Kill]:
    """A kill at the first and at the last time that each line of source is run: all of them take minutes."""
    first: dict[Line, Kill] = {}
    last: dict[Line, Kill] = {}
    for at in begun:
        for number, (file, line) in enumerate(at.lines, start=1):
            kill = Kill(root=at.root, number=number, line=f"{Path(file).name}:{line}")
            first.setdefault((file, line), kill)
            last[file, line] = kill
    return list(dict.fromkeys([*first.values(), *last.values()]))


def in_children(
    kills: list[Kill], *, act: Act, recover: Callable[[Path], None], folder: Path, watched: Collection[str]
) -> dict[str, str]:
    """What went wrong after which kill: `act` is killed on a copy of the world, `recover` raises if that is not sound.

    The children share the work; each forks the processes that it kills.
    """
    children = [
        os.fork() or _each_in_child(kills[part::PARALLEL], act, recover, folder, watched)
        for part in range(PARALLEL)
    ]
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    return {file.stem: file.read_text() for file in folder.glob("*.failed")}


def database_of(root: Path) -> list[str]:
    """All that is committed in the world's database, as statements."""
    with closing(sqlite3.connect(f"file:{root}/home/{DATABASE}?mode=ro", uri=True)) as database:
        return list(database.iterdump())


def files_of(root: Path) -> dict[str, bytes]:
    """Names of all else in the world, half-written or not; with content, or b"" for folders."""
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else b""
        for path in sorted(root.rglob("*"))
        if not path.name.startswith(DATABASE)
    }


def _each_in_child(
    kills: list[Kill], act: Act, recover: Callable[[Path], None], folder: Path, watched: Collection[str]
) -> int:
    gc.disable()  # nothing here lives long enough, and sweeping would unshare the parent's memory
    sound: set[str] = set()
    for kill in kills:
        root = copy_world(kill.root, folder / f"{kill.root.name}-{kill.number}")
        victim = os.fork() or _killed_in_child(act, root, kill.number, watched)
        status = os.waitstatus_to_exitcode(os.waitpid(victim, 0)[1])
        try:
            assert status == -signal.SIGKILL, f"the process ended by itself with {status}"
            found = _state(root)
            if found not in sound:  # what follows depends on nothing but what is on the disk
                recover(root)
                sound.add(found)
        except Exception:  # noqa: BLE001 - a forked child must end here, whatever it was
            (folder / f"{root.name} at {kill.line}.failed").write_text(traceback.format_exc())
        shutil.rmtree(root)
    os._exit(0)


def _killed_in_child(act: Act, root: Path, number: int, watched: Collection[str]) -> int:
    left = iter(range(number - 1, -1, -1))

    def kill(_frame: FrameType) -> None:
        if next(left) == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    try:
        act(root, _tracer(kill, watched))
    finally:
        os._exit(1)


def _state(root: Path) -> str:
    """Digest of all that the next process can find: names and content of files, rows of the database."""
    digest = hashlib.sha256()
    for name, content in files_of(root).items():
        digest.update(f"\n{RANDOM.sub('', name)}\n".encode() + content)
    digest.update("\n".join(database_of(root)).encode())
    return digest.hexdigest()


def _tracer(on_line: Callable[[FrameType], None], watched: Collection[str]) -> Tracer:
    def in_watched(frame: FrameType, kind: str, _argument: object) -> Tracer:
        if kind == "line":
            on_line(frame)
        return in_watched

    def on_call(frame: FrameType, _kind: str, _argument: object) -> Tracer:
        return in_watched if frame.f_code.co_filename in watched else None

    return on_call
