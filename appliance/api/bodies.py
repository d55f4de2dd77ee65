"""What goes over the wire: small strict request bodies, frozen views for answers."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from appliance.domain import Order, Run, RunState
from appliance.dossier import ATTRIBUTION, ChampionLine
from audit.store import LoggedEvent
from tournament_sync.champion import Channel

Sha256 = Annotated[
    str, Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the manifest, lower-case hex")
]

# What happens to a run in each state, for a person.
PHASES: Final[Mapping[RunState, str]] = {
    RunState.SUBMITTED: "waits for its turn",
    RunState.PLACED: "its sandbox is being made and measured",
    RunState.RUNNING: "the champion trains inside its sandbox",
    RunState.HARVESTED: "the model was taken out and is evaluated on the held-out rows",
    RunState.EVALUATED: "its claims are about to be signed",
    RunState.ATTESTED: "its claims are signed and on their way into the audit log",
    RunState.LOGGED: "proved: evidence and model can be downloaded",
    RunState.FAILED: "failed",
    RunState.CANCELLED: "cancelled",
}


class OrderBody(BaseModel):
    """An order: which champion trains which base model on which dataset, for how long.

    Without a champion it is the default of the task type.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    champion: Sha256 | None = None
    base_model: Sha256
    dataset: Sha256
    hours_to_complete: float = Field(
        strict=True, ge=0.001, le=72, description="training time in hours; at least 3.6 seconds"
    )
    task_type: Literal["InstructTextTask"] = "InstructTextTask"
    driver: Annotated[str, Field(min_length=1, max_length=40)] | None = Field(
        default=None,
        description="what puts up the walls: bubblewrap, oci or gvisor; never weaker than the data set's"
        " classification demands, and never another one than this",
    )

    def to_order(self, *, champion: str) -> Order:
        """The same as a value of the domain, for the champion that it means."""
        return Order(**{**self.model_dump(), "champion": champion})


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """A run as clients see it. `waiting` says why it is not being placed; `links` are what there is to fetch.

    `champion_revoked`: whoever uses the model should know that its champion was revoked since.
    """

    id: str
    order: Order
    champion_name: str | None
    champion_revoked: bool
    state: RunState
    phase: str
    waiting: str | None
    submitted_by: str
    submitted_at: datetime
    updated_at: datetime
    cancel_requested_by: str | None
    reason: str | None
    verdict: str | None
    model: str | None
    metrics: dict[str, Any] | None  # Any: the evaluation's plain JSON
    links: dict[str, str]
    attribution: str = ATTRIBUTION


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPage:
    """Some runs, newest first. `next` continues behind them, as `after`; None at the end."""

    runs: tuple[RunView, ...]
    next: str | None
    attribution: str = ATTRIBUTION


class ReasonBody(BaseModel):
    """Why; it becomes part of what is signed and logged."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={"examples": [{"reason": "reads the evaluator's rows"}]},
    )

    reason: Annotated[str, Field(min_length=1, max_length=2000)]


class DefaultBody(BaseModel):
    """What orders of a channel and task type get that name no champion."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={
            "examples": [
                {"channel": "text", "task_type": "InstructTextTask", "champion": "god-text-reference"}
            ]
        },
    )

    channel: Channel
    task_type: Annotated[str, Field(min_length=1, max_length=80)]
    champion: Annotated[str, Field(min_length=1, max_length=100, description="name or manifest digest")]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChampionPage:
    """Some champions, oldest proposal first. `next` continues behind them, as `after`; None at the end."""

    champions: tuple[ChampionLine, ...]
    next: str | None
    attribution: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionView:
    """What became of a champion. `stopped` are runs that will not start or are being ended by the worker."""

    champion: ChampionLine
    stopped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EventView:
    """One event. `index` is its place in the audit log, None while it is on its way there."""

    index: int | None
    event: str
    actor: str
    at: datetime
    detail: dict[str, str | int]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventPage:
    """All events of a run, oldest first."""

    events: tuple[EventView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPage:
    """A piece of what the champion printed. Hostile text: only this JSON form escapes its control bytes."""

    text: str
    next_offset: int
    ended: bool


def run_view(
    run: Run,
    *,
    champion_name: str | None,
    is_revoked: bool,
    waiting: str | None,
) -> RunView:
    """`run` as clients see it; `is_revoked`: its champion."""
    path = f"/v1/runs/{run.id}"
    parts = ["events", "logs", *(("evidence", "model") if run.state is RunState.LOGGED else ())]
    return RunView(
        id=run.id,
        order=run.order,
        champion_name=champion_name,
        champion_revoked=is_revoked,
        state=run.state,
        phase=_phase(run),
        waiting=waiting,
        submitted_by=run.submitted_by,
        submitted_at=run.submitted_at,
        updated_at=run.updated_at,
        cancel_requested_by=run.cancel_requested_by,
        reason=run.reason,
        verdict=run.verdict,
        model=run.model,
        metrics=None if run.metrics is None else json.loads(run.metrics),
        links={"self": path} | {part: f"{path}/{part}" for part in parts},
    )


def event_view(logged: LoggedEvent) -> EventView:
    """`logged` as clients see it."""
    event = logged.event
    return EventView(
        index=logged.index, event=event.kind, actor=event.actor, at=event.at, detail=dict(event.detail)
    )


def _phase(run: Run) -> str:
    if run.cancel_requested_by is not None and run.state.is_cancellable:
        return f"is being cancelled, as {run.cancel_requested_by} asked"
    return PHASES[run.state]
