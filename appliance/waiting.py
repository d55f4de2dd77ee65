"""Why a run waits: one computed sentence for API, console and worker alike."""

from dataclasses import dataclass

from appliance.domain import Run, RunState

# Runs that hold the machine.
OCCUPYING = (RunState.PLACED, RunState.RUNNING, RunState.HARVESTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """What this appliance runs at once, and the disk it wants free before a run."""

    max_parallel_runs: int
    needed_free_bytes: int


def why_waiting(run: Run, others: tuple[Run, ...], *, capacity: Capacity, free_bytes: int) -> str | None:
    """The reason why `run` is not being placed now, or None if nothing stands in its way. Pure."""
    if run.state is not RunState.SUBMITTED:
        return None
    places = capacity.max_parallel_runs
    busy = [o for o in others if o.state in OCCUPYING]
    if len(busy) >= places:
        return f"{len(busy)} of {places} places are taken, by {', '.join(o.id for o in busy)}"
    ahead = sorted(
        (o.submitted_at, o.id)
        for o in others
        if o.state is RunState.SUBMITTED and (o.submitted_at, o.id) < (run.submitted_at, run.id)
    )
    if len(ahead) >= places - len(busy):
        return f"{len(ahead)} runs were submitted earlier, the next is {ahead[0][1]}"
    if free_bytes < capacity.needed_free_bytes:
        return f"the disk has {free_bytes >> 20} MiB free, a run needs {capacity.needed_free_bytes >> 20} MiB"
    return None
