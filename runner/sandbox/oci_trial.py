"""Whether this host lets podman put up walls: by having it do so once, and what to do where it cannot.

What is covered: the whole way of a guest, measurement included, with a guest that does nothing.
What is not covered: images, GPUs, a champion's root; what they need beside is told when they are asked for.
"""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from runner.errors import SandboxUnavailableError
from runner.runtime import locate_runtime
from runner.sandbox.bubblewrap import MAX_USER_NAMESPACES, read_sysctl
from runner.sandbox.gate import TARGET
from runner.sandbox.held import HeldSandbox
from runner.sandbox.walls import Walls
from runner.spec import Exit, ExitReason, Limits, SandboxSpec

_LIMITS = Limits(
    wall_clock_s=20.0, output_bytes=1 << 20, output_inodes=64, tmp_bytes=1 << 20, shm_bytes=1 << 20
)


def try_walls(walls: Walls) -> None:
    """Run one guest to its end. Raises SandboxUnavailableError with the reason if that is not a good one.

    `walls.check` is called on the way; it must not lead back here.
    """
    spec = SandboxSpec(
        job_id="trial",
        argv=(TARGET, "true"),
        env={},
        cwd="/",
        mounts=(),
        output_target="/out",
        limits=_LIMITS,
        runtime=locate_runtime(),
        driver=walls.name,
    )
    with TemporaryDirectory(prefix="assay-trial-") as folder:
        judge(
            HeldSandbox(walls).run(
                spec, job_dir=Path(folder), on_measured=lambda facts: None, should_cancel=lambda: False
            )
        )


def judge(ended: Exit) -> None:
    """Raise SandboxUnavailableError unless the trial's guest ended as it should."""
    if ended.reason is not ExitReason.EXITED or ended.code != 0:
        raise SandboxUnavailableError(f"podman cannot make a sandbox here: {ended.message}")


def explain(said: str, *, sysctl: Callable[[str], str | None] = read_sysctl) -> str:
    """Why podman gave up and what to do, in one sentence; `said` are its own words."""
    if sysctl(MAX_USER_NAMESPACES) == "0":
        return "user namespaces are off (user.max_user_namespaces is 0); set it to 10000 with sysctl"
    if sysctl("kernel/unprivileged_userns_clone") == "0":
        return "unprivileged user namespaces are off; set kernel.unprivileged_userns_clone to 1 with sysctl"
    if sysctl("kernel/apparmor_restrict_unprivileged_userns") == "1":
        return (
            "AppArmor forbids podman to make user namespaces; load a profile for it with the rule 'userns,'"
        )
    if "unresolvable CDI devices" in said:
        fix = "describe the node's GPUs with 'nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml'"
        return f"podman does not know a granted GPU: {said}; {fix}"
    return f"podman cannot make a sandbox here: {said or 'it did not say why'}"
