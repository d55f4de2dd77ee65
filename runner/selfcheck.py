"""The self-check of a sandbox driver: hostile probes inside the real walls, judged from outside.

Four steps. 1. A bare control run on the host must find the canaries, else the probes cannot fail and prove
nothing. 2. The battery runs inside the sandbox; each answer is held against the expectations below. 3. A
guest of its own crosses the memory limit. 4. A guest that ignores signals, double-forks and floods its log
must be dead at its deadline, with nothing left and the log capped.

What is covered: what the probes try (see probes.py), contacts to canaries, the driver's exit facts.
What is not covered: kernel flaws, side channels, GPUs; dangerous probes (bombs, writes to the kernel's
settings) are never run bare, so for them the control does not show that they can fail.
"""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from runner.canaries import HostCanaries
from runner.disclosures import disclosed, probe_pids
from runner.log import without_times
from runner.sandbox.interpreter import PYTHON_TARGET, VENV_TARGET
from runner.sandbox.port import Isolation, Sandbox
from runner.spec import Exit, ExitReason, Limits, Mount, Profile, Runtime, SandboxSpec

MEMORY_PROBE = "res.memory_bomb"
PROBES_FILE = Path(__file__).with_name("probes.py")
# Small, so that every limit can be crossed in seconds.
LIMITS = Limits(
    wall_clock_s=240.0,
    grace_s=1.0,
    memory_bytes=768 << 20,
    pids=128,
    cpu_millis=1000,
    output_bytes=64 << 20,
    output_inodes=2000,
    root_bytes=64 << 20,
    root_inodes=4000,
    tmp_bytes=64 << 20,
    shm_bytes=32 << 20,
    log_bytes=1 << 20,
    open_files=1024,
    file_bytes=1 << 30,
)
# Why each probe must find its door shut. A probe without a reason here fails the self-check.
_SHUT_BECAUSE = {
    "own network namespace with nothing but lo": "net.tcp_canary net.udp_canary net.abstract_unix_canary "
    "net.interfaces_only_lo net.tcp_external net.metadata_169_254 net.ipv6 net.udp_route net.dns",
    "own mount namespace": "net.pathname_unix_canary net.engine_sockets fs.host_secret fs.etc_shadow "
    "fs.proc_root_escape ipc.tmp_shared",
    "socket families are filtered; vsock is not bound to a network namespace": "net.raw_icmp net.af_packet "
    "net.af_vsock net.af_alg net.af_bluetooth net.netlink_netfilter net.netlink_kobject_uevent "
    "net.netlink_audit",
    "read-only mounts, no capabilities": "fs.cgroup_tree_writable fs.write_read_only fs.hardlink_out "
    "fs.remount_rw",
    "the kernel's settings belong to host root, and the guest is not host root": "fs.proc_sys_write "
    "fs.oom_score_adj_lower sys.setuid0 sys.setgroups sys.realtime_priority",
    "masked files of /proc, no /sys": "fs.sensitive_proc_read",
    "no devices but null, zero, full, random, urandom, tty, ptmx": "fs.mknod fs.devices_open",
    "nosuid or no_new_privs": "fs.suid_effective state.no_new_privs",
    "namespaces and mounts are escape tools; filtered": "sys.unshare_newuser sys.unshare_newns "
    "sys.unshare_newnet sys.clone_newuser sys.clone_newpid sys.clone3_newuser sys.setns sys.mount_tmpfs "
    "sys.umount2 sys.pivot_root sys.mount_setattr sys.move_mount sys.open_tree sys.fsopen sys.chroot "
    "sys.name_to_handle_at sys.open_by_handle_at",
    "other processes must not be touched; a traced parent can hang the runner": "sys.ptrace_parent "
    "sys.ptrace_pid1 sys.ptrace_traceme sys.pidfd_getfd sys.process_vm_readv sys.process_vm_writev sys.kcmp",
    "keyrings are not fully namespaced": "sys.keyctl_session sys.add_key sys.request_key",
    "kernel surface that training does not need; filtered": "sys.io_uring_setup sys.bpf_map_create "
    "sys.bpf_prog_load sys.perf_event_open sys.userfaultfd sys.seccomp_user_notif sys.personality_no_aslr "
    "sys.memfd_secret sys.modify_ldt sys.x32_abi",
    "administration of the host": "sys.kexec_load sys.init_module sys.delete_module sys.swapon sys.acct "
    "sys.quotactl sys.fanotify_init sys.settimeofday sys.sethostname sys.reboot sys.syslog_read_all sys.iopl",
    "limits are hard": "sys.rlimit_raise res.core_dump res.fd_bomb res.sparse_1TiB",
    "no terminal": "sys.terminal",
    "the profile asks for it": "state.caps_zero state.seccomp_filter",
    "nothing of the runner is handed down": "state.inherited_fds env.secret_in_environ "
    "env.secret_in_proc_environ env.host_paths_in_cmdline env.host_paths_in_mountinfo",
    "own namespaces of every kind": "state.foreign_pids_visible state.namespaces ipc.posix_shm_canary "
    "ipc.sysv_shm_canary ipc.hostname",
    "every writable place has a size": "res.disk_fill_tmp res.disk_fill_shm res.disk_fill_dev "
    "res.disk_fill_root res.disk_fill_output res.inode_fill_output",
    "the control group bounds processes, CPU and memory": "res.cpu_share res.thread_bomb res.fork_bomb "
    "res.memory_bomb",
}
EXPECTATIONS = {name: why for why, names in _SHUT_BECAUSE.items() for name in names.split()}
CONTROL = "control.raw_syscall"  # open everywhere: shows that a raw call can answer ALLOWED
# Answers of n/a that are no hole: another architecture, uid 0 that is nobody outside, one CPU for all.
MAY_BE_ABSENT = frozenset({"sys.modify_ldt", "sys.iopl", "sys.x32_abi", "sys.setuid0", "res.cpu_share"})
# The bare control must find these open: our own canaries, whatever the host is.
OPEN_BARE = (
    CONTROL, "net.tcp_canary", "net.udp_canary", "net.abstract_unix_canary", "net.pathname_unix_canary",
    "fs.host_secret", "ipc.tmp_shared", "ipc.posix_shm_canary", "ipc.sysv_shm_canary", "ipc.hostname",
    "env.secret_in_environ", "env.secret_in_proc_environ", "env.host_paths_in_cmdline", "state.namespaces",
)  # fmt: skip
_STUBBORN = """
import os, signal, sys, time
for number in range(1, 65):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        while True: time.sleep(1)
    os._exit(0)
while True: os.write(1, b'flood' * 2000)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """One judged answer. `holds` says whether the self-check accepts it."""

    probe: str
    answer: str  # of a probe: blocked | ALLOWED | n/a | error | missing; of a fact: ok | failed
    expected: str
    why: str
    detail: str
    holds: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfcheckReport:
    """What the probes found behind one driver's walls. `passed` only if every result holds."""

    driver: str
    profile: str
    passed: bool
    results: tuple[ProbeResult, ...]
    bare: tuple[ProbeResult, ...]
    disclosed: tuple[str, ...]
    isolation: Isolation  # as the driver measured it before the battery

    @property
    def failures(self) -> tuple[ProbeResult, ...]:
        return tuple(r for r in (*self.bare, *self.results) if not r.holds)

    @property
    def digest_hex(self) -> str:
        """SHA-256 of the JSON form: keys sorted, no white space. Names this report in evidence."""
        encoded = json.dumps(self.as_json(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(encoded.encode()).hexdigest()

    def as_json(self) -> dict[str, Any]:
        """The report as strings, booleans, lists and objects."""
        return {"schema": "assay.selfcheck/v1", **asdict(self)}


def run_selfcheck(
    sandbox: Sandbox,
    *,
    runtime: Runtime,
    work_dir: Path,
    on_progress: Callable[[str], None],
    profile: Profile = Profile.STRICT,
) -> SelfcheckReport:
    """Try the walls of `sandbox` and judge them; takes about half a minute and needs an empty `work_dir`.

    A champion's walls (`profile`) differ from a strict guest's in its root alone.
    Raises SandboxUnavailableError if the driver cannot make a sandbox at all.
    """
    sandbox.check()
    known = disclosed(sandbox.name, profile)
    with HostCanaries() as canaries:
        stage = _Stage(
            sandbox=sandbox, runtime=runtime, work_dir=work_dir, canaries=canaries, profile=profile
        )
        # 1.
        on_progress(f"{sandbox.name}, {profile}: control, the probes without a sandbox")
        bare = _judge_bare(stage.run_bare(), canaries.take_hits())
        # 2.
        on_progress(f"{sandbox.name}, {profile}: {len(EXPECTATIONS)} hostile probes")
        battery = stage.run_guest("battery", skip=(MEMORY_PROBE,))
        # 3.
        on_progress(f"{sandbox.name}, {profile}: a guest crosses its memory limit")
        memory = stage.run_guest("memory", only=(MEMORY_PROBE,))
        # 4.
        on_progress(f"{sandbox.name}, {profile}: a guest refuses to die")
        stubborn = stage.run_stubborn()
        hits = canaries.take_hits()
    results = (
        *judge_answers(battery.answers, known=known),
        _judge_memory(memory),
        *_judge_hits(hits),
        _fact("exit.battery", _ended_well(battery.ended), "the battery ends by itself, nothing survives it"),
        *_judge_stubborn(stubborn),
    )
    return SelfcheckReport(
        driver=sandbox.name,
        profile=profile.value,
        passed=all(r.holds for r in (*bare, *results)),
        results=results,
        bare=bare,
        disclosed=tuple(f"{r.probe}: {r.why}" for r in results if r.probe in known and r.answer != "blocked"),
        isolation=battery.isolation,
    )


def judge_answers(
    answers: Mapping[str, tuple[str, str]], *, known: Mapping[str, str]
) -> tuple[ProbeResult, ...]:
    """The battery's answers against the expectations, a missing one counted as failed; pure.

    `known` are the probes that the driver is known to leave open, with the reason why that is no hole.
    """
    judged = [_judge(CONTROL, answers, expected="ALLOWED", why="the probes can answer ALLOWED")]
    for name in (n for n in EXPECTATIONS if n != MEMORY_PROBE):
        judged.append(_judge(name, answers, expected="blocked", why=EXPECTATIONS[name], known=known))
    for name in sorted(set(answers) - set(EXPECTATIONS) - {CONTROL}):
        judged.append(replace(_judge(name, answers, expected="blocked", why="no expectation"), holds=False))
    return tuple(judged)


def _judge(
    name: str,
    answers: Mapping[str, tuple[str, str]],
    *,
    expected: str,
    why: str,
    known: Mapping[str, str] = MappingProxyType({}),
) -> ProbeResult:
    answer, detail = answers.get(name, ("missing", "the guest ended before this probe answered"))
    holds = answer == expected or (answer == "n/a" and name in MAY_BE_ABSENT)
    if not holds and name in known and answer in ("ALLOWED", "n/a"):
        holds, why = True, known[name]
    return ProbeResult(probe=name, answer=answer, expected=expected, why=why, detail=detail, holds=holds)


def _judge_bare(answers: Mapping[str, tuple[str, str]], hits: Mapping[str, int]) -> tuple[ProbeResult, ...]:
    why = "without a sandbox this door is open; if the probe misses it, it proves nothing"
    judged = [_judge(name, answers, expected="ALLOWED", why=why) for name in OPEN_BARE]
    return (*judged, *(_fact(f"canary.{n}", "" if hits[n] else "was not contacted", why) for n in hits))


def _judge_hits(hits: Mapping[str, int]) -> tuple[ProbeResult, ...]:
    why = "no guest reaches a listener of the host"
    return tuple(_fact(f"canary.{n}", f"{hits[n]} contacts" if hits[n] else "", why) for n in hits)


def _judge_memory(guest: "_Guest") -> ProbeResult:
    """Blocked by the probe's own word, or by the driver having ended the guest for its memory."""
    answers = dict(guest.answers)
    if answers.get(MEMORY_PROBE, ("error",))[0] == "error" and guest.ended.reason is ExitReason.OUT_OF_MEMORY:
        answers[MEMORY_PROBE] = ("blocked", guest.ended.message)
    return _judge(MEMORY_PROBE, answers, expected="blocked", why=EXPECTATIONS[MEMORY_PROBE])


def _judge_stubborn(guest: "_Guest") -> tuple[ProbeResult, ...]:
    reason = guest.ended.reason
    late = "" if reason is ExitReason.TIMEOUT else f"ended as {reason}: {guest.ended.message}"
    left = f"{guest.ended.survivors} processes survived" if guest.ended.survivors else ""
    log = f"{guest.log_bytes} bytes of log kept" if guest.log_bytes > LIMITS.log_bytes + 4096 else ""
    return (
        _fact("kill.deadline", late, "a guest that ignores signals ends as timeout"),
        _fact("kill.survivors", left, "daemons die with the guest"),
        _fact("log.flood", log, "the log is capped"),
    )


def _ended_well(ended: Exit) -> str:
    if ended.reason is not ExitReason.EXITED or ended.code != 0 or ended.survivors:
        return f"{ended.reason}, code {ended.code}, {ended.survivors} survivors: {ended.message}"
    return ""


def _fact(name: str, trouble: str, why: str) -> ProbeResult:
    return ProbeResult(
        probe=name,
        answer="failed" if trouble else "ok",
        expected="ok",
        why=why,
        detail=trouble or "as expected",
        holds=not trouble,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Guest:
    answers: Mapping[str, tuple[str, str]]
    ended: Exit
    isolation: Isolation
    log_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stage:
    """Where guests are prepared and run; each gets a folder of its own below `work_dir`."""

    sandbox: Sandbox
    runtime: Runtime
    work_dir: Path
    canaries: HostCanaries
    profile: Profile

    @property
    def limits(self) -> Limits:
        return replace(LIMITS, pids=probe_pids(self.sandbox.name, default=LIMITS.pids))

    def run_bare(self) -> Mapping[str, tuple[str, str]]:
        folder = self._stage("bare", output=str(self.canaries.folder), only=OPEN_BARE)
        command = [sys.executable, "-I", str(folder / "probes.py"), str(folder / "config.json")]
        done = subprocess.run(command, capture_output=True, timeout=120, check=False)
        return parse_answers(done.stdout)

    def run_guest(self, name: str, *, only: tuple[str, ...] = (), skip: tuple[str, ...] = ()) -> _Guest:
        folder = self._stage(name, output="/out", only=only, skip=skip)
        command = ("/probes/probes.py", "/probes/config.json")
        return self._run(name, arguments=command, mounts=(Mount(source=str(folder), target="/probes"),))

    def run_stubborn(self) -> _Guest:
        limits = replace(self.limits, wall_clock_s=2.0, grace_s=0.5)
        return self._run("stubborn", arguments=("-c", _STUBBORN), limits=limits)

    def _stage(
        self, name: str, *, output: str, only: tuple[str, ...] = (), skip: tuple[str, ...] = ()
    ) -> Path:
        folder = self.work_dir / f"probes-{name}"
        folder.mkdir(parents=True)
        (folder / "probes.py").write_bytes(PROBES_FILE.read_bytes())
        limits = {key: value for key, value in asdict(self.limits).items() if isinstance(value, int)}
        own = {
            "only": only,
            "skip": skip,
            "output": output,
            "host_path": str(self.work_dir),
            "read_only": self._read_only(),
            "max_pids_visible": 16,
        }
        (folder / "config.json").write_text(json.dumps({**limits, **self.canaries.addresses(), **own}))
        return folder

    def _read_only(self) -> list[str]:
        """What no guest may write to; the rest of a champion's root is its own."""
        if self.profile is Profile.STRICT:
            return ["/usr", "/proc", "/sys", "/opt/python", "/opt/venv", "/probes"]
        python = f"lib/python{self.runtime.python_version}"
        return [
            "/usr",
            "/proc",
            f"{PYTHON_TARGET}/{python}",
            f"{VENV_TARGET}/{python}/site-packages",
            "/probes",
        ]

    def _run(
        self,
        name: str,
        *,
        arguments: tuple[str, ...],
        mounts: tuple[Mount, ...] = (),
        limits: Limits | None = None,
    ) -> _Guest:
        spec = SandboxSpec(
            job_id=f"selfcheck-{name}",
            argv=("/opt/python/bin/python3", "-I", *arguments),
            env={},
            cwd="/tmp",  # noqa: S108  the guest's own
            mounts=mounts,
            output_target="/out",
            limits=limits or self.limits,
            runtime=self.runtime,
            profile=self.profile,
            driver=self.sandbox.name,
        )
        job_dir = self.work_dir / name
        job_dir.mkdir()
        measured: list[Isolation] = []
        ended = self.sandbox.run(
            spec, job_dir=job_dir, on_measured=measured.append, should_cancel=lambda: False
        )
        log = job_dir / "stdout.log"
        data = without_times(log.read_bytes()) if log.exists() else b""
        return _Guest(
            answers=parse_answers(data),
            ended=ended,
            isolation=measured[-1] if measured else {},
            log_bytes=len(data),
        )


def parse_answers(output: bytes) -> dict[str, tuple[str, str]]:
    """Probe → (answer, detail) from the JSON Lines of probes.py; other lines are not answers.

    A probe answered twice with different words is undecided.
    """
    answers: dict[str, tuple[str, str]] = {}
    for line in output.splitlines():
        try:
            value = json.loads(line)
            name, answer = str(value["probe"]), (str(value["answer"]), str(value["detail"]))
        except (ValueError, KeyError, TypeError):
            continue
        answers[name] = answer if answers.get(name, answer) == answer else ("error", "answered twice")
    return answers
