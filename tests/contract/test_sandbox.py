"""What every sandbox driver must do, run against the fake and the real one."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from runner.errors import SandboxUnavailableError
from runner.log import without_times
from runner.sandbox.drivers import DRIVERS, sandbox_of
from runner.sandbox.fake import FakeGuest, FakeSandbox
from runner.sandbox.port import Isolation, Sandbox
from runner.spec import ExitReason, SandboxSpec
from tests.runner.guests import SHELL, limits, order


@dataclass(frozen=True)
class Guest:
    """The same behaviour for a real driver and for the fake."""

    shell: str
    fake: FakeGuest


def _writes(spec: SandboxSpec, output: Path) -> tuple[bytes, int | None]:
    (output / "model.bin").write_bytes(b"weights\n")
    (output / "link").symlink_to("/etc/passwd")
    return b"hello\n", 0


WRITES = Guest("echo weights > /out/model.bin; ln -s /etc/passwd /out/link; echo hello", _writes)
FAILS = Guest("exit 3", lambda spec, output: (b"", 3))
TALKS = Guest("head -c 200000 /dev/zero", lambda spec, output: (bytes(200_000), 0))
NEVER_ENDS = Guest("sleep 600", lambda spec, output: (b"", None))

NEEDS_ROOT = frozenset({"gvisor"})
Driver = Callable[[Guest], Sandbox]


@pytest.fixture(params=["fake", *(pytest.param(name, marks=pytest.mark.sandbox) for name in DRIVERS)])
def driver(request: pytest.FixtureRequest) -> Driver:
    name = request.param
    if name == "fake":
        return lambda guest: FakeSandbox(guest=guest.fake)
    if name in NEEDS_ROOT and os.geteuid() != 0:
        pytest.skip(f"{name} refuses ordinary users; a test of its own says so")
    return lambda guest: sandbox_of(name)


@pytest.fixture
def job_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "job"
    folder.mkdir()
    return folder


def ignore(isolation: Isolation) -> None:
    """Takes the measurement."""


def order_for(guest: Guest) -> SandboxSpec:
    return order(*SHELL, guest.shell, declared_outputs=("model.bin",))


def test_check_returns_where_the_driver_works(driver: Driver) -> None:
    driver(WRITES).check()


def test_a_guest_ends_with_its_code_log_and_harvest(driver: Driver, job_dir: Path) -> None:
    sandbox = driver(WRITES)
    ended = sandbox.run(order_for(WRITES), job_dir=job_dir, on_measured=ignore, should_cancel=lambda: False)
    assert (ended.reason, ended.code, ended.survivors) == (ExitReason.EXITED, 0, 0)
    assert without_times((job_dir / "stdout.log").read_bytes()) == b"hello\n"
    assert (job_dir / "harvest" / "model.bin").read_bytes() == b"weights\n"
    assert [p.name for p in (job_dir / "harvest").iterdir()] == ["model.bin"]
    assert ended.rejected == {"link": "symlink"}
    assert ended.measured_at is not None
    assert ended.released_at is not None


def test_a_failing_guest_is_an_end_and_no_error(driver: Driver, job_dir: Path) -> None:
    ended = driver(FAILS).run(
        order_for(FAILS), job_dir=job_dir, on_measured=ignore, should_cancel=lambda: False
    )
    assert (ended.reason, ended.code) == (ExitReason.EXITED, 3)
    assert ended.rejected == {"model.bin": "declared and missing"}


def test_the_walls_are_told_before_the_guest_runs(driver: Driver, job_dir: Path) -> None:
    sandbox = driver(WRITES)
    seen: list[Isolation] = []

    def on_measured(isolation: Isolation) -> None:
        log = job_dir / "stdout.log"
        assert not log.exists() or log.read_bytes() == b""
        seen.append(isolation)

    sandbox.run(order_for(WRITES), job_dir=job_dir, on_measured=on_measured, should_cancel=lambda: False)
    assert [(i["driver"], i["violations"]) for i in seen] == [(sandbox.name, [])]


def test_a_guest_without_end_is_ended_at_its_wall_clock(driver: Driver, job_dir: Path) -> None:
    spec = replace(order_for(NEVER_ENDS), limits=limits(wall_clock_s=0.3))
    ended = driver(NEVER_ENDS).run(spec, job_dir=job_dir, on_measured=ignore, should_cancel=lambda: False)
    assert (ended.reason, ended.survivors) == (ExitReason.TIMEOUT, 0)
    assert (job_dir / "harvest").is_dir()


def test_a_cancelled_guest_is_ended(driver: Driver, job_dir: Path) -> None:
    ended = driver(NEVER_ENDS).run(
        order_for(NEVER_ENDS), job_dir=job_dir, on_measured=ignore, should_cancel=lambda: True
    )
    assert (ended.reason, ended.survivors) == (ExitReason.CANCELLED, 0)


def test_the_log_is_cut_and_counted(driver: Driver, job_dir: Path) -> None:
    ended = driver(TALKS).run(
        order_for(TALKS), job_dir=job_dir, on_measured=ignore, should_cancel=lambda: False
    )
    assert ended.log_bytes_total == 200_000
    assert 0 < (job_dir / "stdout.log").stat().st_size <= 64 << 10


def test_the_fake_refuses_weak_walls(job_dir: Path) -> None:
    sandbox = FakeSandbox(guest=WRITES.fake, isolation={"driver": "fake", "violations": ["/usr is writable"]})
    ended = sandbox.run(order_for(WRITES), job_dir=job_dir, on_measured=ignore, should_cancel=lambda: False)
    assert (ended.reason, ended.code, ended.released_at) == (ExitReason.REFUSED, None, None)
    assert ended.message == "the guest was not started: /usr is writable"


def test_the_fake_is_unavailable_when_told(job_dir: Path) -> None:
    sandbox = FakeSandbox(guest=WRITES.fake, unavailable="no walls today")
    with pytest.raises(SandboxUnavailableError, match="no walls today"):
        sandbox.check()
