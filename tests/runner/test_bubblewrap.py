"""The driver refuses weak walls before the guest runs, and says why when it cannot build any."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import runner
from runner.errors import SandboxUnavailableError, SpecError
from runner.sandbox import bubblewrap
from runner.sandbox.bubblewrap import WALLS, BubblewrapSandbox, explain
from runner.sandbox.port import Isolation
from runner.spec import ExitReason, Mount
from tests.runner.guests import PYTHON, SHELL, needs_bwrap, order, run_behind_bubblewrap

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
REPOSITORY = Path(runner.__file__).parent.parent


def test_says_what_to_install_when_there_is_no_bubblewrap() -> None:
    with pytest.raises(SandboxUnavailableError, match="install the operating system's package 'bubblewrap'"):
        BubblewrapSandbox("bwrap-that-is-not-there").check()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("user/max_user_namespaces", "0", "set it to 10000 with sysctl"),
        ("kernel/unprivileged_userns_clone", "0", "set kernel.unprivileged_userns_clone to 1"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "load a profile for it"),
        ("kernel/other", "1", "bubblewrap cannot make a sandbox here: its own words"),
    ],
)
def test_each_known_reason_comes_with_its_fix(name: str, value: str, message: str) -> None:
    assert message in explain("its own words", sysctl={name: value}.get)


@pytest.mark.sandbox
@needs_bwrap
@needs_root
def test_user_namespaces_that_are_off_are_told() -> None:
    check = (
        "from runner.sandbox.bubblewrap import BubblewrapSandbox\n"
        "try: BubblewrapSandbox().check()\n"
        "except Exception as error: print(error)"
    )
    shell = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
    command = ["unshare", "--user", "--map-root-user", "sh", "-c", shell, "sh", sys.executable, "-c", check]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "user.max_user_namespaces is 0" in done.stdout


@pytest.mark.sandbox
@needs_bwrap
class TestWalls:
    @pytest.mark.parametrize(
        ("walls", "message"),
        [
            ([w for w in WALLS if w != "--unshare-net"], "the net namespace is the host's"),
            ([w for w in WALLS if w != "--unshare-ipc"], "the ipc namespace is the host's"),
            ([w for w in WALLS if w != "--unshare-cgroup-try"], "the cgroup namespace is the host's"),
            ([*WALLS, "--cap-add", "ALL"], "CapEff is"),
            ([*WALLS, "--setenv", "LEAKED", "1"], "the environment also has LEAKED"),
        ],
    )
    def test_a_weaker_wall_is_refused_before_the_guest_runs(
        self, walls: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(bubblewrap, "WALLS", tuple(walls))
        ran = run_behind_bubblewrap(order(*SHELL, "echo I ran"), tmp_path / "job")
        assert (ran.exit.reason, ran.exit.code, ran.exit.released_at) == (ExitReason.REFUSED, None, None)
        assert message in ran.exit.message
        assert any(message in found for found in ran.isolation[0]["violations"])
        assert ran.log == b""
        assert not (ran.job_dir / "harvest").exists()

    def test_a_caller_that_fails_to_note_the_walls_ends_the_guest(self, tmp_path: Path) -> None:
        def fails(isolation: Isolation) -> None:
            raise OSError("disk full")

        with pytest.raises(OSError, match="disk full"):
            BubblewrapSandbox().run(
                order(*SHELL, "echo I ran"), job_dir=tmp_path, on_measured=fails, should_cancel=lambda: False
            )
        assert (tmp_path / "stdout.log").read_bytes() == b""

    def test_the_claim_has_no_floats_and_no_paths_of_the_host(self, tmp_path: Path) -> None:
        def refuse(text: str) -> float:
            raise AssertionError(f"a float: {text}")

        (tmp_path / "input").mkdir()
        inputs = (Mount(source=str(tmp_path / "input"), target="/input"),)
        ran = run_behind_bubblewrap(order(*SHELL, "true", mounts=inputs), tmp_path / "job")
        encoded = json.dumps(ran.isolation[0])
        json.loads(encoded, parse_float=refuse)
        assert str(tmp_path) not in encoded
        assert ran.isolation[0]["violations"] == []

    @needs_root
    def test_root_measures_the_filter_and_gives_the_guest_an_id_of_its_own(self, tmp_path: Path) -> None:
        measured = run_behind_bubblewrap(order(*SHELL, "true"), tmp_path / "job").isolation[0]
        assert measured["seccomp"]["sha256_is"] == "measured"
        assert measured["own_user_id"] is True
        assert min(measured["uids"]) > 60_000
        assert measured["unenforced"] == []

    def test_a_missing_input_is_told(self, tmp_path: Path) -> None:
        inputs = (Mount(source=str(tmp_path / "missing"), target="/input"),)
        with pytest.raises(SandboxUnavailableError, match="missing cannot be shown to the guest"):
            run_behind_bubblewrap(order(*SHELL, "true", mounts=inputs), tmp_path / "job")
        assert not (tmp_path / "job" / "output.img").exists()

    def test_a_working_folder_that_is_not_there_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(SandboxUnavailableError, match="nowhere"):
            run_behind_bubblewrap(order(*SHELL, "true", cwd="/nowhere"), tmp_path / "job")

    def test_inputs_from_anywhere_are_shown(self, tmp_path: Path) -> None:
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o700)
        (closed / "file").write_text("seen")
        (closed / "file").chmod(0o644)
        inputs = (Mount(source=str(closed / "file"), target="/input/data.json"),)
        ran = run_behind_bubblewrap(order(*SHELL, "cat /input/data.json", mounts=inputs), tmp_path / "job")
        assert ran.log == b"seen\n"

    @pytest.mark.training
    def test_training_libraries_work_inside(self, tmp_path: Path) -> None:
        code = "import torch, transformers, trl; print(int(torch.ones(3).sum()))"
        spec = order(*PYTHON, code)
        spec = replace(spec, limits=replace(spec.limits, wall_clock_s=120.0, memory_bytes=4 << 30))
        assert run_behind_bubblewrap(spec, tmp_path / "job").log.endswith(b"3\n")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mounts": (Mount(source="/x", target="/usr/lib/x"),)}, "the sandbox's own"),
        ({"mounts": (Mount(source="/x", target="/tmp/x"),)}, "the sandbox's own"),
        ({"mounts": (Mount(source="/x", target="/"),)}, "not a plain absolute path"),
        ({"mounts": (Mount(source="/x", target="/a/../b"),)}, "not a plain absolute path"),
        ({"mounts": (Mount(source="/x", target="/out/x"),)}, "lie in one another"),
        ({"output_target": "relative"}, "not a plain absolute path"),
        ({"output_folders": ("../x",)}, "not a plain relative path"),
        ({"env": {"A": "x\0--bind\0/"}}, "holds a NUL"),
        ({"env": {"A=B": "x"}}, "no name of a variable"),
        ({"argv": ()}, "no command"),
        ({"job_id": "../x"}, "not a plain name"),
    ],
)
def test_refuses_an_order_that_bends_the_walls(
    changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    spec = replace(order("true"), **changes)  # type: ignore[arg-type]  # one field each
    with pytest.raises(SpecError, match=message):
        BubblewrapSandbox().run(
            spec, job_dir=tmp_path, on_measured=lambda isolation: None, should_cancel=lambda: False
        )


@pytest.mark.sandbox
@needs_bwrap
@needs_root
def test_an_ordinary_user_gets_the_same_contract(
    tmp_path_factory: pytest.TempPathFactory, closed_ancestor: Callable[[Path], Path | None]
) -> None:
    """The contract suite again, as uid 65533, where files of the interpreter are shown to it."""
    prefix, closed = Path(sys.base_prefix), closed_ancestor(Path(sys.base_prefix))
    if closed_ancestor(REPOSITORY) is not None or closed_ancestor(Path(sys.prefix)) is not None:
        pytest.skip("an ordinary user cannot read this checkout")
    base = Path("/tmp") / f"assay-ordinary-{os.getpid()}"
    stage = ["true"]
    if closed is not None:
        stage = [
            "mount -t tmpfs tmpfs /mnt", "mkdir /mnt/python", f"mount --rbind {prefix} /mnt/python",
            f"mount -t tmpfs -o mode=755 tmpfs {closed}", f"mkdir -p {prefix}", f"mount --move /mnt/python {prefix}",
        ]  # fmt: skip
    drop = "setpriv --reuid 65533 --regid 65533 --clear-groups"
    tests = "tests/contract/test_sandbox.py tests/runner/test_hostile_guests.py tests/runner/test_champion_profile.py"
    command = f"exec {drop} {sys.executable} -m pytest -q -p no:cacheprovider --basetemp {base} {tests}"
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-ec", "\n".join([*stage, command])],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
        env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    subprocess.run(["rm", "-rf", str(base)], check=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]


@pytest.fixture
def closed_ancestor() -> Callable[[Path], Path | None]:
    """The first folder on the way to a path that others may not enter."""

    def find(path: Path) -> Path | None:
        way = [*reversed(path.parents), path]
        return next((folder for folder in way if not folder.stat().st_mode & 0o001), None)

    return find
