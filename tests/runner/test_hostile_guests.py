"""Guests that do their worst behind the real driver; each test attacks one property."""

import os
import subprocess
from pathlib import Path

import pytest

from runner.harvest import parse_harvest
from runner.spec import ExitReason, Mount
from tests.runner.guests import MIB, PYTHON, SHELL, limits, needs_bwrap, order, run_behind_bubblewrap

pytestmark = [pytest.mark.sandbox, needs_bwrap]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="control groups and loop devices need root here")


def processes_with(mark: str) -> list[str]:
    """Guests' processes whose arguments hold `mark`: other tests run guests at the same time."""
    found = subprocess.run(["ps", "-eo", "uid=,args="], capture_output=True, text=True, check=True).stdout
    lines = found.splitlines()
    return [line for line in lines if line.split()[0].startswith("19000000") and mark in line]


def test_a_guest_that_writes_nothing_has_an_empty_harvest(tmp_path: Path) -> None:
    ran = run_behind_bubblewrap(order(*SHELL, "true"), tmp_path / "job")
    assert (ran.exit.reason, ran.exit.code, ran.exit.survivors) == (ExitReason.EXITED, 0, 0)
    assert ran.harvested == []
    assert (tmp_path / "job" / "harvest").is_dir()


def test_links_and_hard_links_are_not_harvested_and_devices_and_pipes_not_made(tmp_path: Path) -> None:
    script = (
        "cd /out; ln -s /etc/passwd l; mkfifo p; echo x > a; ln a b; mknod d c 1 3; echo ok > good; exit 3"
    )
    ran = run_behind_bubblewrap(order(*SHELL, script), tmp_path / "job")
    assert ran.exit.code == 3
    assert ran.exit.rejected == {"a": "2 hard links", "b": "2 hard links", "l": "symlink"}
    assert ran.harvested == ["good"]
    assert ran.log.count(b"Operation not permitted") == 2  # mkfifo and mknod


def test_harvested_files_belong_to_the_runner(tmp_path: Path) -> None:
    ran = run_behind_bubblewrap(order(*SHELL, "echo x > /out/a; chmod 777 /out/a"), tmp_path / "job")
    facts = (ran.job_dir / "harvest" / "a").stat()
    assert (facts.st_uid, facts.st_mode & 0o7777) == (os.geteuid(), 0o644)
    listed = parse_harvest((ran.job_dir / "harvest.json").read_bytes())
    assert [(f.path, f.size_bytes) for f in listed.files] == [("a", 2)]


def test_ten_times_the_quota_stops_at_the_quota(tmp_path: Path) -> None:
    ran = run_behind_bubblewrap(
        order(*SHELL, "dd if=/dev/zero of=/out/big bs=1M count=160"), tmp_path / "job"
    )
    assert b"No space left on device" in ran.log
    assert ran.exit.code == 1
    # The quota has a little slack, the harvest has none: more than asked is not taken.
    assert ran.harvested in ([], ["big"])


def test_a_flood_of_files_stops_at_the_quota(tmp_path: Path) -> None:
    script = "import pathlib\nfor n in range(10000): pathlib.Path(f'/out/{n}').touch()"
    ran = run_behind_bubblewrap(order(*PYTHON, script), tmp_path / "job")
    assert b"No space left on device" in ran.log


@pytest.mark.parametrize("folder", ["/tmp", "/dev/shm"])
def test_memory_folders_have_a_size(tmp_path: Path, folder: str) -> None:
    ran = run_behind_bubblewrap(
        order(*SHELL, f"dd if=/dev/zero of={folder}/big bs=1M count=64"), tmp_path / "job"
    )
    assert b"No space left on device" in ran.log


@pytest.mark.parametrize("place", ["/x", "/usr/x", "/etc/x", "/opt/venv/x", "/in/x", "/dev/x", "/run/x"])
def test_nothing_else_is_writable(tmp_path: Path, place: str) -> None:
    (tmp_path / "in").mkdir(mode=0o777)
    inputs = (Mount(source=str(tmp_path / "in"), target="/in"),)
    ran = run_behind_bubblewrap(order(*SHELL, f"echo x > {place}", mounts=inputs), tmp_path / "job")
    assert ran.exit.code != 0
    assert b"Read-only file system" in ran.log


def test_a_guest_that_ignores_sigterm_is_killed_at_its_deadline(tmp_path: Path) -> None:
    script = "trap '' TERM INT HUP; echo started; while :; do sleep 1; done"
    spec = order(*SHELL, script, limits=limits(wall_clock_s=0.5))
    ran = run_behind_bubblewrap(spec, tmp_path / "job")
    assert (ran.exit.reason, ran.exit.code, ran.exit.survivors) == (ExitReason.TIMEOUT, None, 0)
    assert ran.log == b"started\n"


def test_a_guest_may_save_its_work_at_its_deadline(tmp_path: Path) -> None:
    script = "trap 'echo saved > /out/model; exit 0' TERM; while :; do sleep 0.05; done"
    spec = order(*SHELL, script, limits=limits(wall_clock_s=0.5, grace_s=5.0))
    ran = run_behind_bubblewrap(spec, tmp_path / "job")
    assert (ran.exit.reason, ran.harvested) == (ExitReason.TIMEOUT, ["model"])


def test_a_stopped_guest_does_not_hang_the_runner(tmp_path: Path) -> None:
    spec = order(*SHELL, "kill -STOP -1; kill -STOP $$", limits=limits(wall_clock_s=0.5))
    ran = run_behind_bubblewrap(spec, tmp_path / "job")
    assert ran.exit.reason in {ExitReason.TIMEOUT, ExitReason.EXITED}
    assert ran.exit.survivors == 0


def test_a_closed_output_does_not_end_the_guest(tmp_path: Path) -> None:
    script = "exec >&- 2>&-; sleep 0.3; echo x > /out/late"
    ran = run_behind_bubblewrap(order(*SHELL, script), tmp_path / "job")
    assert ran.harvested == ["late"]


def test_a_daemon_dies_with_the_guest(tmp_path: Path) -> None:
    script = (
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        time.sleep(300.125)\n"
        "    os._exit(0)\n"
        "print('parent ends', flush=True)"
    )
    ran = run_behind_bubblewrap(order(*PYTHON, script), tmp_path / "job")
    assert (ran.exit.reason, ran.exit.survivors) == (ExitReason.EXITED, 0)
    assert processes_with("sleep(300.125)") == []


@needs_root
def test_a_fork_bomb_meets_its_limit(tmp_path: Path) -> None:
    script = (
        "import os, time\n"
        "n = 0\n"
        "try:\n"
        "    while True:\n"
        "        if os.fork() == 0: time.sleep(60.125)\n"
        "        n += 1\n"
        "except BlockingIOError as error: print(n, error, flush=True)"
    )
    ran = run_behind_bubblewrap(order(*PYTHON, script), tmp_path / "job")
    count, _, told = ran.log.decode().partition(" ")
    assert int(count) < 64
    assert "Resource temporarily unavailable" in told
    assert ran.exit.usage["forks_refused"] > 0
    assert processes_with("sleep(60.125)") == []


@needs_root
def test_a_memory_bomb_is_told_as_such(tmp_path: Path) -> None:
    script = "x = bytearray(512 * 1024 * 1024); x[::4096] = b'x' * len(x[::4096])"
    ran = run_behind_bubblewrap(order(*PYTHON, script), tmp_path / "job")
    assert ran.exit.reason is ExitReason.OUT_OF_MEMORY
    assert ran.exit.usage["oom_kills"] >= 1


@needs_root
def test_a_child_killed_for_memory_is_told_although_the_parent_ends_well(tmp_path: Path) -> None:
    script = (
        "import subprocess, sys\n"
        "subprocess.run([sys.executable, '-c', 'x = bytearray(600 << 20); x[::4096] = b\"x\" * 153600'])\n"
    )
    ran = run_behind_bubblewrap(order(*PYTHON, script), tmp_path / "job")
    assert (ran.exit.code, ran.exit.reason) == (0, ExitReason.OUT_OF_MEMORY)


def test_a_gigabyte_of_output_is_counted_and_cut(tmp_path: Path) -> None:
    ran = run_behind_bubblewrap(order(*SHELL, "head -c 1073741824 /dev/zero"), tmp_path / "job")
    assert ran.exit.code == 0
    assert ran.exit.log_bytes_total == 1 << 30
    assert 0 < (ran.job_dir / "stdout.log").stat().st_size <= 64 << 10
    assert b"bytes of this line left out" in ran.log


def test_the_head_and_the_tail_of_a_long_log_are_kept(tmp_path: Path) -> None:
    script = "print('first'); [print('middle', n) for n in range(200_000)]; print('last')"
    ran = run_behind_bubblewrap(order(*PYTHON, script), tmp_path / "job")
    assert ran.log.startswith(b"first\n") and ran.log.endswith(b"last\n")
    assert b"left out here]" in ran.log
    assert ran.exit.usage["log_lines"] == 200_002


def test_the_network_is_not_there(tmp_path: Path) -> None:
    script = (
        "import socket\n"
        "for target in (('192.0.2.1', 80), ('127.0.0.1', 22), ('169.254.169.254', 80)):\n"
        "    s = socket.socket(); s.settimeout(2)\n"
        "    try: s.connect(target); print('CONNECTED', target)\n"
        "    except OSError as error: print(error)\n"
        "try: socket.getaddrinfo('example.org', 80); print('RESOLVED')\n"
        "except OSError as error: print(error)"
    )
    ran = run_behind_bubblewrap(order(*PYTHON, script), tmp_path / "job")
    assert ran.log.count(b"Network is unreachable") == 2
    assert b"CONNECTED" not in ran.log
    assert b"RESOLVED" not in ran.log


def test_the_guest_sees_no_environment_of_the_runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_TEST_SECRET", "canary-7f3")
    script = "cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' '\\n'"
    ran = run_behind_bubblewrap(order(*SHELL, script), tmp_path / "job")
    assert b"canary-7f3" not in ran.log
    assert str(tmp_path).encode() not in ran.log


@needs_root
def test_nothing_is_left_on_the_host(tmp_path: Path) -> None:
    def state() -> tuple[str, list[str], list[str]]:
        mounts = Path("/proc/self/mountinfo").read_text()
        groups = sorted(str(p) for p in Path("/sys/fs/cgroup").glob(f"**/assay-{os.getpid()}-*"))
        loops = sorted(p.read_text() for p in Path("/sys/block").glob("loop*/loop/backing_file"))
        return mounts, groups, [path for path in loops if str(tmp_path) in path]

    before = state()
    run_behind_bubblewrap(order(*SHELL, "sleep 0.1; echo x > /out/a"), tmp_path / "job")
    assert state() == before
    assert not (tmp_path / "job" / "output.img").exists()


def test_output_is_fsynced_sized_and_noexec(tmp_path: Path) -> None:
    ran = run_behind_bubblewrap(order(*SHELL, "true"), tmp_path / "job")
    mount = next(m for m in ran.isolation[0]["mounts"] if m["target"] == "/out")
    assert {"nosuid", "nodev", "noexec"} <= set(mount["flags"])
    assert 15 * MIB < mount["size_bytes"] < 24 * MIB


def test_folders_for_the_guest_are_there_and_its_own(tmp_path: Path) -> None:
    spec = order(*SHELL, "echo x > /out/task/repo/a", output_folders=("task/repo",))
    assert run_behind_bubblewrap(spec, tmp_path / "job").harvested == ["task/repo/a"]
