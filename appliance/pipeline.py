"""The story of a run, one function per step. Read from top to bottom; `appliance.worker` calls `advance`.

    SUBMITTED ─place─► PLACED ─watch─► RUNNING ─harvest─► HARVESTED ─evaluate─► EVALUATED
                                                                                    │ attest
                                                     LOGGED ◄─publish─ ATTESTED ◄───┘

A step loads, works outside any transaction, and answers with the move to make, or with None while it waits.
`advance` then applies the move in one guarded transaction: state, audit events and claims together, or not
at all. Steps are idempotent by run id, so killing the process between any two lines and running the same
loop again finishes the run once; there is no other recovery code.
"""

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from appliance.attest import AdmittedChampion, Claim, RunFacts, RuntimeFacts, sign_claims
from appliance.domain import LEGAL_MOVES, Run, RunState
from appliance.errors import AdmissionError, ApplianceError, EvaluationError, EvidenceError, HomeError
from appliance.evaluation import encode_metrics, parse_metrics, read_metrics
from appliance.evidence import EvidenceInputs, write_evidence
from appliance.finalise import finalise
from appliance.jobs import EVALUATOR_TARGET, evaluation_spec, job_ids, training_launch
from appliance.permission import check_permission
from appliance.ports import Ports
from appliance.recorded import check_record, intake_of, read_record, recorded_text
from appliance.report import run_report
from appliance.store import artifacts, champions, claims, runs
from appliance.store.champions import ChampionRow
from appliance.waiting import why_waiting
from attestation.digest import sha256_hex
from attestation.errors import AttestationError
from audit.event import APPLIANCE, Event, EventKind
from audit.store import enqueue
from runner.errors import HarvestError, LauncherError, RunnerError
from runner.launcher.port import JobPhase
from runner.spec import Exit, ExitReason, SandboxSpec, parse_spec
from runner.verdict import Verdict, decide_verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """What a step wants written: the next state, what the audit log says of it, new fields, new claims."""

    to: RunState
    detail: Mapping[str, str | int] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)
    claims: tuple[Claim, ...] = ()


def advance(run: Run, ports: Ports) -> Run | None:
    """Take `run` one step further if it can be taken; the run as it is then, or None if it waits.

    Raises StaleRunError if somebody else moved the run meanwhile, and HomeError, LauncherError or OSError if
    this machine stands in the way (a full disk, say): then nothing has changed, and the step can be tried
    again.
    """
    if run.state.is_final:
        return None
    try:
        move = _cancel(run, ports) if _is_to_be_cancelled(run) else STEPS[run.state](run, ports)
    except (HomeError, LauncherError):
        raise  # the operator must act; the run has done nothing wrong
    except (ApplianceError, RunnerError, AttestationError) as error:
        if RunState.FAILED not in LEGAL_MOVES[run.state]:
            raise  # signed claims are never failed away: publishing is tried again
        move = _failed(str(error))
    return None if move is None else _apply(run, move, ports)


def place(run: Run, ports: Ports) -> Move | None:
    """SUBMITTED → PLACED: there is room, and the champion is still admitted, by signatures that verify."""
    with ports.engine.connect() as connection:
        champion = champions.get(connection, run.order.champion)
        admitted = champions.admitted(connection, run.order.champion, trust=ports.home.trust())
        others = tuple(r for r in runs.unfinished(connection) if r.id != run.id)
    if why_waiting(run, others, capacity=ports.capacity, free_bytes=ports.home.free_bytes()):
        return None
    if admitted is None:
        raise AdmissionError(f"champion {champion.name} is not admitted")
    _check_permission(run, champion, admitted, ports)
    return Move(
        to=RunState.PLACED,
        detail={
            "job": job_ids(run).train,
            "python": ports.runtime_facts.python,
            "packages": ports.runtime_facts.packages_sha256,
        },
    )


def watch(run: Run, ports: Ports) -> Move | None:
    """PLACED → RUNNING: start the sandboxed job; its walls were measured and the champion was released."""
    facts = ports.launcher.poll(job_ids(run).train)
    if facts is None:
        # Not before PLACED is written: a run that is cancelled while SUBMITTED must have no job to leave behind.
        _start(run, ports)
        return None
    if facts.phase is JobPhase.PREPARING:
        return None
    return Move(to=RunState.RUNNING)


def harvest(run: Run, ports: Ports) -> Move | None:
    """RUNNING → HARVESTED: take the model out, and decide from its tensors whether it was trained."""
    facts = ports.launcher.poll(job_ids(run).train)
    if facts is None or facts.phase is not JobPhase.ENDED or facts.exit is None:
        return None
    if (failure := _why_not_usable(facts.exit)) is not None:
        return _failed(failure)
    with ports.engine.connect() as connection:
        champion = champions.get(connection, run.order.champion)
        base = artifacts.get(connection, run.order.base_model)
    leaf = training_launch(run, champion=champion, base=base, ports=ports).output_leaf
    output = _harvested(ports, job_ids(run).train, facts.exit) / leaf
    with tempfile.TemporaryDirectory(dir=ports.home.jobs_dir, prefix=".finalise-") as scratch:
        model = Path(scratch) / "model"
        finalise(output, model, base_model_name=base.name)
        report = decide_verdict(model, ports.store.path(run.order.base_model))
        if report.verdict is not Verdict.TRAINED:
            broken = "; ".join(f"{r.rule}: {r.detail}" for r in report.rules if not r.holds)
            return _failed(f"training verdict {report.verdict.value}: {broken}", verdict=report.verdict.value)
        manifest = ports.store.put(model)
    return Move(
        to=RunState.HARVESTED,
        detail={"model": manifest.root_sha256, "verdict": report.verdict.value},
        fields={"model": manifest.root_sha256, "verdict": report.verdict.value},
    )


def evaluate(run: Run, ports: Ports) -> Move | None:
    """HARVESTED → EVALUATED: base and tuned model on the held-out rows, in a second sandbox."""
    facts = ports.launcher.poll(job_ids(run).evaluate)
    if facts is None:
        _verify_stored(run, ports)
        ports.launcher.submit(evaluation_spec(run, ports=ports))
        return None
    if facts.phase is not JobPhase.ENDED or facts.exit is None:
        return None
    if facts.exit.reason is not ExitReason.EXITED or facts.exit.code != 0:
        raise EvaluationError(f"the evaluation did not finish: {facts.exit.message}")
    _verify_stored(run, ports)  # what it read is what it was given
    with ports.engine.connect() as connection:
        rows = int(artifacts.get(connection, run.order.dataset).facts["held_out_rows"])
    losses = _harvested(ports, job_ids(run).evaluate, facts.exit) / "losses.json"
    metrics, _ = read_metrics(losses, held_out_rows=rows)
    return Move(
        to=RunState.EVALUATED,
        detail={"losses": metrics.losses_sha256, "evaluator": _evaluator_sha256(run, ports)},
        fields={"metrics": encode_metrics(metrics)},
    )


def attest(run: Run, ports: Ports) -> Move | None:
    """EVALUATED → ATTESTED: sign every claim; the claims and the move are one transaction."""
    facts = _facts_of(run, ports)
    if facts is None:
        return None
    with ports.engine.connect() as connection:
        champion = champions.get(connection, run.order.champion)
    _check_permission(run, champion, facts.champion, ports)
    signed = sign_claims(facts, signer=ports.signer)
    return Move(to=RunState.ATTESTED, detail={"claims": len(signed)}, claims=signed)


def publish(run: Run, ports: Ports) -> Move | None:
    """ATTESTED → LOGGED: once the log proves every claim, write the evidence folder and verify it."""
    ports.log.sequence(ports.clock.now())
    with ports.engine.connect() as connection:
        signed = claims.of_run(connection, run.id)
    receipts, facts = ports.log.receipts([claim.entry for claim in signed]), _facts_of(run, ports)
    if receipts is None or facts is None:
        return None
    job_dir = ports.launcher.job_dir
    inputs = EvidenceInputs(
        run_id=run.id,
        claims=tuple(claim.bundle for claim in signed),
        entries=tuple(claim.entry for claim in signed),
        receipts=receipts,
        trust_files=ports.home.trust_files(),
        policy_files=ports.home.policy_files(facts.champion.policy_sha256),
        losses=(job_dir(job_ids(run).evaluate) / "harvest" / "losses.json").read_bytes(),
        stdout_log=job_dir(job_ids(run).train) / "stdout.log",
        model=ports.store.path(facts.model.root_sha256),
        report=run_report(facts),
    )
    write_evidence(inputs, ports.home.evidence_dir / run.id, signer=ports.signer, now=ports.clock.now())
    return Move(to=RunState.LOGGED)


STEPS: Mapping[RunState, Callable[[Run, Ports], Move | None]] = {
    RunState.SUBMITTED: place,
    RunState.PLACED: watch,
    RunState.RUNNING: harvest,
    RunState.HARVESTED: evaluate,
    RunState.EVALUATED: attest,
    RunState.ATTESTED: publish,
}


def _apply(run: Run, move: Move, ports: Ports) -> Run:
    """One transaction: the guarded move first, then what belongs to it."""
    now = ports.clock.now()
    with ports.engine.begin() as connection:
        moved = runs.move(connection, run, move.to, now=now, detail=move.detail, **move.fields)
        for ordinal, claim in enumerate(move.claims, start=1):
            event = Event(
                kind=EventKind.CLAIM_SIGNED,
                subject=run.id,
                actor=APPLIANCE,
                at=now,
                detail={"bundle": claim.sha256, "kind": claim.kind},
            )
            claims.add(connection, run.id, ordinal=ordinal, claim=claim, entry=event.encode())
            enqueue(connection, event)
    return moved


def _check_permission(run: Run, champion: ChampionRow, admitted: AdmittedChampion, ports: Ports) -> None:
    proposer = intake_of(champion, ports).actor
    check_permission(admitted, ports.home.trust(), submitter=run.submitted_by, proposer=proposer)


def _start(run: Run, ports: Ports) -> None:
    """What was ordered and approved is what runs: a changed row or tree is found here, not trusted."""
    record = read_record(run, ports)
    if record is None:
        return
    check_record(run, record)
    _verify_stored(run, ports)
    with ports.engine.connect() as connection:
        champion = champions.get(connection, run.order.champion)
        base = artifacts.get(connection, run.order.base_model)
    ports.launcher.submit(training_launch(run, champion=champion, base=base, ports=ports).spec)


def _verify_stored(run: Run, ports: Ports) -> None:
    """Hash every input again. Raises ArtifactError naming the file that changed."""
    order = run.order
    for digest in (order.champion, order.base_model, order.dataset, ports.evaluator, run.model):
        if digest is not None:
            ports.store.verify(digest)


def _is_to_be_cancelled(run: Run) -> bool:
    return run.cancel_requested_by is not None and run.state.is_cancellable


def _cancel(run: Run, ports: Ports) -> Move | None:
    """Ask every job of the run to end; the run is cancelled once they all have."""
    for job_id in (job_ids(run).train, job_ids(run).evaluate):
        facts = ports.launcher.poll(job_id)
        if facts is not None and facts.phase is not JobPhase.ENDED:
            ports.launcher.cancel(job_id)
            return None
    reason = run.reason or f"cancelled by {run.cancel_requested_by}"
    return Move(to=RunState.CANCELLED, detail={"reason": reason}, fields={"reason": reason})


def _failed(reason: str, **fields: str) -> Move:
    return Move(to=RunState.FAILED, detail={"reason": reason[:2000]}, fields={"reason": reason, **fields})


def _why_not_usable(ended: Exit) -> str | None:
    """The reason why nothing is taken from a champion that ended like this; None if its output counts."""
    if ended.reason is ExitReason.TIMEOUT:
        return None  # a normal end: what the champion saved within its time is judged by the verdict
    if ended.reason is ExitReason.EXITED and ended.code == 0:
        return None
    return ended.message


def _harvested(ports: Ports, job_id: str, ended: Exit) -> Path:
    """What was taken out of a job's sandbox. Raises HarvestError if nothing could be: no fault of the guest."""
    folder = ports.launcher.job_dir(job_id) / "harvest"
    if not folder.is_dir():
        raise HarvestError(f"nothing was taken out of the sandbox: {ended.message}")
    return folder


def _facts_of(run: Run, ports: Ports) -> RunFacts | None:
    """Everything that is claimed about a harvested and evaluated run, read back from durable places.

    None while the log does not cover it yet. Raises EvidenceError where log and database disagree.
    """
    order, jobs = run.order, job_ids(run)
    record = read_record(run, ports)
    if record is None:
        return None
    check_record(run, record)
    assert run.model is not None and run.metrics is not None  # states from EVALUATED on have both
    with ports.engine.connect() as connection:
        # As it was when the run was ordered: later approvals and decisions are not this run's.
        admitted = champions.admitted(
            connection, order.champion, trust=ports.home.trust(), at=run.submitted_at
        )
        base = artifacts.get(connection, order.base_model)
    if admitted is None:
        raise AdmissionError(
            f"champion sha256:{order.champion} was not admitted when run {run.id} was ordered"
        )
    trained = ports.launcher.poll(jobs.train)
    assert trained is not None and trained.exit is not None
    stdout = (ports.launcher.job_dir(jobs.train) / "stdout.log").read_bytes()
    return RunFacts(
        run=run,
        champion=admitted,
        base_model_name=base.name,
        model=ports.store.manifest(run.model),
        dataset=ports.store.manifest(order.dataset),
        runtime=RuntimeFacts(
            python=recorded_text(run, record, EventKind.RUN_PLACED, "python"),
            packages_sha256=recorded_text(run, record, EventKind.RUN_PLACED, "packages"),
        ),
        limits=_launched(ports, jobs.train).limits,
        exit=trained.exit,
        log_sha256=sha256_hex(stdout),
        log_size_bytes=len(stdout),
        isolation_train=_isolation(ports, jobs.train),
        isolation_evaluate=_isolation(ports, jobs.evaluate),
        verdict=decide_verdict(ports.store.path(run.model), ports.store.path(order.base_model)),
        metrics=parse_metrics(run.metrics),
        evaluator_sha256=recorded_text(run, record, EventKind.RUN_EVALUATED, "evaluator"),
    )


def _launched(ports: Ports, job_id: str) -> SandboxSpec:
    """What the launcher was really given."""
    return parse_spec((ports.launcher.job_dir(job_id) / "job.json").read_bytes())


def _evaluator_sha256(run: Run, ports: Ports) -> str:
    """Digest of the script that was mounted into the evaluation, whatever the worker has now."""
    mounts = _launched(ports, job_ids(run).evaluate).mounts
    source = next(mount.source for mount in mounts if mount.target == EVALUATOR_TARGET)
    return sha256_hex(Path(source).read_bytes())


def _isolation(ports: Ports, job_id: str) -> Mapping[str, Any]:
    """The walls of a job as its agent measured them before the release."""
    try:
        measured = json.loads((ports.launcher.job_dir(job_id) / "isolation.json").read_bytes())
    except ValueError as error:
        raise EvidenceError(f"isolation.json of {job_id} is not JSON: {error}") from error
    if not isinstance(measured, dict):
        raise EvidenceError(f"isolation.json of {job_id} is not a JSON object")
    return measured
