"""What endpoints get: the services of this process and the token that calls."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import Engine

from appliance.assembly import Appliance
from appliance.errors import ForbiddenError, HomeError, UnauthorizedError
from appliance.home import Home
from appliance.ports import Clock
from appliance.store import tokens
from appliance.store.engine import reading
from appliance.tokens import Role, Token
from appliance.waiting import Capacity

_bearer = HTTPBearer(
    auto_error=False, scheme_name="token", description="An API token, made with `assay tokens create`."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything that endpoints touch outside themselves.

    `appliance` is what decisions about champions are signed with; without one they are refused.
    """

    engine: Engine
    home: Home
    capacity: Capacity
    clock: Clock
    new_run_id: Callable[[], str]
    appliance: Appliance | None = None


def get_services(request: Request) -> Services:
    """The services that `create_app` was given."""
    services: Services = request.app.state.services
    return services


def get_caller(
    services: Annotated[Services, Depends(get_services)],
    credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
) -> Token:
    """Whose token this is. Raises UnauthorizedError."""
    if credentials is None:
        raise UnauthorizedError(
            "no token was sent", checked="header Authorization", wanted="Authorization: Bearer assay_…"
        )
    with reading(services.engine) as conn:
        return tokens.authenticate(conn, credentials.credentials)


def get_submitter(caller: Annotated[Token, Depends(get_caller)]) -> Token:
    """The caller, who may submit and cancel. Raises ForbiddenError for everybody else."""
    if not caller.role.may_submit:
        raise ForbiddenError(
            f"role {caller.role} may read, not submit or cancel",
            checked="role",
            found=caller.role,
            wanted="submitter or admin",
        )
    return caller


def get_decider(caller: Annotated[Token, Depends(get_caller)]) -> Token:
    """The caller, who may decide about champions. Raises ForbiddenError for everybody but admins."""
    return _of_role(caller, Role.ADMIN, may="decide about champions")


def get_approval_bearer(caller: Annotated[Token, Depends(get_caller)]) -> Token:
    """The caller, who may hand in an approval; whose it is, its signature says. Raises ForbiddenError."""
    return _of_role(caller, Role.ADMIN, Role.APPROVER, may="hand in approvals")


def get_appliance(services: Annotated[Services, Depends(get_services)]) -> Appliance:
    """What decisions are signed with. Raises HomeError if this server has none."""
    if services.appliance is None:
        raise HomeError("this server was started without the appliance's keys: nothing can be decided here")
    return services.appliance


def _of_role(caller: Token, *roles: Role, may: str) -> Token:
    if caller.role not in roles:
        wanted = " or ".join(roles)
        raise ForbiddenError(
            f"role {caller.role} may not {may}", checked="role", found=caller.role, wanted=wanted
        )
    return caller


ServicesDep = Annotated[Services, Depends(get_services)]
SubmitterDep = Annotated[Token, Depends(get_submitter)]
DeciderDep = Annotated[Token, Depends(get_decider)]
ApprovalBearerDep = Annotated[Token, Depends(get_approval_bearer)]
ApplianceDep = Annotated[Appliance, Depends(get_appliance)]
