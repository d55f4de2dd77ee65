"""Watching a run: its log in pieces or as a stream, and what it uses."""

import json
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Header, Query, Response
from fastapi.responses import StreamingResponse

from appliance.api.bodies import LogPage
from appliance.api.curves import Curves
from appliance.api.deps import Services, ServicesDep, get_caller
from appliance.api.downloads import read_log
from appliance.api.following import MEDIA_TYPE, PRINTING, Followed, Followers, FollowResponse
from appliance.domain import Run
from appliance.errors import ArtifactError, ForbiddenError
from appliance.jobs import job_ids
from appliance.store import runs
from appliance.store.engine import reading
from appliance.tokens import Token
from runner.errors import RunnerError
from runner.losses import thin
from runner.sample import Sample

router = APIRouter(tags=["runs"])  # below /v1/runs, see `routes/runs.py`

MAX_POINTS: Final = 5000
MAX_OFFSET: Final = 1 << 53  # integers that every JSON reader keeps
CallerDep = Annotated[Token, Depends(get_caller)]
Offset = Annotated[int, Query(ge=0, le=MAX_OFFSET)]
_EVENTS: dict[int | str, dict[str, Any]] = {200: {"content": {MEDIA_TYPE: {}}}}  # Any: a fragment of OpenAPI
_FOLLOWERS: Final = Followers()
_CURVES: Final = Curves()


@dataclass(frozen=True, slots=True, kw_only=True)
class LossView:
    """A value, in millionths, at a step."""

    step: int
    name: str
    micros: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LossesView:
    """What the champion says of its losses, and where. Hostile: nothing here was measured."""

    source: str
    file: str
    steps: str
    not_finite: int
    points: tuple[LossView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsPage:
    """Samples of what the run used, oldest first; `next_after_ms` is the next question's `after_ms`."""

    samples: tuple[Sample, ...]
    next_after_ms: int
    ended: bool
    losses: LossesView | None


@router.get("/{run_id}/logs", response_model=LogPage)
def get_logs(run_id: str, services: ServicesDep, caller: CallerDep, offset: Offset = 0) -> Response:
    """What the champion printed, from byte `offset` on; follow by asking again from `next_offset`.

    For the run's submitter and admins: it may hold rows of the dataset.
    """
    run = handled_run(run_id, services, caller)
    piece = read_log(services.home.jobs_dir / job_ids(run).train, offset=offset)
    ended = piece.is_last and run.state not in PRINTING
    # ASCII only: a guest's control characters reach no terminal and no browser unescaped.
    body = json.dumps({"text": piece.text, "next_offset": piece.next_offset, "ended": ended})
    return Response(body, media_type="application/json")


@router.get("/{run_id}/logs/stream", response_class=StreamingResponse, responses=_EVENTS)
def stream_logs(
    run_id: str,
    services: ServicesDep,
    caller: CallerDep,
    offset: Offset = 0,
    last_event_id: Annotated[
        str | None,
        Header(alias="Last-Event-ID", pattern=r"^[0-9]{1,15}$", description="Goes before `offset`."),
    ] = None,
) -> StreamingResponse:
    """The same as server-sent events while it is printed, until an event `end`; resume with `Last-Event-ID`.

    For the run's submitter and admins. A stream that ends without `end` is to be resumed.
    """
    run = handled_run(run_id, services, caller)
    folder = services.home.jobs_dir / job_ids(run).train
    followed = Followed(
        read=lambda place: read_log(folder, offset=place), state=lambda: _run(run_id, services).state
    )
    start = offset if last_event_id is None else int(last_event_id)
    return FollowResponse(followed, offset=start, name=caller.name, followers=_FOLLOWERS)


@router.get("/{run_id}/metrics")
def get_metrics(
    run_id: str,
    services: ServicesDep,
    caller: CallerDep,
    after_ms: Annotated[int, Query(ge=-1, le=MAX_OFFSET)] = -1,
    points: Annotated[int, Query(ge=1, le=MAX_POINTS)] = 600,
) -> MetricsPage:
    """What the run used while it trained, merged to at most `points` samples, and its loss curve if it left one.

    For the run's submitter, admins, approvers and auditors.
    """
    run = _run(run_id, services)
    if not caller.may_review(run.submitted_by):
        raise not_theirs(run, caller, wanted=f"{run.submitted_by}, an admin, approver or auditor")
    folder = services.home.jobs_dir / job_ids(run).train
    try:
        samples = _CURVES.samples(folder, after_ms=after_ms, points=points)
        losses = _CURVES.losses(folder)
    except RunnerError as error:
        raise ArtifactError(str(error)) from error
    last = samples[-1]["elapsed_ms"] if samples else after_ms
    assert isinstance(last, int)  # what is read has one
    return MetricsPage(
        samples=samples,
        next_after_ms=last,
        ended=run.state not in PRINTING,
        losses=None
        if losses is None
        else LossesView(
            source=losses.source,
            file=losses.file,
            steps=losses.steps,
            not_finite=losses.not_finite,
            points=tuple(
                LossView(step=point.step, name=point.name, micros=point.micros)
                for point in thin(losses.points, max_points=points)
            ),
        ),
    )


def handled_run(run_id: str, services: Services, caller: Token) -> Run:
    """The run, which is `caller`'s to handle. Raises NotFoundError, ForbiddenError."""
    run = _run(run_id, services)
    if not caller.may_handle(run.submitted_by):
        raise not_theirs(run, caller, wanted=f"{run.submitted_by} or an admin")
    return run


def not_theirs(run: Run, caller: Token, *, wanted: str) -> ForbiddenError:
    """That `run` is for somebody else."""
    return ForbiddenError(
        f"run {run.id} is {run.submitted_by}'s: this is for {wanted}",
        checked="submitter",
        found=caller.name,
        wanted=wanted,
    )


def _run(run_id: str, services: Services) -> Run:
    with reading(services.engine) as conn:
        return runs.get(conn, run_id)
