"""Orders for small guests, and one way to run them behind the real driver."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from runner.log import without_times
from runner.runtime import locate_runtime
from runner.sandbox.bubblewrap import BubblewrapSandbox
from runner.sandbox.port import Isolation
from runner.spec import Exit, Limits, SandboxSpec

MIB = 1 << 20
PYTHON = ("/opt/venv/bin/python", "-I", "-c")
SHELL = ("/bin/sh", "-c")

# Set-up installs it: where it is missing these tests fail and say so, they are not passed over.
needs_bwrap = pytest.mark.sandbox


def limits(**changes: Any) -> Limits:
    """Small limits, with `changes`."""
    small: dict[str, Any] = {
        "wall_clock_s": 20.0,
        "grace_s": 0.3,
        "memory_bytes": 256 * MIB,
        "pids": 64,
        "output_bytes": 16 * MIB,
        "output_inodes": 256,
        "tmp_bytes": 16 * MIB,
        "shm_bytes": 16 * MIB,
        "log_bytes": 64 << 10,
    }
    return Limits(**{**small, **changes})


def order(*argv: str, job_id: str = "job", **changes: Any) -> SandboxSpec:
    """An order for `argv` with small limits, with `changes`."""
    wanted: dict[str, Any] = {
        "job_id": job_id,
        "argv": argv,
        "env": {},
        "cwd": "/tmp",
        "mounts": (),
        "output_target": "/out",
        "limits": limits(),
        "runtime": locate_runtime(),
    }
    return SandboxSpec(**{**wanted, **changes})


@dataclass
class Ran:
    """What one guest left behind."""

    exit: Exit
    job_dir: Path
    isolation: list[Isolation] = field(default_factory=list)

    @property
    def log(self) -> bytes:
        """What it said, without the times at which it was read."""
        return without_times((self.job_dir / "stdout.log").read_bytes())

    @property
    def harvested(self) -> list[str]:
        folder = self.job_dir / "harvest"
        return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def run_behind_bubblewrap(
    spec: SandboxSpec, job_dir: Path, *, should_cancel: Callable[[], bool] = lambda: False
) -> Ran:
    """Run `spec` behind the real driver, in the new folder `job_dir`."""
    job_dir.mkdir(parents=True)
    measured: list[Isolation] = []
    ended = BubblewrapSandbox().run(
        spec, job_dir=job_dir, on_measured=measured.append, should_cancel=should_cancel
    )
    return Ran(exit=ended, job_dir=job_dir, isolation=measured)
