"""gVisor's walls hold, end with whoever put them up, and are refused before the guest runs when they are weaker."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import runner
from runner.errors import SandboxUnavailableError
from runner.sandbox import gvisor, gvisor_facts, gvisor_flags
from runner.sandbox.gvisor import GvisorSandbox, GvisorWalls, explain
from runner.sandbox.held import HeldSandbox
from runner.spec import Access, ExitReason, Gpu, Image, Mount, Profile, SandboxSpec
from tests.runner.guests import MIB, PYTHON, SHELL, Ran, limits, order

pytestmark = pytest.mark.sandbox
REPOSITORY = Path(runner.__file__).parent.parent


@pytest.fixture(scope="module")
def sandbox() -> HeldSandbox:
    """Checked once for all tests here."""
    made = GvisorSandbox()
    made.check()
    return made


Run = Callable[..., Ran]


@pytest.fixture
def run(sandbox: HeldSandbox, tmp_path: Path) -> Run:
    def run(spec: SandboxSpec, *, should_cancel: Callable[[], bool] = lambda: False) -> Ran:
        job_dir = tmp_path / "job"
        job_dir.mkdir()
        measured: list[Any] = []
        ended = sandbox.run(spec, job_dir=job_dir, on_measured=measured.append, should_cancel=should_cancel)
        return Ran(exit=ended, job_dir=job_dir, isolation=measured)

    return run


def guest(*argv: str, **changes: Any) -> SandboxSpec:
    return order(*argv, driver="gvisor", **changes)


def test_says_what_to_install_when_there_is_no_runsc() -> None:
    with pytest.raises(SandboxUnavailableError, match="install the operating system's package 'runsc'"):
        GvisorWalls("runsc-that-is-not-there").check()


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (
            "unknown platform systrap",
            "runsc 1 is too old, it knows no platform 'systrap'; install a newer one",
        ),
        ('invalid value "systrap" for flag -platform', "from bookworm-backports"),
        ("flag provided but not defined: -oci-seccomp\nUsage: …", r"our flags \(flag .* -oci-seccomp\)"),
        ("unshare: No space left on device", "user.max_user_namespaces is 0"),
        ("something else", "gVisor cannot make a sandbox here: something else"),
    ],
)
def test_each_known_reason_comes_with_its_fix(said: str, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(explain(said, version="1"))


def test_a_runsc_that_knows_no_platform_is_told(tmp_path: Path) -> None:
    old = tmp_path / "runsc"
    old.write_text(
        '#!/bin/sh\ncase "$*" in *--version*) echo "runsc version 0.0~20221219.0";;\n'
        "*) echo 'unknown platform systrap' >&2; exit 128;; esac\n"
    )
    old.chmod(0o755)
    for folder in (tmp_path, *tmp_path.parents):
        if folder == Path(tempfile.gettempdir()):
            break
        folder.chmod(0o755)  # the program runs as one of the guest's ids
    with pytest.raises(SandboxUnavailableError, match=r"runsc 0.0~20221219.0 is too old"):
        GvisorWalls(str(old)).check()


def test_an_ordinary_user_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 65533)
    with pytest.raises(SandboxUnavailableError, match=r"only root can give; run the agent as root"):
        GvisorWalls().check()


def test_check_tells_version_and_platform() -> None:
    version, platform = GvisorWalls().check().split(" ")
    assert version[0].isdigit() or version.startswith("release-")
    assert platform in gvisor_flags.PLATFORMS


def test_the_walls_are_as_asked_and_told_without_paths_of_the_host(run: Run, tmp_path: Path) -> None:
    (tmp_path / "input").mkdir()
    (tmp_path / "input" / "data.json").write_text("seen")
    mounts = (
        Mount(source=str(tmp_path / "input"), target="/input"),
        Mount(source=str(tmp_path / "input" / "data.json"), target="/one/data.json"),
    )
    ran = run(guest(*SHELL, "cat /input/data.json /one/data.json; touch /input/x 2>/dev/null", mounts=mounts))
    facts = ran.isolation[0]
    assert ran.log == b"seenseen\n"
    assert (facts["violations"], facts["driver"], facts["inputs_mounted"]) == (
        [], "gvisor", "after the first measurement",
    )  # fmt: skip
    assert facts["inside"]["write_tries"]["/input"] == "refused"
    assert set(facts["capabilities"].values()) == {"0000000000000000"}
    assert min(*facts["uids"], *facts["gofer"]["uids"]) > 60_000
    assert set(facts["uids"]).isdisjoint(facts["gofer"]["uids"])
    assert facts["seccomp"]["sha256_is"] == facts["gofer"]["seccomp"]["sha256_is"] == "measured"
    assert facts["inside"]["status"]["Seccomp"] == "2"
    assert "folder" not in facts["sentry"]["files"]
    assert facts["cgroup_limits"]["pids"] == facts["cgroup_wanted"]["pids"] >= 1024
    encoded = json.dumps(facts)
    json.loads(encoded, parse_float=lambda text: pytest.fail(f"a float: {text}"))
    assert str(tmp_path) not in encoded
    assert "/scratch" not in encoded


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        ("directfs", "true", "the sentry holds .* folders of the host"),
        ("host-uds", "open", "the sentry's flag host-uds is open; wanted none"),
        ("oci-seccomp", "false", "the gofer's flag oci-seccomp is false; wanted true"),
    ],
)
def test_a_weaker_wall_is_refused_before_the_guest_runs(
    flag: str, value: str, message: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def weaker(platform: str, *, has_gpus: bool) -> dict[str, str]:
        return {**gvisor_flags.flags_for(platform, has_gpus=has_gpus), flag: value}

    monkeypatch.setattr(gvisor, "flags_for", weaker)
    ran = run(guest(*SHELL, "echo I ran"))
    assert (ran.exit.reason, ran.exit.released_at, ran.log) == (ExitReason.REFUSED, None, b"")
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(ran.exit.message)


def test_a_group_without_room_for_the_sentry_is_no_guest_of_ours(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gvisor_facts, "allow_tasks", lambda group, limits: None)
    with pytest.raises(SandboxUnavailableError):
        run(guest(*SHELL, "echo I ran", limits=limits(pids=8)))


def test_a_fork_bomb_meets_the_guests_own_limit_also_from_a_new_user_namespace(run: Run) -> None:
    bomb = """
import ctypes, errno, os, signal
libc = ctypes.CDLL(None, use_errno=True)
def errno_of(*call):
    return errno.errorcode[ctypes.get_errno()] if libc.syscall(*call) < 0 else "ALLOWED"
print(errno_of(272, 0x10000000), errno_of(435, (ctypes.c_char * 88)(), 88), errno_of(425, 1, None))
started = 0
try:
    while started < 200:
        if os.fork() == 0:
            signal.pause()
        started += 1
except OSError as error:
    print(errno.errorcode[error.errno], started)
"""
    ran = run(guest(*PYTHON, bomb, limits=limits(pids=24)))
    assert ran.log == b"EPERM ENOSYS EPERM\nEAGAIN 23\n"
    assert ran.exit.usage["forks_refused"] == 0  # it was gVisor's kernel that refused, not ours


def test_every_writable_place_has_its_size(run: Run) -> None:
    fill = """
import errno, os
for name, block in (("/out/a", 1 << 20), ("/tmp/a", 1 << 20), ("/dev/shm/a", 1 << 20)):
    written = 0
    try:
        with open(name, "wb", buffering=0) as file:
            while written < 64 << 20:
                written += file.write(bytes(block))
    except OSError as error:
        print(name, errno.errorcode[error.errno], written <= 20 << 20)
    os.unlink(name)
made = 0
try:
    while made < 1000:
        open(f"/out/{made}", "w").close()
        made += 1
except OSError as error:
    print("files", errno.errorcode[error.errno], made <= 256)
"""
    expected = "/out/a ENOSPC True\n/tmp/a ENOSPC True\n/dev/shm/a ENOSPC True\nfiles ENOSPC True\n"
    assert run(guest(*PYTHON, fill)).log.decode() == expected


def test_memory_beyond_the_limit_is_named(run: Run) -> None:
    ran = run(guest(*PYTHON, "x = [b'a' * (1 << 20) for _ in range(1024)]; print('survived')"))
    assert (ran.exit.reason, ran.log) == (ExitReason.OUT_OF_MEMORY, b"")
    assert ran.exit.usage["memory_peak_bytes"] <= 256 * MIB


def test_the_quota_of_processors_holds_whatever_the_guest_believes(run: Run) -> None:
    spin = """
import os, time
end = time.monotonic() + 2
for _ in range(4):
    if os.fork() == 0:
        while time.monotonic() < end: pass
        os._exit(0)
for _ in range(4): os.wait()
"""
    ran = run(guest(*PYTHON, spin, limits=limits(cpu_millis=400)))
    assert ran.exit.usage["cpu_ms"] <= ran.exit.usage["wall_ms"] * 0.4 * 1.1 + 1500  # and what starting took


def test_output_is_harvested_also_of_a_guest_that_was_killed(run: Run) -> None:
    stubborn = """
import mmap, os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
with open("/out/written", "wb", buffering=0) as file:
    file.write(b"w" * 5000)
file = open("/out/mapped", "w+b")
file.truncate(8192)
memory = mmap.mmap(file.fileno(), 8192)
memory[:4] = b"mmap"
print("ready", flush=True)
time.sleep(600)
"""
    ran = run(guest(*PYTHON, stubborn, limits=limits(wall_clock_s=2.0)))
    assert (ran.exit.reason, ran.exit.survivors, ran.log) == (ExitReason.TIMEOUT, 0, b"ready\n")
    assert (ran.job_dir / "harvest" / "written").read_bytes() == b"w" * 5000
    assert (ran.job_dir / "harvest" / "mapped").read_bytes()[:4] == b"mmap"


def test_sigterm_reaches_the_guest_and_all_its_processes(run: Run) -> None:
    listens = """
import os, signal, time
def ended(number, frame):
    if child: os.waitpid(child, 0)
    os.write(1, b"parent\\n" if child else b"child\\n"); os._exit(7)
signal.signal(signal.SIGTERM, ended)
child = os.fork()
while True: time.sleep(600)
"""
    ran = run(guest(*PYTHON, listens, limits=limits(wall_clock_s=1.5, grace_s=5.0)))
    assert (ran.exit.reason, ran.log) == (ExitReason.TIMEOUT, b"child\nparent\n")
    assert ran.exit.code == 7


def test_a_cancelled_guest_is_ended(run: Run) -> None:
    ran = run(guest(*SHELL, "sleep 600"), should_cancel=lambda: True)
    assert (ran.exit.reason, ran.exit.survivors) == (ExitReason.CANCELLED, 0)


def test_a_working_folder_that_is_not_there_is_told(run: Run) -> None:
    with pytest.raises(SandboxUnavailableError, match="creating working directory"):
        run(guest(*SHELL, "true", cwd="/nowhere"))


def test_a_slice_of_a_gpu_is_refused_before_anything_is_started(run: Run) -> None:
    gpu = Gpu(uuid="MIG-1", nodes=("/dev/zero",))
    with pytest.raises(SandboxUnavailableError, match="MIG-1 is a slice of a GPU"):
        run(guest(*SHELL, "echo I ran", gpus=(gpu,)))


def test_a_champion_is_root_of_nothing_and_writes_to_its_own_root(run: Run, tmp_path: Path) -> None:
    tree, copied = tmp_path / "image" / "tree", tmp_path / "copied"
    for folder in ("bin", "etc", "workspace", "tmp"):
        (tree / folder).mkdir(parents=True)
    (tree.parent / "lock").touch()
    busybox = Path("/bin/busybox").read_bytes()
    (tree / "bin" / "sh").write_bytes(busybox)
    (tree / "bin" / "sh").chmod(0o755)
    (tree / "etc" / "base").write_text("base")
    copied.mkdir()
    (copied / "data").write_text("data")
    script = """
echo uid $UID $(busybox id -u); echo changed >/etc/base; echo new >/top; echo y >/copied/data
busybox rm -r /app/checkpoints/task && busybox mkdir -p /app/checkpoints/task/repo
echo weights >/app/checkpoints/task/repo/model; echo x >/tmp/a && busybox mv /tmp/a /workspace/a
busybox head -c 16000000 /dev/zero >/tmp/big 2>/dev/null && echo no quota
busybox chown 5 /etc/base 2>/dev/null && echo chowned
busybox grep -c /tmp /proc/mounts
"""
    script = script.replace("busybox ", "/busybox-gate ")
    ran = run(
        guest(
            "/bin/sh", "-c", script, runtime=None, profile=Profile.CHAMPION, cwd="/workspace",
            image=Image(tree=str(tree), manifest_sha256="ab" * 32), env={"UID": "0"},
            output_target="/app/checkpoints", output_folders=("task/repo",),
            limits=limits(root_bytes=8 * MIB, root_inodes=500),
            mounts=(Mount(source=str(copied), target="/copied", access=Access.COPY),),
        )
    )  # fmt: skip
    assert ran.log == b"uid 0 0\n1\n"
    assert ran.isolation[0]["violations"] == []
    assert ran.harvested == ["task/repo/model"]
    assert (tree / "etc" / "base").read_text() == "base"
    assert (copied / "data").read_text() == "data"


def test_nothing_is_left_when_the_runner_is_killed(tmp_path: Path) -> None:
    """The sentry ends with the holder, by the kernel: no hand of ours is left to end it."""
    script = f"""
import socket, sys
from pathlib import Path
from runner.sandbox import cgroup
from runner.sandbox.gvisor import GvisorSandbox
from tests.runner.guests import SHELL, order
told = socket.socket(fileno=int(sys.argv[1]))
def measured(facts):
    members = []
    for folder in cgroup.host_folders().values():
        for group in folder.glob("assay-*-killed"):
            members += (group / "cgroup.procs").read_text().split()
    told.sendall(" ".join(sorted(set(members))).encode() + b"\\n")
GvisorSandbox().run(
    order(*SHELL, "sleep 600", driver="gvisor", job_id="killed"), job_dir=Path({str(tmp_path)!r}),
    on_measured=measured, should_cancel=lambda: False,
)
"""
    ours, theirs = socket.socketpair()
    with ours:
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(theirs.fileno())], cwd=REPOSITORY, pass_fds=[theirs.fileno()]
        )
        theirs.close()
        ours.settimeout(60)
        members = [int(word) for word in ours.makefile().readline().split()]
    assert len(members) >= 4  # child, keeper, runsc, gofer, sentry and its own
    open_now = [os.pidfd_open(pid) for pid in members]
    process.send_signal(signal.SIGKILL)
    process.wait()
    waiting = list(open_now)
    while waiting:
        ended = select.select(waiting, [], [], 20)[0]
        assert ended, "processes of the sandbox outlive their runner"
        waiting = [fd for fd in waiting if fd not in ended]
    for descriptor in open_now:
        os.close(descriptor)
