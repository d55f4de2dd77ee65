"""The port behind which every place to run jobs stands."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from runner.spec import Exit, SandboxSpec


class JobPhase(StrEnum):
    """Where a job is. `ended` is final."""

    PREPARING = "preparing"
    RUNNING = "running"  # the guest was released
    HARVESTING = "harvesting"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFacts:
    """What the launcher knows about a job. `exit` is set exactly when the phase is `ended`."""

    phase: JobPhase
    exit: Exit | None = None


class Launcher(Protocol):
    """Starts jobs by name and tells what became of them.

    The job's name is its identity: submitting a known name starts nothing and returns normally, so a crash
    between "submitted" and "recorded" is repaired by submitting again. Jobs outlive the process that
    submitted them. Not promised: that a lost job is run again (training is not idempotent).
    """

    def submit(self, spec: SandboxSpec) -> None:
        """Start the job `spec.job_id` unless a job of that name exists.

        Raises LauncherError if it cannot be started.
        """

    def poll(self, job_id: str) -> JobFacts | None:
        """The job's facts, or None for a job that was never submitted."""

    def cancel(self, job_id: str) -> None:
        """Ask the job to end; returns at once and is idempotent. An unknown job is no error."""

    def job_dir(self, job_id: str) -> Path:
        """Folder with `stdout.log`, `isolation.json`, and `harvest/` once the job has ended."""

    def reconcile(self) -> tuple[str, ...]:
        """Settle every job whose agent is dead and clean up after submissions that a crash cut short.

        Returns the ids of the jobs that were lost. To be called by the one process that polls, at its start.
        """

    def forget(self, job_id: str) -> None:
        """Remove the harvest of an ended job, which is the bulk of it; its log and its facts stay."""
