"""Finds the loss curve among the files that a champion left, in whatever form its libraries wrote it.

What is covered: links, devices, crowds of files, files without end; each kind of file by a strict reader.
What is not covered: a champion without a curve, which is none the worse for it.
"""

import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from runner.losses import (
    MAX_UNREADABLE,
    CurveError,
    Losses,
    Points,
    Source,
    StepKind,
    in_order,
    parse_json,
)
from runner.tensorboard import read_events
from runner.wandb_run import read_run

MAX_FILES: Final = 20_000
MAX_DEPTH: Final = 8
MAX_CANDIDATES: Final = 24  # per kind: a search over learning rates leaves many
MAX_BYTES: Final = 16 << 20
MAX_TOTAL_BYTES: Final = 48 << 20  # TensorBoard's checksums take a second for some MiB
MAX_LOSS_TXT_BYTES: Final = 4096

# Source: champions' customized_trainer.py writes "{step},{eval_loss}" or "{step},no_eval".
_LOSS_LINE: Final = re.compile(
    r"\s*(\d{1,15}),\s*(no_eval|-?\d{1,15}(?:\.\d{1,30})?(?:e[+-]?\d{1,3})?|nan|inf)\s*"
)


def find_losses(folder: Path) -> Losses | None:
    """The curve below `folder`: of the most telling kind there is, the file with the most points.

    None if nothing holds a point. Files that cannot be read are named in the curve, or else passed over.
    """
    candidates: dict[Source, list[str]] = {}
    for path in _files(folder):
        kind = _kind(path.rpartition("/")[2])
        if kind is not None and len(candidates.setdefault(kind, [])) < MAX_CANDIDATES:
            candidates[kind].append(path)
    unreadable: list[str] = []
    left_bytes = MAX_TOTAL_BYTES
    for kind in Source:
        best: tuple[str, Points] | None = None
        for path in sorted(candidates.get(kind, [])):
            try:
                data = _read(folder / path, max_bytes=min(MAX_BYTES, left_bytes))
                left_bytes -= len(data)
                points = _READERS[kind](data)
            except CurveError as error:
                unreadable.append(f"{path}: {error}")
                continue
            if points.found and (best is None or len(points.found) > len(best[1].found)):
                best = path, points
        if best is not None:
            return Losses(
                source=kind,
                steps=StepKind.STEPS,
                file=best[0],
                points=in_order(best[1].found),
                not_finite=best[1].not_finite,
                unreadable=tuple(unreadable[:MAX_UNREADABLE]),
            )
    return None


def read_trainer_state(data: bytes) -> Points:
    """The losses in transformers' trainer_state.json. Raises CurveError."""
    state = parse_json(data, what="trainer state")
    history = state.get("log_history") if isinstance(state, dict) else None
    if not isinstance(history, list):
        raise CurveError("trainer state has no log_history")
    points = Points()
    for entry in history:
        if not isinstance(entry, dict) or not isinstance(entry.get("step"), int):
            raise CurveError("an entry of log_history has no step")
        for name, value in entry.items():
            points.add(name, value, step=entry["step"])
    return points


def read_loss_txt(data: bytes) -> Points:
    """What loss.txt says of the model that was kept. Raises CurveError."""
    if len(data) > MAX_LOSS_TXT_BYTES:
        raise CurveError(f"loss.txt has {len(data)} bytes: wanted at most {MAX_LOSS_TXT_BYTES}")
    points = Points()
    for line in data.decode("utf-8", errors="replace").splitlines():
        match = _LOSS_LINE.fullmatch(line)
        if match is None:
            raise CurveError('loss.txt has a line that is not "step,loss" or "step,no_eval"')
        if match[2] != "no_eval":
            points.add("eval_loss", float(match[2]), step=int(match[1]))
    return points


def _nothing(_: bytes) -> Points:
    return Points()


_READERS: Final[dict[Source, Callable[[bytes], Points]]] = {
    Source.TRAINER_STATE: read_trainer_state,
    Source.WANDB: read_run,
    Source.TENSORBOARD: read_events,
    Source.LOSS_TXT: read_loss_txt,
    Source.PRINTED: _nothing,  # no file: it was read while it was printed
}


def _kind(name: str) -> Source | None:
    if name == "trainer_state.json":
        return Source.TRAINER_STATE
    if name.endswith(".wandb"):
        return Source.WANDB
    if name.startswith("events.out.tfevents."):
        return Source.TENSORBOARD
    return Source.LOSS_TXT if name == "loss.txt" else None


def _files(folder: Path) -> Iterator[str]:
    """Names of the first regular files, relative to `folder`."""
    seen = 0
    for place, folders, names in os.walk(folder, followlinks=False):
        folders.sort()
        relative = os.path.relpath(place, folder)
        if relative.count("/") >= MAX_DEPTH:
            folders.clear()
        for name in sorted(names):
            seen += 1
            if seen > MAX_FILES:
                return
            yield name if relative == "." else f"{relative}/{name}"


def _read(path: Path, *, max_bytes: int) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise CurveError(f"it cannot be read: {error.strerror}") from error
    with os.fdopen(descriptor, "rb") as file:
        facts: Any = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise CurveError("it is not a regular file")
        if facts.st_size > max_bytes:
            raise CurveError(f"it has {facts.st_size} bytes: wanted at most {max_bytes}")
        return file.read(max_bytes)
