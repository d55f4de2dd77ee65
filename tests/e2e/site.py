"""A real site in a folder: home, two people, champions from a signed feed, inputs, server and worker.

Nothing here is a fake. The worker's loop runs inside the test until a run is where the test wants it, or as
a process of its own where the test kills it.
"""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from appliance.adoption import adopt, approve
from appliance.assembly import Appliance, capacity_of, open_appliance, take_evaluator
from appliance.attest import RuntimeFacts
from appliance.cli.client import ApiClient
from appliance.domain import Run
from appliance.feeds import sync_by_hand
from appliance.home import add_person, create_home
from appliance.imports import import_dataset, import_model
from appliance.isolation_policy import load_isolation_policy
from appliance.ports import Ports, SystemClock
from appliance.settings import Settings
from appliance.store import runs, tokens
from appliance.store.engine import reading
from appliance.syncing import champion_named
from appliance.tokens import Role as ApiRole
from appliance.worker import work
from attestation.trust import Role, trust_sha256
from audit.event import Event
from audit.fsck import check_log
from audit.store import events_of
from runner.launcher.local import LocalLauncher
from runner.log import without_times
from runner.runtime import locate_runtime, measure_runtime
from runner.sandbox.drivers import sandbox_of
from runner.spec import Exit, Limits, Runtime, parse_exit
from tournament_sync.champion import Channel, ContractEpoch
from tournament_sync.feed.keys import ROOT_FILE
from tournament_sync.feed.publish_tree import publish_tree
from tournament_sync.release import ReleaseFacts
from tournament_sync.sync import SyncReport

REFERENCE = Path(__file__).parents[2] / "deploy" / "champions" / "reference"
HOSTILE = Path(__file__).parents[1] / "deploy" / "hostile"
QUICK = Path(__file__).parent / "champions" / "changes_every_tensor.py"
SUBMITTER, APPROVER, PUBLISHER = "ada", "olu", "feed-publisher"
SECOND_APPROVER = "pia"
GENEROUS_HOURS = 0.1
RUN_DEADLINE_S = 150.0  # for whatever a test waits for; an idle machine needs seconds
# Names in a home that mean: somebody was interrupted here.
HALF_WRITTEN = (
    "store/.*",
    "evidence/.*",
    "jobs/.*",
    "jobs/*/harvest.partial",
    "jobs/*/output.img",
    "jobs/*/*.new",
    ".preparing-*",
    ".trust-*",
    "log/.*.new",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Digests of an imported base model and data set."""

    base_model: str
    dataset: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One appliance with everything around it, below `folder`."""

    folder: Path
    appliance: Appliance
    evaluator: str  # root digest in the store, as a worker takes it when it starts

    @property
    def home(self) -> Path:
        return self.appliance.home.root

    @property
    def pin(self) -> str:
        """What an auditor was told by telephone."""
        return trust_sha256(self.appliance.home.trust_files())

    def publish(self, name: str, *, script: Path | None = None, feed: str = "feed") -> SyncReport:
        """Publish the reference champion, with `script` as its trainer if given, and sync the feed of that name."""
        tree = self.folder / "trees" / name
        shutil.copytree(REFERENCE, tree, ignore=shutil.ignore_patterns("__pycache__"))
        if script is not None:
            shutil.copyfile(script, tree / "scripts" / "text_trainer.py")
            (tree / "README.md").write_text(f"{name}, a champion of the tests\n", encoding="utf-8")
        place, keys = self.folder / feed, self.folder / f"{feed}-keys"
        publish_tree(
            tree,
            place,
            keys=keys,
            facts=ReleaseFacts(name=name, channel=Channel.TEXT, contract_epoch=ContractEpoch.E4),
            signer=self.appliance.home.person_signer(PUBLISHER),
            now=SystemClock().now(),
        )
        root = (keys / ROOT_FILE).read_bytes()
        return sync_by_hand(self.appliance, str(place), actor=SUBMITTER, root=root)

    def sync_champion(self, name: str, *, script: Path | None = None) -> str:
        """The same, taken; its digest."""
        report = self.publish(name, script=script)
        assert report.refused == ()
        return champion_named(self.appliance, name).manifest_sha256

    def admit_champion(self, name: str, *, script: Path | None = None) -> str:
        """The same, approved by the second person and admitted; by a third, too, if it is a strange one."""
        digest = self.sync_champion(name, script=script)
        champion = champion_named(self.appliance, name)
        approve(self.appliance, champion, approver=APPROVER, printed_name="Olu Approver", reason="read whole")
        if script is not None:  # hostile ones have findings that want two
            approve(self.appliance, champion, approver=SECOND_APPROVER, printed_name="Pia", reason="read too")
        decision = adopt(self.appliance, champion, actor=SUBMITTER)
        assert decision.allowed, decision.reasons
        return digest

    def import_inputs(self, base_model: Path, data: Path) -> Inputs:
        """Take both into the store."""
        model = import_model(self.appliance, base_model, name="assay/tiny", actor=SUBMITTER)
        dataset = import_dataset(self.appliance, data, actor=SUBMITTER)
        return Inputs(base_model=model.root_sha256, dataset=dataset.root_sha256)

    def token(self) -> str:
        """A new API token that may submit."""
        with self.appliance.engine.begin() as connection:
            made = tokens.create(
                connection, name=SUBMITTER, role=ApiRole.SUBMITTER, actor=SUBMITTER, now=SystemClock().now()
            )
        return made.secret

    def ports(self, **limits: Any) -> Ports:  # Any: fields of Limits
        """What the worker of this site uses; `limits` for its training jobs."""
        runtime, facts = _guests()
        appliance = self.appliance
        return Ports(
            engine=appliance.engine,
            home=appliance.home,
            store=appliance.store,
            launcher=LocalLauncher(appliance.home.jobs_dir, python=sys.executable),
            log=appliance.log,
            clock=appliance.clock,
            signer=appliance.signer,
            capacity=capacity_of(appliance.settings),
            limits=replace(Limits(wall_clock_s=0), **limits),
            runtime=runtime,
            runtime_facts=facts,
            evaluator=self.evaluator,
            isolation=partial(load_isolation_policy, appliance.settings.policies_dir),
            check_driver=lambda driver: sandbox_of(driver).check(),
        )

    def run(self, run_id: str) -> Run:
        with reading(self.appliance.engine) as connection:
            return runs.get(connection, run_id)

    def events(self, subject: str) -> tuple[Event, ...]:
        with reading(self.appliance.engine) as connection:
            return tuple(logged.event for logged in events_of(connection, subject))

    def work(
        self,
        run_id: str,
        *,
        until: Callable[[Run], bool] = lambda run: run.state.is_final,
        ports: Ports | None = None,
        for_s: float = RUN_DEADLINE_S,
    ) -> Run:
        """Let the worker's loop run until `until` holds for the run, or `for_s` are over; the run then."""
        deadline = time.monotonic() + for_s
        work(
            ports or self.ports(),
            poll_interval_s=0.05,
            should_stop=lambda: until(self.run(run_id)) or time.monotonic() > deadline,
        )
        return self.run(run_id)

    def job_exit(self, job_id: str) -> Exit:
        return parse_exit((self.home / "jobs" / job_id / "exit.json").read_bytes())

    def job_log(self, job_id: str) -> str:
        """What the guest said, without the times at which it was read."""
        log = (self.home / "jobs" / job_id / "stdout.log").read_bytes()
        return without_times(log).decode(errors="replace")

    def half_written(self) -> list[str]:
        """What an interrupted step left in the home, control groups of its jobs included."""
        found = {str(path.relative_to(self.home)) for name in HALF_WRITTEN for path in self.home.glob(name)}
        locks = {name for name in found if name.endswith(".lock")}
        jobs = tuple(f"-{path.name}" for path in (self.home / "jobs").iterdir())
        groups = {str(path) for path in Path("/sys/fs/cgroup").glob("**/assay-*") if path.name.endswith(jobs)}
        return sorted((found - locks) | groups)

    def everything(self) -> set[str]:
        """The names of all that is kept in the home."""
        return {
            str(path.relative_to(self.home))
            for folder in ("store", "evidence", "jobs", ".")
            for path in (self.home / folder).iterdir()
            if not path.name.startswith("assay.db-")  # SQLite's own, come and go
        }

    def log_findings(self) -> tuple[str, ...]:
        """What is wrong with the audit log, recomputed from its entries."""
        home = self.appliance.home
        found = check_log(
            self.appliance.engine,
            origin=home.log_origin,
            vkey=home.log_signer().vkey,
            checkpoint_path=home.log_checkpoint_path,
        )
        return tuple(map(str, found))


def make_site(folder: Path, **settings: Any) -> Site:  # Any: fields of Settings
    """A new site in `folder` with a submitter, an approver and a publisher; no champions, no inputs."""
    now = SystemClock().now()
    home = create_home(folder / "home", name="e2e", now=now)
    for name in (APPROVER, SECOND_APPROVER):
        add_person(home, name=name, role=Role.APPROVER, now=now)
    add_person(home, name=PUBLISHER, role=Role.PUBLISHER, now=now)
    appliance = open_appliance(Settings(home=home.root, **settings))
    return Site(folder=folder, appliance=appliance, evaluator=take_evaluator(appliance))


def order_of(champion: str, inputs: Inputs, *, hours: float = GENEROUS_HOURS) -> dict[str, Any]:
    """The body of an order."""
    return {
        "champion": champion,
        "base_model": inputs.base_model,
        "dataset": inputs.dataset,
        "hours_to_complete": hours,
    }


@dataclass(slots=True)
class Process:
    """`assay …` as a process that can be killed and started again; its talk goes to `log`."""

    arguments: list[str]
    log: Path
    child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as output:
            self.child = subprocess.Popen(
                [sys.executable, "-m", "appliance", *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        assert self.child is not None
        self.child.kill()
        self.child.wait()


@contextmanager
def processes(*wanted: Process) -> Iterator[None]:
    """Start all; whatever runs at the end is killed."""
    try:
        for process in wanted:
            process.start()
        yield
    finally:
        for process in wanted:
            if process.child is not None:
                process.kill()


def server_of(site: Site, *, port: int) -> Process:
    arguments = ["serve", "--home", str(site.home), "--port", str(port)]
    return Process(arguments, site.folder / "serve.log")


def worker_of(site: Site) -> Process:
    return Process(["worker", "--home", str(site.home)], site.folder / "worker.log")


def client_of(site: Site, *, port: int) -> ApiClient:
    return ApiClient(f"http://127.0.0.1:{port}", token=site.token())


def wait_until(
    holds: Callable[[], bool], *, what: str, alive: tuple[Process, ...] = (), pause_s: float = 0.01
) -> None:
    """Poll until `holds`; fail after a long time, or when one of `alive` ended, naming `what`."""
    deadline = time.monotonic() + RUN_DEADLINE_S
    while not holds():
        for process in alive:
            assert process.child is not None
            assert process.child.poll() is None, process.log.read_text(encoding="utf-8")[-2000:]
        assert time.monotonic() < deadline, f"waited {RUN_DEADLINE_S:g} s for {what}"
        time.sleep(pause_s)


def assay(*arguments: str | Path, namespace: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """`assay …` as an operator types it, in `namespace` if given."""
    command = [*namespace, sys.executable, "-m", "appliance", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@cache
def _guests() -> tuple[Runtime, RuntimeFacts]:
    """The guests' Python environment, hashed once for all sites of this test session."""
    runtime = locate_runtime()
    measured = measure_runtime(runtime)
    return runtime, RuntimeFacts(python=measured.python_version, packages_sha256=measured.sha256)
