"""Jobs lose their agent, holder, walls or guest to SIGKILL at random moments: nothing is orphaned, lost or doubled."""

import json
import os
import random
import select
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from runner.launcher.local import LocalLauncher
from runner.launcher.port import JobPhase
from runner.linux import start_time
from runner.sandbox import cgroup
from runner.sandbox.identity import POOL_SIZE, POOLS
from runner.sandbox.processes import descendants
from runner.sandbox.remnants import find_remnants
from runner.spec import Exit, ExitReason, Profile, SandboxSpec
from tests.runner.guests import MIB, limits, order

pytestmark = [pytest.mark.sandbox, pytest.mark.chaos]

RUNS = 200
AT_ONCE = 4
DRIVERS_IN_TURN = ("bubblewrap", "oci", "bubblewrap", "gvisor", "bubblewrap")  # the default most often
SEED = 20261121
DEADLINE_S = 60.0
# Said once at the start of each guest: two of them in one log would be a doubled run.
SCRIPT = "echo started; echo weights > /app/checkpoints/model; sleep 0.2; echo ended"


def job(job_id: str) -> SandboxSpec:
    number = int(job_id.rpartition("-")[2])
    return order(
        "/bin/sh",
        "-c",
        SCRIPT,
        job_id=job_id,
        driver=DRIVERS_IN_TURN[number % len(DRIVERS_IN_TURN)],
        profile=Profile.CHAMPION,
        output_target="/app/checkpoints",
        limits=limits(root_bytes=8 * MIB, root_inodes=128, output_bytes=8 * MIB, memory_bytes=512 * MIB),
    )


def test_two_hundred_runs_survive_kills_anywhere(tmp_path: Path) -> None:
    chance = random.Random(SEED)  # repeatable
    began = start_time(os.getpid()) or 0
    launcher = LocalLauncher(tmp_path, sys.executable)
    waiting = [f"run-{number}" for number in range(RUNS)]
    running: dict[str, float] = {}
    ends: dict[str, Exit] = {}
    killed: Counter[str] = Counter()
    deadline = time.monotonic() + DEADLINE_S + RUNS
    while (waiting or running) and time.monotonic() < deadline:
        while waiting and len(running) < AT_ONCE:
            job_id = waiting.pop()
            launcher.submit(job(job_id))
            running[job_id] = time.monotonic() + chance.uniform(0.0, 0.6)
        for job_id, kill_at in list(running.items()):
            if time.monotonic() >= kill_at:
                running[job_id] = deadline  # once is enough
                killed[kill_one_of(launcher.job_dir(job_id), chance)] += 1
                # Whoever looked after the job is gone, too, and comes back.
                launcher = LocalLauncher(tmp_path, sys.executable)
                launcher.submit(job(job_id))
            facts = launcher.poll(job_id)
            assert facts is not None
            if facts.phase is JobPhase.ENDED:
                assert facts.exit is not None
                ends[job_id] = facts.exit
                del running[job_id]
        select.select([], [], [], 0.01)
    launcher.reconcile()
    assert len(ends) == RUNS, f"without an end: {sorted(running)}"
    assert killed["agent"] and killed["holder"] and killed["walls"], killed
    for job_id, ended in ends.items():
        check(tmp_path / job_id, ended)
    assert await_no_orphans(since_ticks=began) == []


def kill_one_of(job_dir: Path, chance: random.Random) -> str:
    """SIGKILL to the agent or to something below it, by chance; which kind it was."""
    try:
        agent = json.loads((job_dir / "agent.json").read_bytes())
    except FileNotFoundError:
        return "nobody yet"
    if start_time(agent["pid"]) != agent["start_time"]:
        return "nobody any more"
    holders = sorted(children(agent["pid"]))
    walls = sorted(descendants(agent["pid"]) - set(holders))
    kind = chance.choice(["agent", "holder", "walls"])
    among = {"agent": [agent["pid"]], "holder": holders, "walls": walls}[kind]
    if not among:
        return f"no {kind}"
    with suppress(ProcessLookupError):
        os.kill(chance.choice(among), signal.SIGKILL)
    return kind


def orphans(*, since_ticks: int) -> list[str]:
    """Processes with a guest's id that nobody of ours is the parent of."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            owner = folder.stat().st_uid
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            is_guests = any(pool <= owner < pool + 4 * POOL_SIZE for pool in POOLS)
            if is_guests and fields[1] == "1" and fields[0] != "Z" and int(fields[19]) >= since_ticks:
                found.append(f"{folder.name} {(folder / 'cmdline').read_text()[:80]!r}")
    return found


def await_no_orphans(*, since_ticks: int) -> list[str]:
    deadline = time.monotonic() + 10.0
    while (found := orphans(since_ticks=since_ticks)) and time.monotonic() < deadline:
        select.select([], [], [], 0.05)
    return found


def children(pid: int) -> Iterator[int]:
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            yield from (int(word) for word in (task / "children").read_text().split())


def check(job_dir: Path, ended: Exit) -> None:
    """One job's end is one of those that a kill can cause, told truly, and nothing of it is left."""
    log = (job_dir / "stdout.log").read_text() if (job_dir / "stdout.log").exists() else ""
    assert log.count("started") <= 1, "the guest ran twice"
    allowed = {ExitReason.EXITED, ExitReason.LOST, ExitReason.UNAVAILABLE, ExitReason.REFUSED}
    assert ended.reason in allowed, ended
    whole = (job_dir / "harvest" / "model").exists()
    if ended.reason is ExitReason.EXITED and ended.code == 0:
        assert whole and "ended" in log
    if ended.reason is ExitReason.LOST:
        assert not (job_dir / "harvest").exists()
    assert not (job_dir / "harvest.partial").exists()
    assert ended.remnants == ()
    agent_file = job_dir / "agent.json"
    if agent_file.exists():
        agent = json.loads(agent_file.read_bytes())
        assert start_time(agent["pid"]) != agent["start_time"], "the agent lives on"
        name = f"assay-{agent['pid']}-{agent['start_time']}-{job_dir.name}"
        assert find_remnants(name, job_dir=job_dir, parents=cgroup.host_folders()) == ()
