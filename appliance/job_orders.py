"""What a job was really ordered to do, held against what its run's order makes of it.

What is covered: the job's file is the order that we would give, word for word; its digest goes into the log with
the run's move, and the agent's own measurement names the order that it carried out.
What is not covered: whoever can also run programs as the agent, or sign as the appliance.
"""

from dataclasses import replace

from appliance.domain import Run
from appliance.errors import EvidenceError
from appliance.grants import with_grant
from appliance.jobs import EVALUATOR_TARGET, evaluation_spec, job_ids, training_launch
from appliance.ports import Ports
from appliance.store import artifacts, champions, reservations
from attestation.digest import sha256_hex
from runner.spec import Mount, SandboxSpec, encode_spec, parse_spec

MAX_ORDER_BYTES = 4 << 20


def training_order(run: Run, ports: Ports, *, is_start: bool) -> SandboxSpec:
    """The order for the champion's job. Raises as `training_launch` and, at the start, as `with_grant`."""
    with ports.engine.connect() as connection:
        champion = champions.get(connection, run.order.champion)
        base = artifacts.get(connection, run.order.base_model)
        held = reservations.held_by(connection, run.id)
    spec = training_launch(run, champion=champion, base=base, ports=ports).spec
    return with_grant(spec, held, read=ports.capacity.node.gpus, is_start=is_start)


def check_training_order(run: Run, ports: Ports) -> str:
    """The digest of the champion's order as it lies in its job. Raises EvidenceError if it is another one."""
    return _same(job_ids(run).train, training_order(run, ports, is_start=False), ports)


def check_evaluation_order(run: Run, ports: Ports) -> str:
    """The digest of the evaluation's order as it lies in its job. Raises EvidenceError if it is another one.

    An upgrade in mid-run may have brought another evaluator: which one ran stands in the claims; it must have
    come out of the store.
    """
    job_id = job_ids(run).evaluate
    found = parse_spec(_read(job_id, ports))
    expected = evaluation_spec(run, ports=ports)
    evaluator = next((m for m in found.mounts if m.target == EVALUATOR_TARGET), None)
    if evaluator is not None and evaluator.source.startswith(f"{ports.store.path(ports.evaluator).parent}/"):
        expected = replace(expected, mounts=tuple(_with(m, evaluator) for m in expected.mounts))
    return _same(job_id, expected, ports)


def order_sha256(job_id: str, ports: Ports) -> str:
    """The digest of the order that lies in the job now."""
    return sha256_hex(_read(job_id, ports))


def _with(mount: Mount, evaluator: Mount) -> Mount:
    return evaluator if mount.target == EVALUATOR_TARGET else mount


def _same(job_id: str, expected: SandboxSpec, ports: Ports) -> str:
    data = _read(job_id, ports)
    if data != encode_spec(expected):
        raise EvidenceError(
            f"job {job_id} was not ordered so: job.json is sha256:{sha256_hex(data)}, the run's order makes"
            f" sha256:{sha256_hex(encode_spec(expected))}"
        )
    return sha256_hex(data)


def _read(job_id: str, ports: Ports) -> bytes:
    with (ports.launcher.job_dir(job_id) / "job.json").open("rb") as file:
        return file.read(MAX_ORDER_BYTES)
