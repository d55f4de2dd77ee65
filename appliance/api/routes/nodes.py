"""The machines that runs are placed on: this one, for now."""

from dataclasses import dataclass

from fastapi import APIRouter

from appliance.api.deps import ServicesDep
from appliance.node_view import NodeView, node_view
from appliance.store import reservations
from appliance.store.engine import reading

router = APIRouter(prefix="/v1", tags=["nodes"])


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeList:
    """All nodes."""

    nodes: tuple[NodeView, ...]


@router.get("/nodes")
def list_nodes(services: ServicesDep) -> NodeList:
    """What each node has, as its driver and kernel tell it, what of it can be granted, and which run has what."""
    with reading(services.engine) as conn:
        held = reservations.list_held(conn)
    source = services.capacity.node
    return NodeList(nodes=(node_view(source.node(services.home.root), source.room(), held),))
