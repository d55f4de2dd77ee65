"""What a sandbox is asked to run: plain values that travel to the node agent as one JSON file."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any, TypeVar

from runner.errors import SpecError
from runner.isolation_demand import Demand, read_demand

T = TypeVar("T")


class Access(StrEnum):
    """What a guest may do with what it is shown."""

    READ = "read-only"
    COPY = "copy-on-write"  # it may change what it sees; the host's files stay as they are


class Profile(StrEnum):
    """How much of a root file system a guest has."""

    STRICT = "strict"  # everything but output, /tmp and /dev/shm is read-only; user id 1000
    # What a champion takes for granted: user id 0, which is nobody outside, and a root that it may write
    # all over, on a volume with a quota that is thrown away afterwards.
    CHAMPION = "champion"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A host file or folder shown at `target`. Nothing that a guest does reaches `source`."""

    source: str
    target: str
    access: Access = Access.READ


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """The Python environment that a guest sees: interpreter prefix at /opt/python, packages at /opt/venv."""

    python_prefix: str
    site_packages: str
    python_version: str  # "3.11"


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A container image's files, unpacked on the host and verified by whoever unpacked them."""

    tree: str
    manifest_sha256: str  # hex; what the isolation claim names


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One granted device: its NVML UUID (of a MIG slice: the slice's) and its device nodes on the host."""

    uuid: str
    nodes: tuple[str, ...]


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
    root_bytes: int = 8 << 30  # what a champion writes outside its output
    root_inodes: int = 200_000
    tmp_bytes: int = 2 << 30
    shm_bytes: int = 1 << 30
    log_bytes: int = 16 << 20
    open_files: int = 4096
    file_bytes: int = 64 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSpec:
    """One guest: what to start, what it sees, what it may use. The network is always none.

    Its root is made of exactly one of `runtime` and `image`. `driver` is never exchanged for another one.
    """

    job_id: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str
    mounts: tuple[Mount, ...]
    output_target: str
    limits: Limits
    runtime: Runtime | None = None
    image: Image | None = None
    profile: Profile = Profile.STRICT
    driver: str = "bubblewrap"
    gpus: tuple[Gpu, ...] = ()
    demand: Demand | None = None  # what must have been measured before the inputs are mounted
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
    out_of_memory: str | None = None  # which memory ran out, see runner.out_of_memory
    # Bytes through each network interface of the guest, read after its end: interface → {received, sent}.
    network_bytes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    remnants: tuple[str, ...] = ()  # what could not be cleaned up


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
                "mounts": tuple(_exact(Mount, {**m, "access": Access(m["access"])}) for m in raw["mounts"]),
                "limits": _exact(Limits, raw["limits"]),
                "runtime": None if raw["runtime"] is None else _exact(Runtime, raw["runtime"]),
                "image": None if raw["image"] is None else _exact(Image, raw["image"]),
                "profile": Profile(raw["profile"]),
                "demand": None if raw["demand"] is None else read_demand(raw["demand"]),
                "gpus": tuple(_exact(Gpu, {**g, "nodes": tuple(g["nodes"])}) for g in raw["gpus"]),
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
        return Exit(
            **{**raw, "reason": ExitReason(raw["reason"]), "remnants": tuple(raw.get("remnants", ()))}
        )
    except (ValueError, TypeError, KeyError) as error:
        raise SpecError(f"exit facts are malformed: {error}") from error


def _exact(kind: type[T], raw: Mapping[str, Any]) -> T:
    names = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    if set(raw) - names:
        raise SpecError(f"unknown fields in {kind.__name__}: {sorted(set(raw) - names)}")
    return kind(**raw)
