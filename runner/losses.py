"""A loss curve: points of a step, a name and a value, and where they were found. It is never required.

What is covered: bounded size, names and values within limits, integers only.
What is not covered: truth. Every number in a curve is what the champion said; the evaluation measures.
"""

import json
import math
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from runner.errors import RunnerError

LOSSES_NAME: Final = "losses.json"
MAX_POINTS: Final = 20_000
MAX_STEP: Final = 1 << 53
MAX_VALUE: Final = 1e12
MICROS: Final = 1_000_000
MAX_FILE_BYTES: Final = 8 << 20
MAX_UNREADABLE: Final = 8

_NAME: Final = re.compile(r"[!-~]{1,64}", re.ASCII)
_WANTED: Final = re.compile(r"(?:^|[/_.-])(?:loss|rewards?|kl)(?:$|[/_.-])", re.ASCII | re.IGNORECASE)
# Source: transformers, integration_utils.rewrite_logs: how its names look in TensorBoard and W&B.
_PREFIXES: Final = (("train/", ""), ("eval/", "eval_"), ("test/", "test_"))


class CurveError(RunnerError):
    """A file that should hold a loss curve cannot be read; the run is judged without one."""


class Source(StrEnum):
    """Where a curve was found, the most telling first."""

    TRAINER_STATE = "trainer_state.json"
    WANDB = "offline W&B run"
    TENSORBOARD = "TensorBoard events"
    LOSS_TXT = "loss.txt"
    PRINTED = "printed lines"


class StepKind(StrEnum):
    """What the steps of a curve count."""

    STEPS = "training steps"
    ORDINALS = "points of the same name"  # the lines name no step


@dataclass(frozen=True, slots=True, kw_only=True)
class LossPoint:
    """A value, in millionths, of what the champion calls `name`."""

    step: int
    name: str
    micros: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """A curve. `file` is the place below the output; `not_finite` counts values that are no numbers.

    `unreadable` says of files that looked like curves why they are none.
    """

    source: Source
    steps: StepKind
    file: str
    points: tuple[LossPoint, ...]
    not_finite: int = 0
    unreadable: tuple[str, ...] = ()


class Points:
    """Collects what programs log under many names; keeps losses and rewards, as integers."""

    def __init__(self) -> None:
        self.found: list[LossPoint] = []
        self.not_finite = 0

    def add(self, name: str, value: object, *, step: int) -> None:
        """Take a value if it is one of a loss."""
        plain = plain_name(name)
        if not is_wanted(plain) or not 0 <= step <= MAX_STEP:
            return
        if isinstance(value, bool) or not isinstance(value, int | float):
            return
        if not -MAX_VALUE <= value <= MAX_VALUE:  # neither is NaN within
            self.not_finite += 1
            return
        self.found.append(LossPoint(step=step, name=plain, micros=round(value * MICROS)))


def plain_name(name: str) -> str:
    """The name as a training script gives it, without what its logger puts before it."""
    for prefix, plain in _PREFIXES:
        if name.startswith(prefix):
            return plain + name.removeprefix(prefix)
    return name


def is_wanted(name: str) -> bool:
    """Whether `name` is one of a loss, a reward or a divergence, and can be shown."""
    return _NAME.fullmatch(name) is not None and _WANTED.search(name) is not None


def thin(points: Sequence[LossPoint], *, max_points: int) -> tuple[LossPoint, ...]:
    """At most about `max_points`: of every name the same share, and always its last."""
    if len(points) <= max_points:
        return tuple(points)
    stride = math.ceil(len(points) / max_points)
    by_name: dict[str, list[LossPoint]] = {}
    for point in points:
        by_name.setdefault(point.name, []).append(point)
    kept = {id(p) for own in by_name.values() for p in (*own[::stride], own[-1])}
    return tuple(point for point in points if id(point) in kept)


def in_order(points: Iterable[LossPoint]) -> tuple[LossPoint, ...]:
    """By step, at most MAX_POINTS."""
    return thin(sorted(points, key=lambda point: (point.step, point.name)), max_points=MAX_POINTS)


def encode_losses(losses: Losses) -> bytes:
    """`losses` as JSON; `parse_losses` gives the same value back."""
    return json.dumps(asdict(losses), separators=(",", ":")).encode()


def parse_losses(data: bytes) -> Losses:
    """The curve that `encode_losses` wrote. Raises CurveError on anything else."""
    try:
        raw = json.loads(data)
        losses = Losses(
            **{
                **raw,
                "source": Source(raw["source"]),
                "steps": StepKind(raw["steps"]),
                "points": tuple(LossPoint(**point) for point in raw["points"]),
                "unreadable": tuple(raw["unreadable"]),
            }
        )
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise CurveError(f"loss curve is malformed: {error}") from error
    if not all(isinstance(n, int) for p in losses.points for n in (p.step, p.micros)):
        raise CurveError("loss curve is malformed: a step or a value is no integer")
    return losses


def write_losses(folder: Path, losses: Losses) -> None:
    """Put the curve into the job's folder, whole or not at all."""
    part, target = folder / f"{LOSSES_NAME}.part", folder / LOSSES_NAME
    with part.open("wb") as file:
        file.write(encode_losses(losses))
        file.flush()
        os.fsync(file.fileno())
    part.replace(target)


def read_losses(folder: Path) -> Losses | None:
    """The curve that was put into the job's folder; None if there is none. Raises CurveError."""
    try:
        descriptor = os.open(folder / LOSSES_NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CurveError(f"{LOSSES_NAME} cannot be read: {error.strerror}") from error
    with os.fdopen(descriptor, "rb") as file:
        return parse_losses(file.read(MAX_FILE_BYTES))


def parse_json(data: bytes, *, what: str) -> Any:  # Any: whatever JSON the guest wrote
    """JSON of a guest, NaN and all. Raises CurveError."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CurveError(f"{what} is no JSON: {str(error)[:200]}") from error
