"""Models to be judged against `tensors.BASE`, and what is asked of the report."""

from pathlib import Path

from runner.verdict import VerdictReport
from tests.runner.tensors import BASE, ramp

EMBED, Q, V = BASE
HEAD = "lm_head.weight"
NOISED = {**BASE, EMBED: ("F32", [6, 4], ramp(24, 1.01))}
TRAINED = {**BASE, Q: ("F32", [4, 4], ramp(16, 1.5))}


def broken(report: VerdictReport) -> tuple[str, str]:
    """The rule that decided, the only one that does not hold, and what it found."""
    assert [r.holds for r in report.rules] == [True] * (len(report.rules) - 1) + [False]
    return report.rules[-1].rule, report.rules[-1].detail


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])
