"""The process that holds one sandbox: stage, launch, measure, release, watch, kill, harvest.

It is a fork of the runner in a mount namespace of its own, so that its end, however violent, frees every mount
and loop device, and takes the guest with it. It reports to the runner line by line.

What is covered: the order of these steps, and that nothing of the guest lives when the harvest begins.
What is not covered: control groups outlive a killed holder; the next start sweeps them.
"""

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runner import linux
from runner.errors import HarvestError, RunnerError, SandboxUnavailableError, SpecError
from runner.sandbox import cgroup, rootfs
from runner.sandbox.identity import Identity, claim_identity
from runner.sandbox.launch import Started, start
from runner.sandbox.measure import Guest, measure, unenforced, violations
from runner.sandbox.reap import harvest_output
from runner.sandbox.supervise import Log, Watch
from runner.spec import Exit, ExitReason, SandboxSpec, encode_exit

ANSWER_DEADLINE_S = 60.0

# One message per line to the runner: {"kind": …, "value": …}; single letters back.
MEASURED, ENDED, UNAVAILABLE, MALFORMED = "measured", "ended", "unavailable", "malformed"
GO, CANCEL = b"G", b"C"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What the runner hands to its holder."""

    spec: SandboxSpec
    job_dir: Path
    group_name: str
    bwrap: str
    bwrap_version: str
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
    log_flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    held = _Held(
        order=order,
        runner=runner,
        job=os.open(order.job_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC),
        log=os.open(order.job_dir / "stdout.log", log_flags, 0o644),
        identity=claim_identity(),
        group=cgroup.create(order.group_name, order.spec.limits, parents=cgroup.host_folders()),
    )
    try:
        root, output = _stage(held)
        started = start(
            order.spec,
            bwrap=order.bwrap,
            root=root,
            output=output,
            program=order.program,
            identity=held.identity,
            group=held.group,
        )
        os.set_blocking(started.output, False)
        return _guard(held, started, output)
    finally:
        with suppress(FileNotFoundError):
            os.unlink("output.img", dir_fd=held.job)
        held.group.kill()
        held.group.remove()


def _stage(held: _Held) -> tuple[str, str]:
    """Enter the namespaces and build the guest's root and output; returns their paths."""
    spec, owner = held.order.spec, held.identity.user_id
    image, formatting = None, None
    if held.identity.is_own:
        path = held.order.job_dir / "output.img"
        image = rootfs.make_image(path, spec.limits)
        formatting = rootfs.start_mkfs(path, spec.limits, owner=owner)
    _enter_namespaces(held.identity)
    sources = rootfs.open_sources(spec)
    base = rootfs.stage_base()
    root = rootfs.build_root(spec, base, sources=sources)
    output = f"{base}/out"
    Path(output).mkdir()
    is_mounted = False
    if formatting is not None and image is not None:
        _, status = os.waitpid(formatting, 0)
        is_mounted = status == 0 and rootfs.mount_image(image, output, name=held.order.group_name)
    if image is not None:
        os.unlink("output.img", dir_fd=held.job)  # the mount keeps it; a crash leaves no file behind
        os.close(image)
    if not is_mounted:
        rootfs.mount_tmpfs_output(output, spec.limits, owner=owner)
    rootfs.make_output_folders(spec, output, owner=owner)
    for descriptor in sources.values():
        os.close(descriptor)
    return root, output


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


def _guard(held: _Held, started: Started, output: str) -> Exit:
    """Measure, release or refuse, watch, kill, and only then harvest."""
    limits = held.order.spec.limits
    found = _measure(held, started)
    measured_at = _now()
    watch = Watch(
        started=started,
        group=held.group,
        limits=limits,
        log=Log(source=started.output, target=held.log, cap_bytes=limits.log_bytes),
        is_cancelled=lambda: _is_cancelled(held.runner),
    )
    began = time.monotonic()
    released_at, reason = None, ExitReason.REFUSED
    if not found:
        released_at = _now()
        os.write(started.release, b"\n")
        os.close(started.release)
        reason = watch.until_end()
    elapsed_ms = int((time.monotonic() - began) * 1000)
    survivors = watch.kill_all()
    watch.log.finish()
    usage = {**held.group.usage(), "wall_ms": elapsed_ms}
    if reason is ExitReason.EXITED and usage.get("oom_kills"):
        reason = ExitReason.OUT_OF_MEMORY
    code = None if reason is ExitReason.REFUSED else watch.code
    message = describe(reason, code=code, limits_s=limits.wall_clock_s, found=found)
    rejected: Mapping[str, str] = {}
    if reason is not ExitReason.REFUSED and not survivors:
        try:
            rejected = harvest_output(held.order.spec, output, job=held.job, identity=held.identity).rejected
        except HarvestError as error:
            message = f"{message}; its output could not be taken: {error}"
    return Exit(
        reason=reason,
        code=code,
        message=message,
        measured_at=measured_at,
        released_at=released_at,
        ended_at=_now(),
        usage=usage,
        survivors=survivors,
        log_bytes_total=watch.log.total_bytes,
        rejected=rejected,
    )


def _measure(held: _Held, started: Started) -> tuple[str, ...]:
    """Measure the walls and have the runner write them down; returns the violations."""
    guest = Guest(
        pid=started.gate,
        group=held.group,
        filter=held.order.program,
        driver_version=held.order.bwrap_version,
        has_own_user_id=held.identity.is_own,
    )
    facts = measure(guest)
    found = violations(facts, held.order.spec)
    told = {**facts, "unenforced": list(unenforced(facts)), "violations": list(found)}
    _tell(held.runner, MEASURED, told)
    _await_go(held.runner)
    return found


def describe(  # noqa: PLR0911  one sentence per reason
    reason: ExitReason, *, code: int | None, limits_s: float, found: tuple[str, ...]
) -> str:
    """The end of a guest in one sentence."""
    match reason:
        case ExitReason.EXITED:
            return f"the guest ended by itself with code {code}"
        case ExitReason.TIMEOUT:
            return f"the guest was ended after its {limits_s:g} seconds"
        case ExitReason.OUT_OF_MEMORY:
            return "the kernel killed a process of the guest at its memory limit"
        case ExitReason.CANCELLED:
            return "the guest was ended because somebody cancelled it"
        case ExitReason.REFUSED:
            return f"the guest was not started: {'; '.join(found)}"
        case ExitReason.UNAVAILABLE:
            return "the sandbox could not be made"
        case ExitReason.LOST:
            return "the runner lost the guest, which is dead"


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
