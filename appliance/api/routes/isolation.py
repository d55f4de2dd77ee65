"""What the walls around a run were: as JSON, and as the one page that a compliance officer reads."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends
from fastapi.responses import HTMLResponse

from appliance.api.deps import Services, ServicesDep, get_caller
from appliance.errors import ForbiddenError, NotFoundError
from appliance.isolation_page import HEADERS, isolation_page
from appliance.isolation_report import IsolationReport, isolation_report
from appliance.isolation_source import find_walls
from appliance.store import champions, runs
from appliance.store.engine import reading
from appliance.tokens import Token

router = APIRouter(prefix="/v1/runs", tags=["runs"])
CallerDep = Annotated[Token, Depends(get_caller)]
_REVIEWERS: Final = "an admin, approver or auditor"


@router.get("/{run_id}/isolation")
def get_isolation(run_id: str, services: ServicesDep, caller: CallerDep) -> IsolationReport:
    """Which walls held, as measured before the champion's first instruction; from the signed claims once there are.

    For the run's submitter, admins, approvers and auditors.
    """
    return _report(run_id, services, caller)


@router.get("/{run_id}/isolation.html", response_class=HTMLResponse)
def get_isolation_page(run_id: str, services: ServicesDep, caller: CallerDep) -> HTMLResponse:
    """The same as one page without scripts or links, for the same people."""
    return HTMLResponse(isolation_page(_report(run_id, services, caller)), headers=HEADERS)


def _report(run_id: str, services: Services, caller: Token) -> IsolationReport:
    with reading(services.engine) as conn:
        run = runs.get(conn, run_id)
        if not caller.may_review(run.submitted_by):
            raise ForbiddenError(
                f"run {run.id} is {run.submitted_by}'s: this is for {run.submitted_by}, {_REVIEWERS}",
                checked="submitter",
                found=caller.name,
                wanted=f"{run.submitted_by}, {_REVIEWERS}",
            )
        try:
            champion = champions.get(conn, run.order.champion).name
        except NotFoundError:
            champion = None  # a run is told whatever became of its champion's row
        return isolation_report(run, find_walls(conn, run, home=services.home), champion=champion)
