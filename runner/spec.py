"""What a sandbox is asked to run: plain values that travel to the node agent as one JSON file."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any, TypeVar

from runner.errors import SpecError

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A host file or folder shown read-only at `target`. There are no writable mounts but the output."""

    source: str
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """The Python environment that a guest sees: interpreter prefix at /opt/python, packages at /opt/venv."""

    python_prefix: str
    site_packages: str
    python_version: str  # "3.11"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the guest may use. Units are in the names; every limit is enforced or reported as missing."""

    wall_clock_s: float
    grace_s: float = 3.0
    memory_bytes: int = 8 << 30
    pids: int = 4096
    cpu_millis: int = 2000  # thousandths of a CPU
    output_bytes: int = 4 << 30
    output_inodes: int = 20_000
    tmp_bytes: int = 2 << 30
    shm_bytes: int = 1 << 30
    log_bytes: int = 16 << 20
    open_files: int = 4096
    file_bytes: int = 64 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSpec:
    """One guest: what to start, what it sees, what it may use. The network is always none."""

    job_id: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str
    mounts: tuple[Mount, ...]
    output_target: str
    limits: Limits
    runtime: Runtime
    # Files the caller will ask for by name; harvested first, so that junk cannot crowd them out.
    declared_outputs: tuple[str, ...] = ()
    # Folders made inside the output before the guest starts, relative to it.
    output_folders: tuple[str, ...] = ()


class ExitReason(StrEnum):
    """Why a guest is no longer running. Only `exited` with code 0 is a guest's own success."""

    EXITED = "exited"
    TIMEOUT = "timeout"  # a normal end for a champion: the budget is used up
    OUT_OF_MEMORY = "out-of-memory"
    CANCELLED = "cancelled"
    REFUSED = "refused"  # the measured walls were weaker than asked; the guest never ran
    UNAVAILABLE = "unavailable"  # the sandbox could not be made
    LOST = "lost"  # the agent died; nothing is known about the guest but that it is dead


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How a guest ended, as seen from outside. Times are UTC, RFC 3339 with a Z."""

    reason: ExitReason
    code: int | None
    message: str  # one sentence for a person
    measured_at: str | None
    released_at: str | None
    ended_at: str
    # Peak memory, CPU seconds in milliseconds, …: whatever this host could tell, as integers.
    usage: Mapping[str, int]
    survivors: int  # processes of the guest still alive when the harvest began; always 0 unless lost
    log_bytes_total: int
    # Outputs that were not taken, and why: path → reason.
    rejected: Mapping[str, str]


def encode_spec(spec: SandboxSpec) -> bytes:
    """`spec` as JSON; `parse_spec` gives the same value back."""
    return json.dumps(asdict(spec), indent=1, sort_keys=True).encode()


def parse_spec(data: bytes) -> SandboxSpec:
    """The spec that `encode_spec` wrote. Raises SpecError on anything else."""
    try:
        raw = json.loads(data)
        return SandboxSpec(
            **{
                **raw,
                "argv": tuple(raw["argv"]),
                "mounts": tuple(_exact(Mount, m) for m in raw["mounts"]),
                "limits": _exact(Limits, raw["limits"]),
                "runtime": _exact(Runtime, raw["runtime"]),
                "declared_outputs": tuple(raw["declared_outputs"]),
                "output_folders": tuple(raw["output_folders"]),
            }
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise SpecError(f"sandbox spec is malformed: {error}") from error


def encode_exit(ended: Exit) -> bytes:
    """`ended` as JSON; `parse_exit` gives the same value back."""
    return json.dumps(asdict(ended), indent=1, sort_keys=True).encode()


def parse_exit(data: bytes) -> Exit:
    """The exit that `encode_exit` wrote. Raises SpecError on anything else."""
    try:
        raw = json.loads(data)
        return Exit(**{**raw, "reason": ExitReason(raw["reason"])})
    except (ValueError, TypeError, KeyError) as error:
        raise SpecError(f"exit facts are malformed: {error}") from error


def _exact(kind: type[T], raw: Mapping[str, Any]) -> T:
    names = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    if set(raw) - names:
        raise SpecError(f"unknown fields in {kind.__name__}: {sorted(set(raw) - names)}")
    return kind(**raw)
