"""A guest that does nothing, to see whether walls can be put up here: in a child, with a root of its own.

What is covered: everything that a real start does but the measuring, the volumes and the control group.
What is not covered: limits; the contract suite and the self-check try those.
"""

import os
import select
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from runner import linux
from runner.errors import SandboxUnavailableError
from runner.sandbox import cgroup, gate
from runner.sandbox.identity import Identity, claim_identity, release_identity
from runner.sandbox.walls import Stage, Started
from runner.spec import Image, Limits, SandboxSpec

DEADLINE_S = 60.0
MAX_WORDS_BYTES = 8192
_LIMITS = Limits(wall_clock_s=10.0, memory_bytes=1 << 30, pids=16, tmp_bytes=1 << 20, shm_bytes=1 << 20)


def try_walls(start: Callable[[Stage], Started]) -> None:
    """Return if `start` brings a guest to its gate. Raises SandboxUnavailableError with the words said."""
    found = gate.find_gate()
    identity = claim_identity()
    base = Path(tempfile.mkdtemp(prefix="assay-trial-"))
    said, tell = os.pipe2(os.O_CLOEXEC)
    try:
        child = linux.fork_bound()
        if child == 0:
            os.close(said)
            _be_child(start, base, gate_program=found, identity=identity, tell=tell)
        os.close(tell)
        words = _words(said)
        if words is None:
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    finally:
        os.close(said)
        base.rmdir()
        release_identity(identity)
    if status != 0:
        raise SandboxUnavailableError((words or "the trial did not end in time").strip())


def _be_child(
    start: Callable[[Stage], Started], base: Path, *, gate_program: str, identity: Identity, tell: int
) -> None:
    try:
        linux.unshare(linux.CLONE_NEWNS)
        linux.mount("", "/", flags=linux.MS_REC | linux.MS_PRIVATE)
        flags = linux.MS_NOSUID | linux.MS_NODEV
        linux.mount("tmpfs", str(base), kind="tmpfs", flags=flags, options="size=16m,mode=0755")
        started = start(_stage(base, gate_program=gate_program, identity=identity))
        gate.read_report(started.output)
        os.close(started.release)  # the gate ends, and all with it
        os.waitpid(started.child, 0)
        os._exit(0)
    except (SandboxUnavailableError, OSError) as error:
        os.write(tell, str(error).encode()[-MAX_WORDS_BYTES:])
    finally:
        os._exit(1)


def _stage(base: Path, *, gate_program: str, identity: Identity) -> Stage:
    root, scratch = base / "root", base / "scratch"
    for folder in (root, root / "out", root / "tmp", scratch):
        folder.mkdir(mode=0o755)
    shutil.copyfile(gate_program, root / gate.TARGET.lstrip("/"))
    (root / gate.TARGET.lstrip("/")).chmod(0o755)
    spec = SandboxSpec(
        job_id="trial",
        argv=("/none",),
        env={},
        cwd="/",
        mounts=(),
        output_target="/out",
        limits=_LIMITS,
        image=Image(tree="", manifest_sha256=""),
    )
    return Stage(
        spec=spec,
        name="trial",
        root=str(root),
        scratch=scratch,
        identity=identity,
        group=cgroup.Group(version="none"),
        program=b"",
        command=gate.gate_command(spec.argv),
        environment={},
    )


def _words(said: int) -> str | None:
    """All that the child tells; None if it does not end in time."""
    words = b""
    deadline = time.monotonic() + DEADLINE_S
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([said], [], [], left)[0]:
            break
        chunk = os.read(said, MAX_WORDS_BYTES)
        if not chunk:
            return words.decode(errors="replace")
        words += chunk
    return None
