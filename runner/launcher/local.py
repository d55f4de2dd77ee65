"""Jobs on this machine: one agent process per job, in a session of its own.

    ROOT/<job id>/  job.json  spawned.json  agent.lock  agent.json  phase  isolation.json  exit.json  harvest/

What is covered: jobs outlive whoever submitted them; a job is started exactly once although "folder made",
"agent spawned" and "recorded by the caller" can each be the last thing that happened before a crash.
What is not covered: a restart of the machine; its jobs are then lost, and told so.
"""

import fcntl
import json
import os
import re
import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

from runner.errors import LauncherError, SpecError
from runner.launcher.port import JobFacts, JobPhase
from runner.linux import start_time
from runner.spec import Exit, SandboxSpec, encode_spec, parse_exit

SETTLE_DEADLINE_S = 120.0
UNFINISHED = ".new-"
_JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
# Nothing of ours: the agent's environment must not carry the worker's secrets.
_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


class LocalLauncher:
    """The launcher `local`; see the port for the contract."""

    def __init__(self, root: Path, python: str) -> None:
        """`root` holds a folder per job; `python` is the interpreter of the appliance's environment."""
        self._root = root
        self._python = python
        # Our own children, so that the dead are collected; whose child an agent is makes no difference.
        self._agents: list[subprocess.Popen[bytes]] = []

    def submit(self, spec: SandboxSpec) -> None:
        """See the port."""
        job_dir = self.job_dir(spec.job_id)
        try:
            self._make_folder(job_dir, spec)
            # The agent starts the job at most once; spawning one too many does no harm, one too few would.
            if not (job_dir / "agent.json").exists() and not _is_alive(job_dir / "spawned.json"):
                self._spawn(job_dir)
        except OSError as error:
            raise LauncherError(f"job {spec.job_id} cannot be started: {error}") from error

    def poll(self, job_id: str) -> JobFacts | None:
        """See the port."""
        job_dir = self.job_dir(job_id)
        if not job_dir.is_dir():
            return None
        if (ended := _read_exit(job_dir)) is not None:
            return JobFacts(phase=JobPhase.ENDED, exit=ended)
        if _may_be_lost(job_dir):
            self._settle(job_dir)
            return JobFacts(phase=JobPhase.ENDED, exit=_read_exit(job_dir))
        if (job_dir / "harvest.partial").exists():
            return JobFacts(phase=JobPhase.HARVESTING)
        if (job_dir / "phase").exists():
            return JobFacts(phase=JobPhase.RUNNING)
        return JobFacts(phase=JobPhase.PREPARING)

    def cancel(self, job_id: str) -> None:
        """See the port."""
        with suppress(FileNotFoundError):
            (self.job_dir(job_id) / "cancel").touch()

    def reconcile(self) -> tuple[str, ...]:
        """See the port."""
        lost = []
        try:
            for folder in sorted(self._root.iterdir()) if self._root.is_dir() else ():
                if folder.name.startswith(UNFINISHED):
                    shutil.rmtree(folder, ignore_errors=True)  # nobody was told of this job
                elif _JOB_ID.fullmatch(folder.name) and _may_be_lost(folder):
                    self._settle(folder)
                    lost.append(folder.name)
        except OSError as error:
            raise LauncherError(f"the jobs in {self._root} cannot be read: {error}") from error
        return tuple(lost)

    def forget(self, job_id: str) -> None:
        """See the port."""
        job_dir = self.job_dir(job_id)
        if not (job_dir / "exit.json").exists():
            return
        for name in ("harvest", "harvest.partial"):
            shutil.rmtree(job_dir / name, ignore_errors=True)

    def job_dir(self, job_id: str) -> Path:
        """See the port. Raises SpecError for an id that is no plain name."""
        if not _JOB_ID.fullmatch(job_id):
            raise SpecError(f"job id {job_id!r} is not a plain name")
        return self._root / job_id

    def _make_folder(self, job_dir: Path, spec: SandboxSpec) -> None:
        """Make the job's folder with its order in it, at once, unless there is one."""
        if job_dir.exists():
            return
        self._root.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=self._root))
        try:
            with (beside / "job.json").open("wb") as file:
                file.write(encode_spec(spec))
                file.flush()
                os.fsync(file.fileno())
            beside.rename(job_dir)
        except OSError:
            shutil.rmtree(beside, ignore_errors=True)
            if not job_dir.is_dir():  # else somebody was quicker
                raise
        _flush_folder(self._root)

    def _spawn(self, job_dir: Path) -> None:
        with (job_dir / "agent.log").open("ab") as log:
            agent = subprocess.Popen(
                [self._python, "-I", "-m", "runner.agent", str(job_dir)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=_ENVIRONMENT,
                start_new_session=True,
            )
        facts = {"pid": agent.pid, "start_time": start_time(agent.pid)}
        beside = job_dir / f"spawned.{agent.pid}.new"
        beside.write_bytes(json.dumps(facts).encode())
        beside.rename(job_dir / "spawned.json")
        self._agents = [a for a in (*self._agents, agent) if a.poll() is None]

    def _settle(self, job_dir: Path) -> None:
        """Have an agent kill what is left of a dead one and write the end down."""
        command = [self._python, "-I", "-m", "runner.agent", "--lost", str(job_dir)]
        try:
            subprocess.run(command, env=_ENVIRONMENT, cwd="/", check=True, timeout=SETTLE_DEADLINE_S)
        except (OSError, subprocess.SubprocessError) as error:
            raise LauncherError(f"job {job_dir.name} is lost and cannot be settled: {error}") from error


def _may_be_lost(job_dir: Path) -> bool:
    """Whether the agent has been there and is dead with everything that shared its lock."""
    if not (job_dir / "agent.json").exists() and (
        not (job_dir / "spawned.json").exists() or _is_alive(job_dir / "spawned.json")
    ):
        return False
    lock = os.open(job_dir / "agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return not (job_dir / "exit.json").exists()


def _is_alive(path: Path) -> bool:
    try:
        facts = json.loads(path.read_bytes())
    except FileNotFoundError:
        return False
    if facts["start_time"] is None:
        return False  # it was dead when its start was to be noted
    return start_time(int(facts["pid"])) == int(facts["start_time"])


def _read_exit(job_dir: Path) -> Exit | None:
    try:
        return parse_exit((job_dir / "exit.json").read_bytes())
    except FileNotFoundError:
        return None


def _flush_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(folder)
    os.close(folder)
