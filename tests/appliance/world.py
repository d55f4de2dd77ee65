"""A whole appliance with nothing but its launcher and its clock faked; built once, copied per test."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from appliance.adoption import adopt, approve
from appliance.artifacts import FolderStore
from appliance.assembly import Appliance, take_evaluator
from appliance.attest import RuntimeFacts
from appliance.champion_report import record_report, sign_report
from appliance.domain import Order, Run
from appliance.home import add_person, create_home, open_home
from appliance.imports import import_dataset, import_model
from appliance.isolation_policy import load_isolation_policy
from appliance.jobs import EVALUATION_OUTPUT
from appliance.pipeline import advance
from appliance.ports import Ports
from appliance.settings import Settings
from appliance.store import artifacts, champions, inspections, runs
from appliance.store.artifacts import ArtifactKind
from appliance.store.champions import ChampionRow
from appliance.store.engine import open_database, reading
from appliance.store.inspections import ChampionOrigin, OriginKind
from appliance.waiting import Capacity
from appliance.worker import sequence_pending
from attestation.bundle import sign_statement
from attestation.expectations import Expectations
from attestation.files import read_pack
from attestation.paired import encode_losses
from attestation.predicates import CHAMPION_RELEASE
from attestation.statement import Statement, Subject
from attestation.times import format_time
from attestation.trust import Role, trust_sha256
from attestation.verify import Verified, verify_evidence
from audit.event import Event, EventKind
from audit.fsck import Finding, check_log
from audit.log import AuditLog
from audit.store import enqueue, events_of
from runner.isolation_demand import TIERS
from runner.launcher.fake import SUCCESS, FakeJob, FakeLauncher
from runner.spec import Exit, Limits, Runtime, SandboxSpec, encode_spec
from tests.appliance.isolation_facts import good_facts, gvisor_facts
from tests.runner.tensors import BASE, Named, ramp, write_adapter, write_model
from tournament_sync.inspection import report as inspection
from tournament_sync.inspection.report import InspectionReport

START = datetime(2026, 11, 21, 2, 0, 0, tzinfo=UTC)  # when the fake's jobs run, too
ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "deploy" / "champions" / "reference"
RUN_ID = "run-0042"
PROPOSER, APPROVER, PUBLISHER, SUBMITTER = "ada", "olu", "feed", "bob"
HELD_OUT_ROWS = 22
TRAINED: Named = BASE | {"model.layers.0.q_proj.weight": ("F32", [4, 4], ramp(16, start=2.0))}


@dataclass
class FixedClock:
    """Stands still until a test moves it."""

    at: datetime = START

    def now(self) -> datetime:
        return self.at

    def pass_s(self, seconds: int) -> None:
        self.at += timedelta(seconds=seconds)


@dataclass(frozen=True, kw_only=True)
class World:
    """An appliance with an admitted champion, a model and a dataset."""

    appliance: Appliance
    ports: Ports
    launcher: FakeLauncher
    clock: FixedClock
    order: Order

    def submit(self, run_id: str = RUN_ID, **changes: object) -> Run:
        with self.ports.engine.begin() as conn:
            return runs.submit(
                conn,
                replace(self.order, **changes),  # type: ignore[arg-type]  # fields of an order
                run_id=run_id,
                actor=SUBMITTER,
                idempotency_key=None,
                now=self.clock.now(),
            )

    def run(self, run_id: str = RUN_ID) -> Run:
        with reading(self.ports.engine) as conn:
            return runs.get(conn, run_id)

    def advance(self, run_id: str = RUN_ID, *, ports: Ports | None = None) -> Run | None:
        """What the worker does with one run in one round."""
        try:
            return advance(self.run(run_id), ports or self.ports)
        finally:
            sequence_pending(ports or self.ports)

    def settle(self, run_id: str = RUN_ID) -> Run:
        """Advance until the run waits or is at its end; starting a job is no move, so one pause is looked past."""
        pauses = 0
        while not self.run(run_id).state.is_final and pauses < 2:
            pauses = 0 if self.advance(run_id) else pauses + 1
        return self.run(run_id)

    def cancel(self, run_id: str = RUN_ID) -> Run:
        with self.ports.engine.begin() as conn:
            return runs.request_cancel(conn, run_id, actor=SUBMITTER, now=self.clock.now())

    def events(self, run_id: str = RUN_ID) -> list[Event]:
        with reading(self.ports.engine) as conn:
            return [logged.event for logged in events_of(conn, run_id)]

    def kinds(self, run_id: str = RUN_ID) -> list[str]:
        return [event.kind.value for event in self.events(run_id)]

    def fsck(self) -> tuple[Finding, ...]:
        home = self.appliance.home
        return check_log(
            self.ports.engine,
            origin=home.log_origin,
            vkey=home.log_signer().vkey,
            checkpoint_path=home.log_checkpoint_path,
        )

    def verify(self, run_id: str = RUN_ID) -> Verified:
        home = self.appliance.home
        return verify_evidence(
            read_pack(home.evidence_dir / run_id),
            trust=trust_sha256(home.trust_files()),
            expected=Expectations(),
            now=self.clock.now(),
        )


class MeasuringLauncher(FakeLauncher):
    """Its jobs measure `isolation`, but the driver, image and GPUs that each was ordered with."""

    def submit(self, spec: SandboxSpec) -> None:
        is_new = not self.job_dir(spec.job_id).exists()
        super().submit(spec)
        if is_new:
            file = self.job_dir(spec.job_id) / "isolation.json"
            file.write_text(json.dumps(json.loads(file.read_bytes()) | measured_of(spec)))


def measured_of(spec: SandboxSpec) -> dict[str, object]:
    """Those facts of the walls that are as ordered."""
    return {
        **(gvisor_facts() if spec.driver == "gvisor" else {}),
        "driver": spec.driver,
        "tier": TIERS[spec.driver],
        "image": None if spec.image is None else spec.image.manifest_sha256,
        "gpus": [gpu.uuid for gpu in spec.gpus],
        "order_sha256": hashlib.sha256(encode_spec(spec)).hexdigest(),
    }


def trains(spec: SandboxSpec, job_dir: Path) -> Exit:
    """What a good champion and our evaluator do."""
    return job(lambda output: write_model(output, TRAINED))(spec, job_dir)


def adapts(spec: SandboxSpec, job_dir: Path) -> Exit:
    """A champion that leaves an adapter."""
    return job(lambda output: write_adapter(output, target_modules=["q_proj"]))(spec, job_dir)


def job(write: Callable[[Path], object], ended: Exit = SUCCESS, *, evaluated: Exit = SUCCESS) -> FakeJob:
    """Training that writes its output with `write` and ends so; an evaluation that ends like `evaluated`."""

    def guest(spec: SandboxSpec, job_dir: Path) -> Exit:
        if spec.output_target == EVALUATION_OUTPUT:
            before = [3_000_000 + 1_000 * row for row in range(HELD_OUT_ROWS)]
            after = [2_700_000 + 1_500 * row for row in range(HELD_OUT_ROWS)]
            (job_dir / "harvest" / "losses.json").write_bytes(encode_losses(before, after))
            return evaluated
        output = job_dir / "harvest" / spec.declared_outputs[0]
        output.parent.mkdir(parents=True, exist_ok=True)
        write(output)
        (job_dir / "stdout.log").write_text("{'loss': 1.25}\n")
        return ended

    return guest


def build_world(root: Path) -> None:
    """A home with people, policy, champion, model and dataset, at `root`/home."""
    create_home(root / "home", name="test", now=START)
    add_person(open_home(root / "home"), name=APPROVER, role=Role.APPROVER, now=START)
    add_person(open_home(root / "home"), name=PUBLISHER, role=Role.PUBLISHER, now=START)
    with open_appliance(root / "home", FixedClock()) as appliance:
        champion = propose(appliance)
        approve(appliance, champion, approver=APPROVER, printed_name="Olu Approver", reason="read whole")
        assert adopt(appliance, champion, actor=PROPOSER).allowed
        model = write_model(root / "base", BASE)
        import_model(appliance, model, name="local/tiny", actor=PROPOSER)
        rows = [
            {"instruct": f"what is {n} + 1?", "output": str(n + 1)} for n in range(HELD_OUT_ROWS * 10 + 2)
        ]
        (root / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        import_dataset(appliance, root / "rows.jsonl", actor=PROPOSER)
        take_evaluator(appliance)
        appliance.log.sequence(START)


def propose(
    appliance: Appliance,
    *,
    name: str = "god-text-reference",
    signer: str = PUBLISHER,
    note: str | None = None,
    published_at: datetime = START,
    origin: str = "tree",
    kind: OriginKind = OriginKind.FEED,
    proposer: str = PROPOSER,
    findings: tuple[inspection.Finding, ...] | None = (),
) -> ChampionRow:
    """The reference champion as if synced from a feed, without git; with one more file if `note` is given.

    Its report has `findings`, or there is none if that is None.
    """
    tree = appliance.home.root.parent / f"tree-{name}"
    shutil.copytree(REFERENCE, tree, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    if note is not None:
        (tree / "note.txt").write_text(note)
    manifest = appliance.store.put(tree)
    commit, git_tree = "1" * 40, manifest.root_sha256[:40]
    statement = Statement(
        subjects=(Subject(name=name, sha256=manifest.root_sha256),),
        predicate_type=CHAMPION_RELEASE,
        predicate={
            "name": name,
            "channel": "text",
            "commit": commit,
            "tree": git_tree,
            "contractEpoch": "E4",
            "origin": origin,
            "licence": {"sha256": "a" * 64},
            "notice": {"sha256": "b" * 64},
            "links": [],
            "images": [],
            "tournament": None,
            "publishedAt": format_time(published_at),
        },
    )
    row = ChampionRow(
        manifest_sha256=manifest.root_sha256,
        name=name,
        channel="text",
        commit=commit,
        tree=git_tree,
        contract_epoch="E4",
        release_bundle=sign_statement(statement, appliance.home.person_signer(signer)),
        proposed_by=proposer,
        proposed_at=appliance.clock.now(),
    )
    synced = Event(
        kind=EventKind.CHAMPION_SYNCED,
        subject=row.manifest_sha256,
        actor=proposer,
        at=row.proposed_at,
        detail={"name": name, "origin": kind.value, "keyless": ""},
    )
    with appliance.engine.begin() as conn:
        if champions.add(conn, row):
            inspections.add_origin(
                conn, ChampionOrigin(champion=row.manifest_sha256, kind=kind, location="feed")
            )
            enqueue(conn, synced)
        if findings is not None:
            report = report_of(row.manifest_sha256, findings=findings)
            bundle = sign_report(report, signer=appliance.signer, now=row.proposed_at)
            record_report(conn, report, bundle=bundle, actor=PROPOSER, at=row.proposed_at)
    return row


def report_of(
    manifest_sha256: str,
    *,
    findings: tuple[inspection.Finding, ...] = (),
    capabilities: tuple[inspection.Capability, ...] = (),
) -> InspectionReport:
    """What an inspection that found only that might say; it can train on instructions."""
    instruct = inspection.Capability(
        task_type="InstructTextTask",
        support=inspection.Support.YES,
        dockerfile="dockerfiles/standalone-text-trainer.dockerfile",
        entrypoint="scripts/text_trainer.py",
        reason="its parser accepts it",
    )
    return InspectionReport(
        version=inspection.REPORT_VERSION,
        manifest_sha256=manifest_sha256,
        licence=inspection.LicenceFacts(licence=None, notice=None, vendored=(), attribution="Gradients.io"),
        epochs=("E4",),
        epoch_reason="made up",
        capabilities=(instruct, *capabilities),
        base_images=(),
        downloads=(),
        needs=inspection.Needs(redis=False, writable_paths=(), minimum_rows=None, minimum_minutes=None),
        tables=(),
        files=inspection.FileCounts(files=1, size_bytes=1, python=1, shell=0, binaries=0, weights=0),
        findings=inspection.sorted_findings(list(findings)),
    )


def finding(rule: str, severity: inspection.Severity) -> inspection.Finding:
    return inspection.Finding(
        rule=rule, severity=severity, file="scripts/x.py", line=3, found="exec(x)", why="it may do anything"
    )


@contextmanager
def open_appliance(root: Path, clock: FixedClock) -> Iterator[Appliance]:
    home = open_home(root)
    engine = open_database(home.db_path)
    yield Appliance(
        settings=Settings(home=home.root),
        home=home,
        engine=engine,
        store=FolderStore(home.store_dir),
        clock=clock,
        signer=home.appliance_signer(),
        log=AuditLog(
            engine,
            origin=home.log_origin,
            signer=home.log_signer(),
            checkpoint_path=home.log_checkpoint_path,
        ),
    )
    engine.dispose()


@contextmanager
def open_world(root: Path, *, guest: FakeJob = trains) -> Iterator[World]:
    """The world that `build_world` made at `root`, or a copy of it."""
    clock = FixedClock()
    with open_appliance(root / "home", clock) as appliance:
        launcher = MeasuringLauncher(appliance.home.jobs_dir, guest, isolation=good_facts())
        ports = Ports(
            engine=appliance.engine,
            home=appliance.home,
            store=appliance.store,
            launcher=launcher,
            log=appliance.log,
            clock=clock,
            signer=appliance.signer,
            capacity=Capacity(max_parallel_runs=1, needed_free_bytes=0),
            limits=Limits(wall_clock_s=0),
            runtime=Runtime(python_prefix="/p", site_packages="/s", python_version="3.11"),
            runtime_facts=RuntimeFacts(python="3.11.9", packages_sha256="9" * 64),
            evaluator=next(appliance.home.store_dir.glob("*/files/evaluate.py")).parts[-3],
            isolation=partial(load_isolation_policy, appliance.settings.policies_dir),
            check_driver=lambda _: None,
        )
        yield World(appliance=appliance, ports=ports, launcher=launcher, clock=clock, order=_order(appliance))


def copy_world(template: Path, to: Path) -> Path:
    """A world of one's own, from the template."""
    shutil.copytree(template / "home", to / "home", symlinks=True)
    return to


def _order(appliance: Appliance) -> Order:
    with reading(appliance.engine) as conn:
        (champion,) = champions.list_champions(conn)
        (model,) = artifacts.list_artifacts(conn, ArtifactKind.MODEL)
        (dataset,) = artifacts.list_artifacts(conn, ArtifactKind.DATASET)
    return Order(
        champion=champion.manifest_sha256,
        base_model=model.root_sha256,
        dataset=dataset.root_sha256,
        hours_to_complete=0.5,
    )
