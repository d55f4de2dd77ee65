"""A training run as one live line: steps, loss as a small plot, time that is left.

Read from what the champion prints, which is a stranger's text: shown only as numbers, never relied on.
"""

import re

_LINE = re.compile(r"step=(\d{1,9}) total=(\d{1,9}) loss=(\d{1,6}\.\d{1,8})\b(?: seconds_left=(\d{1,9}))?")
_BARS = "▁▂▃▄▅▆▇█"
_PLOT_POINTS = 24


class TrainingProgress:
    """Feed it the log's text as it comes; ask it for the line to show."""

    def __init__(self) -> None:
        self._losses: list[float] = []
        self._first: tuple[int, float] | None = None  # step and time of the first report
        self._last: tuple[int, int, float] | None = None  # step, total, time
        self._budget_left_s: int | None = None  # as the champion tells it

    def feed(self, text: str, *, now_s: float) -> None:
        """Take in the next piece of the log, read at `now_s` of a monotonic clock."""
        for found in _LINE.finditer(text):
            step, total, loss = int(found[1]), int(found[2]), float(found[3])
            self._losses.append(loss)
            self._first = self._first or (step, now_s)
            self._last = (step, total, now_s)
            self._budget_left_s = int(found[4]) if found[4] else None

    def line(self) -> str:
        """`68/132 steps  loss 0.0992 ▇▅▃▂▁  about 12 s left`; empty until the champion reports."""
        if self._last is None:
            return ""
        step, total, _ = self._last
        return f"{step}/{total} steps  loss {self._losses[-1]:.4f} {self._plot()}  {self._left()}".rstrip()

    def _plot(self) -> str:
        stride = max(1, -(-len(self._losses) // _PLOT_POINTS))
        points = self._losses[::stride]
        top = max(points) or 1.0
        return "".join(_BARS[min(len(_BARS) - 1, int(p / top * len(_BARS)))] for p in points)

    def _left(self) -> str:
        assert self._first is not None and self._last is not None  # the caller has seen a report
        done, seconds = self._last[0] - self._first[0], self._last[2] - self._first[1]
        if done <= 0 or seconds <= 0:
            return ""
        left_s = (self._last[1] - self._last[0]) * seconds / done
        if self._budget_left_s is not None:
            left_s = min(left_s, self._budget_left_s)  # it stops when its time is up, wherever it is
        return f"about {left_s:.0f} s left"
