"""The process that holds one sandbox: stage, launch, measure, release, watch, kill, harvest.

It is a fork of the runner in a mount namespace of its own, so that its end, however violent, frees every mount
and loop device, and takes the guest with it. It reports to the runner line by line.

What is covered: the order of these steps, whatever the walls are, and that nothing of the guest lives when the
harvest begins.
What is not covered: control groups outlive a killed holder; the next start sweeps them.
"""

import hashlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from runner import linux
from runner.errors import HarvestError, RunnerError, SandboxUnavailableError, SpecError
from runner.inventory.granted import granted_facts
from runner.inventory.nvml import real_nvml, this_nodes_gpus
from runner.inventory.samples import GpuReader
from runner.isolation_demand import TIERS, shortfalls
from runner.log import GuestLog
from runner.meter import Meter
from runner.out_of_memory import MAX_TAIL_BYTES, OutOfMemory, which_memory
from runner.printed_losses import PrintedLosses
from runner.sandbox import cgroup, rootfs, stage, volume
from runner.sandbox.gate import RELEASE, gate_command, parse_report, read_report, try_writes
from runner.sandbox.identity import Identity, claim_identity
from runner.sandbox.layout import guest_environment
from runner.sandbox.measure import bytes_of_namespace, group_facts, host_facts
from runner.sandbox.reap import harvest_output
from runner.sandbox.supervise import Watch
from runner.sandbox.violations import inside_violations
from runner.sandbox.walls import Stage, Started, Walls
from runner.spec import Exit, ExitReason, Profile, SandboxSpec, encode_exit, encode_spec

ANSWER_DEADLINE_S = 60.0
HARVEST_ATTEMPTS = 2

# One message per line to the runner: {"kind": …, "value": …}; single letters back.
MEASURED, ENDED, UNAVAILABLE, MALFORMED = "measured", "ended", "unavailable", "malformed"
GO, CANCEL = b"G", b"C"
_KILLS = (OutOfMemory.CONTROL_GROUP, OutOfMemory.HOST)
_MEMORY_ENDS: Mapping[OutOfMemory | None, str] = {
    None: "memory ran out",
    OutOfMemory.CONTROL_GROUP: "the kernel killed a process of the guest at its memory limit",
    OutOfMemory.HOST: "the kernel killed a process of the guest because the host's memory ran out",
    OutOfMemory.CUDA: "the GPU's memory ran out (CUDA, by the guest's own words)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What the runner hands to its holder."""

    spec: SandboxSpec
    job_dir: Path
    name: str  # unique on this host
    walls: Walls
    version: str
    program: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """What has been made for the guest. `job` and `log` are open: the stage may cover their paths."""

    order: Order
    runner: socket.socket
    job: int
    log: int
    identity: Identity
    group: cgroup.Group


def hold(order: Order, runner: socket.socket, *, runner_pid: int) -> None:
    """Run `order` to its end and tell `runner`; ends the process."""
    try:
        linux.die_with_parent(runner_pid)
        linux.adopt_orphans()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the runner decides when we end
        _tell(runner, ENDED, json.loads(encode_exit(_hold(order, runner))))
        os._exit(0)
    except SpecError as error:
        _tell(runner, MALFORMED, str(error))
    except RunnerError as error:
        _tell(runner, UNAVAILABLE, str(error))
    except OSError as error:
        _tell(runner, UNAVAILABLE, f"the sandbox could not be prepared: {error}")
    except Exception:  # noqa: BLE001  a process boundary: a bug of ours must reach the agent's log
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(1)


def _hold(order: Order, runner: socket.socket) -> Exit:
    log_flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    held = _Held(
        order=order,
        runner=runner,
        job=os.open(order.job_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC),
        log=os.open(order.job_dir / "stdout.log", log_flags, 0o644),
        identity=claim_identity(),
        group=cgroup.create(
            order.name,
            order.spec.limits,
            parents=cgroup.host_folders(),
            devices=cgroup.numbers_of([node for gpu in order.spec.gpus for node in gpu.nodes]),
        ),
    )
    volumes = stage.prepare_volumes(order.spec, identity=held.identity, job=held.job, job_dir=order.job_dir)
    try:
        _enter_namespaces(held.identity)
        built = stage.build(
            order.spec,
            volumes,
            identity=held.identity,
            label=order.name,
            mounts_late=order.walls.mounts_late,
        )
        staged = _stage(held, built)
        started = order.walls.start(staged)
        return _guard(held, started, staged, built)
    finally:
        for made in (volumes.output, volumes.root):
            if made is not None:
                volume.discard(made)
        held.group.kill()
        held.group.remove()


def _stage(held: _Held, built: stage.Built) -> Stage:
    spec = held.order.spec
    environment = guest_environment(spec)
    root = os.open(built.root, linux.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    program = rootfs.find_program(root, spec.argv[0], search=environment["PATH"])
    os.close(root)
    return Stage(
        spec=spec,
        name=held.order.name,
        root=built.root,
        scratch=built.scratch,
        identity=held.identity,
        group=held.group,
        program=held.order.program,
        command=gate_command((program, *spec.argv[1:])),
        environment=environment,
        mounts=built.mounts,
    )


def _enter_namespaces(identity: Identity) -> None:
    user_id, group_id = os.geteuid(), os.getegid()
    if identity.is_own:
        linux.unshare(linux.CLONE_NEWNS)
    else:
        linux.unshare(linux.CLONE_NEWUSER | linux.CLONE_NEWNS)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user_id} {user_id} 1")
        Path("/proc/self/gid_map").write_text(f"{group_id} {group_id} 1")
    linux.mount("", "/", flags=linux.MS_REC | linux.MS_PRIVATE)


def _guard(held: _Held, started: Started, staged: Stage, built: stage.Built) -> Exit:
    """Measure, release or refuse, watch, kill, and only then harvest."""
    found = _measure(held, started, staged, built)
    measured_at = _now()
    network = os.open(f"/proc/{started.gate}/ns/net", os.O_RDONLY | os.O_CLOEXEC)  # outlives the guest
    os.set_blocking(started.output, False)
    printed = PrintedLosses(folder=held.job)
    watch = _watch(held, started, staged, built, printed)
    began = time.monotonic()
    released_at, reason = None, ExitReason.REFUSED
    if not found:
        released_at = _now()
        os.write(started.release, RELEASE)
        os.close(started.release)
        reason = watch.until_end()
    elapsed_ms = int((time.monotonic() - began) * 1000)
    survivors = watch.kill_all()
    ended_at = _now()  # of the guest: what follows is ours
    watch.log.finish()
    printed.close()
    watch.meter.close()
    usage = {**held.group.usage(), "wall_ms": elapsed_ms, **watch.log.facts()}
    reason, memory = _with_memory(held, reason, code=watch.code, usage=usage)
    code = None if reason is ExitReason.REFUSED else watch.code
    limits_s = held.order.spec.limits.wall_clock_s
    ended = Exit(
        reason=reason,
        code=code,
        message=describe(reason, code=code, limits_s=limits_s, found=found, memory=memory),
        measured_at=measured_at,
        released_at=released_at,
        ended_at=ended_at,
        usage=usage,
        survivors=survivors,
        log_bytes_total=watch.log.total_bytes,
        rejected={},
        out_of_memory=memory,
        network_bytes=bytes_of_namespace(network),
    )
    # Nobody wants the output of what was cancelled, and whoever cancelled waits.
    if reason in (ExitReason.REFUSED, ExitReason.CANCELLED) or survivors:
        return ended
    return _harvest(held, ended, built.output)


def _watch(held: _Held, started: Started, staged: Stage, built: stage.Built, printed: PrintedLosses) -> Watch:
    """Everything that looks at the guest while it runs."""
    spec = held.order.spec
    return Watch(
        started=started,
        group=held.group,
        limits=spec.limits,
        log=GuestLog(
            source=started.output,
            target=held.log,
            folder=held.job,
            cap_bytes=spec.limits.log_bytes,
            on_lines=printed.read,
        ),
        meter=Meter(
            folder=held.job,
            groups=held.group.folders,
            pid=started.first,
            output=built.output,
            root=built.upper,
            gpus=GpuReader(real_nvml()) if spec.gpus else None,
            gpu_uuids=[gpu.uuid for gpu in spec.gpus],
        ),
        is_cancelled=lambda: _is_cancelled(held.runner),
        ask_to_end=partial(held.order.walls.ask_to_end, started, staged),
    )


def _with_memory(
    held: _Held, reason: ExitReason, *, code: int | None, usage: Mapping[str, int]
) -> tuple[ExitReason, OutOfMemory | None]:
    """The reason of an end, and the memory that ran out, if one did."""
    memory = which_memory(
        kills=usage.get("oom_kills", 0),
        peak_bytes=usage.get("memory_peak_bytes"),
        limit_bytes=held.order.spec.limits.memory_bytes,
        log_tail=_tail(held.log),
    )
    if reason is ExitReason.EXITED and (memory in _KILLS or (memory is not None and code != 0)):
        return ExitReason.OUT_OF_MEMORY, memory
    return reason, memory


def _harvest(held: _Held, ended: Exit, output: str) -> Exit:
    """Take the output of the dead guest; its volume is still there for a second try."""
    for _ in range(HARVEST_ATTEMPTS):
        try:
            return harvest_output(
                held.order.spec,
                output,
                job=held.job,
                identity=held.identity,
                end_of=lambda harvest: replace(ended, rejected=harvest.rejected),
            )
        except HarvestError as error:
            failed = error
    return replace(ended, message=f"{ended.message}; its output could not be taken: {failed}")


def _measure(held: _Held, started: Started, staged: Stage, built: stage.Built) -> tuple[str, ...]:
    """Measure the walls, mount the inputs if they hold, measure again, and have the runner write that down.

    Returns the violations; with one, no input was mounted where walls can mount them late.
    """
    inside = parse_report(read_report(started.output))
    facts = _facts(held, started, staged, inside)
    found = _violations(held, facts, staged, tried=())
    if not found:
        mounts = built.mounts
        if built.late:
            pid, prefix = held.order.walls.input_root(started, staged)
            mounts += stage.attach_late(built, pid=pid, prefix=prefix)
        staged = replace(staged, mounts=mounts)
        closed = [m.target for m in mounts if not m.writable and Path(built.root + m.target).is_dir()]
        if staged.spec.profile is Profile.STRICT:
            closed.append("/")
        tried = parse_report(try_writes(started.release, started.output, closed))
        inside |= {name: tried[name] for name in ("write_tries", "write_reasons")}
        facts = _facts(held, started, staged, inside)
        found = _violations(held, facts, staged, tried=closed)
    _tell(held.runner, MEASURED, {**facts, "violations": list(found)})
    _await_go(held.runner)
    return found


def _facts(held: _Held, started: Started, staged: Stage, inside: Mapping[str, Any]) -> dict[str, Any]:
    walls, spec = held.order.walls, held.order.spec
    facts = {
        "driver": walls.name,
        "tier": TIERS[walls.name],
        "driver_version": held.order.version,
        "order_sha256": hashlib.sha256(encode_spec(spec)).hexdigest(),
        "profile": spec.profile.value,
        "image": None if spec.image is None else spec.image.manifest_sha256,
        "gpus": [gpu.uuid for gpu in spec.gpus],
        "gpu_facts": granted_facts(spec.gpus, this_nodes_gpus()) if spec.gpus else {},
        "inputs_mounted": "after the first measurement" if walls.mounts_late else "before the measurement",
        "host": host_facts(),
        **group_facts(started.gate, held.group),
        **walls.measure(started, staged),
        "inside": inside,
    }
    return {**facts, "unenforced": list(walls.unenforced(facts, staged))}


def _violations(
    held: _Held, facts: Mapping[str, Any], staged: Stage, *, tried: Sequence[str]
) -> tuple[str, ...]:
    found = [*held.order.walls.violations(facts, staged), *inside_violations(facts["inside"], tried=tried)]
    if held.order.spec.demand is not None:
        found += shortfalls(facts, held.order.spec.demand)
    return tuple(found)


def describe(  # noqa: PLR0911  one sentence per reason
    reason: ExitReason,
    *,
    code: int | None,
    limits_s: float,
    found: tuple[str, ...],
    memory: OutOfMemory | None = None,
) -> str:
    """The end of a guest in one sentence."""
    match reason:
        case ExitReason.EXITED:
            return f"the guest ended by itself with code {code}"
        case ExitReason.TIMEOUT:
            return f"the guest was ended after its {limits_s:g} seconds"
        case ExitReason.OUT_OF_MEMORY:
            return _MEMORY_ENDS[memory]
        case ExitReason.CANCELLED:
            return "the guest was ended because somebody cancelled it"
        case ExitReason.REFUSED:
            return f"the guest was not started: {'; '.join(found)}"
        case ExitReason.UNAVAILABLE:
            return "the sandbox could not be made"
        case ExitReason.LOST:
            return "the runner lost the guest, which is dead"


def _tail(log: int) -> bytes:
    size = os.fstat(log).st_size
    return os.pread(log, MAX_TAIL_BYTES, max(0, size - MAX_TAIL_BYTES))


def _tell(runner: socket.socket, kind: str, value: Any) -> None:
    with suppress(BrokenPipeError):
        runner.sendall(json.dumps({"kind": kind, "value": value}).encode() + b"\n")


def _await_go(runner: socket.socket) -> None:
    """Wait until the runner has written the measurement down."""
    runner.settimeout(ANSWER_DEADLINE_S)
    try:
        if runner.recv(1) != GO:
            raise SandboxUnavailableError("the runner withdrew the order before the guest ran")
    except TimeoutError as error:
        raise SandboxUnavailableError("the runner did not take the measurement in time") from error
    runner.setblocking(False)


def _is_cancelled(runner: socket.socket) -> bool:
    try:
        runner.recv(16)
    except BlockingIOError:
        return False
    return True  # asked to end, or nobody is left to ask


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
