"""What endpoints get: the services of this process and the token that calls."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import Engine

from appliance.errors import ForbiddenError, UnauthorizedError
from appliance.home import Home
from appliance.ports import Clock
from appliance.store import tokens
from appliance.store.engine import reading
from appliance.tokens import Token
from appliance.waiting import Capacity

_bearer = HTTPBearer(
    auto_error=False, scheme_name="token", description="An API token, made with `assay tokens create`."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything that endpoints touch outside themselves."""

    engine: Engine
    home: Home
    capacity: Capacity
    clock: Clock
    new_run_id: Callable[[], str]


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


ServicesDep = Annotated[Services, Depends(get_services)]
SubmitterDep = Annotated[Token, Depends(get_submitter)]
