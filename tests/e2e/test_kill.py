"""SIGKILL of the real worker and the real server in the middle of real runs: each run is finished once."""

import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from appliance.cli.client import ApiClient
from appliance.demo.offline import verify_offline
from appliance.demo.processes import free_port
from appliance.domain import RunState
from appliance.errors import ApiError, ConflictError, UnreachableError
from attestation.claims import Kind
from audit.event import EventKind
from tests.e2e.site import (
    HOSTILE,
    QUICK,
    Inputs,
    Process,
    Site,
    client_of,
    make_site,
    order_of,
    processes,
    server_of,
    wait_until,
    worker_of,
)
from tests.runner.guests import needs_bwrap

pytestmark = [pytest.mark.sandbox, needs_bwrap]

STEPS = (
    EventKind.RUN_SUBMITTED,
    EventKind.RUN_PLACED,
    EventKind.RUN_STARTED,
    EventKind.RUN_HARVESTED,
    EventKind.RUN_EVALUATED,
    EventKind.RUN_ATTESTED,
    EventKind.RUN_LOGGED,
)
ORDER = tuple(RunState)
CLAIMS = len(Kind) + 1  # a strange script has a second approval


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A site whose server and worker run, to be killed."""

    site: Site
    server: Process
    worker: Process
    api: ApiClient
    inputs: Inputs

    def restart(self, process: Process) -> None:
        """SIGKILL, then start it again."""
        process.kill()
        process.start()
        self.await_server()

    def await_server(self) -> None:
        wait_until(self._answers, what="the server", alive=(self.server,))

    def await_state(self, run_id: str, state: RunState) -> RunState:
        """The first state seen that is `state` or a later one."""
        wait_until(
            lambda: ORDER.index(self.site.run(run_id).state) >= ORDER.index(state),
            what=f"state {state}",
            alive=(self.worker,),
            pause_s=0.001,
        )
        return self.site.run(run_id).state

    def _answers(self) -> bool:
        try:
            self.api.list_runs(limit=1)
        except UnreachableError:
            return False
        return True


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory, base_model: Path, few_complaints: Path
) -> Iterator[Running]:
    site = make_site(tmp_path_factory.mktemp("kill"))
    inputs = site.import_inputs(base_model, few_complaints)
    port = free_port()
    server, worker = server_of(site, port=port), worker_of(site)
    with processes(server, worker):
        made = Running(site=site, server=server, worker=worker, api=client_of(site, port=port), inputs=inputs)
        made.await_server()
        yield made


@pytest.fixture(scope="module")
def quick(running: Running) -> str:
    return running.site.admit_champion("quick", script=QUICK)


def assert_finished_once(running: Running, run_id: str) -> None:
    """Proved, and nothing was done twice."""
    site = running.site
    running.await_state(run_id, RunState.LOGGED)
    assert site.run(run_id).state is RunState.LOGGED, site.run(run_id).reason
    wait_until(lambda: len(site.events(run_id)) == len(STEPS) + CLAIMS, what="the last event")
    kinds = [event.kind for event in site.events(run_id)]
    assert [kind for kind in kinds if kind is not EventKind.CLAIM_SIGNED] == list(STEPS)
    assert kinds.count(EventKind.CLAIM_SIGNED) == CLAIMS
    jobs = sorted(path.name for path in (site.home / "jobs").iterdir() if path.name.startswith(run_id))
    assert jobs == [run_id, f"{run_id}-evaluate"]
    assert site.job_log(run_id).count("step=1 total=1") == 1  # trained once
    evidence = running.api.fetch(run_id, "evidence", into=site.folder / "fetched" / run_id)
    done = verify_offline(evidence, pin=site.pin)
    assert done.returncode == 0, done.stdout
    wait_until(lambda: site.half_written() == [], what="everything half-written to go")
    assert site.log_findings() == ()


def test_a_worker_that_is_killed_at_each_step_finishes_the_run_once(running: Running, quick: str) -> None:
    body = order_of(quick, running.inputs)
    run_id = running.api.submit(body, idempotency_key="kill-the-worker")["id"]
    agents, killed_in = set(), []
    for state in (RunState.SUBMITTED, RunState.RUNNING, RunState.HARVESTED, RunState.ATTESTED):
        killed_in.append(running.await_state(run_id, state))
        running.restart(running.worker)
        with suppress(FileNotFoundError):
            agents.add((running.site.home / "jobs" / run_id / "agent.json").read_bytes())
    assert_finished_once(running, run_id)
    assert len(agents) == 1  # the job outlived its worker
    assert RunState.HARVESTED in killed_in  # in the middle of the evaluation
    assert killed_in[0] is not killed_in[1]


def test_a_server_that_is_killed_takes_each_order_once(running: Running, quick: str) -> None:
    body, ids = order_of(quick, running.inputs), set()
    runs_before = running.api.list_runs(limit=200)["runs"]

    def submit() -> None:
        with suppress(UnreachableError):  # killed before it could answer
            ids.add(running.api.submit(body, idempotency_key="kill-the-server")["id"])

    for _ in range(3):
        asking = threading.Thread(target=submit)
        asking.start()
        running.restart(running.server)
        asking.join()
    submit()
    assert len(ids) == 1
    (run_id,) = ids
    before = {run["id"] for run in runs_before}
    assert {run["id"] for run in running.api.list_runs(limit=200)["runs"]} == before | {run_id}
    for state in (RunState.RUNNING, RunState.HARVESTED):
        running.await_state(run_id, state)
        running.restart(running.server)
    assert_finished_once(running, run_id)


def test_a_download_that_breaks_off_leaves_nothing(running: Running, quick: str) -> None:
    logged = [run["id"] for run in running.api.list_runs(limit=200)["runs"] if run["state"] == "logged"]
    into = running.site.folder / "broken-off"
    broken = 0
    for _ in range(5):
        asking = threading.Thread(target=running.restart, args=(running.server,))
        asking.start()
        try:
            running.api.fetch(logged[0], "evidence", into=into)
        except (UnreachableError, ConflictError, ApiError):
            broken += 1
            assert not into.exists()
        asking.join()
        if into.exists():
            break
    assert list(running.site.folder.glob(".broken-off.*")) == []
    if not into.exists():
        running.api.fetch(logged[0], "evidence", into=into)
    assert verify_offline(into, pin=running.site.pin).returncode == 0


def test_both_killed_while_a_champion_hangs_end_it_at_its_time(running: Running) -> None:
    champion = running.site.admit_champion("hangs", script=HOSTILE / "ignores_sigterm.py")
    body = order_of(champion, running.inputs, hours=4 / 3600)
    run_id = running.api.submit(body, idempotency_key="kill-both")["id"]
    running.await_state(run_id, RunState.RUNNING)
    running.worker.kill()
    running.restart(running.server)
    wait_until((running.site.home / "jobs" / run_id / "exit.json").exists, what="the end without a worker")
    running.worker.start()
    running.await_state(run_id, RunState.FAILED)
    ended = running.site.job_exit(run_id)
    assert (ended.reason, ended.survivors) == ("timeout", 0)
    kinds = [event.kind for event in running.site.events(run_id)]
    assert kinds == [*STEPS[:3], EventKind.RUN_FAILED]
