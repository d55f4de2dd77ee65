"""What every launcher must do, run against the fake and the real one."""

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from runner.errors import LauncherError, SpecError
from runner.launcher.fake import SUCCESS, FakeLauncher
from runner.launcher.local import LocalLauncher
from runner.launcher.port import JobFacts, JobPhase, Launcher
from runner.linux import start_time
from runner.log import without_times
from runner.spec import Exit, ExitReason, SandboxSpec, encode_spec
from tests.runner.guests import SHELL, limits, needs_bwrap, order

DEADLINE_S = 30.0
real = [pytest.mark.sandbox, needs_bwrap]


def fill(spec: SandboxSpec, job_dir: Path) -> Exit:
    """The fake of `WRITES`."""
    (job_dir / "harvest" / "model").write_text("weights\n")
    (job_dir / "stdout.log").write_text("hello\n")
    return SUCCESS


WRITES = (*SHELL, "echo weights > /out/model; echo hello")


@pytest.fixture(params=["fake", pytest.param("local", marks=real)])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Launcher]:
    """Makes a launcher on one folder; a second one stands for a restarted worker."""
    if request.param == "fake":
        return lambda: FakeLauncher(tmp_path, fill)
    return lambda: LocalLauncher(tmp_path, sys.executable)


@pytest.fixture
def local(tmp_path: Path) -> LocalLauncher:
    return LocalLauncher(tmp_path, sys.executable)


def until(launcher: Launcher, job_id: str, wanted: Callable[[JobFacts], bool]) -> JobFacts:
    """Poll until the facts are as `wanted`; the pause is a wait on another process, not on time."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        facts = launcher.poll(job_id)
        assert facts is not None
        if wanted(facts):
            return facts
        select.select([], [], [], 0.01)
    raise AssertionError(f"job {job_id} did not get there in {DEADLINE_S} s")


def wait_for_death(pid: int) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while start_time(pid) is not None and time.monotonic() < deadline:
        select.select([], [], [], 0.01)


def until_reconciled(launcher: Launcher) -> tuple[str, ...]:
    """The holder holds the job's lock for a moment longer than its agent lives."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        if lost := launcher.reconcile():
            return lost
        select.select([], [], [], 0.01)
    return ()


def said(job_dir: Path) -> str:
    """The guest's log without the times at which it was read."""
    return without_times((job_dir / "stdout.log").read_bytes()).decode()


def end_of(launcher: Launcher, job_id: str) -> Exit:
    facts = until(launcher, job_id, lambda f: f.phase is JobPhase.ENDED)
    assert facts.exit is not None
    return facts.exit


def test_a_job_runs_to_its_end(make: Callable[[], Launcher]) -> None:
    launcher = make()
    launcher.submit(order(*WRITES))
    assert end_of(launcher, "job").reason is ExitReason.EXITED
    folder = launcher.job_dir("job")
    assert (folder / "harvest" / "model").read_text() == "weights\n"
    assert said(folder) == "hello\n"
    assert json.loads((folder / "isolation.json").read_bytes())["violations"] == []


def test_an_unknown_job_has_no_facts_and_may_be_cancelled(make: Callable[[], Launcher]) -> None:
    launcher = make()
    launcher.cancel("never")
    assert launcher.poll("never") is None


def test_another_launcher_on_the_folder_tells_the_same(make: Callable[[], Launcher]) -> None:
    first = make()
    first.submit(order(*WRITES))
    ended = end_of(first, "job")
    assert end_of(make(), "job") == ended


def test_submitting_again_starts_nothing(make: Callable[[], Launcher]) -> None:
    launcher = make()
    launcher.submit(order(*WRITES))
    ended = end_of(launcher, "job")
    launcher.submit(order(*SHELL, "exit 9"))
    assert end_of(launcher, "job") == ended


def test_a_cancelled_job_ends_so(make: Callable[[], Launcher]) -> None:
    launcher = make()
    if isinstance(launcher, FakeLauncher):
        launcher.holds = True
    launcher.submit(order(*SHELL, "sleep 600"))
    until(launcher, "job", lambda f: f.phase is JobPhase.RUNNING)
    launcher.cancel("job")
    launcher.cancel("job")
    assert end_of(launcher, "job").reason is ExitReason.CANCELLED


def test_a_forgotten_job_keeps_its_end_and_log_and_no_harvest(make: Callable[[], Launcher]) -> None:
    launcher = make()
    launcher.submit(order(*WRITES))
    ended = end_of(launcher, "job")
    launcher.forget("job")
    launcher.forget("job")
    folder = launcher.job_dir("job")
    assert not (folder / "harvest").exists()
    assert (folder / "stdout.log").read_text().endswith("hello\n")
    assert end_of(make(), "job") == ended


def test_a_job_that_has_not_ended_is_not_forgotten(make: Callable[[], Launcher]) -> None:
    launcher = make()
    if isinstance(launcher, FakeLauncher):
        launcher.holds = True
    launcher.submit(order(*SHELL, "echo x > /out/x; sleep 600"))
    until(launcher, "job", lambda f: f.phase is JobPhase.RUNNING)
    launcher.forget("job")
    assert launcher.job_dir("job").is_dir()
    launcher.cancel("job")
    assert end_of(launcher, "job").reason is ExitReason.CANCELLED


def test_reconciling_where_nothing_was_lost_changes_nothing(make: Callable[[], Launcher]) -> None:
    launcher = make()
    assert launcher.reconcile() == ()
    launcher.submit(order(*WRITES))
    ended = end_of(launcher, "job")
    assert make().reconcile() == ()
    assert end_of(launcher, "job") == ended


@pytest.mark.parametrize("job_id", ["../x", "a/b", "", ".."])
def test_refuses_a_name_that_is_a_path(make: Callable[[], Launcher], job_id: str) -> None:
    with pytest.raises(SpecError, match="not a plain name"):
        make().submit(order(*WRITES, job_id=job_id))


def test_the_fakes_end_is_scripted(tmp_path: Path) -> None:
    failed = replace(SUCCESS, code=3)
    launcher = FakeLauncher(tmp_path, lambda spec, job_dir: failed)
    launcher.submit(order("x"))
    assert end_of(launcher, "job") == failed


def test_a_python_that_is_not_there_is_the_launchers_error(tmp_path: Path) -> None:
    with pytest.raises(LauncherError, match="cannot be started"):
        LocalLauncher(tmp_path, "/nowhere/python").submit(order(*WRITES))


def test_an_agent_that_cannot_start_is_a_lost_job(tmp_path: Path, local: LocalLauncher) -> None:
    LocalLauncher(tmp_path, "/bin/false").submit(order(*WRITES))
    assert end_of(local, "job").reason is ExitReason.LOST


@pytest.mark.sandbox
@needs_bwrap
class TestLocal:
    def agent_of(self, local: LocalLauncher) -> int:
        return int(json.loads((local.job_dir("job") / "agent.json").read_bytes())["pid"])

    def test_a_crash_before_the_agent_is_repaired_by_submitting_again(self, local: LocalLauncher) -> None:
        spec = order(*SHELL, "echo once; sleep 0.2")
        local.job_dir("job").mkdir(parents=True)
        (local.job_dir("job") / "job.json").write_bytes(encode_spec(spec))
        facts = local.poll("job")
        assert facts is not None
        assert facts.phase is JobPhase.PREPARING
        local.submit(spec)
        local.submit(spec)
        assert end_of(local, "job").code == 0
        assert said(local.job_dir("job")) == "once\n"

    @pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
    def test_many_submitters_start_one_guest(self, tmp_path: Path) -> None:
        launchers = [LocalLauncher(tmp_path, sys.executable) for _ in range(4)]
        submitters = [
            threading.Thread(target=x.submit, args=(order(*SHELL, "echo once"),)) for x in launchers
        ]
        for submitter in submitters:
            submitter.start()
        for submitter in submitters:
            submitter.join()
        assert end_of(launchers[0], "job").code == 0
        assert said(tmp_path / "job") == "once\n"

    def test_a_job_outlives_the_worker_that_submitted_it(self, tmp_path: Path, local: LocalLauncher) -> None:
        spec = tmp_path / "spec.json"
        spec.write_bytes(encode_spec(order(*SHELL, "sleep 0.5; echo alive", limits=limits())))
        worker = (
            "import os, pathlib, signal, sys\n"
            "from runner.launcher.local import LocalLauncher\n"
            "from runner.spec import parse_spec\n"
            "spec = parse_spec(pathlib.Path(sys.argv[1]).read_bytes())\n"
            "LocalLauncher(pathlib.Path(sys.argv[2]), sys.executable).submit(spec)\n"
            "os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        done = subprocess.run([sys.executable, "-c", worker, str(spec), str(tmp_path)], check=False)
        assert done.returncode == -signal.SIGKILL
        assert end_of(local, "job").code == 0
        assert said(tmp_path / "job") == "alive\n"

    def test_a_killed_agent_leaves_nothing_and_its_job_is_lost_for_good(self, local: LocalLauncher) -> None:
        local.submit(order(*SHELL, "sleep 600 & sleep 600; wait"))
        until(local, "job", lambda f: f.phase is JobPhase.RUNNING)
        agent = self.agent_of(local)
        owner = f"assay-{agent}-{start_time(agent)}-job"
        loops = _loops(owner)
        os.kill(agent, signal.SIGKILL)
        ended = end_of(local, "job")
        assert ended.reason is ExitReason.LOST
        assert end_of(local, "job") == ended
        local.submit(order(*SHELL, "echo again"))
        assert end_of(local, "job") == ended
        assert list(Path("/sys/fs/cgroup").glob(f"**/{owner}")) == []
        assert _loops(owner) == []
        assert len(loops) == int(os.geteuid() == 0)
        assert owner not in Path("/proc/self/mountinfo").read_text()
        assert not (local.job_dir("job") / "harvest").exists()

    def test_reconciling_settles_what_was_killed_and_clears_what_was_begun(
        self, tmp_path: Path, local: LocalLauncher
    ) -> None:
        local.submit(order(*SHELL, "sleep 600"))
        until(local, "job", lambda f: f.phase is JobPhase.RUNNING)
        (tmp_path / ".new-cut-short").mkdir()
        (tmp_path / ".new-cut-short" / "job.json").write_bytes(b"{")
        agent = self.agent_of(local)
        os.kill(agent, signal.SIGKILL)
        wait_for_death(agent)
        restarted = LocalLauncher(tmp_path, sys.executable)
        assert until_reconciled(restarted) == ("job",)
        assert end_of(restarted, "job").reason is ExitReason.LOST
        assert end_of(restarted, "job").remnants == ()
        assert not (tmp_path / ".new-cut-short").exists()
        assert restarted.reconcile() == ()

    def test_a_cancelled_job_ends_within_five_seconds(self, local: LocalLauncher) -> None:
        local.submit(order(*SHELL, "trap '' TERM INT; while :; do sleep 1; done", limits=limits(grace_s=3.0)))
        until(local, "job", lambda f: f.phase is JobPhase.RUNNING)
        began = time.monotonic()
        local.cancel("job")
        assert end_of(local, "job").reason is ExitReason.CANCELLED
        # Promised, with the guest's whole grace of three seconds used up.
        assert time.monotonic() - began < 5.0

    def test_the_agent_inherits_no_environment(
        self, local: LocalLauncher, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ASSAY_TEST_SECRET", "canary-91c")
        local.submit(order(*SHELL, "sleep 600"))
        until(local, "job", lambda f: f.phase is JobPhase.RUNNING)
        environment = Path(f"/proc/{self.agent_of(local)}/environ").read_bytes()
        local.cancel("job")
        end_of(local, "job")
        assert b"canary-91c" not in environment


def _loops(owner: str) -> list[str]:
    """Loop devices that the holder `owner` attached and that are still there."""
    found = []
    for status in Path("/sys/block").glob("loop*/loop/backing_file"):
        listed = subprocess.run(
            ["losetup", "--noheadings", "-O", "BACK-FILE", f"/dev/{status.parent.parent.name}"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        found += [
            line for line in (listed.stdout + status.read_text()).splitlines() if "/job/output.img" in line
        ][:1]
    return found
