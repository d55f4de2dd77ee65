"""The self-check's judgement with a sandbox that says what it is told; the real driver by marker."""

import json
import os
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from runner import probes
from runner.canaries import ENV_NAME, LISTENERS, HostCanaries
from runner.disclosures import disclosed
from runner.errors import SandboxUnavailableError
from runner.sandbox.port import Isolation
from runner.selfcheck import (
    CONTROL,
    EXPECTATIONS,
    LIMITS,
    MAY_BE_ABSENT,
    MEMORY_PROBE,
    OPEN_BARE,
    SelfcheckReport,
    judge_answers,
    parse_answers,
    run_selfcheck,
)
from runner.spec import Exit, ExitReason, Profile, Runtime, SandboxSpec

KNOWN = disclosed("bubblewrap", Profile.STRICT)
RUNTIME = Runtime(python_prefix="/none", site_packages="/none", python_version="3.11")
GOOD = {
    CONTROL: ("ALLOWED", ""),
    **{name: ("blocked", "EPERM") for name in EXPECTATIONS if name != MEMORY_PROBE},
}


def ended(reason: ExitReason, code: int | None = 0, survivors: int = 0) -> Exit:
    return Exit(
        reason=reason,
        code=code,
        message=f"said {reason}",
        measured_at=None,
        released_at=None,
        ended_at="2026-11-21T00:00:00Z",
        usage={},
        survivors=survivors,
        log_bytes_total=0,
        rejected={},
    )


@dataclass
class FakeSandbox:
    """Answers like a perfect sandbox, but for what a test changes."""

    name: str = "fake"
    answers: dict[str, tuple[str, str]] = field(default_factory=lambda: dict(GOOD))
    memory: dict[str, tuple[str, str]] = field(default_factory=lambda: {MEMORY_PROBE: ("blocked", "killed")})
    ends: dict[str, Exit] = field(default_factory=dict)
    flood: int = 1000
    on_battery: Callable[[Mapping[str, Any]], None] = lambda config: None
    unavailable: str = ""

    def check(self) -> None:
        if self.unavailable:
            raise SandboxUnavailableError(self.unavailable)

    def run(
        self,
        spec: SandboxSpec,
        *,
        job_dir: Path,
        on_measured: Callable[[Isolation], None],
        should_cancel: Callable[[], bool],
    ) -> Exit:
        on_measured({"violations": []})
        name = spec.job_id.removeprefix("selfcheck-")
        if name == "stubborn":
            (job_dir / "stdout.log").write_bytes(b"x" * self.flood)
            return self.ends.get(name, ended(ExitReason.TIMEOUT, None))
        config = json.loads((Path(spec.mounts[0].source) / "config.json").read_text())
        if name == "battery":
            self.on_battery(config)
        told = self.answers if name == "battery" else self.memory
        lines = [json.dumps({"probe": p, "answer": a, "detail": d}) for p, (a, d) in told.items()]
        (job_dir / "stdout.log").write_text("\n".join(["noise", *lines, '{"done": 1}']))
        return self.ends.get(name, ended(ExitReason.EXITED))


def check(tmp_path: Path, sandbox: FakeSandbox) -> SelfcheckReport:
    return run_selfcheck(sandbox, runtime=RUNTIME, work_dir=tmp_path, on_progress=lambda _: None)


def failed(report: SelfcheckReport) -> dict[str, str]:
    assert report.passed == (not report.failures)
    return {r.probe: f"{r.answer}: {r.detail}" for r in report.failures}


def test_every_probe_has_exactly_one_expectation_and_every_expectation_a_probe() -> None:
    assert set(probes.PROBES) == {CONTROL, *EXPECTATIONS}


def test_exceptions_and_controls_name_real_probes() -> None:
    assert {*MAY_BE_ABSENT, *KNOWN, *OPEN_BARE} <= set(probes.PROBES)


def test_nothing_dangerous_runs_bare() -> None:
    assert not [name for name in OPEN_BARE if name.startswith("res.") or "write" in name]


def test_good_walls_pass(tmp_path: Path) -> None:
    report = check(tmp_path, FakeSandbox())
    assert failed(report) == {}
    assert {r.probe for r in report.bare} == {*OPEN_BARE, *(f"canary.{n}" for n in LISTENERS)}


@pytest.mark.parametrize("answer", ["ALLOWED", "error", "n/a", "missing", "something else"])
def test_any_answer_but_blocked_fails(tmp_path: Path, answer: str) -> None:
    sandbox = FakeSandbox()
    sandbox.answers["fs.host_secret"] = (answer, "why")
    assert failed(check(tmp_path, sandbox)) == {"fs.host_secret": f"{answer}: why"}


def test_a_missing_answer_fails() -> None:
    answers = {name: answer for name, answer in GOOD.items() if name != "res.fork_bomb"}
    assert [(r.probe, r.answer) for r in judge_answers(answers, known=KNOWN) if not r.holds] == [
        ("res.fork_bomb", "missing")
    ]


def test_a_silent_guest_fails_everywhere() -> None:
    assert not [r for r in judge_answers({}, known=KNOWN) if r.holds]


def test_probes_that_cannot_answer_allowed_prove_nothing() -> None:
    judged = judge_answers({**GOOD, CONTROL: ("blocked", "ENOSYS")}, known=KNOWN)
    assert [r.probe for r in judged if not r.holds] == [CONTROL]


def test_an_unknown_probe_fails() -> None:
    assert [
        r.probe for r in judge_answers({**GOOD, "net.new": ("blocked", "")}, known=KNOWN) if not r.holds
    ] == ["net.new"]


@pytest.mark.parametrize("name", sorted(MAY_BE_ABSENT))
def test_what_another_machine_lacks_may_be_absent(name: str) -> None:
    assert all(r.holds for r in judge_answers({**GOOD, name: ("n/a", "x86 only")}, known=KNOWN))


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_what_is_open_by_design_is_told(tmp_path: Path, name: str) -> None:
    report = check(tmp_path, FakeSandbox(name="bubblewrap", answers={**GOOD, name: ("ALLOWED", "/mnt")}))
    assert report.passed
    assert report.disclosed == (f"{name}: {KNOWN[name]}",)


def test_a_guest_that_reaches_the_host_is_found_by_the_canary(tmp_path: Path) -> None:
    def reach(config: Mapping[str, Any]) -> None:
        with socket.create_connection(tuple(config["tcp"][0]), timeout=2) as peer:
            assert peer.recv(64) == b"canary"

    assert failed(check(tmp_path, FakeSandbox(on_battery=reach))) == {"canary.tcp": "failed: 1 contacts"}


@pytest.mark.parametrize(
    ("end", "found"),
    [
        (ended(ExitReason.TIMEOUT, None), "timeout, code None, 0 survivors"),
        (ended(ExitReason.EXITED, 1), "exited, code 1"),
        (ended(ExitReason.EXITED, 0, survivors=2), "2 survivors"),
        (ended(ExitReason.REFUSED, None), "refused"),
    ],
)
def test_a_battery_that_ends_badly_fails(tmp_path: Path, end: Exit, found: str) -> None:
    assert found in failed(check(tmp_path, FakeSandbox(ends={"battery": end})))["exit.battery"]


def test_a_guest_killed_for_its_memory_counts_as_blocked(tmp_path: Path) -> None:
    killed = FakeSandbox(memory={}, ends={"memory": ended(ExitReason.OUT_OF_MEMORY, None)})
    assert check(tmp_path, killed).passed


def test_memory_without_an_answer_fails(tmp_path: Path) -> None:
    assert set(failed(check(tmp_path, FakeSandbox(memory={})))) == {MEMORY_PROBE}


def test_a_crossed_memory_limit_fails(tmp_path: Path) -> None:
    sandbox = FakeSandbox(memory={MEMORY_PROBE: ("ALLOWED", "1024 MiB")})
    assert failed(check(tmp_path, sandbox)) == {MEMORY_PROBE: "ALLOWED: 1024 MiB"}


def test_a_guest_that_outlives_its_deadline_fails(tmp_path: Path) -> None:
    sandbox = FakeSandbox(ends={"stubborn": ended(ExitReason.EXITED, 0, survivors=1)})
    assert set(failed(check(tmp_path, sandbox))) == {"kill.deadline", "kill.survivors"}


def test_an_uncapped_log_fails(tmp_path: Path) -> None:
    assert set(failed(check(tmp_path, FakeSandbox(flood=LIMITS.log_bytes * 2)))) == {"log.flood"}


def test_an_unavailable_sandbox_is_told_and_nothing_runs(tmp_path: Path) -> None:
    with pytest.raises(SandboxUnavailableError, match="install bubblewrap"):
        check(tmp_path, FakeSandbox(unavailable="install bubblewrap"))
    assert list(tmp_path.iterdir()) == []


def test_a_probe_that_answers_twice_is_undecided() -> None:
    lines = b'{"probe":"a","answer":"ALLOWED","detail":""}\n{"probe":"a","answer":"blocked","detail":""}'
    assert parse_answers(lines) == {"a": ("error", "answered twice")}


@pytest.mark.parametrize("line", [b"noise", b"[]", b"3", b'{"probe":"a"}', b"\xff", b'{"done":3}'])
def test_other_lines_are_no_answers(line: bytes) -> None:
    assert parse_answers(line) == {}


def test_report_is_json_and_named_by_its_content(tmp_path: Path) -> None:
    report = check(tmp_path, FakeSandbox())
    again = json.loads(json.dumps(report.as_json()))
    assert (again["schema"], again["passed"], len(again["results"])) == (
        "assay.selfcheck/v1",
        True,
        len(report.results),
    )
    assert len(report.digest_hex) == 64
    other = check(tmp_path / "other", FakeSandbox(name="other"))
    assert other.digest_hex != report.digest_hex


def test_canaries_leave_nothing_behind() -> None:
    with HostCanaries() as canaries:
        folder, shm = canaries.folder, Path("/dev/shm") / canaries.folder.name
        assert folder.is_dir()
        assert shm.is_file()
        assert ENV_NAME in os.environ
    assert not folder.exists()
    assert not shm.exists()
    assert ENV_NAME not in os.environ


def test_a_probe_past_its_deadline_is_undecided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(probes.PROBES, "test.hang", lambda c: __import__("time").sleep(60))
    monkeypatch.setitem(probes.DEADLINES_S, "test.hang", 0.05)
    assert probes.run_probe("test.hang", {})[0] == "error"


def test_a_probe_that_breaks_is_undecided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(probes.PROBES, "test.break", lambda c: c["missing"])
    assert probes.run_probe("test.break", {}) == ("error", "KeyError('missing')")


def test_an_unknown_name_is_undecided() -> None:
    assert probes.run_probe("test.none", {}) == ("error", "no such probe")


@pytest.mark.parametrize(
    ("number", "answer"), [(1, "blocked"), (13, "blocked"), (38, "blocked"), (22, "ALLOWED")]
)
def test_only_refusals_of_a_raw_call_count_as_shut(
    monkeypatch: pytest.MonkeyPatch, number: int, answer: str
) -> None:
    monkeypatch.setattr(probes, "_syscall", lambda name, *args: -number)
    assert probes.PROBES["sys.setns"]({})[0] == answer


@pytest.mark.sandbox
@pytest.mark.parametrize(
    ("wall", "found"),
    [("filter", {"net.af_vsock", "sys.io_uring_setup"}), ("--unshare-net", {"net.tcp_canary", "canary.tcp"})],
)
def test_a_missing_wall_of_the_real_driver_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wall: str, found: set[str]
) -> None:
    # The driver would refuse by its own measurement; that is switched off, to see the probes alone.
    from runner.runtime import locate_runtime
    from runner.sandbox import bubblewrap, held, holder

    monkeypatch.setattr(holder, "_violations", lambda *facts, tried: ())
    if wall == "filter":
        monkeypatch.setattr(held, "load_filter", lambda: struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000))
    walls = tuple(w for w in bubblewrap.WALLS if w != wall)
    monkeypatch.setattr(bubblewrap, "WALLS", walls)
    report = run_selfcheck(
        bubblewrap.BubblewrapSandbox(),
        runtime=locate_runtime(),
        work_dir=tmp_path / "check",
        on_progress=print,
    )
    assert found <= set(failed(report))
