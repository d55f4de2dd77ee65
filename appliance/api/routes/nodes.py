"""The machines that runs are placed on: this one, for now."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends

from appliance.api.deps import ServicesDep, get_caller
from appliance.errors import ForbiddenError
from appliance.node_view import NodeView, node_view
from appliance.store import reservations
from appliance.store.engine import reading
from appliance.tokens import Role, Token

router = APIRouter(prefix="/v1", tags=["nodes"])


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeList:
    """All nodes."""

    nodes: tuple[NodeView, ...]


@router.get("/nodes")
def list_nodes(services: ServicesDep, caller: Annotated[Token, Depends(get_caller)]) -> NodeList:
    """What each node has, as its driver and kernel tell it, what of it can be granted, and which run has what.

    For admins, approvers and auditors: versions and other people's use are no submitter's business.
    """
    if caller.role is Role.SUBMITTER:
        raise ForbiddenError(
            f"role {caller.role} may not see nodes",
            checked="role",
            found=caller.role,
            wanted="admin or approver or auditor",
        )
    with reading(services.engine) as conn:
        held = reservations.list_held(conn)
    source = services.capacity.node
    return NodeList(nodes=(node_view(source.node(services.home.root), source.room(), held),))
