"""What a logged run leaves in its job folders: its logs and facts stay, the harvest goes.

The model is in the store and in the evidence by then; the harvest would be its third copy.
"""

from appliance.domain import Run, RunState
from appliance.errors import NotFoundError
from appliance.jobs import job_ids
from appliance.ports import Ports
from appliance.store import runs


def forget_harvest(run: Run, ports: Ports) -> None:
    """Remove the harvests of a logged run; of any other they are kept, for whoever looks for the reason."""
    if run.state is RunState.LOGGED:
        for job_id in (job_ids(run).train, job_ids(run).evaluate):
            ports.launcher.forget(job_id)


def forget_harvests(ports: Ports) -> None:
    """`forget_harvest` for every run that has one: a crash may have come in between."""
    for folder in sorted(ports.home.jobs_dir.glob("*/harvest")):
        run_id = folder.parent.name.removesuffix("-evaluate")
        with ports.engine.connect() as connection:
            try:
                run = runs.get(connection, run_id)
            except NotFoundError:
                continue  # no run's: nothing of ours to remove
        forget_harvest(run, ports)
