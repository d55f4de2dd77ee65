"""Why a run waits for its turn: one computed sentence for API, console and worker alike.

Turns first, then resources: what of the node is free is `appliance.nodes`.
"""

from dataclasses import dataclass, field

from appliance.domain import Run, RunState
from appliance.room import NodeSource, ThisNode

# Runs that hold the machine.
OCCUPYING = (RunState.PLACED, RunState.RUNNING, RunState.HARVESTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """What this appliance runs at once at most, the disk it wants free before a run, and the node it has.

    `gpus_per_run` is the operator's word against upstream's rule: so many GPUs for every run.
    """

    max_parallel_runs: int
    needed_free_bytes: int
    gpus_per_run: int | None = None
    node: NodeSource = field(default_factory=ThisNode, compare=False)


def why_waiting(run: Run, others: tuple[Run, ...], *, capacity: Capacity, free_bytes: int) -> str | None:
    """The reason why it is not the turn of `run` now, or None if nothing stands in its way. Pure."""
    if run.state is not RunState.SUBMITTED:
        return None
    places = capacity.max_parallel_runs
    busy = [o for o in others if o.state in OCCUPYING]
    if len(busy) >= places:
        return f"{len(busy)} of {places} places are taken, by {', '.join(o.id for o in busy)}"
    ahead = earlier(run, others)
    if len(ahead) >= places - len(busy):
        return f"{len(ahead)} runs were submitted earlier, the next is {ahead[0].id}"
    if free_bytes < capacity.needed_free_bytes:
        return f"the disk has {free_bytes >> 20} MiB free, a run needs {capacity.needed_free_bytes >> 20} MiB"
    return None


def earlier(run: Run, others: tuple[Run, ...]) -> tuple[Run, ...]:
    """The runs that wait as `run` does and were submitted before it, the first of them first."""
    waiting = (o for o in others if o.state is RunState.SUBMITTED)
    ahead = (o for o in waiting if (o.submitted_at, o.id) < (run.submitted_at, run.id))
    return tuple(sorted(ahead, key=lambda o: (o.submitted_at, o.id)))
