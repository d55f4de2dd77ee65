"""Hostile probes: what untrusted code would try first, run inside the walls to see whether they hold.

Standard library only and one file (hence longer than our other files: nothing else is copied into the
sandbox), started as `python -I probes.py CONFIG.json` in the sandbox (or bare, as the
control that shows that the probes can find an open door). Each probe runs in its own forked child under a
deadline. Standard output is JSON Lines, one answer per line, flushed: a guest killed halfway has still told
what it knew, and a line that is missing counts as a failed probe.

Answers: `blocked` | `ALLOWED` | `n/a` (this kernel or profile has no such thing) | `error` (not decided).
For raw system calls any errno but EPERM, EACCES, ENOSYS (and EAFNOSUPPORT for sockets) is ALLOWED: the call
reached the kernel.

What is covered: network, host files, kernel interface, own state, shared memory, resource limits.
What is not covered: flaws of the kernel itself, side channels, GPU drivers.
"""

import contextlib
import ctypes
import errno
import json
import os
import platform
import resource
import select
import signal
import socket
import stat
import struct
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

Answer = tuple[str, str]
Config = dict[str, Any]
Probe = Callable[[Config], Answer]

BLOCKED, ALLOWED, ABSENT, ERROR = "blocked", "ALLOWED", "n/a", "error"
SHUT = frozenset({errno.EPERM, errno.EACCES, errno.ENOSYS})
MIB = 1 << 20
PROBES: dict[str, Probe] = {}
DEADLINES_S: dict[str, float] = {}
LIBC = ctypes.CDLL(None, use_errno=True)

# name: (x86_64, aarch64); None where the architecture has no such call.
SYSCALLS: dict[str, tuple[int | None, int]] = {
    "acct": (163, 89), "add_key": (248, 217), "bpf": (321, 280), "chroot": (161, 51), "clone": (56, 220),
    "clone3": (435, 435), "delete_module": (176, 106), "fanotify_init": (300, 262), "fsopen": (430, 430),
    "getpid": (39, 172), "init_module": (175, 105), "io_uring_setup": (425, 425), "iopl": (172, -1),
    "kcmp": (312, 272), "kexec_load": (246, 104), "keyctl": (250, 219), "memfd_secret": (447, 447),
    "modify_ldt": (154, -1), "mount": (165, 40), "mount_setattr": (442, 442), "move_mount": (429, 429),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "open_tree": (428, 428),
    "perf_event_open": (298, 241), "personality": (135, 92), "pidfd_getfd": (438, 438),
    "pidfd_open": (434, 434), "pivot_root": (155, 41), "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271), "ptrace": (101, 117), "quotactl": (179, 60), "reboot": (169, 142),
    "request_key": (249, 218), "seccomp": (317, 277), "sethostname": (170, 161), "setns": (308, 268),
    "settimeofday": (164, 170), "swapon": (167, 224), "syslog": (103, 116), "umount2": (166, 39),
    "unshare": (272, 97), "userfaultfd": (323, 282),
}  # fmt: skip


def main(argv: list[str]) -> int:
    """Run the configured probes in order and print one JSON line each, then `{"done": count}`."""
    config: Config = json.loads(Path(argv[1]).read_text())
    config["inherited_fds"] = _open_fds()
    names = config.get("only") or [name for name in PROBES if name not in config.get("skip", [])]
    for name in names:
        answer, detail = run_probe(name, config)
        print(json.dumps({"probe": name, "answer": answer, "detail": detail[:300]}), flush=True)
    print(json.dumps({"done": len(names)}), flush=True)
    return 0


def run_probe(name: str, config: Config) -> Answer:
    """The answer of one probe, run in a forked child that is killed with all its children at the deadline."""
    if name not in PROBES:
        return ERROR, "no such probe"
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _child(name, config, writer)
    os.close(writer)
    data = _read_until(reader, time.monotonic() + DEADLINES_S.get(name, 8.0))
    os.close(reader)
    # The group first: a bomb's children must not outlive their probe and starve the next one.
    for end in (os.killpg, os.kill):
        with contextlib.suppress(OSError):
            end(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if data:
        answer, detail = json.loads(data)
        return str(answer), str(detail)
    ended_by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    if ended_by in (signal.SIGSYS, signal.SIGXFSZ):
        return BLOCKED, f"killed by {signal.Signals(ended_by).name}"
    if name == "res.memory_bomb" and ended_by == signal.SIGKILL:
        return BLOCKED, "killed when it crossed the memory limit"
    return ERROR, f"no answer, wait status {status:#x}"


def _child(name: str, config: Config, writer: int) -> None:
    os.setpgid(0, 0)
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    try:
        answer = PROBES[name](config)
    except OSError as error:  # a probe that has no finer rule: refused by the system
        answer = (BLOCKED, _errno_name(error.errno))
    except BaseException as error:  # the process boundary: undecided, never passed
        answer = (ERROR, repr(error))
    os.write(writer, json.dumps(answer).encode())
    os._exit(0)


def _read_until(fd: int, deadline: float) -> bytes:
    data = b""
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([fd], [], [], left)[0]:
            break
        if not (chunk := os.read(fd, 65536)):
            break
        data += chunk
        with contextlib.suppress(ValueError):  # complete: do not wait for grandchildren that hold the pipe
            json.loads(data)
            break
    return data


def _open_fds() -> list[int]:
    open_now = []
    for fd in range(3, min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], 4096)):
        with contextlib.suppress(OSError):
            os.fstat(fd)
            open_now.append(fd)
    return open_now


def probe(name: str, *, deadline_s: float | None = None) -> Callable[[Probe], Probe]:
    def register(function: Probe) -> Probe:
        PROBES[name] = function
        if deadline_s:
            DEADLINES_S[name] = deadline_s
        return function

    return register


def _plain(call: Callable[[], Answer], _: Config) -> Answer:
    """A probe that needs no configuration."""
    return call()


def _errno_name(number: int | None) -> str:
    return errno.errorcode.get(number or 0, str(number))


def _found(detail: str) -> Answer:
    """ALLOWED with what was found, blocked if nothing was."""
    return (ALLOWED, detail) if detail else (BLOCKED, "nothing found")


def _syscall(name: str, *args: Any) -> int:
    """The result of a raw system call, or minus its errno."""
    numbers = SYSCALLS[name]
    number = numbers[0] if platform.machine() == "x86_64" else numbers[1]
    ctypes.set_errno(0)
    wide = [ctypes.c_long(a) if isinstance(a, int) else a for a in args]
    result = int(LIBC.syscall(ctypes.c_long(number if number is not None else -1), *wide))
    return result if result >= 0 else -ctypes.get_errno()


def _raw(name: str, *args: Any) -> Answer:
    result = _syscall(name, *args)
    if result == 0 and name in ("clone", "clone3"):
        os._exit(0)  # the new child itself; its parent answers
    if result >= 0:
        return ALLOWED, f"{name} returned {result}"
    if -result in SHUT:
        return BLOCKED, _errno_name(-result)
    return ALLOWED, f"{name} reached the kernel: {_errno_name(-result)}"


def _readable(path: str) -> str:
    """A word about the content if the file gives any, else nothing."""
    with contextlib.suppress(OSError):
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            return f"{path} gave {len(os.read(fd, 64))} bytes" if os.read(fd, 1) else ""
        finally:
            os.close(fd)
    return ""


def _holds(path: str, token: str) -> str:
    with contextlib.suppress(OSError):
        if token.encode() in Path(path).read_bytes()[: 4 * MIB]:
            return path
    return ""


def _opens_for_writing(paths: list[str]) -> Answer:
    opened = []
    for path in paths:
        with contextlib.suppress(OSError):
            os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
            opened.append(path)
    return _found(" ".join(opened))


def _no_new_privs() -> bool:
    """By prctl: not every kernel's /proc tells it."""
    return int(LIBC.prctl(39, 0, 0, 0, 0)) == 1  # PR_GET_NO_NEW_PRIVS


def _status(field: str) -> str:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return line.split(":", 1)[1].strip()
    return ""


def _numeric(folder: str) -> list[int]:
    return sorted(int(name) for name in os.listdir(folder) if name.isdigit())


# --- control: shows that the mechanism can answer ALLOWED; expected open everywhere ---------------------
@probe("control.raw_syscall")
def _(c: Config) -> Answer:
    return _raw("getpid")


# --- network ---------------------------------------------------------------------------------------------
@probe("net.tcp_canary")
def _(c: Config) -> Answer:
    for host, port in c["tcp"]:
        with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1.5) as peer:
            return ALLOWED, f"{host}:{port} said {peer.recv(64)!r}"
    return BLOCKED, "no listener of the host answered"


@probe("net.udp_canary")
def _(c: Config) -> Answer:
    for host, port in c["udp"]:
        with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.settimeout(1.0)
            peer.sendto(b"probe", (host, port))
            return ALLOWED, f"{host}:{port} said {peer.recvfrom(64)[0]!r}"
    return BLOCKED, "no listener of the host answered"


def _unix(address: str | bytes) -> Answer:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        peer.settimeout(1.5)
        peer.connect(address)
        return ALLOWED, f"connected, heard {peer.recv(64)!r}"


@probe("net.abstract_unix_canary")
def _(c: Config) -> Answer:
    return _unix(b"\0" + c["abstract"].encode())


@probe("net.pathname_unix_canary")
def _(c: Config) -> Answer:
    return _unix(c["pathname"])


@probe("net.interfaces_only_lo")
def _(c: Config) -> Answer:
    lines = Path("/proc/net/dev").read_text().splitlines()[2:]
    routes = Path("/proc/net/route").read_text().splitlines()[1:]
    others = [name for line in lines if (name := line.split(":")[0].strip()) != "lo"]
    return _found(" ".join(others + [f"route via {line.split()[0]}" for line in routes]))


def _dial(family: int, kind: int, address: tuple[Any, ...]) -> Answer:
    with socket.socket(family, kind) as peer:
        peer.settimeout(2.0)
        peer.connect(address)
        return ALLOWED, f"the kernel has a way to {address[0]}"


for _name, _address in {
    "net.tcp_external": (socket.AF_INET, socket.SOCK_STREAM, ("192.0.2.1", 80)),  # TEST-NET-1
    "net.metadata_169_254": (socket.AF_INET, socket.SOCK_STREAM, ("169.254.169.254", 80)),
    "net.ipv6": (socket.AF_INET6, socket.SOCK_STREAM, ("2001:db8::1", 80)),
    "net.udp_route": (socket.AF_INET, socket.SOCK_DGRAM, ("192.0.2.1", 53)),
}.items():
    PROBES[_name] = partial(_plain, partial(_dial, *_address))


@probe("net.dns")
def _(c: Config) -> Answer:
    try:
        return ALLOWED, f"resolved to {socket.getaddrinfo('example.com', 443)[0][4][0]}"
    except socket.gaierror as error:
        return BLOCKED, str(error)


SOCKETS: dict[str, tuple[int, int, int]] = {
    "net.raw_icmp": (socket.AF_INET, socket.SOCK_RAW, 1),
    "net.af_packet": (17, socket.SOCK_RAW, 0x0300),
    "net.af_vsock": (40, socket.SOCK_STREAM, 0),
    "net.af_alg": (38, socket.SOCK_SEQPACKET, 0),
    "net.af_bluetooth": (31, socket.SOCK_RAW, 1),
    "net.netlink_netfilter": (16, socket.SOCK_RAW, 12),
    "net.netlink_kobject_uevent": (16, socket.SOCK_RAW, 15),
    "net.netlink_audit": (16, socket.SOCK_RAW, 9),
}


def _socket(family: int, kind: int, protocol: int) -> Answer:
    try:
        socket.socket(family, kind, protocol).close()
    except OSError as error:
        shut = error.errno in SHUT or error.errno == errno.EAFNOSUPPORT
        return (BLOCKED if shut else ALLOWED), _errno_name(error.errno)
    return ALLOWED, "the socket was made"


for _name, _args in SOCKETS.items():
    PROBES[_name] = partial(_plain, partial(_socket, *_args))


@probe("net.engine_sockets")
def _(c: Config) -> Answer:
    paths = (
        "/run/docker.sock /var/run/docker.sock /run/podman/podman.sock /run/containerd/containerd.sock "
        "/run/crio/crio.sock /run/dbus/system_bus_socket /run/systemd/private /var/lib/kubelet/kubelet.sock"
    )
    return _found(" ".join(p for p in paths.split() if Path(p).exists()))


# --- files of the host -----------------------------------------------------------------------------------
@probe("fs.host_secret")
def _(c: Config) -> Answer:
    return _found(" ".join(_holds(p, c["secret"]) for p in c["secret_files"]).strip())


@probe("fs.etc_shadow")
def _(c: Config) -> Answer:
    return _found(_readable("/etc/shadow") or _readable("/etc/gshadow"))


@probe("fs.proc_root_escape")
def _(c: Config) -> Answer:
    hits = []
    for pid in _numeric("/proc"):
        for door in ("root", "cwd"):
            hits += [_holds(f"/proc/{pid}/{door}{path}", c["secret"]) for path in c["secret_files"]]
    return _found(" ".join(filter(None, hits)))


@probe("fs.cgroup_tree_writable")
def _(c: Config) -> Answer:
    names = ("cgroup.procs", "tasks", "release_agent", "memory.limit_in_bytes", "memory.max", "pids.max")
    found = [str(Path(top) / n) for top, _, files in os.walk("/sys/fs/cgroup") for n in files if n in names]
    return _opens_for_writing(found[:2000])


@probe("fs.write_read_only")
def _(c: Config) -> Answer:
    made = []
    for folder in c["read_only"]:
        with contextlib.suppress(OSError):
            path = f"{folder}/assay-probe"
            if Path(folder).is_dir():
                os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
                os.unlink(path)
            else:
                os.close(os.open(folder, os.O_WRONLY))
            made.append(folder)
    return _found(" ".join(made))


@probe("fs.hardlink_out")
def _(c: Config) -> Answer:
    done = []
    for source in ("/usr/bin/env", "/etc/passwd", *c["read_only"]):
        target = f"{c['output']}/assay-probe-link"
        with contextlib.suppress(OSError):
            os.link(source, target)
            os.unlink(target)
            done.append(source)
    return _found(" ".join(done))


@probe("fs.remount_rw")
def _(c: Config) -> Answer:
    return _raw("mount", None, b"/usr", None, 0x20 | 0x1000, None)  # MS_REMOUNT | MS_BIND


@probe("fs.proc_sys_write")
def _(c: Config) -> Answer:  # opens only, writes nothing
    return _opens_for_writing(
        [
            "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname", "/proc/sys/kernel/sysrq",
            "/proc/sys/kernel/modprobe", "/proc/sys/kernel/randomize_va_space",
            "/proc/sys/vm/overcommit_memory", "/proc/sys/net/ipv4/ip_forward", "/proc/sysrq-trigger",
            "/proc/sys/fs/binfmt_misc/register", "/proc/irq/default_smp_affinity", "/sys/power/state",
            "/sys/kernel/mm/transparent_hugepage/enabled", "/sys/kernel/uevent_helper",
        ]
    )  # fmt: skip


@probe("fs.sensitive_proc_read")
def _(c: Config) -> Answer:
    names = "kcore kmsg keys key-users sched_debug timer_list kallsyms kpagecount config.gz"
    paths = [f"/proc/{name}" for name in names.split()]
    paths += ["/sys/kernel/debug/sched/debug", "/sys/class/dmi/id/product_uuid", "/dev/kmsg", "/dev/mem"]
    return _found("; ".join(filter(None, map(_readable, paths))))


@probe("fs.oom_score_adj_lower")
def _(c: Config) -> Answer:
    Path("/proc/self/oom_score_adj").write_text("-1000")
    return ALLOWED, "made itself unkillable"


@probe("fs.mknod")
def _(c: Config) -> Answer:
    made = []
    for folder in (c["output"], "/tmp", "/dev/shm", "/dev"):
        with contextlib.suppress(OSError):
            path = f"{folder}/assay-probe-node"
            os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
            os.unlink(path)
            made.append(folder)
    return _found(" ".join(made))


@probe("fs.devices_open")
def _(c: Config) -> Answer:
    known = {"null", "zero", "full", "random", "urandom", "tty", "ptmx", "console", *c.get("devices", [])}
    opened = []
    for top, _, files in os.walk("/dev"):
        for name in files:
            path = f"{top}/{name}"
            if name in known or "/pts" in top:
                continue
            with contextlib.suppress(OSError):
                mode = os.lstat(path).st_mode
                if stat.S_ISBLK(mode) or stat.S_ISCHR(mode):
                    os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
                    opened.append(path)
    return _found(" ".join(opened))


@probe("fs.suid_effective")
def _(c: Config) -> Answer:
    if _no_new_privs():
        return BLOCKED, "no_new_privs makes setuid files harmless"
    loose = [p for p in (c["output"], "/tmp", "/dev/shm") if not os.statvfs(p).f_flag & os.ST_NOSUID]
    return _found("no nosuid on " + " ".join(loose) if loose else "")


# --- the kernel's interface ------------------------------------------------------------------------------
def _buffer(data: bytes, size: int = 0) -> Any:
    return ctypes.create_string_buffer(data, max(size, len(data)))


def _listener() -> Answer:
    program = _buffer(struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000))  # return ALLOW
    LIBC.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
    filters = _buffer(struct.pack("HxxxxxxQ", 1, ctypes.addressof(program)))
    return _raw("seccomp", 1, 8, filters)  # SECCOMP_FILTER_FLAG_NEW_LISTENER


def _x32() -> Answer:
    result = int(LIBC.syscall(ctypes.c_long(39 | 0x40000000)))
    return (BLOCKED, "ENOSYS") if result < 0 else (ALLOWED, f"x32 getpid returned {result}")


NEWNS, NEWUSER, NEWNET, NEWPID, SIGCHLD = 0x20000, 0x10000000, 0x40000000, 0x20000000, 17
KERNEL: dict[str, Callable[[], Answer]] = {
    "sys.unshare_newuser": lambda: _raw("unshare", NEWUSER),
    "sys.unshare_newns": lambda: _raw("unshare", NEWNS),
    "sys.unshare_newnet": lambda: _raw("unshare", NEWNET),
    "sys.clone_newuser": lambda: _raw("clone", NEWUSER | SIGCHLD, 0, 0, 0, 0),
    "sys.clone_newpid": lambda: _raw("clone", NEWPID | SIGCHLD, 0, 0, 0, 0),
    "sys.clone3_newuser": lambda: _raw(
        "clone3", _buffer(struct.pack("<QQQQQ", NEWUSER, 0, 0, 0, SIGCHLD), 64), 64
    ),
    "sys.setns": lambda: _raw("setns", -1, 0),
    "sys.mount_tmpfs": lambda: _raw("mount", b"none", b"/tmp", b"tmpfs", 0, None),
    "sys.umount2": lambda: _raw("umount2", b"/assay-none", 2),
    "sys.pivot_root": lambda: _raw("pivot_root", b"/assay-none", b"/assay-none"),
    "sys.mount_setattr": lambda: _raw("mount_setattr", -100, b"/tmp", 0, _buffer(b"", 32), 32),
    "sys.move_mount": lambda: _raw("move_mount", -1, b"", -100, b"/assay-none", 4),
    "sys.open_tree": lambda: _raw("open_tree", -100, b"/tmp", 0),
    "sys.fsopen": lambda: _raw("fsopen", b"tmpfs", 0),
    "sys.chroot": lambda: _raw("chroot", b"/tmp"),
    "sys.name_to_handle_at": lambda: _raw(
        "name_to_handle_at", -100, b"/", _buffer(struct.pack("Ii", 120, 0), 128), _buffer(b"", 8), 0
    ),
    "sys.open_by_handle_at": lambda: _raw(
        "open_by_handle_at", -100, _buffer(struct.pack("IiQ", 8, 1, 2), 128), 0
    ),
    "sys.ptrace_parent": lambda: _raw("ptrace", 0x4206, os.getppid(), 0, 0),  # SEIZE does not stop it
    "sys.ptrace_pid1": lambda: _raw("ptrace", 0x4206, 1, 0, 0),
    "sys.ptrace_traceme": lambda: _raw("ptrace", 0, 0, 0, 0),
    "sys.pidfd_getfd": lambda: _raw("pidfd_getfd", _syscall("pidfd_open", os.getppid(), 0), 0, 0),
    "sys.process_vm_readv": lambda: _raw("process_vm_readv", os.getppid(), 0, 0, 0, 0, 0),
    "sys.process_vm_writev": lambda: _raw("process_vm_writev", os.getppid(), 0, 0, 0, 0, 0),
    "sys.kcmp": lambda: _raw("kcmp", os.getpid(), os.getppid(), 1, 0, 0),
    "sys.keyctl_session": lambda: _raw("keyctl", 0, -3, 0, 0, 0),
    "sys.add_key": lambda: _raw("add_key", b"user", b"assay", b"x", 1, -3),
    "sys.request_key": lambda: _raw("request_key", b"user", b"assay", None, 0),
    "sys.io_uring_setup": lambda: _raw("io_uring_setup", 1, _buffer(b"", 120)),
    "sys.bpf_map_create": lambda: _raw("bpf", 0, _buffer(struct.pack("IIII", 2, 4, 4, 1), 72), 72),
    "sys.bpf_prog_load": lambda: _raw("bpf", 5, _buffer(b"", 72), 72),
    "sys.perf_event_open": lambda: _raw(
        "perf_event_open", _buffer(struct.pack("IIQ", 1, 128, 0), 128), 0, -1, -1, 0
    ),
    "sys.userfaultfd": lambda: _raw("userfaultfd", 1),
    "sys.seccomp_user_notif": _listener,
    "sys.personality_no_aslr": lambda: _raw("personality", 0x0040000),
    "sys.memfd_secret": lambda: _raw("memfd_secret", 0),
    "sys.kexec_load": lambda: _raw("kexec_load", 0, 0, 0, 0),
    "sys.init_module": lambda: _raw("init_module", None, 0, b""),
    "sys.delete_module": lambda: _raw("delete_module", b"assay_none", 0),
    "sys.swapon": lambda: _raw("swapon", b"/assay-none", 0),
    "sys.acct": lambda: _raw("acct", b"/assay-none"),
    "sys.quotactl": lambda: _raw("quotactl", 0x80000700, b"/assay-none", 0, 0),
    "sys.fanotify_init": lambda: _raw("fanotify_init", 0, 0),
    "sys.settimeofday": lambda: _raw("settimeofday", None, None),
    "sys.sethostname": lambda: _raw("sethostname", b"assay", 5),
    "sys.reboot": lambda: _raw("reboot", 0, 0, 0, None),  # the magic is wrong on purpose
    "sys.syslog_read_all": lambda: _raw("syslog", 3, _buffer(b"", 4096), 4096),
    "sys.x32_abi": _x32,
}
if platform.machine() == "x86_64":
    KERNEL["sys.modify_ldt"] = partial(_raw, "modify_ldt", 0, 0, 0)
    KERNEL["sys.iopl"] = partial(_raw, "iopl", 3)
else:
    KERNEL |= dict.fromkeys(("sys.modify_ldt", "sys.iopl", "sys.x32_abi"), lambda: (ABSENT, "x86 only"))
for _name, _call in KERNEL.items():
    PROBES[_name] = partial(_plain, _call)


@probe("sys.rlimit_raise")
def _(c: Config) -> Answer:
    raised = []
    for kind in (resource.RLIMIT_CORE, resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE):
        hard = resource.getrlimit(kind)[1]
        if hard != resource.RLIM_INFINITY:
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(kind, (hard, hard + 1))
                raised.append(str(kind))
    return _found(" ".join(raised))


@probe("sys.realtime_priority")
def _(c: Config) -> Answer:
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    return ALLOWED, "real-time scheduling was granted"


@probe("sys.terminal")
def _(c: Config) -> Answer:
    os.close(os.open("/dev/tty", os.O_RDWR | os.O_NONBLOCK))
    return ALLOWED, "there is a controlling terminal to inject into"


@probe("sys.setuid0")
def _(c: Config) -> Answer:
    if os.getuid() == 0:
        return ABSENT, "uid 0 inside is mapped to an unprivileged uid outside; fs.proc_sys_write judges that"
    os.setuid(0)
    return ALLOWED, "became uid 0"


@probe("sys.setgroups")
def _(c: Config) -> Answer:
    os.setgroups([0, 6])
    return ALLOWED, "joined other groups"


# --- own state -------------------------------------------------------------------------------------------
@probe("state.caps_zero")
def _(c: Config) -> Answer:
    sets = {name: _status(name) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}
    if not sets["CapAmb"]:
        del sets["CapAmb"]  # gVisor's kernel has none
    return _found(" ".join(f"{name}={value}" for name, value in sets.items() if int(value, 16)))


@probe("state.no_new_privs")
def _(c: Config) -> Answer:
    return _found("" if _no_new_privs() else "no_new_privs is not set")


@probe("state.seccomp_filter")
def _(c: Config) -> Answer:
    return _found("" if _status("Seccomp") == "2" else f"seccomp mode is {_status('Seccomp') or 'unknown'}")


@probe("state.inherited_fds")
def _(c: Config) -> Answer:
    return _found(" ".join(str(fd) for fd in c["inherited_fds"]))


@probe("state.foreign_pids_visible")
def _(c: Config) -> Answer:
    pids = _numeric("/proc")
    return _found(f"{len(pids)} processes" if len(pids) > c["max_pids_visible"] else "")


@probe("state.namespaces")
def _(c: Config) -> Answer:
    shared = [n for n, link in c["host_namespaces"].items() if os.readlink(f"/proc/self/ns/{n}") == link]
    return _found(" ".join(shared))


@probe("env.secret_in_environ")
def _(c: Config) -> Answer:
    return _found(" ".join(name for name, value in os.environ.items() if c["env_secret"] in value))


@probe("env.secret_in_proc_environ")
def _(c: Config) -> Answer:
    hits = (_holds(f"/proc/{p}/environ", c["env_secret"]) for p in _numeric("/proc"))
    return _found(" ".join(filter(None, hits)))


@probe("env.host_paths_in_cmdline")
def _(c: Config) -> Answer:
    pids = _numeric("/proc")
    return _found(" ".join(filter(None, (_holds(f"/proc/{p}/cmdline", c["host_path"]) for p in pids))))


@probe("env.host_paths_in_mountinfo")
def _(c: Config) -> Answer:
    return _found(_holds("/proc/self/mountinfo", c["host_path"]))


# --- shared memory and names -----------------------------------------------------------------------------
@probe("ipc.posix_shm_canary")
def _(c: Config) -> Answer:
    return _found(_holds(f"/dev/shm/{c['posix_shm']}", c["secret"]))


@probe("ipc.sysv_shm_canary")
def _(c: Config) -> Answer:
    handle = int(LIBC.shmget(ctypes.c_int(c["sysv_key"]), ctypes.c_size_t(0), 0))
    return _found(f"segment {handle} of the host" if handle >= 0 else "")


@probe("ipc.tmp_shared")
def _(c: Config) -> Answer:
    return _found(_holds(c["temp_file"], c["secret"]))


@probe("ipc.hostname")
def _(c: Config) -> Answer:
    return _found("the host's name" if socket.gethostname() == c["hostname"] else "")


# --- resources; never run bare ---------------------------------------------------------------------------
def _fill(folder: str, limit: str, c: Config) -> Answer:
    """Write past the limit and a quarter; in files of 8 MiB, so that no file size limit stops it first."""
    names: list[str] = []
    block, written, limit_bytes = os.urandom(MIB), 0, c[limit]
    folder = c.get(folder, folder)
    try:
        while written <= limit_bytes * 5 // 4 + 16 * MIB:
            names.append(f"{folder}/assay-fill-{len(names)}")
            with open(names[-1], "wb", buffering=0) as file:
                for _ in range(8):
                    written += file.write(block)
        return ALLOWED, f"wrote {written} bytes to {folder}, limit {limit_bytes}"
    except OSError as error:
        return BLOCKED, f"{_errno_name(error.errno)} after {written} bytes"
    finally:
        for name in names:
            with contextlib.suppress(OSError):
                os.unlink(name)


for _name, (_folder, _limit) in {
    "res.disk_fill_tmp": ("/tmp", "tmp_bytes"),
    "res.disk_fill_shm": ("/dev/shm", "shm_bytes"),
    "res.disk_fill_dev": ("/dev", "tmp_bytes"),
    "res.disk_fill_root": ("", "tmp_bytes"),
    "res.disk_fill_output": ("output", "output_bytes"),
}.items():
    DEADLINES_S[_name] = 60.0
    PROBES[_name] = partial(_fill, _folder, _limit)


@probe("res.inode_fill_output", deadline_s=60.0)
def _(c: Config) -> Answer:
    folder, made = f"{c['output']}/assay-inodes", 0
    try:
        os.mkdir(folder)
        while made <= c["output_inodes"] + 64:
            os.close(os.open(f"{folder}/{made}", os.O_CREAT | os.O_WRONLY))
            made += 1
        return ALLOWED, f"made {made} files, limit {c['output_inodes']}"
    except OSError as error:
        return BLOCKED, f"{_errno_name(error.errno)} after {made} files"
    finally:
        for number in range(made):
            os.unlink(f"{folder}/{number}")
        with contextlib.suppress(OSError):
            os.rmdir(folder)


@probe("res.sparse_1TiB")
def _(c: Config) -> Answer:
    done = []
    for folder in (c["output"], "/tmp", "/dev/shm"):
        path = f"{folder}/assay-sparse"
        with contextlib.suppress(OSError):
            fd = os.open(path, os.O_CREAT | os.O_WRONLY)
            try:
                os.ftruncate(fd, 1 << 40)
                done.append(folder)
            finally:
                os.close(fd)
                os.unlink(path)
    return _found(" ".join(done))


@probe("res.fd_bomb")
def _(c: Config) -> Answer:
    opened = 0
    with contextlib.suppress(OSError):
        while opened < c["open_files"] + 64:
            os.dup(1)
            opened += 1
    return _found(f"{opened} open files" if opened >= c["open_files"] + 64 else "")


@probe("res.core_dump")
def _(c: Config) -> Answer:
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    return _found(f"core files up to {hard} bytes" if hard else "")


@probe("res.cpu_share", deadline_s=20.0)
def _(c: Config) -> Answer:
    wall_s, allowed = 2.0, c["cpu_millis"] / 1000
    if allowed >= (os.cpu_count() or 1):
        return ABSENT, "the limit is all this machine has"
    end = time.monotonic() + wall_s
    for _ in range((os.cpu_count() or 1) + 2):
        if os.fork() == 0:
            while time.monotonic() < end:
                pass
            os._exit(0)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    share = (used.ru_utime + used.ru_stime) / wall_s
    return _found(f"{share:.2f} CPUs, limit {allowed:.2f}" if share > allowed * 1.15 + 0.1 else "")


@probe("res.thread_bomb", deadline_s=30.0)
def _(c: Config) -> Answer:
    threading.stack_size(64 * 1024)
    started, hold = 0, threading.Event()
    with contextlib.suppress(RuntimeError):
        while started < c["pids"] + 50:
            threading.Thread(target=hold.wait, daemon=True).start()
            started += 1
    return _found(f"{started} threads, limit {c['pids']}" if started >= c["pids"] + 50 else "")


@probe("res.fork_bomb", deadline_s=30.0)
def _(c: Config) -> Answer:
    for forked in range(c["pids"] + 50):
        try:
            if os.fork() == 0:
                signal.pause()
                os._exit(0)
        except OSError as error:
            return BLOCKED, f"{_errno_name(error.errno)} after {forked} processes"
    return ALLOWED, f"{c['pids'] + 50} processes, limit {c['pids']}"


@probe("res.memory_bomb", deadline_s=60.0)
def _(c: Config) -> Answer:
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")  # this child first, not its parent
    held = []
    try:
        for _ in range(c["memory_bytes"] // MIB + 256):
            held.append(b"\xa5" * MIB)
    except MemoryError:
        return BLOCKED, f"MemoryError at {len(held)} MiB"
    return ALLOWED, f"{len(held)} MiB touched, limit {c['memory_bytes'] // MIB} MiB"


if __name__ == "__main__":
    sys.exit(main(sys.argv))
