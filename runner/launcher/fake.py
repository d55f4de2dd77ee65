"""A launcher that starts nothing, for tests of the pipeline: a job is a function that fills its folder.

What is covered: the port's contract, also for a second launcher on the same folder after a crash.
What is not covered: processes, isolation, time.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from runner.errors import SpecError
from runner.harvest import Harvest, HarvestedFile, encode_harvest
from runner.launcher.port import JobFacts, JobPhase
from runner.spec import Exit, ExitReason, SandboxSpec, encode_exit, encode_spec, parse_exit, parse_spec

MOMENT = "2026-11-21T02:00:00Z"
ISOLATION: Mapping[str, Any] = {"driver": "fake", "unenforced": [], "violations": []}
SUCCESS = Exit(
    reason=ExitReason.EXITED,
    code=0,
    message="the fake guest ended by itself with code 0",
    measured_at=MOMENT,
    released_at=MOMENT,
    ended_at=MOMENT,
    usage={},
    survivors=0,
    log_bytes_total=0,
    rejected={},
)

# Fills the job's `harvest` folder and `stdout.log`, and says how it ended; `SUCCESS` is at hand.
FakeJob = Callable[[SandboxSpec, Path], Exit]


@dataclass(slots=True)
class FakeLauncher:
    """Runs each job at its first poll, unless told to keep all in the phase `preparing` or `running`."""

    root: Path
    job: FakeJob
    prepares: bool = False
    holds: bool = False
    isolation: Mapping[str, Any] = field(default_factory=lambda: ISOLATION)

    def submit(self, spec: SandboxSpec) -> None:
        """See the port."""
        job_dir = self.job_dir(spec.job_id)
        if not job_dir.exists():
            (job_dir / "harvest").mkdir(parents=True)
            (job_dir / "stdout.log").touch()
            (job_dir / "isolation.json").write_text(json.dumps(self.isolation))
            (job_dir / "job.json").write_bytes(encode_spec(spec))

    def poll(self, job_id: str) -> JobFacts | None:
        """See the port."""
        job_dir = self.job_dir(job_id)
        if not job_dir.exists():
            return None
        ended = job_dir / "exit.json"
        if not ended.exists():
            if (job_dir / "cancel").exists():
                cancelled = replace(SUCCESS, reason=ExitReason.CANCELLED, code=None, message="cancelled")
                _end(job_dir, cancelled)
            elif self.prepares:
                return JobFacts(phase=JobPhase.PREPARING)
            elif self.holds:
                return JobFacts(phase=JobPhase.RUNNING)
            else:
                spec = parse_spec((job_dir / "job.json").read_bytes())
                job_end = self.job(spec, job_dir)
                _list_harvest(job_dir)
                _end(job_dir, job_end)
        return JobFacts(phase=JobPhase.ENDED, exit=parse_exit(ended.read_bytes()))

    def cancel(self, job_id: str) -> None:
        """See the port."""
        if (job_dir := self.job_dir(job_id)).exists():
            (job_dir / "cancel").touch()

    def reconcile(self) -> tuple[str, ...]:
        """See the port: a fake loses nothing."""
        return ()

    def forget(self, job_id: str) -> None:
        """See the port."""
        if (self.job_dir(job_id) / "exit.json").exists():
            shutil.rmtree(self.job_dir(job_id) / "harvest", ignore_errors=True)

    def job_dir(self, job_id: str) -> Path:
        """See the port."""
        if "/" in job_id or not job_id.strip("."):
            raise SpecError(f"job id {job_id!r} is not a plain name")
        return self.root / job_id


def _list_harvest(job_dir: Path) -> None:
    """What the real driver writes beside a harvest."""
    folder = job_dir / "harvest"
    if not folder.is_dir():
        return
    files = tuple(
        HarvestedFile(
            path=str(path.relative_to(folder)),
            size_bytes=path.stat().st_size,
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    )
    (job_dir / "harvest.json").write_bytes(encode_harvest(Harvest(files=files, rejected={})))


def _end(job_dir: Path, ended: Exit) -> None:
    """The end is written last and at once: a job with an end has everything else."""
    beside = job_dir / "exit.json.new"
    beside.write_bytes(encode_exit(ended))
    beside.rename(job_dir / "exit.json")
