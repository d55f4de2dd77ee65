"""What a champion's profile gives: a root of its own to write all over, and nothing of the host's."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from runner.errors import SandboxUnavailableError, SpecError
from runner.isolation_demand import Demand
from runner.out_of_memory import OutOfMemory, which_memory
from runner.sandbox.bubblewrap import BubblewrapWalls
from runner.sandbox.held import HeldSandbox
from runner.sandbox.remnants import find_remnants
from runner.sandbox.rootfs import find_program, make_point
from runner.spec import Access, ExitReason, Gpu, Image, Mount, Profile, SandboxSpec
from tests.runner.guests import MIB, PYTHON, Ran, limits, order, run_behind_bubblewrap

SHELL = ("sh", "-c")


def champion(*argv: str, **changes: object) -> SandboxSpec:
    wanted = {
        "profile": Profile.CHAMPION,
        "output_target": "/app/checkpoints",
        "cwd": "/workspace",
        "limits": limits(root_bytes=16 * MIB, root_inodes=512),
    }
    return order(*argv, **{**wanted, **changes})


@pytest.fixture
def code(tmp_path: Path) -> Path:
    folder = tmp_path / "code"
    (folder / "sub").mkdir(parents=True)
    (folder / "train.py").write_text("print('mine')")
    (folder / "sub" / "config").write_text("1")
    return folder


@pytest.mark.sandbox
class TestRoot:
    def test_it_is_root_inside_and_nobody_outside(self, tmp_path: Path) -> None:
        ran = run_behind_bubblewrap(champion(*SHELL, "id -u; id -g; pwd; echo $HOME"), tmp_path / "job")
        assert ran.log.decode().split() == ["0", "0", "/workspace", "/root"]
        assert 0 not in ran.isolation[0]["uids"]
        assert ran.isolation[0]["uid_map"][0][0] == 0

    def test_it_writes_all_over_its_root(self, tmp_path: Path) -> None:
        places = "/etc/x /workspace/x $HOME/.cache/x $HOME/.triton/x /var/x /opt/x /dataset/x /tmp/x /x"
        script = f"for p in {places}; do mkdir -p $(dirname $p) && echo hi > $p || echo cannot $p; done"
        ran = run_behind_bubblewrap(champion(*SHELL, script), tmp_path / "job")
        assert (ran.log, ran.exit.code) == (b"", 0)

    def test_what_it_executes_from_its_root_runs(self, tmp_path: Path) -> None:
        script = "cp /bin/true ~/mine && ~/mine && cp /bin/true /tmp/mine && /tmp/mine && echo ran"
        assert run_behind_bubblewrap(champion(*SHELL, script), tmp_path / "job").log == b"ran\n"

    def test_its_root_is_full_at_its_quota(self, tmp_path: Path) -> None:
        script = "dd if=/dev/zero of=/big bs=1M count=64 2>&1; stat -c %s /big"
        log = run_behind_bubblewrap(champion(*SHELL, script), tmp_path / "job").log.decode()
        assert "No space left on device" in log
        assert int(log.split()[-1]) <= 17 * MIB

    def test_its_root_holds_no_more_files_than_asked(self, tmp_path: Path) -> None:
        script = "i=0; while true > /f$i; do i=$((i+1)); done 2>/dev/null; echo $i"
        count = int(run_behind_bubblewrap(champion(*SHELL, script), tmp_path / "job").log.split()[-1])
        assert 100 < count <= 512 + 512

    def test_nothing_of_its_root_is_harvested(self, tmp_path: Path) -> None:
        script = "echo x > /model; echo y > /app/checkpoints/model"
        ran = run_behind_bubblewrap(champion(*SHELL, script), tmp_path / "job")
        assert ran.harvested == ["model"]
        assert (ran.job_dir / "harvest" / "model").read_text() == "y\n"

    def test_two_champions_share_nothing(self, tmp_path: Path) -> None:
        run_behind_bubblewrap(champion(*SHELL, "echo mine > /etc/mark"), tmp_path / "one")
        ran = run_behind_bubblewrap(champion(*SHELL, "cat /etc/mark 2>&1"), tmp_path / "two")
        assert b"No such file" in ran.log

    def test_a_failing_name_lookup_is_quick(self, tmp_path: Path) -> None:
        probe = (
            "import socket, time\n"
            "began = time.monotonic()\n"
            "try: socket.getaddrinfo('huggingface.invalid', 443)\n"
            "except OSError: print(time.monotonic() - began < 5, socket.gethostbyname('localhost'))"
        )
        ran = run_behind_bubblewrap(champion(*PYTHON, probe), tmp_path / "job")
        assert ran.log == b"True 127.0.0.1\n"

    def test_a_strict_guest_has_no_such_root(self, tmp_path: Path) -> None:
        ran = run_behind_bubblewrap(order(*SHELL, "touch /x /etc/x /var/x 2>&1; id -u"), tmp_path / "job")
        assert ran.log.count(b"Read-only file system") + ran.log.count(b"Permission denied") == 3
        assert ran.log.endswith(b"1000\n")


@pytest.mark.sandbox
class TestCopies:
    def test_it_changes_its_code_and_the_hosts_stays(self, code: Path, tmp_path: Path) -> None:
        script = (
            "cd /workspace/scripts && rm train.py && echo 2 > sub/config && mkdir new && mv sub other && ls"
        )
        mounts = (Mount(source=str(code), target="/workspace/scripts", access=Access.COPY),)
        ran = run_behind_bubblewrap(champion(*SHELL, script, mounts=mounts), tmp_path / "job")
        assert ran.log.split() == [b"new", b"other"]
        assert sorted(p.name for p in code.rglob("*")) == ["config", "sub", "train.py"]
        assert (code / "sub" / "config").read_text() == "1"

    def test_a_single_file_is_copied(self, code: Path, tmp_path: Path) -> None:
        mounts = (Mount(source=str(code / "train.py"), target="/workspace/t.py", access=Access.COPY),)
        script = "echo 3 > /workspace/t.py && mv /workspace/t.py /workspace/u.py && cat /workspace/u.py"
        ran = run_behind_bubblewrap(champion(*SHELL, script, mounts=mounts), tmp_path / "job")
        assert ran.log == b"3\n"
        assert (code / "train.py").read_text() == "print('mine')"

    def test_copies_are_refused_to_a_strict_guest(self, code: Path, tmp_path: Path) -> None:
        mounts = (Mount(source=str(code), target="/in", access=Access.COPY),)
        with pytest.raises(SpecError, match="/in may be changed, but a strict guest"):
            run_behind_bubblewrap(order(*SHELL, "true", mounts=mounts), tmp_path / "job")

    def test_inputs_stay_read_only_to_a_champion(self, code: Path, tmp_path: Path) -> None:
        mounts = (Mount(source=str(code), target="/cache/datasets"),)
        script = "touch /cache/datasets/x 2>&1; rm /cache/datasets/train.py 2>&1; touch /cache/y 2>&1"
        ran = run_behind_bubblewrap(champion(*SHELL, script, mounts=mounts), tmp_path / "job")
        assert ran.log.count(b"Read-only file system") == 3
        assert ran.isolation[0]["inside"]["write_tries"]["/cache"] == "refused"
        assert ran.isolation[0]["inside"]["write_reasons"]["/cache"] == "read-only"
        assert (code / "train.py").exists()


class LooseWalls(BubblewrapWalls):
    """Walls that lack one property."""

    def measure(self, started, stage):  # type: ignore[no-untyped-def]
        return {**super().measure(started, stage), "no_new_privs": False}


@pytest.mark.sandbox
class TestInputs:
    def test_no_input_is_mounted_behind_walls_that_do_not_hold(self, code: Path, tmp_path: Path) -> None:
        mounts = (Mount(source=str(code), target="/cache/datasets"),)
        ran = run_in(LooseWalls(), champion(*SHELL, "ls /cache/datasets", mounts=mounts), tmp_path / "job")
        assert ran.exit.reason is ExitReason.REFUSED
        assert "/cache/datasets" not in targets(ran.isolation[0])
        assert ran.log == b""

    def test_no_input_is_mounted_behind_walls_of_a_lower_tier_than_demanded(
        self, code: Path, tmp_path: Path
    ) -> None:
        mounts = (Mount(source=str(code), target="/cache/datasets"),)
        spec = champion(*SHELL, "ls /cache/datasets", mounts=mounts, demand=Demand(min_tier=3))
        ran = run_behind_bubblewrap(spec, tmp_path / "job")
        assert ran.exit.reason is ExitReason.REFUSED
        assert "the walls are bubblewrap, tier 1; wanted tier 3 or higher" in ran.exit.message
        assert "/cache/datasets" not in targets(ran.isolation[0])

    def test_inputs_are_measured_once_they_are_mounted(self, code: Path, tmp_path: Path) -> None:
        mounts = (
            Mount(source=str(code), target="/cache/datasets"),
            Mount(source=str(code / "train.py"), target="/cache/file.json"),
        )
        spec = champion(*SHELL, "cat /cache/file.json; ls /cache/datasets", mounts=mounts)
        ran = run_behind_bubblewrap(spec, tmp_path / "job")
        facts = ran.isolation[0]
        assert ran.log == b"print('mine')sub\ntrain.py\n"
        assert {"/cache/datasets", "/cache/file.json"} <= targets(facts)
        assert facts["inputs_mounted"] == "after the first measurement"
        assert facts["inside"]["write_tries"]["/cache/datasets"] == "refused"

    def test_no_byte_left_through_any_interface(self, tmp_path: Path) -> None:
        ran = run_behind_bubblewrap(champion(*SHELL, "true"), tmp_path / "job")
        assert ran.exit.network_bytes == {"lo": {"received_bytes": 0, "sent_bytes": 0}}
        assert ran.exit.remnants == ()


@pytest.mark.sandbox
@pytest.mark.skipif(os.geteuid() != 0, reason="the device stands for a GPU's and is root's alone")
def test_exactly_the_granted_device_can_be_opened(tmp_path: Path) -> None:
    """A device of the host that is not a GPU's stands for one; no GPU was there to try."""
    script = "test -c /dev/loop-control && ls /sys/class >/dev/null && echo there; ls /dev/loop0 2>&1"
    granted = champion(*SHELL, script, gpus=(Gpu(uuid="GPU-0", nodes=("/dev/loop-control",)),))
    ran = run_behind_bubblewrap(granted, tmp_path / "one")
    assert ran.log.startswith(b"there\n") and b"No such file" in ran.log
    assert ran.isolation[0]["gpus"] == ["GPU-0"]
    assert any(node.endswith(" /dev/loop-control") for node in ran.isolation[0]["devices"])
    assert "c 10:237 rw" in ran.isolation[0]["cgroup_limits"].get("devices", "c 10:237 rw")
    without = run_behind_bubblewrap(champion(*SHELL, script), tmp_path / "two")
    assert b"there" not in without.log


class TestPoints:
    """Mount points in a root that a stranger made."""

    def test_a_link_on_the_way_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "cache").symlink_to("/etc")
        root = os.open(tmp_path, os.O_RDONLY)
        with pytest.raises(SpecError, match=r"cache is a link|/cache/x cannot be made"):
            make_point(root, "/cache/x", is_folder=True, owner=os.geteuid())
        os.close(root)

    def test_a_link_at_the_end_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "app").mkdir()
        (tmp_path / "app" / "checkpoints").symlink_to("/root")
        root = os.open(tmp_path, os.O_RDONLY)
        with pytest.raises(SpecError, match="checkpoints"):
            make_point(root, "/app/checkpoints", is_folder=True, owner=os.geteuid())
        os.close(root)

    def test_what_is_there_keeps_its_owner(self, tmp_path: Path) -> None:
        (tmp_path / "there").mkdir()
        root = os.open(tmp_path, os.O_RDONLY)
        os.close(make_point(root, "/there/new", is_folder=True, owner=os.geteuid()))
        assert (tmp_path / "there" / "new").is_dir()
        os.close(root)

    def test_a_program_is_looked_up_inside_the_root(self, tmp_path: Path) -> None:
        (tmp_path / "usr" / "bin").mkdir(parents=True)
        (tmp_path / "bin").symlink_to("/usr/bin")  # absolute, as in images: inside it means inside
        (tmp_path / "usr" / "bin" / "tool").write_text("")
        (tmp_path / "usr" / "bin" / "tool").chmod(0o755)
        root = os.open(tmp_path, os.O_RDONLY)
        assert find_program(root, "tool", search="/sbin:/bin") == "/bin/tool"
        assert find_program(root, "./tool", search="") == "./tool"
        with pytest.raises(SandboxUnavailableError, match="'sh' is not in its root; looked in /bin"):
            find_program(root, "sh", search="/bin")
        os.close(root)


@pytest.mark.parametrize(
    ("kills", "peak", "tail", "memory"),
    [
        (1, 1000, b"", OutOfMemory.CONTROL_GROUP),
        (1, None, b"", OutOfMemory.CONTROL_GROUP),
        (1, 500, b"", OutOfMemory.HOST),
        (0, 500, b"torch.OutOfMemoryError: CUDA out of memory. Tried", OutOfMemory.CUDA),
        (2, 999, b"CUDA out of memory", OutOfMemory.CONTROL_GROUP),
        (0, 1000, b"all is well", None),
    ],
)
def test_the_memory_that_ran_out_is_named(
    kills: int, peak: int | None, tail: bytes, memory: OutOfMemory | None
) -> None:
    assert which_memory(kills=kills, peak_bytes=peak, limit_bytes=1000, log_tail=tail) is memory


@pytest.mark.sandbox
@pytest.mark.skipif(os.geteuid() != 0, reason="control groups need root here")
def test_a_guest_beyond_its_memory_is_told_by_which(tmp_path: Path) -> None:
    hungry = champion(*PYTHON, "x = b'1' * (1 << 30)")
    ran = run_behind_bubblewrap(hungry, tmp_path / "job")
    assert (ran.exit.reason, ran.exit.out_of_memory) == (ExitReason.OUT_OF_MEMORY, "control group")


@pytest.mark.sandbox
def test_a_guest_that_says_that_the_gpu_is_full_is_told_so(tmp_path: Path) -> None:
    ran = run_behind_bubblewrap(
        champion(*SHELL, "echo torch.OutOfMemoryError: CUDA out of memory; exit 1"), tmp_path / "job"
    )
    assert (ran.exit.reason, ran.exit.out_of_memory) == (ExitReason.OUT_OF_MEMORY, "CUDA")


def test_remnants_are_named_one_by_one(tmp_path: Path) -> None:
    parents = {"memory": tmp_path / "memory", "pids": tmp_path / "pids"}
    (tmp_path / "memory" / "assay-1-2-job").mkdir(parents=True)
    job = tmp_path / "job"
    job.mkdir()
    (job / "root.img").write_bytes(b"")
    backing = tmp_path / "block" / "loop7" / "loop" / "backing_file"
    backing.parent.mkdir(parents=True)
    backing.write_text(f"{job}/output.img (deleted)\n")
    found = find_remnants("assay-1-2-job", job_dir=job, parents=parents, blocks=tmp_path / "block")
    assert found == (
        f"control group {tmp_path}/memory/assay-1-2-job",
        f"loop device loop7 holds {job}/output.img (deleted)",
        f"image file {job}/root.img",
    )


@pytest.mark.parametrize(
    "changes", [{"runtime": None}, {"image": Image(tree="/x", manifest_sha256="0" * 64)}]
)
def test_a_root_is_made_of_one_thing(changes: Mapping[str, object], tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="wanted exactly one"):
        run_behind_bubblewrap(replace(champion("true"), **changes), tmp_path / "job")  # type: ignore[arg-type]


def targets(isolation: Mapping[str, object]) -> set[str]:
    mounts = isolation["mounts"]
    assert isinstance(mounts, list)
    return {mount["target"] for mount in mounts}


def run_in(walls: BubblewrapWalls, spec: SandboxSpec, job_dir: Path) -> Ran:
    job_dir.mkdir()
    ran = Ran(exit=None, job_dir=job_dir)  # type: ignore[arg-type]  # told below
    ran.exit = HeldSandbox(walls).run(
        spec, job_dir=job_dir, on_measured=ran.isolation.append, should_cancel=lambda: False
    )
    return ran
