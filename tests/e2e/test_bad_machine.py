"""Machines that lack something: the port, the disk, bubblewrap, user namespaces. One sentence with the way out."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.demo.offline import verify_offline
from appliance.domain import Order, Run, RunState
from appliance.store import runs
from appliance.waiting import why_waiting
from tests.e2e.site import QUICK, SUBMITTER, Inputs, Site, assay, make_site, order_of
from tests.runner.guests import needs_bwrap

pytestmark = [pytest.mark.sandbox, needs_bwrap]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root here")

MIB = 1 << 20
# In a mount namespace of its own: nobody else misses bubblewrap.
WITHOUT_BWRAP = (
    *("unshare", "--mount", "--"),
    *("sh", "-c", 'mount --bind /dev/null "$(command -v bwrap)" && exec "$@"', "sh"),
)
# In a user namespace of its own, whose limit on further ones is 0: what an administrator's sysctl does.
WITHOUT_USER_NAMESPACES = (
    *("unshare", "--user", "--map-root-user", "--"),
    *("sh", "-c", 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"', "sh"),
)
NO_BWRAP = "bwrap is not there; install the operating system's package 'bubblewrap'"
NO_USER_NAMESPACES = "user namespaces are off (user.max_user_namespaces is 0); set it to 10000 with sysctl"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def resize(disk: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", disk], check=True)


def fill(disk: Path) -> Path:
    """A file that leaves no byte free."""
    with (disk / "filler").open("wb", buffering=0) as file:
        for chunk in (MIB, 4096, 1):
            try:
                while file.write(bytes(chunk)):
                    pass
            except OSError:
                continue
    return disk / "filler"


def stock(site: Site, base_model: Path, data: Path) -> str:
    """Inputs, an admitted quick champion, and a submitted run of it."""
    inputs = site.import_inputs(base_model, data)
    return submit(site, site.admit_champion("quick", script=QUICK), inputs)


def submit(site: Site, champion: str, inputs: Inputs) -> str:
    with site.appliance.engine.begin() as connection:
        order = Order(**order_of(champion, inputs))
        now = site.appliance.clock.now()
        run = runs.submit(connection, order, run_id="run-1", actor=SUBMITTER, idempotency_key=None, now=now)
    return run.id


def test_a_port_in_use_is_told_in_one_line(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = assay("serve", "--home", site.home, "--port", str(port))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"assay: cannot listen on 127.0.0.1 port {port}: Address already in use; "
        "stop what uses it or give --port\n"
    )


def test_a_second_worker_is_told_in_one_line(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    with site.appliance.home.worker_lock():
        done = assay("worker", "--home", site.home)
    assert done.returncode == 3
    assert done.stderr == f"assay: {site.home}: another worker is running on this home\n"


def test_a_folder_that_is_no_home_is_told_in_one_line(tmp_path: Path) -> None:
    for command in ("serve", "worker"):
        done = assay(command, "--home", tmp_path)
        assert done.returncode == 3
        assert done.stderr == f"assay: {tmp_path}: no appliance home here; make one with `assay init`\n"
    assert list(tmp_path.iterdir()) == []


@needs_root
def test_a_run_waits_for_disk_space_with_a_sentence(
    disk: Path, base_model: Path, few_complaints: Path
) -> None:
    site = make_site(disk)
    run_id = stock(site, base_model, few_complaints)
    run = site.work(run_id, for_s=0.5)
    assert run.state is RunState.SUBMITTED
    waiting = why_waiting(
        run, (), capacity=site.ports().capacity, free_bytes=site.appliance.home.free_bytes()
    )
    assert waiting is not None
    assert waiting.startswith("the disk has ")
    assert waiting.endswith(" MiB free, a run needs 5120 MiB")
    resize(disk, "8g")
    assert_proved(site, site.work(run_id))


@needs_root
@pytest.mark.parametrize(
    "state", [RunState.PLACED, RunState.HARVESTED, RunState.EVALUATED, RunState.ATTESTED]
)
def test_a_full_disk_holds_a_run_until_there_is_space(
    disk: Path, base_model: Path, few_complaints: Path, state: RunState
) -> None:
    site = make_site(disk, needed_free_mib=0, output_mib=8)
    run_id = stock(site, base_model, few_complaints)
    assert site.work(run_id, until=lambda run: run.state is state).state is state
    filler = fill(disk)
    held = site.work(run_id, for_s=1.0)
    assert held.state is state
    assert [name for name in site.half_written() if not name.startswith("jobs/.new-")] == []
    filler.unlink()
    assert_proved(site, site.work(run_id))


@needs_root
def test_a_disk_that_fills_up_during_training_fails_the_run_by_name(
    disk: Path, base_model: Path, few_complaints: Path
) -> None:
    site = make_site(disk, needed_free_mib=0, output_mib=8)
    # It says all it says before the disk is full, and has its model only afterwards.
    quiet = QUICK.read_text(encoding="utf-8").rpartition("print(")[0]
    script = disk / "slow.py"
    script.write_text(f'import time\nprint("has started", flush=True)\ntime.sleep(1.5)\n{quiet}')
    inputs = site.import_inputs(base_model, few_complaints)
    run_id = submit(site, site.admit_champion("slow", script=script), inputs)
    site.work(
        run_id, until=lambda run: run.state is RunState.RUNNING and "has started" in site.job_log(run_id)
    )
    filler = fill(disk)
    site.work(run_id, for_s=8.0)
    filler.unlink()
    run = site.work(run_id)
    assert run.state is RunState.FAILED
    assert run.reason is not None
    assert run.reason.startswith(
        "nothing was taken out of the sandbox: the guest ended by itself with code 0;"
    )
    assert run.reason.endswith("No space left on device")
    assert site.half_written() == []
    assert site.log_findings() == ()


@needs_root
def test_doctor_says_that_bubblewrap_is_missing() -> None:
    done = assay("doctor", namespace=WITHOUT_BWRAP)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == f"assay: {NO_BWRAP}\n"


def test_doctor_says_that_user_namespaces_are_off() -> None:
    done = assay("doctor", namespace=WITHOUT_USER_NAMESPACES)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == f"assay: {NO_USER_NAMESPACES}\n"


@needs_root
@pytest.mark.parametrize(
    ("namespace", "sentence"),
    [(WITHOUT_BWRAP, NO_BWRAP), (WITHOUT_USER_NAMESPACES, NO_USER_NAMESPACES)],
    ids=["bubblewrap", "user-namespaces"],
)
def test_a_worker_without_walls_runs_nothing(
    tmp_path: Path,
    base_model: Path,
    few_complaints: Path,
    namespace: tuple[str, ...],
    sentence: str,
) -> None:
    site = make_site(tmp_path)
    run_id = stock(site, base_model, few_complaints)
    done = subprocess.run(
        [*namespace, sys.executable, "-m", "appliance", "worker", "--home", str(site.home)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 3
    assert done.stderr.endswith(f"assay: {sentence}\n")
    assert site.run(run_id).state is RunState.SUBMITTED
    assert list((site.home / "jobs").iterdir()) == []


def assert_proved(site: Site, run: Run) -> None:
    assert run.state is RunState.LOGGED, run.reason
    assert site.half_written() == []
    assert site.log_findings() == ()
    done = verify_offline(site.home / "evidence" / run.id, pin=site.pin)
    assert done.returncode == 0, done.stdout
