"""What a champion's `loss.txt` and log say of its training, beside what its tensors say.

What is covered: `loss.txt` as the text champions of 2026 write it; lines of the log that tell of a failed training, of
the noise that champions add to a base model after one, and of memory that ran out.
What is not covered: truth. A champion writes both itself and may write nothing, so a trace never makes a model good or
bad; a doubt keeps it from being called verified.

Source: the Gradients champion contract, sections 10.2 and 11. Gradients.io (https://gradients.io).
"""

import math
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from reprlib import repr as short

LOSS_FILE = "loss.txt"
MAX_LOSS_BYTES = 1024
MAX_LOG_BYTES = 256 << 20
MAX_LINE_BYTES = 64 << 10  # longer ones are looked at in pieces
MAX_QUOTE = 120  # characters

# A step, and the loss on the evaluation rows or that there was none.
_LOSS = re.compile(r"(\d{1,12}),(no_eval|nan|-?inf|-?\d{1,30}(?:\.\d{1,30})?(?:[eE][+-]?\d{1,3})?)")


class TraceName(StrEnum):
    """What was looked for."""

    LOSS_FILE = "loss-file"
    LOG = "log-readable"
    TRAINING_FAILED = "log-training-failed"
    NOISE = "log-noise-added"
    OUT_OF_MEMORY = "log-out-of-memory"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One thing seen, or missed where it was wanted; `is_doubt` if it speaks against a training."""

    name: TraceName
    is_doubt: bool
    detail: str  # a sentence for a person; may quote the champion


# Champions try again with less after running out of memory, so that alone is no doubt.
_MARKERS = (
    (TraceName.TRAINING_FAILED, True, re.compile(rb"Training failed for task")),
    (TraceName.NOISE, True, re.compile(rb"add_random_noise")),
    (
        TraceName.OUT_OF_MEMORY,
        False,
        re.compile(rb"out of memory|OutOfMemoryError|can(?:'|no)t allocate memory", re.IGNORECASE),
    ),
)


def loss_trace(output: Path, *, is_wanted: bool) -> Trace | None:
    """What `loss.txt` in the model folder says; None if it is neither there nor wanted. Raises OSError."""
    file = output / LOSS_FILE
    if not file.is_file():
        return _loss(f"no {LOSS_FILE}, which this champion writes", is_doubt=True) if is_wanted else None
    with file.open("rb") as opened:
        data = opened.read(MAX_LOSS_BYTES + 1)
    if len(data) > MAX_LOSS_BYTES:
        return _loss(f"{LOSS_FILE} has more than {MAX_LOSS_BYTES} bytes", is_doubt=True)
    return _told_loss(data)


def log_traces(log: Path) -> tuple[Trace, ...]:
    """Which markers the champion's log holds, how often, and the first line of each. Never raises."""
    first: dict[TraceName, bytes] = {}
    counts: dict[TraceName, int] = {}
    left = MAX_LOG_BYTES
    try:
        with log.open("rb") as opened:
            while left > 0 and (line := opened.readline(MAX_LINE_BYTES)):
                left -= len(line)
                for name, _, marker in _MARKERS:
                    if found := marker.search(line):
                        counts[name] = counts.get(name, 0) + 1
                        first.setdefault(name, line[max(0, found.start() - MAX_QUOTE // 2) :])
    except OSError as error:
        return (_log(f"the log cannot be read: {error.strerror}", is_doubt=True),)
    seen = tuple(
        Trace(
            name=name,
            is_doubt=is_doubt,
            detail=f"in {_lines(counts[name])} of the log, first {_quote(first[name])}",
        )
        for name, is_doubt, _ in _MARKERS
        if name in counts
    )
    if left <= 0:
        seen += (_log(f"only the first {MAX_LOG_BYTES} bytes of the log were looked at", is_doubt=True),)
    return seen or (_log("the log tells of no failure", is_doubt=False),)


def _told_loss(data: bytes) -> Trace:
    found = _LOSS.fullmatch(data.decode("ascii", errors="replace").strip())
    if found is None:
        wanted = "wanted a step, a comma and a loss or no_eval"
        return _loss(f"{LOSS_FILE} holds {short(data)}; {wanted}", is_doubt=True)
    step, loss = int(found[1]), found[2]
    if step == 0:
        return _loss(f"{LOSS_FILE} tells of step 0, before any training", is_doubt=True)
    if loss == "no_eval":
        return _loss(f"{LOSS_FILE} tells of step {step}, not evaluated by the champion", is_doubt=False)
    is_number = math.isfinite(float(loss))
    return _loss(f"{LOSS_FILE} tells of step {step} with a loss of {loss}", is_doubt=not is_number)


def _loss(detail: str, *, is_doubt: bool) -> Trace:
    return Trace(name=TraceName.LOSS_FILE, is_doubt=is_doubt, detail=detail)


def _log(detail: str, *, is_doubt: bool) -> Trace:
    return Trace(name=TraceName.LOG, is_doubt=is_doubt, detail=detail)


def _lines(count: int) -> str:
    return f"{count} line" if count == 1 else f"{count} lines"


def _quote(line: bytes) -> str:
    return ascii(line.strip()[:MAX_QUOTE].decode(errors="replace"))
