"""Taking the output of a dead guest into its job folder, as the guest's own powerless user id.

What is covered: the harvest is complete or absent: built beside, flushed, renamed; and how the guest ended is
written down before, so that where there is a harvest its end is known, whoever is killed.
What is not covered: a harvest cut short by the end of the runner leaves `harvest.partial`, which nobody reads.
"""

import os
import select
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

from runner import linux
from runner.errors import HarvestError, SpecError
from runner.harvest import Harvest, HarvestLimits, collect, encode_harvest, parse_harvest
from runner.sandbox.identity import Identity
from runner.sandbox.launch import become
from runner.spec import Exit, SandboxSpec, encode_exit, parse_exit

PARTIAL = "harvest.partial"
ENDED_FILE = "ended.json"
DEADLINE_S = 3600.0
CHUNK_BYTES = 1 << 16


def harvest_output(
    spec: SandboxSpec,
    output: str,
    *,
    job: int,
    identity: Identity,
    end_of: Callable[[Harvest], Exit],
) -> Exit:
    """Copy the folder `output` to `harvest` in the open job folder, and its list to `harvest.json`.

    Returns the end that `end_of` makes of it, which is in `ended.json` by then, see `read_end`.
    Raises HarvestError if it cannot be written; then there is no `harvest`.
    """
    os.mkdir(PARTIAL, 0o700, dir_fd=job)
    try:
        target = os.open(PARTIAL, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=job)
        owner, group = os.geteuid(), os.getegid()
        if identity.is_own:
            os.fchown(target, identity.user_id, identity.user_id)
        harvest = _collect_apart(spec, output, target=target, identity=identity)
        _own(target, owner, group=group)
        os.fchmod(target, 0o755)
        _write("harvest.json", encode_harvest(harvest), job)
        ended = end_of(harvest)
        _write(ENDED_FILE, encode_exit(ended), job)
        os.rename(PARTIAL, "harvest", src_dir_fd=job, dst_dir_fd=job)
        os.fsync(job)
        os.close(target)
    except (HarvestError, OSError) as error:
        shutil.rmtree(f"/proc/self/fd/{job}/{PARTIAL}", ignore_errors=True)
        raise HarvestError(str(error)) from error
    return ended


def read_end(job_dir: Path) -> Exit | None:
    """How the guest ended, as its holder wrote it down with a complete harvest; None without one."""
    if not (job_dir / "harvest").is_dir():
        return None
    try:
        return parse_exit((job_dir / ENDED_FILE).read_bytes())
    except (OSError, SpecError):
        return None


def _collect_apart(spec: SandboxSpec, output: str, *, target: int, identity: Identity) -> Harvest:
    """`collect` in a process that has no rights but the guest's own."""
    source = os.open(output, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    answer, tell = os.pipe2(os.O_CLOEXEC)
    parent = os.getpid()
    child = linux.fork_bound()
    if child == 0:
        try:
            become(identity)
            linux.die_with_parent(parent)
            limits = HarvestLimits(total_bytes=spec.limits.output_bytes)
            harvest = collect(source, target, limits=limits, declared=spec.declared_outputs)
            with os.fdopen(tell, "wb") as file:
                file.write(encode_harvest(harvest))
            os._exit(0)
        except (HarvestError, OSError) as error:
            with os.fdopen(tell, "wb") as file:
                file.write(str(error).encode())
        finally:
            os._exit(1)
    os.close(tell)
    os.close(source)
    said = _read_all(answer)
    os.close(answer)
    if said is None:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if said is None:
        raise HarvestError("it took too long")
    if status != 0:
        raise HarvestError(said.decode(errors="replace") or "the process that copies died without a word")
    return parse_harvest(said)


def _read_all(source: int) -> bytes | None:
    deadline = time.monotonic() + DEADLINE_S
    said = b""
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([source], [], [], left)[0]:
            break
        chunk = os.read(source, CHUNK_BYTES)
        if not chunk:
            return said
        said += chunk
    return None


def _own(target: int, owner: int, *, group: int) -> None:
    """Give everything to the runner, and flush the folders."""
    for _, _, files, folder in os.fwalk(".", dir_fd=target):
        for name in files:
            os.chown(name, owner, group, dir_fd=folder, follow_symlinks=False)
        os.fchown(folder, owner, group)
        os.fsync(folder)


def _write(name: str, data: bytes, job: int) -> None:
    temporary = f"{name}.new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    with os.fdopen(os.open(temporary, flags, 0o644, dir_fd=job), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.rename(temporary, name, src_dir_fd=job, dst_dir_fd=job)
