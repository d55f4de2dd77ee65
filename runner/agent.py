"""What a launcher starts on a node: `python -m runner.agent JOB_DIR` runs one job to its end.

    job.json ─► agent.lock, agent.json ─► isolation.json, phase ─► harvest/, harvest.json ─► exit.json ─► losses.json

Every file is written beside and renamed. `agent.lock` is held as long as the agent or its sandbox lives.
With `--lost` it does not run the job but settles one whose agent is dead.

What is covered: a job is started at most once, whatever is started twice or killed; leftovers of dead agents
are swept at each start.
What is not covered: an agent that is killed loses its job; training is not idempotent and is never repeated. One that
is killed after the end was told leaves no losses.json, which nobody needs.
"""

import fcntl
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from runner.errors import RunnerError
from runner.linux import start_time
from runner.log_kept import assemble
from runner.loss_child import losses_of
from runner.losses import Losses, write_losses
from runner.sandbox import cgroup
from runner.sandbox.drivers import sandbox_of as driver_of
from runner.sandbox.port import Isolation, Sandbox
from runner.sandbox.reap import PARTIAL, read_end
from runner.sandbox.remnants import IMAGES, await_none
from runner.spec import Exit, ExitReason, encode_exit, parse_spec

LOCK_DEADLINE_S = 10.0
PAUSE_S = 0.02
CANCEL_FILE = "cancel"


def main() -> int:
    """Run or settle the job named on the command line; 0 unless it is misused."""
    arguments = sys.argv[1:]
    settle = arguments[:1] == ["--lost"]
    if len(arguments) != 1 + settle:
        sys.stderr.write("usage: python -m runner.agent [--lost] JOB_DIR\n")
        return 2
    job_dir = Path(arguments[-1]).absolute()
    if settle:
        settle_lost(job_dir)
    else:
        run_job(job_dir, sandbox_of=driver_of)
    return 0


def run_job(
    job_dir: Path,
    *,
    sandbox_of: Callable[[str], Sandbox],
    losses_of: Callable[[Path], Losses | None] = losses_of,
) -> None:
    """Run the job in `job_dir` unless it was ever started; its end is in `exit.json`.

    `sandbox_of` gives the driver that the order names, `losses_of` the curve in a harvest.
    """
    lock = _lock(job_dir, give_up=("agent.json", "exit.json"))
    if lock is None:
        return
    own = {"pid": os.getpid(), "start_time": start_time(os.getpid())}
    write_durably(job_dir / "agent.json", json.dumps(own).encode())
    cgroup.sweep(cgroup.host_folders())
    ended = _run(job_dir, sandbox_of)
    write_durably(job_dir / "exit.json", encode_exit(ended))
    # The end is told before the guest's files are looked into: they may be made to take long.
    _keep_losses(job_dir, losses_of)
    os.close(lock)


def settle_lost(job_dir: Path) -> None:
    """Write down how the job ended, after the last of it is dead: lost, unless its harvest was complete."""
    lock = _lock(job_dir, give_up=("exit.json",))
    if lock is None:
        return
    cgroup.sweep(cgroup.host_folders())
    for image in IMAGES:
        (job_dir / image).unlink(missing_ok=True)
    shutil.rmtree(job_dir / PARTIAL, ignore_errors=True)
    message = "the agent died and its guest with it; nothing was harvested (see agent.log)"
    folder = os.open(job_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    assemble(folder)
    os.close(folder)
    ended = read_end(job_dir) or _without_guest(ExitReason.LOST, message)
    left = _remnants_of_dead(job_dir)
    write_durably(job_dir / "exit.json", encode_exit(replace(ended, remnants=left)))
    os.close(lock)


def _keep_losses(job_dir: Path, losses_of: Callable[[Path], Losses | None]) -> None:
    if not (job_dir / "harvest").is_dir():
        return
    try:
        found = losses_of(job_dir / "harvest")
        if found is not None:
            write_losses(job_dir, found)
    except (RunnerError, OSError) as error:  # the folder may be gone: the end is told
        sys.stderr.write(f"no loss curve was kept: {error}\n")


def _remnants_of_dead(job_dir: Path) -> tuple[str, ...]:
    """What the dead agent's sandbox has left in spite of the sweep."""
    try:
        agent = json.loads((job_dir / "agent.json").read_bytes())
        name = f"assay-{int(agent['pid'])}-{int(agent['start_time'])}-{job_dir.name}"
    except (OSError, ValueError, KeyError, TypeError):
        return ()  # it died before it made anything
    return await_none(name, job_dir=job_dir, parents=cgroup.host_folders())


def write_durably(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that after a crash there is all of it or none."""
    temporary = path.with_name(path.name + ".new")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(folder)
    os.close(folder)


def _run(job_dir: Path, sandbox_of: Callable[[str], Sandbox]) -> Exit:
    def on_measured(isolation: Isolation) -> None:
        write_durably(job_dir / "isolation.json", json.dumps(isolation, indent=1, sort_keys=True).encode())
        if not isolation.get("violations"):
            write_durably(job_dir / "phase", b"running")

    if (job_dir / CANCEL_FILE).exists():
        return _without_guest(ExitReason.CANCELLED, "cancelled before the guest was started")
    try:
        spec = parse_spec((job_dir / "job.json").read_bytes())
        return sandbox_of(spec.driver).run(
            spec,
            job_dir=job_dir,
            on_measured=on_measured,
            should_cancel=(job_dir / CANCEL_FILE).exists,
        )
    except RunnerError as error:
        return _without_guest(ExitReason.UNAVAILABLE, str(error))


def _lock(job_dir: Path, *, give_up: tuple[str, ...]) -> int | None:
    """The job's lock, or None once a file of `give_up` is there or another agent keeps holding it.

    A launcher that looks whether the agent is alive takes it for a moment; so this waits a little.
    """
    lock = os.open(job_dir / "agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + LOCK_DEADLINE_S
    while time.monotonic() < deadline:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if any((job_dir / name).exists() for name in give_up):
                break
            time.sleep(PAUSE_S)
        else:
            if any((job_dir / name).exists() for name in give_up):
                break
            return lock
    os.close(lock)
    return None


def _without_guest(reason: ExitReason, message: str) -> Exit:
    return Exit(
        reason=reason,
        code=None,
        message=message,
        measured_at=None,
        released_at=None,
        ended_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        usage={},
        survivors=0,
        log_bytes_total=0,
        rejected={},
    )


if __name__ == "__main__":
    sys.exit(main())
