"""The verdict on a run's model, the same whenever it is asked: what is claimed later is what was decided."""

import hashlib
from pathlib import Path

from appliance.domain import Run
from appliance.finalise import base_named_in, real_base_name
from appliance.jobs import job_ids
from appliance.ports import Ports
from appliance.store.artifacts import Artifact
from runner.contract.tasks import TaskType
from runner.errors import HarvestError
from runner.harvest import Harvest, parse_harvest
from runner.verdict import VerdictReport, decide_verdict


def task_of(run: Run) -> TaskType:
    """What the champion was told to do."""
    return TaskType(run.order.task_type)


def judge(run: Run, model: Path, ports: Ports) -> VerdictReport:
    """The verdict on `model` as trained by this run, whose job has ended. Raises as `decide_verdict`."""
    job_dir = ports.launcher.job_dir(job_ids(run).train)
    facts = ports.launcher.poll(job_ids(run).train)
    assert facts is not None and facts.exit is not None  # nothing is judged before its job has ended
    return decide_verdict(
        model,
        ports.store.path(run.order.base_model),
        task=task_of(run),
        log=job_dir / "stdout.log",
        left_out=facts.exit.rejected,
    )


def base_name(base: Artifact, ports: Ports) -> str:
    """The base model's name, or where it is an adapter, the name of the model that it adapts."""

    def named_by(name: str) -> str | None:
        return base_named_in(ports.store.path(base.root_sha256)) if name == base.name else None

    return real_base_name(base.name, named_by=named_by)


def log_sha256(run: Run, ports: Ports) -> str:
    """The digest of the champion's log."""
    with (ports.launcher.job_dir(job_ids(run).train) / "stdout.log").open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_taken(name: str, sha256: str, harvest: Harvest) -> None:
    """Raise HarvestError unless the file `name` with this digest is what was taken out of the sandbox."""
    taken = next((file.sha256 for file in harvest.files if file.path == name), None)
    if taken != sha256:
        raise HarvestError(
            f"{name} changed after it was taken out of the sandbox: found sha256:{sha256}, taken was"
            f" {f'sha256:{taken}' if taken else 'no such file'}"
        )


def list_of_harvest(job_id: str, ports: Ports) -> Harvest:
    """What was taken out of the job's sandbox, as the process that took it wrote it down. Raises HarvestError."""
    try:
        data = (ports.launcher.job_dir(job_id) / "harvest.json").read_bytes()
    except OSError as error:
        raise HarvestError(f"the list of what was taken out of the sandbox is missing: {error}") from error
    return parse_harvest(data)
