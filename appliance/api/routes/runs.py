"""Runs: submit, look, cancel, and fetch what is proved."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Response, status
from fastapi.responses import StreamingResponse
from sqlalchemy import Connection

from appliance.api.bodies import EventPage, OrderBody, RunPage, RunView, event_view, run_view
from appliance.api.deps import Services, ServicesDep, SubmitterDep, get_caller
from appliance.api.downloads import list_archive
from appliance.api.routes import watching
from appliance.api.routes.watching import handled_run, not_theirs
from appliance.artifacts import FolderStore
from appliance.domain import Order, Run, RunState
from appliance.errors import NotFoundError, NotReadyError
from appliance.isolation_policy import Defaults, load_isolation_policy
from appliance.nodes import waits_for
from appliance.orders import check_order, resolve_champion, with_walls
from appliance.settings import Settings
from appliance.store import champions, reservations, runs
from appliance.store.decisions import revoked_among
from appliance.store.engine import reading
from appliance.tokens import Token
from audit.store import events_of

router = APIRouter(prefix="/v1/runs", tags=["runs"])

CallerDep = Annotated[Token, Depends(get_caller)]
Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=r"^[!-~]{1,200}$",
        description="Recommended. The same key with the same order gives the same run.",
    ),
]


@router.post("", status_code=status.HTTP_201_CREATED)
def submit_run(
    body: OrderBody,
    services: ServicesDep,
    caller: SubmitterDep,
    response: Response,
    idempotency_key: Key = None,
) -> RunView:
    """Submit an order. 201 for a new run, 200 for one that this key made before.

    Without a champion it is for the default of its task type, without a driver for the setting's. A repeated order is
    for the champion of that time, and a conflict if the default has changed since.
    """
    run_id = services.new_run_id()
    with reading(services.engine) as conn:
        champion = resolve_champion(conn, body.champion, task_type=body.task_type)
    order = body.to_order(champion=champion)
    with services.engine.begin() as conn:
        run = runs.submitted_before(conn, order, actor=caller.name, idempotency_key=idempotency_key)
        if run is None:  # an order taken before stays taken, whatever became of its champion or of the rules
            check_order(conn, order, submitter=caller.name, trust=services.home.trust())
            run = runs.submit(
                conn,
                _with_walls(conn, order, services),
                run_id=run_id,
                actor=caller.name,
                idempotency_key=idempotency_key,
                now=services.clock.now(),
            )
        view = _views(conn, (run,), services)[0]
    if run.id != run_id:
        response.status_code = status.HTTP_200_OK
    response.headers["Location"] = f"/v1/runs/{run.id}"
    return view


@router.get("")
def list_runs(
    services: ServicesDep, limit: Annotated[int, Query(ge=1, le=200)] = 50, after: str | None = None
) -> RunPage:
    """Runs, newest first; give `next` as `after` to go on."""
    with reading(services.engine) as conn:
        found = runs.list_runs(conn, limit=limit + 1, after=after)
        page = found[:limit]
        return RunPage(runs=_views(conn, page, services), next=page[-1].id if len(found) > limit else None)


@router.get("/{run_id}")
def get_run(run_id: str, services: ServicesDep) -> RunView:
    """One run: where it is, why it waits, what came of it."""
    with reading(services.engine) as conn:
        return _views(conn, (runs.get(conn, run_id),), services)[0]


@router.post("/{run_id}/cancel")
def cancel_run(run_id: str, services: ServicesDep, caller: SubmitterDep) -> RunView:
    """Cancel at once if nothing was started, else as soon as its job has ended. Asking twice is no error.

    For the run's submitter and admins.
    """
    handled_run(run_id, services, caller)
    with services.engine.begin() as conn:
        run = runs.request_cancel(conn, run_id, actor=caller.name, now=services.clock.now())
        return _views(conn, (run,), services)[0]


@router.get("/{run_id}/events")
def get_events(run_id: str, services: ServicesDep) -> EventPage:
    """What the audit log holds about the run."""
    with reading(services.engine) as conn:
        runs.get(conn, run_id)
        return EventPage(events=tuple(event_view(logged) for logged in events_of(conn, run_id)))


router.include_router(watching.router)  # where a reader of the description looks for it


_TAR: dict[int | str, dict[str, Any]] = {200: {"content": {"application/x-tar": {}}}}


@router.get("/{run_id}/evidence", response_class=StreamingResponse, responses=_TAR)
def get_evidence(run_id: str, services: ServicesDep, caller: CallerDep) -> StreamingResponse:
    """The evidence folder as a tar archive, once the run is logged; check it with `assay-verify evidence`.

    For the run's submitter, admins, approvers and auditors.
    """
    run = _run(run_id, services)
    if not caller.may_review(run.submitted_by):
        raise not_theirs(run, caller, wanted=f"{run.submitted_by}, an admin, approver or auditor")
    return _archive(run, services, part="evidence", root=run_id, below=".")


@router.get("/{run_id}/model", response_class=StreamingResponse, responses=_TAR)
def get_model(run_id: str, services: ServicesDep, caller: CallerDep) -> StreamingResponse:
    """The trained model as a tar archive, once the run is logged. For the run's submitter and admins."""
    run = handled_run(run_id, services, caller)
    return _archive(run, services, part="model", root=f"{run_id}-model", below="model")


def _with_walls(conn: Connection, order: Order, services: Services) -> Order:
    settings = Settings() if services.appliance is None else services.appliance.settings
    return with_walls(
        conn,
        order,
        policy=load_isolation_policy(settings.policies_dir),
        defaults=Defaults(driver=settings.driver, evaluation_driver=settings.evaluation_driver),
    )


def _run(run_id: str, services: Services) -> Run:
    with reading(services.engine) as conn:
        return runs.get(conn, run_id)


def _archive(run: Run, services: Services, *, part: str, root: str, below: str) -> StreamingResponse:
    if run.state is not RunState.LOGGED:
        hope = "it will never have one" if run.state.is_final else "ask again when it is logged"
        raise NotReadyError(
            f"run {run.id} is {run.state}: no {part} is handed out before it is proved; {hope}",
            checked="run state",
            found=run.state,
            wanted=RunState.LOGGED,
        )
    archive = list_archive(
        services.home.evidence_dir / run.id / below,
        name=root,
        mtime=int(run.updated_at.timestamp()),
    )
    headers = {
        "Content-Length": str(archive.size_bytes),
        "Content-Disposition": f'attachment; filename="{run.id}-{part}.tar"',
    }
    return StreamingResponse(archive.stream(), media_type="application/x-tar", headers=headers)


def _name(conn: Connection, champion: str) -> str | None:
    try:
        return champions.get(conn, champion).name
    except NotFoundError:
        return None  # a run is told whatever became of its champion's row


def _views(conn: Connection, page: tuple[Run, ...], services: Services) -> tuple[RunView, ...]:
    others, held = runs.unfinished(conn), reservations.list_held(conn)
    free_bytes, models = services.home.free_bytes(), FolderStore(services.home.store_dir)
    ordered = {run.order.champion for run in page}
    revoked, names = revoked_among(conn, ordered), {digest: _name(conn, digest) for digest in ordered}
    return tuple(
        run_view(
            run,
            champion_name=names[run.order.champion],
            is_revoked=run.order.champion in revoked,
            waiting=waits_for(
                run,
                tuple(other for other in others if other.id != run.id),
                held,
                capacity=services.capacity,
                free_bytes=free_bytes,
                model_folder=models.path,
            ),
        )
        for run in page
    )
