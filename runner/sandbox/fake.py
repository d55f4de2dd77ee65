"""A sandbox without walls or processes, for tests of what stands around one: a guest is a function.

What is covered: the port's order of events, the log with its cap, a real harvest.
What is not covered: isolation of any kind. The isolation claim says `fake`.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from runner.errors import SandboxUnavailableError
from runner.harvest import HarvestLimits, collect, encode_harvest
from runner.sandbox.port import Isolation
from runner.spec import Exit, ExitReason, SandboxSpec

MOMENT = "2026-11-21T02:00:00Z"
ISOLATION: Isolation = {"driver": "fake", "unenforced": [], "violations": []}

# Writes into the output folder and returns what it prints and its exit code; None for one that never ends.
FakeGuest = Callable[[SandboxSpec, Path], tuple[bytes, int | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeSandbox:
    """Runs `guest` as a plain call. `isolation` is "measured"; a reason in `unavailable` refuses everything."""

    guest: FakeGuest
    isolation: Isolation = field(default_factory=lambda: ISOLATION)
    unavailable: str | None = None

    @property
    def name(self) -> str:
        """See the port."""
        return "fake"

    def check(self) -> None:
        """See the port."""
        if self.unavailable is not None:
            raise SandboxUnavailableError(self.unavailable)

    def run(
        self,
        spec: SandboxSpec,
        *,
        job_dir: Path,
        on_measured: Callable[[Isolation], None],
        should_cancel: Callable[[], bool],
    ) -> Exit:
        """See the port."""
        self.check()
        on_measured(self.isolation)
        if self.isolation["violations"]:
            message = f"the guest was not started: {'; '.join(self.isolation['violations'])}"
            return _exit(ExitReason.REFUSED, code=None, message=message, log=b"", rejected={})
        output = job_dir / "output"
        for folder in (".", *spec.output_folders):
            (output / folder).mkdir(parents=True, exist_ok=True)
        log, code = self.guest(spec, output)
        (job_dir / "stdout.log").write_bytes(log[: spec.limits.log_bytes])
        reason = ExitReason.EXITED
        if code is None:
            reason = ExitReason.CANCELLED if should_cancel() else ExitReason.TIMEOUT
        rejected = _harvest(spec, job_dir, output)
        return _exit(reason, code=code, message=f"the fake guest: {reason}", log=log, rejected=rejected)


def _harvest(spec: SandboxSpec, job_dir: Path, output: Path) -> dict[str, str]:
    partial = job_dir / "harvest.partial"
    partial.mkdir()
    source, target = (os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (output, partial))
    limits = HarvestLimits(total_bytes=spec.limits.output_bytes)
    harvest = collect(source, target, limits=limits, declared=spec.declared_outputs)
    (job_dir / "harvest.json").write_bytes(encode_harvest(harvest))
    os.close(source)
    os.close(target)
    partial.rename(job_dir / "harvest")
    return harvest.rejected


def _exit(
    reason: ExitReason, *, code: int | None, message: str, log: bytes, rejected: dict[str, str]
) -> Exit:
    return Exit(
        reason=reason,
        code=code,
        message=message,
        measured_at=MOMENT,
        released_at=None if reason is ExitReason.REFUSED else MOMENT,
        ended_at=MOMENT,
        usage={},
        survivors=0,
        log_bytes_total=len(log),
        rejected=rejected,
    )
