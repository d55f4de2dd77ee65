"""Everything that is claimed about a run, read back from durable places and held against the signed log.

Covered: a job's files that say something else than the log, or than the release of the champion.
Not covered: what nobody but the job's own files say: times, counters, the limits in detail.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from appliance.attest import RunFacts, RunImage, RuntimeFacts, walls_with_end
from appliance.domain import Run
from appliance.errors import AdmissionError, EvidenceError
from appliance.evaluation import parse_metrics
from appliance.job_orders import order_sha256
from appliance.jobs import EVALUATOR_TARGET, job_ids
from appliance.judging import judge
from appliance.pinned_images import verified_pins
from appliance.ports import Ports
from appliance.recorded import Record, check_record, check_walls, read_record, recorded_text
from appliance.store import artifacts, champions
from appliance.store.champions import ChampionRow
from attestation.digest import sha256_hex
from attestation.trust import TrustRoot
from audit.event import EventKind
from runner.spec import Exit, SandboxSpec, parse_spec


def facts_of(run: Run, ports: Ports) -> RunFacts | None:
    """Everything that is claimed about a harvested and evaluated run.

    None while the log does not cover it yet. Raises EvidenceError where log, database and jobs disagree.
    """
    order, jobs, trust = run.order, job_ids(run), ports.home.trust()
    record = read_record(run, ports)
    if record is None:
        return None
    check_record(run, record)
    assert run.model is not None and run.metrics is not None  # states from EVALUATED on have both
    with ports.engine.connect() as connection:
        # As it was when the run was ordered: later approvals and decisions are not this run's.
        admitted = champions.admitted(connection, order.champion, trust=trust, at=run.submitted_at)
        champion = champions.get(connection, order.champion)
        base = artifacts.get(connection, order.base_model)
    if admitted is None:
        raise AdmissionError(f"champion {champion.name} was not admitted when run {run.id} was ordered")
    train, evaluate = _walls(ports, jobs.train), _walls(ports, jobs.evaluate)
    check_walls(run, record, train=train, evaluate=evaluate)
    image = _image(train.get("image"), champion, trust=trust)
    for job_id, kind, walls in (
        (jobs.train, EventKind.RUN_STARTED, train),
        (jobs.evaluate, EventKind.RUN_EVALUATED, evaluate),
    ):
        _check_order(job_id, recorded_text(run, record, kind, "order"), walls, ports)
    stdout = (ports.launcher.job_dir(jobs.train) / "stdout.log").read_bytes()
    if (logged := recorded_text(run, record, EventKind.RUN_HARVESTED, "log")) != sha256_hex(stdout):
        raise EvidenceError(
            f"the log of {jobs.train} changed: found sha256:{sha256_hex(stdout)}, logged was sha256:{logged}"
        )
    return RunFacts(
        run=run,
        champion=admitted,
        base_model_name=base.name,
        model=ports.store.manifest(run.model),
        dataset=ports.store.manifest(order.dataset),
        runtime=_runtime(run, record),
        image=image,
        limits=launched(ports, jobs.train).limits,
        exit=_exit(ports, jobs.train),
        log_sha256=sha256_hex(stdout),
        log_size_bytes=len(stdout),
        isolation_train=train,
        isolation_evaluate=evaluate,
        verdict=judge(run, ports.store.path(run.model), ports),
        metrics=parse_metrics(run.metrics),
        evaluator_sha256=recorded_text(run, record, EventKind.RUN_EVALUATED, "evaluator"),
    )


def _check_order(job_id: str, logged: str, walls: Mapping[str, Any], ports: Ports) -> None:
    """The order in the log is the one in the job's folder, and the one that its agent says it carried out."""
    for what, found in (
        ("its order is", order_sha256(job_id, ports)),
        ("its agent carried out", walls.get("order_sha256")),
    ):
        if found != logged:
            raise EvidenceError(f"job {job_id}: {what} sha256:{found}, logged was sha256:{logged}")


def launched(ports: Ports, job_id: str) -> SandboxSpec:
    """What the launcher was really given."""
    return parse_spec((ports.launcher.job_dir(job_id) / "job.json").read_bytes())


def evaluator_sha256(run: Run, ports: Ports) -> str:
    """Digest of the script that was mounted into the evaluation, whatever the worker has now."""
    mounts = launched(ports, job_ids(run).evaluate).mounts
    source = next(mount.source for mount in mounts if mount.target == EVALUATOR_TARGET)
    return sha256_hex(Path(source).read_bytes())


def _runtime(run: Run, record: Record) -> RuntimeFacts:
    return RuntimeFacts(
        python=recorded_text(run, record, EventKind.RUN_PLACED, "python"),
        packages_sha256=recorded_text(run, record, EventKind.RUN_PLACED, "packages"),
    )


def _exit(ports: Ports, job_id: str) -> Exit:
    facts = ports.launcher.poll(job_id)
    assert facts is not None and facts.exit is not None  # an evaluated run's jobs have ended
    return facts.exit


# Any, here and below: plain JSON.
def _walls(ports: Ports, job_id: str) -> Mapping[str, Any]:
    """The walls of a job as its agent measured them before the release, and what it counted after the end.

    Raises EvidenceError for files that contradict each other.
    """
    folder, spec = ports.launcher.job_dir(job_id), launched(ports, job_id)
    try:
        measured = json.loads((folder / "isolation.json").read_bytes())
    except (ValueError, RecursionError) as error:
        raise EvidenceError(f"isolation.json of {job_id} is not JSON: {error}") from error
    if not isinstance(measured, dict):
        raise EvidenceError(f"isolation.json of {job_id} is not a JSON object")
    ordered = {
        "driver": spec.driver,
        "image": None if spec.image is None else spec.image.manifest_sha256,
        "gpus": [gpu.uuid for gpu in spec.gpus],
    }
    for name, value in ordered.items():
        if name not in measured or measured[name] != value:
            found = measured.get(name, "not told")
            raise EvidenceError(f"{job_id}: {name} of its walls is {found}, its order says {value}")
    return walls_with_end(measured, _exit(ports, job_id), job_dir=str(folder))


def _image(manifest: str | None, champion: ChampionRow, *, trust: TrustRoot) -> RunImage | None:
    if manifest is None:
        return None
    pins = verified_pins(champion, trust=trust)
    pin = next((pin for pin in pins if pin.manifest == manifest), None)
    if pin is None:
        raise EvidenceError(
            f"{champion.name} ran in image sha256:{manifest}, which its release does not pin; it pins"
            f" {', '.join(pin.manifest for pin in pins) or 'none'}"
        )
    return RunImage(dockerfile=pin.dockerfile, manifest_sha256=pin.manifest)
