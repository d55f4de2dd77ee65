"""The agent runs a job at most once and always leaves an end."""

import fcntl
import json
from collections.abc import Callable
from pathlib import Path

import pytest

import runner.agent
from runner.agent import run_job, settle_lost, write_durably
from runner.losses import CurveError, Losses, read_losses
from runner.sandbox.drivers import sandbox_of
from runner.sandbox.fake import FakeSandbox
from runner.sandbox.port import Sandbox
from runner.spec import Exit, ExitReason, SandboxSpec, encode_spec, parse_exit
from tests.runner.guests import order


@pytest.fixture
def job_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "job"
    folder.mkdir()
    (folder / "job.json").write_bytes(encode_spec(order("true")))
    return folder


def ends_well(spec: SandboxSpec, output: Path) -> tuple[bytes, int | None]:
    (output / "model").write_text("weights")
    return b"done\n", 0


def always(sandbox: Sandbox) -> Callable[[str], Sandbox]:
    return lambda driver: sandbox


def test_the_driver_that_the_order_names_is_used_and_no_other(job_dir: Path) -> None:
    (job_dir / "job.json").write_bytes(encode_spec(order("true", driver="kata")))
    run_job(job_dir, sandbox_of=sandbox_of)
    ended = end_of(job_dir)
    assert ended.reason is ExitReason.UNAVAILABLE
    assert "there is no sandbox driver 'kata'; known are bubblewrap" in ended.message


def end_of(job_dir: Path) -> Exit:
    return parse_exit((job_dir / "exit.json").read_bytes())


def test_a_job_leaves_its_isolation_phase_and_end(job_dir: Path) -> None:
    run_job(job_dir, sandbox_of=always(FakeSandbox(guest=ends_well)))
    assert end_of(job_dir).reason is ExitReason.EXITED
    assert json.loads((job_dir / "isolation.json").read_bytes())["driver"] == "fake"
    assert (job_dir / "phase").read_bytes() == b"running"
    assert (job_dir / "harvest" / "model").read_text() == "weights"


def leaves_a_curve(spec: SandboxSpec, output: Path) -> tuple[bytes, int | None]:
    (output / "loss.txt").write_text("9,1.5")
    return b"", 0


def test_the_curve_in_a_harvest_is_kept(job_dir: Path) -> None:
    run_job(job_dir, sandbox_of=always(FakeSandbox(guest=leaves_a_curve)))
    found = read_losses(job_dir)
    assert found is not None
    assert [(p.step, p.micros) for p in found.points] == [(9, 1_500_000)]


def test_the_end_is_told_before_the_champions_files_are_looked_into(job_dir: Path) -> None:
    told: list[ExitReason] = []

    def looks(harvest: Path) -> Losses | None:
        told.append(end_of(harvest.parent).reason)
        return None

    run_job(job_dir, sandbox_of=always(FakeSandbox(guest=leaves_a_curve)), losses_of=looks)
    assert told == [ExitReason.EXITED]


@pytest.mark.parametrize("error", [CurveError("too much"), FileNotFoundError("gone")])
def test_a_curve_that_cannot_be_read_changes_no_end(
    job_dir: Path, error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(harvest: Path) -> Losses | None:
        raise error

    run_job(job_dir, sandbox_of=always(FakeSandbox(guest=leaves_a_curve)), losses_of=fails)
    assert end_of(job_dir).reason is ExitReason.EXITED
    assert read_losses(job_dir) is None
    assert f"no loss curve was kept: {error}" in capsys.readouterr().err


def test_a_job_is_never_run_twice(job_dir: Path) -> None:
    runs: list[str] = []

    def counts(spec: SandboxSpec, output: Path) -> tuple[bytes, int | None]:
        runs.append(spec.job_id)
        return b"", 0

    for _ in range(2):
        run_job(job_dir, sandbox_of=always(FakeSandbox(guest=counts)))
    assert runs == ["job"]


def test_a_job_whose_agent_died_is_not_run_again(job_dir: Path) -> None:
    (job_dir / "agent.json").write_text("{}")
    run_job(job_dir, sandbox_of=always(FakeSandbox(guest=ends_well)))
    assert not (job_dir / "exit.json").exists()


def test_a_job_that_was_settled_as_lost_is_not_run_by_a_late_agent(job_dir: Path) -> None:
    settle_lost(job_dir)
    run_job(job_dir, sandbox_of=always(FakeSandbox(guest=ends_well)))
    assert end_of(job_dir).reason is ExitReason.LOST
    assert not (job_dir / "harvest").exists()


def test_an_agent_stands_back_while_another_holds_the_job(job_dir: Path) -> None:
    with (job_dir / "agent.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (job_dir / "agent.json").write_text("{}")
        run_job(job_dir, sandbox_of=always(FakeSandbox(guest=ends_well)))
    assert not (job_dir / "exit.json").exists()


def test_weak_walls_never_reach_the_phase_running(job_dir: Path) -> None:
    weak = {"driver": "fake", "violations": ["/usr is writable"]}
    run_job(job_dir, sandbox_of=always(FakeSandbox(guest=ends_well, isolation=weak)))
    assert end_of(job_dir).reason is ExitReason.REFUSED
    assert not (job_dir / "phase").exists()


def test_an_unavailable_sandbox_is_an_end_with_its_reason(job_dir: Path) -> None:
    run_job(job_dir, sandbox_of=always(FakeSandbox(guest=ends_well, unavailable="install bubblewrap")))
    assert (end_of(job_dir).reason, end_of(job_dir).message) == (ExitReason.UNAVAILABLE, "install bubblewrap")


def test_a_malformed_order_is_an_end_with_its_reason(job_dir: Path) -> None:
    (job_dir / "job.json").write_bytes(b"{}")
    run_job(job_dir, sandbox_of=always(FakeSandbox(guest=ends_well)))
    assert end_of(job_dir).reason is ExitReason.UNAVAILABLE
    assert "malformed" in end_of(job_dir).message


def test_a_job_cancelled_early_never_runs(job_dir: Path) -> None:
    (job_dir / "cancel").touch()
    run_job(job_dir, sandbox_of=always(FakeSandbox(guest=ends_well)))
    assert end_of(job_dir).reason is ExitReason.CANCELLED
    assert not (job_dir / "isolation.json").exists()


def test_a_lost_job_is_settled_and_stays_so(job_dir: Path) -> None:
    (job_dir / "agent.json").write_text("{}")
    settle_lost(job_dir)
    first = (job_dir / "exit.json").read_bytes()
    settle_lost(job_dir)
    assert end_of(job_dir).reason is ExitReason.LOST
    assert (job_dir / "exit.json").read_bytes() == first


def test_an_ended_job_is_not_settled_as_lost(job_dir: Path) -> None:
    run_job(job_dir, sandbox_of=always(FakeSandbox(guest=ends_well)))
    settle_lost(job_dir)
    assert end_of(job_dir).reason is ExitReason.EXITED


def test_durable_files_appear_whole(tmp_path: Path) -> None:
    write_durably(tmp_path / "a", b"one")
    write_durably(tmp_path / "a", b"two")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a", b"two")]


@pytest.mark.parametrize("arguments", [[], ["--lost"], ["a", "b"]])
def test_misuse_is_told(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["agent", *arguments])
    assert runner.agent.main() == 2
    assert "usage:" in capsys.readouterr().err
