"""Champions, decided: approvals handed in, adopt, hold, revoke, defaults; under the name of the token that calls.

Approving takes only what an approver signed: nobody's key is used on behalf of a caller. The rule of four eyes
stays in the signatures, whoever calls.
"""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request

from appliance import adoption, defaults
from appliance.api.bodies import DecisionView, DefaultBody, ReasonBody
from appliance.api.deps import ApplianceDep, ApprovalBearerDep, DeciderDep
from appliance.assembly import Appliance
from appliance.dossier import DefaultLine, find_champion, list_defaults, read_line
from appliance.errors import AdmissionError, TooLargeError
from appliance.stopping import Stopped
from appliance.store.champions import ChampionRow
from appliance.store.engine import reading

router = APIRouter(prefix="/v1/champions", tags=["champions"])
MAX_BUNDLE_BYTES: Final = 64 << 10
# The body is not parsed by the framework: the signature is over its very bytes.
_BUNDLE: Final[dict[str, Any]] = {  # Any: a fragment of OpenAPI
    "requestBody": {
        "required": True,
        "description": "A sigstore bundle with an approval, as `assay champions approve --bundle-out` writes it.",
        "content": {"application/json": {"schema": {"type": "object"}}},
    }
}


async def get_bundle(request: Request) -> bytes:
    """The body, byte for byte. Raises TooLargeError."""
    body = await request.body()
    if len(body) > MAX_BUNDLE_BYTES:
        raise TooLargeError(
            f"an approval has at most {MAX_BUNDLE_BYTES} bytes", checked="body", found=str(len(body))
        )
    return body


@router.put("/default")
def set_default(
    body: DefaultBody, appliance: ApplianceDep, caller: DeciderDep
) -> dict[str, tuple[DefaultLine, ...]]:
    """Make an adopted champion what orders get that name none. For admins."""
    with reading(appliance.engine) as conn:
        row = find_champion(conn, body.champion)
    defaults.set_default(
        appliance, channel=body.channel, task_type=body.task_type, champion=row, actor=caller.name
    )
    with reading(appliance.engine) as conn:
        return {"defaults": list_defaults(conn, trust=appliance.home.trust())}


@router.post("/{champion}/approvals", openapi_extra=_BUNDLE)
def add_approval(
    champion: str,
    bundle: Annotated[bytes, Depends(get_bundle)],
    appliance: ApplianceDep,
    _caller: ApprovalBearerDep,
) -> DecisionView:
    """Hand in an approval that was signed elsewhere; the same again is no change. For admins and approvers."""
    row = _named(appliance, champion)
    adoption.approve_signed(appliance, row, bundle)
    return _view(appliance, row)


@router.post("/{champion}/adopt")
def adopt(champion: str, appliance: ApplianceDep, caller: DeciderDep) -> DecisionView:
    """Let the policy decide whether it may run here; signed and logged, whichever it is. For admins."""
    row = _named(appliance, champion)
    decision = adoption.adopt(appliance, row, actor=caller.name)
    if not decision.allowed:
        reasons = [str(reason) for reason in decision.reasons]
        raise AdmissionError(f"{row.name} is refused: {'; '.join(reasons)}", reasons=reasons)
    return _view(appliance, row)


@router.post("/{champion}/hold")
def hold(champion: str, body: ReasonBody, appliance: ApplianceDep, caller: DeciderDep) -> DecisionView:
    """Let no new run start with it until `unhold`; runs that train go on. For admins."""
    row = _named(appliance, champion)
    stopped = adoption.hold(appliance, row, actor=caller.name, reason=body.reason)
    return _view(appliance, row, stopped)


@router.post("/{champion}/unhold")
def unhold(champion: str, body: ReasonBody, appliance: ApplianceDep, caller: DeciderDep) -> DecisionView:
    """End a hold; the last decision before or during it counts again. For admins."""
    row = _named(appliance, champion)
    adoption.release_hold(appliance, row, actor=caller.name, reason=body.reason)
    return _view(appliance, row)


@router.post("/{champion}/revoke")
def revoke(champion: str, body: ReasonBody, appliance: ApplianceDep, caller: DeciderDep) -> DecisionView:
    """Never run that tree again, whatever it is called; ends its runs, flags its models. For admins."""
    row = _named(appliance, champion)
    stopped = adoption.revoke(appliance, row, actor=caller.name, reason=body.reason)
    return _view(appliance, row, stopped)


def _named(appliance: Appliance, champion: str) -> ChampionRow:
    with reading(appliance.engine) as conn:
        return find_champion(conn, champion)


def _view(appliance: Appliance, row: ChampionRow, stopped: Stopped | None = None) -> DecisionView:
    ended = () if stopped is None else (*stopped.failed, *stopped.cancelling)
    with reading(appliance.engine) as conn:
        return DecisionView(champion=read_line(conn, row, trust=appliance.home.trust()), stopped=ended)
