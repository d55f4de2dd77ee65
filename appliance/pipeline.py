"""The story of a run, one function per step. Read from top to bottom; `appliance.worker` calls `advance`.

    SUBMITTED ─place─► PLACED ─watch─► RUNNING ─harvest─► HARVESTED ─evaluate─► EVALUATED
                                                                                    │ attest
                                                     LOGGED ◄─publish─ ATTESTED ◄───┘

A step loads, works outside any transaction, and answers with the move to make, or with None while it waits.
`advance` then applies the move in one guarded transaction: state, audit events and claims together, or not
at all. Steps are idempotent by run id, so killing the process between any two lines and running the same
loop again finishes the run once; there is no other recovery code.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from appliance.attest import AdmittedChampion, Claim, sign_claims
from appliance.domain import LEGAL_MOVES, Run, RunState
from appliance.errors import (
    AdmissionError,
    ApplianceError,
    EvaluationError,
    HomeError,
)
from appliance.evaluation import encode_metrics, read_metrics
from appliance.evidence import EvidenceInputs, write_evidence
from appliance.finalise import check_harvested, finalise
from appliance.image_keeping import verify_kept
from appliance.isolation_policy import check_placement, driver_of, evaluation_driver_of
from appliance.job_orders import check_evaluation_order, check_training_order, training_order
from appliance.jobs import evaluation_spec, job_ids
from appliance.judging import base_name, check_taken, judge, list_of_harvest, log_sha256, task_of
from appliance.nodes import Shortage, find_place, place_detail
from appliance.permission import check_permission
from appliance.ports import Ports
from appliance.recorded import check_record, intake_of, read_record
from appliance.report import run_report
from appliance.run_facts import evaluator_sha256, facts_of, launched
from appliance.store import artifacts, champions, claims, reservations, runs
from appliance.store.champions import ChampionRow
from appliance.store.reservations import Reserving
from appliance.waiting import OCCUPYING, why_waiting
from attestation.errors import AttestationError
from audit.event import APPLIANCE, Event, EventKind
from audit.store import enqueue
from runner.errors import HarvestError, LauncherError, RunnerError
from runner.launcher.port import JobPhase
from runner.spec import Exit, ExitReason
from runner.verdict import Verdict

MAX_REMNANT_CHARS = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """What a step wants written: the next state, what the audit log says of it, new fields, new claims."""

    to: RunState
    detail: Mapping[str, str | int] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)
    claims: tuple[Claim, ...] = ()
    reserve: Reserving | None = None


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
        held = reservations.list_held(connection)
    free_bytes = ports.home.free_bytes()
    if why_waiting(run, others, capacity=ports.capacity, free_bytes=free_bytes):
        return None
    found = find_place(
        run, others, held, capacity=ports.capacity, free_bytes=free_bytes, model_folder=ports.store.path
    )
    if isinstance(found, Shortage):
        return None
    if admitted is None:
        raise AdmissionError(f"champion {champion.name} is not admitted")
    _check_permission(run, champion, admitted, ports)
    check_placement(run, policy=ports.isolation(), check_driver=ports.check_driver)
    return Move(
        to=RunState.PLACED,
        reserve=Reserving(wanted=found.reservation, seen=held),
        detail={
            **place_detail(found),
            "job": job_ids(run).train,
            "python": ports.runtime_facts.python,
            "packages": ports.runtime_facts.packages_sha256,
            "driver": driver_of(run),
            "evaluation_driver": evaluation_driver_of(run),
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
    return Move(to=RunState.RUNNING, detail={"order": check_training_order(run, ports)})


def harvest(run: Run, ports: Ports) -> Move | None:
    """RUNNING → HARVESTED: take the model out, and decide from its tensors whether it was trained."""
    facts = ports.launcher.poll(job_ids(run).train)
    if facts is None or facts.phase is not JobPhase.ENDED or facts.exit is None:
        return None
    if (failure := _why_not_usable(facts.exit)) is not None:
        return _failed(failure)
    with ports.engine.connect() as connection:
        base = artifacts.get(connection, run.order.base_model)
    (leaf,) = launched(ports, job_ids(run).train).declared_outputs
    output = _harvested(ports, job_ids(run).train, facts.exit) / leaf
    with tempfile.TemporaryDirectory(dir=ports.home.jobs_dir, prefix=".finalise-") as scratch:
        model = Path(scratch) / "model"
        final = finalise(output, model, base_model_name=base_name(base, ports), task=task_of(run))
        report = judge(run, model, ports)
        if report.verdict is not Verdict.TRAINED:
            broken = "; ".join(f"{r.rule}: {r.detail}" for r in report.rules if not r.holds)
            return _failed(f"training verdict {report.verdict.value}: {broken}", verdict=report.verdict.value)
        manifest = ports.store.put(model)
        taken = list_of_harvest(job_ids(run).train, ports)
        check_harvested(final, stored=manifest, output_leaf=leaf, harvest=taken)
    return Move(
        to=RunState.HARVESTED,
        detail={
            "model": manifest.root_sha256,
            "verdict": report.verdict.value,
            "log": log_sha256(run, ports),
        },
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
    check_taken("losses.json", metrics.losses_sha256, list_of_harvest(job_ids(run).evaluate, ports))
    return Move(
        to=RunState.EVALUATED,
        detail={
            "losses": metrics.losses_sha256,
            "evaluator": evaluator_sha256(run, ports),
            "order": check_evaluation_order(run, ports),
        },
        fields={"metrics": encode_metrics(metrics)},
    )


def attest(run: Run, ports: Ports) -> Move | None:
    """EVALUATED → ATTESTED: sign every claim; the claims and the move are one transaction."""
    facts = facts_of(run, ports)
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
    receipts, facts = ports.log.receipts([claim.entry for claim in signed]), facts_of(run, ports)
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
    remnants = tuple(_remnants(run, move.to, ports, now=now))  # asks the launcher: not in a transaction
    with ports.engine.begin() as connection:
        moved = runs.move(connection, run, move.to, now=now, detail=move.detail, **move.fields)
        if move.reserve is not None:
            reservations.reserve(connection, move.reserve.wanted, seen=move.reserve.seen)
        elif moved.state not in OCCUPYING:
            reservations.remove_ended(connection)
        for event in remnants:
            enqueue(connection, event)
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


def _remnants(run: Run, to: RunState, ports: Ports, *, now: datetime) -> Iterator[Event]:
    """An event for the sandbox whose end this move follows, if it left anything behind."""
    jobs = job_ids(run)
    job = {RunState.PLACED: jobs.train, RunState.RUNNING: jobs.train, RunState.HARVESTED: jobs.evaluate}.get(
        run.state
    )
    facts = None if job is None or to is RunState.RUNNING else ports.launcher.poll(job)
    if job is None or facts is None or facts.exit is None or not facts.exit.remnants:
        return
    told = "; ".join(facts.exit.remnants)[:MAX_REMNANT_CHARS]
    yield Event(
        kind=EventKind.RUN_REMNANT_LEFT,
        subject=run.id,
        actor=APPLIANCE,
        at=now,
        detail={"job": job, "remnants": told},
    )


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
    spec = training_order(run, ports, is_start=True)
    if spec.image is not None:
        verify_kept(ports, spec.image.manifest_sha256)
    ports.launcher.submit(spec)


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
