"""What podman is told: everything by options and files of our own, nothing by the host's configuration.

What is covered: each mount that the guest will see beside the staged ones is named here; podman's defaults for
/dev, /sys and the mounts that it adds unasked are replaced, so that all are read-only or sized.
What is not covered: whether podman does as told; that is measured.
"""

import base64
import resource
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runner.sandbox.measure import MASKED
from runner.sandbox.oci_keeper import guest_id_inside
from runner.sandbox.walls import Stage
from runner.spec import Profile

# Hidden by podman itself, then by us.
PODMAN_MASKED = ("acpi", "kcore", "keys", "latency_stats", "sched_debug", "scsi", "timer_list", "timer_stats")
PODMAN_READ_ONLY = ("asound", "bus", "fs", "irq", "sys", "sysrq-trigger")
HIDDEN = frozenset(f"/proc/{name}" for name in (*PODMAN_MASKED, *MASKED)) | frozenset(
    {"/sys/dev/block", "/sys/firmware", "/sys/fs/selinux"}  # where there is a /sys
)
READ_ONLY = frozenset(f"/proc/{name}" for name in PODMAN_READ_ONLY)
# crun loads these bytes as they are (crun(1), annotations) instead of a filter built from the profile.
EXACT_FILTER = "run.oci.seccomp_bpf_data"


@dataclass(frozen=True, slots=True, kw_only=True)
class Programs:
    """Absolute paths on this host."""

    podman: str
    crun: str
    conmon: str


def environment(stage: Stage) -> dict[str, str]:
    """podman's own environment, whole."""
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin",
        "HOME": str(stage.scratch),
        "XDG_RUNTIME_DIR": str(stage.scratch),
        "TMPDIR": str(stage.scratch),
        "CONTAINERS_CONF": f"{stage.scratch}/containers.conf",
        "CONTAINERS_STORAGE_CONF": f"{stage.scratch}/storage.conf",
    }


def command(programs: Programs, stage: Stage) -> list[str]:
    """podman's words up to the guest's last argument."""
    scratch = stage.scratch
    return [
        programs.podman, "--log-level", "error", "--root", f"{scratch}/graph", "--runroot", f"{scratch}/run",
        "--tmpdir", f"{scratch}/state", "--cgroup-manager", "cgroupfs", "--conmon", programs.conmon,
        "--runtime", programs.crun, "run", "--name", "guest", "--log-driver", "passthrough", "--cgroups", "disabled",
        "--network", "none", "--no-hosts", "--passwd=false", "--http-proxy=false", "--systemd", "false",
        "--hostname", "runner", "--uts=private", "--ipc=private", "--pid=private", "--cgroupns=private",
        "--cap-drop", "all",
        *_security(stage), *_identity(stage), *_limits(stage), *_mounts(stage), *_devices(stage),
        "--unsetenv-all", *(f"--env={name}={value}" for name, value in stage.environment.items()),
        "--workdir", stage.spec.cwd, "--rootfs", stage.root, *stage.command,
    ]  # fmt: skip


def _security(stage: Stage) -> list[str]:
    masked = ":".join(f"/proc/{name}" for name in MASKED)
    options = (
        "no-new-privileges", f"seccomp={stage.scratch}/seccomp.json", f"mask={masked}",
        # Profiles of AppArmor and labels of SELinux cannot be set from a user namespace.
        "apparmor=unconfined", "label=disable",
    )  # fmt: skip
    exact = base64.b64encode(stage.program).decode()
    return [*(f"--security-opt={option}" for option in options), f"--annotation={EXACT_FILTER}={exact}"]


def _identity(stage: Stage) -> list[str]:
    ids = f"{stage.guest_id}:{guest_id_inside(stage)}:1"
    return ["--user", f"{stage.guest_id}:{stage.guest_id}", "--uidmap", ids, "--gidmap", ids]


def _limits(stage: Stage) -> list[str]:
    """Resource limits, never above what we have ourselves: podman would raise what is not named."""
    limits = stage.spec.limits
    wanted: Mapping[str, tuple[int, int | None]] = {
        "core": (resource.RLIMIT_CORE, 0),
        "fsize": (resource.RLIMIT_FSIZE, limits.file_bytes),
        "nofile": (resource.RLIMIT_NOFILE, limits.open_files),
        "nproc": (resource.RLIMIT_NPROC, limits.pids if stage.group.version == "none" else None),
    }
    return [f"--ulimit={name}={_bounded(kind, value)}" for name, (kind, value) in wanted.items()]


def _bounded(kind: int, wanted: int | None) -> str:
    hard = resource.getrlimit(kind)[1]
    if wanted is None or wanted > hard != resource.RLIM_INFINITY:
        wanted = hard
    return f"{wanted}:{wanted}"  # RLIM_INFINITY is -1, which is podman's word for it too


def _mounts(stage: Stage) -> list[str]:
    spec, limits, scratch = stage.spec, stage.spec.limits, stage.scratch
    own = [
        _tmpfs("/dev", "ro,nosuid,nodev,noexec,size=64k,mode=0755"),
        # An empty folder: the guest's group is seen by nobody but us.
        _tmpfs("/sys/fs/cgroup", "ro,nosuid,nodev,noexec,size=4k,mode=0755,notmpcopyup"),
        _bind(f"{scratch}/terminals", "/dev/pts", "rw,nosuid,noexec,dev"),
        _bind(f"{scratch}/containerenv", "/run/.containerenv", "ro,nosuid,nodev,noexec"),
        _bind(f"{scratch}/hostname", "/etc/hostname", "ro,nosuid,nodev,noexec"),
        f"--shm-size={limits.shm_bytes}b",
    ]
    if not spec.gpus:
        own.append(_tmpfs("/sys", "ro,nosuid,nodev,noexec,size=4k,mode=0755,notmpcopyup"))
    if spec.profile is Profile.STRICT:
        size = f"size={limits.tmp_bytes},mode=1777"
        own += [
            "--read-only", "--read-only-tmpfs=false",
            _tmpfs("/tmp", f"rw,nosuid,nodev,exec,{size},notmpcopyup"),  # noqa: S108  the guest's own
            _tmpfs("/run", "ro,nosuid,nodev,noexec,size=4k,mode=0755,notmpcopyup"),
        ]  # fmt: skip
    return own


def _devices(stage: Stage) -> list[str]:
    """GPUs by the Container Device Interface: the vendor's description says which nodes and libraries."""
    return [f"--device=nvidia.com/gpu={gpu.uuid}" for gpu in stage.spec.gpus]


def _tmpfs(target: str, options: str) -> str:
    return f"--tmpfs={target}:{options}"


def _bind(source: str | Path, target: str, options: str) -> str:
    return f"--volume={source}:{target}:{options}"
