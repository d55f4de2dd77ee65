"""A node as people and programs see it: its inventory, what of it can be granted, who has what."""

from dataclasses import dataclass

from appliance.room import Room
from appliance.store.reservations import Reservation
from runner.inventory.node import Node


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitView:
    """A GPU or MIG slice that runs can be granted. `run` has it now; `refusal` says why nobody can."""

    uuid: str
    product: str
    memory_bytes: int
    run: str | None
    refusal: str | None

    @property
    def state(self) -> str:
        """One phrase."""
        return f"held by {self.run}" if self.run else self.refusal or "free"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """`cpu_millis` and `memory_bytes` are what runs share, less than the machine has."""

    name: str
    cpu_millis: int
    memory_bytes: int
    no_gpus: str | None
    units: tuple[UnitView, ...]
    reservations: tuple[Reservation, ...]
    inventory: Node


def node_view(node: Node, room: Room, held: tuple[Reservation, ...]) -> NodeView:
    """The node with what is `held` of it."""
    holders = {uuid: one.run_id for one in held for uuid in one.gpus}
    units = tuple(
        UnitView(
            uuid=unit.uuid,
            product=unit.product,
            memory_bytes=unit.memory_bytes,
            run=holders.get(unit.uuid),
            refusal=None if unit.uuid in holders else unit.refusal,
        )
        for unit in room.units
    )
    return NodeView(
        name=node.host.name,
        cpu_millis=room.cpu_millis,
        memory_bytes=room.memory_bytes,
        no_gpus=room.no_gpus,
        units=units,
        reservations=held,
        inventory=node,
    )
