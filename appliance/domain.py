"""Runs and the legal moves between their states; pure."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class RunState(StrEnum):
    """Where a run is. A run that is LOGGED is proved; only then can its outputs be downloaded."""

    SUBMITTED = "submitted"
    PLACED = "placed"
    RUNNING = "running"
    HARVESTED = "harvested"
    EVALUATED = "evaluated"
    ATTESTED = "attested"
    LOGGED = "logged"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return not LEGAL_MOVES[self]

    @property
    def is_cancellable(self) -> bool:
        return RunState.CANCELLED in LEGAL_MOVES[self]


# Signed claims cannot be unsigned: ATTESTED has one way only.
LEGAL_MOVES: dict[RunState, frozenset[RunState]] = {
    RunState.SUBMITTED: frozenset({RunState.PLACED, RunState.FAILED, RunState.CANCELLED}),
    RunState.PLACED: frozenset({RunState.RUNNING, RunState.FAILED, RunState.CANCELLED}),
    RunState.RUNNING: frozenset({RunState.HARVESTED, RunState.FAILED, RunState.CANCELLED}),
    RunState.HARVESTED: frozenset({RunState.EVALUATED, RunState.FAILED, RunState.CANCELLED}),
    RunState.EVALUATED: frozenset({RunState.ATTESTED, RunState.FAILED, RunState.CANCELLED}),
    RunState.ATTESTED: frozenset({RunState.LOGGED}),
    RunState.LOGGED: frozenset(),
    RunState.FAILED: frozenset(),
    RunState.CANCELLED: frozenset(),
}


class Classification(StrEnum):
    """How much a data set's owner would lose if somebody else read it; stricter ones come later."""

    PUBLIC = "public"
    INTERNAL = "internal"
    CONFIDENTIAL = "confidential"
    RESTRICTED = "restricted"

    @property
    def rank(self) -> int:
        return list(Classification).index(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenWalls:
    """What must stand around a run's two jobs; decided by policy when it was ordered, and never exchanged."""

    classification: Classification  # of the data set at that time
    driver: str  # of training
    evaluation_driver: str
    demand: str  # what must be measured before any data is shown, as `runner.isolation_demand` writes it
    policy_sha256: str  # of the rules by which that was decided


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a user asks for: who trains what, on what, for how long. Digests are SHA-256, lower-case hex."""

    champion: str  # root digest of the admitted champion's manifest
    base_model: str  # root digest of the imported model's manifest
    dataset: str  # root digest of the prepared dataset's manifest
    hours_to_complete: float
    task_type: str = "InstructTextTask"
    driver: str | None = None  # what the user wants around the champion, if that is said
    walls: ChosenWalls | None = None  # what it gets; None for orders of a home older than this


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run as the database has it. `version` counts the moves and guards against lost updates."""

    id: str
    order: Order
    state: RunState
    version: int
    submitted_by: str
    submitted_at: datetime
    updated_at: datetime
    cancel_requested_by: str | None = None
    reason: str | None = None  # why it failed or was cancelled, for a person
    verdict: str | None = None  # runner.verdict.Verdict, once harvested
    model: str | None = None  # root digest of the trained model's manifest, once harvested
    metrics: str | None = None  # canonical JSON of the evaluation, once evaluated
