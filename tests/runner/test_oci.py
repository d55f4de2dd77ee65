"""podman's walls: what a guest has behind them, and what is left when anything of them is killed."""

import json
import os
import resource
import select
import shutil
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from runner import linux
from runner.errors import SandboxUnavailableError, SpecError
from runner.sandbox import cgroup
from runner.sandbox.gate import find_gate
from runner.sandbox.oci import OciSandbox, OciWalls
from runner.sandbox.oci_trial import explain
from runner.sandbox.processes import descendants
from runner.spec import ExitReason, Image, Mount, Profile
from tests.runner.guests import PYTHON, SHELL, limits, order
from tests.runner.image_layers import Item, file, layer, link, unpacked
from tests.runner.podman_guests import UntriedWalls, disobedient_podman, in_a_child, run_behind_podman

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives guests ids of their own")
DEATH_DEADLINE_MS = 20_000


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that anybody may enter, unlike pytest's own: podman is nobody on the host."""
    folder = Path(tempfile.mkdtemp(prefix="assay-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("program", ["podman", "crun"])
def test_says_what_to_install_when_a_program_is_missing(program: str) -> None:
    with pytest.raises(SandboxUnavailableError, match="install the operating system's package 'no-such-"):
        OciSandbox(**{program: f"no-such-{program}"}).check()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("user/max_user_namespaces", "0", "set it to 10000"),
        ("kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone to 1"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "load a profile"),
    ],
)
def test_each_known_reason_comes_with_its_fix(name: str, value: str, message: str) -> None:
    assert message in explain("", sysctl={name: value}.get)


def test_an_unknown_reason_is_told_in_podmans_own_words() -> None:
    assert explain("Error: no room", sysctl=lambda name: None).endswith("here: Error: no room")
    assert "nvidia-ctk cdi generate" in explain("unresolvable CDI devices x", sysctl=lambda name: None)


@pytest.mark.sandbox
class TestBehindPodman:
    def test_check_tells_the_versions_of_all_that_puts_up_the_walls(self) -> None:
        words = OciWalls().check().split(", ")
        assert [word.split()[0] for word in words] == ["podman", "crun", "conmon"]
        assert all(word.split()[1][0].isdigit() for word in words)

    def test_check_refuses_a_runtime_that_makes_no_containers(self, open_folder: Path) -> None:
        broken = open_folder / "crun"
        broken.write_text(
            '#!/bin/sh\n[ "$1" = --version ] && exec echo crun version 9\necho no room >&2; exit 1\n'
        )
        broken.chmod(0o755)
        with pytest.raises(
            SandboxUnavailableError, match=r"(?s)podman cannot make a sandbox here: .*no room"
        ):
            OciWalls(crun=str(broken)).check()

    def test_check_refuses_a_runtime_without_a_version(self, open_folder: Path) -> None:
        silent = open_folder / "crun"
        silent.write_text("#!/bin/sh\nexit 3\n")
        silent.chmod(0o755)
        with pytest.raises(SandboxUnavailableError, match="does not tell its version: it said nothing"):
            OciWalls(crun=str(silent)).check()

    def test_check_refuses_walls_that_are_weaker_than_asked(self, open_folder: Path) -> None:
        podman = disobedient_podman(open_folder, word="--cap-drop", instead="--cap-add")
        with pytest.raises(SandboxUnavailableError, match=r"the guest was not started: .*CapEff"):
            OciWalls(podman=podman).check()

    def test_every_variable_arrives_as_it_is_and_none_beside(self, tmp_path: Path) -> None:
        odd = {"LINES": "one\ntwo", "SIGNS": " =*'\"$HOME #\\", "EMPTY": "", "SHARP": "ß*"}
        code = "import os, json; print(json.dumps(dict(os.environ)))"
        ran = run_behind_podman(order(*PYTHON, code, env=odd), tmp_path / "job")
        seen = json.loads(ran.log)
        assert {name: seen[name] for name in odd} == odd
        assert ran.isolation[0]["environment_as_asked"] is True
        assert set(seen) - set(odd) == {
            "HOME", "HOSTNAME", "LANG", "PATH", "PWD", "SHLVL", "VIRTUAL_ENV",
            *({"LD_LIBRARY_PATH"} & set(seen)),
        }  # fmt: skip

    def test_a_strict_guest_can_write_to_nothing_but_what_has_a_quota(self, tmp_path: Path) -> None:
        script = """
            for place in / /dev /run /sys /sys/fs/cgroup /etc /usr /proc/sys/kernel; do
              touch $place/x 2>/dev/null && echo "wrote to $place"
            done
            touch /tmp/x /out/x /dev/shm/x && echo done
            ls -A /sys/fs/cgroup; ls -A /run; ls -A /sys
        """
        ran = run_behind_podman(order(*SHELL, script), tmp_path / "job")
        assert ran.log.decode().split() == ["done", ".containerenv", "fs"]

    def test_a_champion_is_user_0_inside_and_changes_what_it_likes(self, tmp_path: Path) -> None:
        (tmp_path / "input").mkdir()
        (tmp_path / "input" / "data").write_text("train me")
        script = """
            set -e
            id -u; cat /cache/data; hostname; cat /etc/hostname
            touch /etc/x /workspace /run/x ~/.cache; rm /etc/hosts
            if touch /dev/x 2>/dev/null; then echo wrote to /dev; fi
            if touch /cache/x 2>/dev/null; then echo wrote to the input; fi
        """
        inputs = (Mount(source=str(tmp_path / "input"), target="/cache"),)
        spec = order(*SHELL, script, profile=Profile.CHAMPION, mounts=inputs)
        ran = run_behind_podman(spec, tmp_path / "job")
        assert (ran.exit.code, ran.log.decode().split("\n")) == (0, ["0", "train merunner", "runner", ""])
        assert [p.name for p in (tmp_path / "input").iterdir()] == ["data"]

    def test_a_guest_has_terminals_of_its_own(self, tmp_path: Path) -> None:
        code = "import os; print([os.ttyname(end) for end in os.openpty()][1], len(os.listdir('/dev/pts')))"
        assert run_behind_podman(order(*PYTHON, code), tmp_path / "job").log == b"/dev/pts/0 2\n"

    def test_no_limit_is_raised_above_our_own(self, tmp_path: Path) -> None:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        spec = replace(order(*SHELL, "ulimit -Hn"), limits=limits(open_files=hard + 1))
        assert run_behind_podman(spec, tmp_path / "job").log.split() == [str(hard).encode()]

    @needs_root
    def test_neither_the_guest_nor_podman_is_anybody_on_the_host(self, tmp_path: Path) -> None:
        measured = run_behind_podman(order(*SHELL, "true"), tmp_path / "job").isolation[0]
        assert min(*measured["uids"], *measured["walls_user_ids"]) > 60_000
        assert not set(measured["uids"]) & set(measured["walls_user_ids"])
        assert (measured["violations"], measured["unenforced"]) == ([], [])
        assert measured["seccomp"]["sha256_is"] == "measured"

    def test_a_guest_that_hears_sigterm_may_end_by_itself(self, tmp_path: Path) -> None:
        script = "trap 'echo heard; exit 5' TERM; echo up; while :; do sleep 0.05; done"
        spec = order(*SHELL, script)
        spec = replace(spec, limits=limits(grace_s=20.0))
        log = tmp_path / "job" / "stdout.log"
        ran = run_behind_podman(
            spec, tmp_path / "job", should_cancel=lambda: log.exists() and b" up\n" in log.read_bytes()
        )
        assert (ran.exit.reason, ran.exit.code, ran.exit.survivors) == (ExitReason.CANCELLED, 5, 0)
        assert ran.log.endswith(b"heard\n")

    def test_a_link_of_an_image_does_not_choose_where_podman_mounts(self, tmp_path: Path) -> None:
        image = busybox_image(tmp_path, link("run", "/etc"))
        spec = replace(order("/bin/sh", "-c", "true"), runtime=None, image=image, profile=Profile.CHAMPION)
        with pytest.raises(SpecError, match="/run cannot be made in the guest's root"):
            run_behind_podman(spec, tmp_path / "job")


@pytest.mark.sandbox
@pytest.mark.parametrize(
    ("word", "instead", "found"),
    [
        ("none", "host", "network interfaces are"),
        ("--cgroupns=private", "--cgroupns=host", "the cgroup namespace is the host's"),
        ("--cap-drop", "--cap-add", "CapEff is"),
        ("--annotation=*", "--http-proxy=false", "the loaded filter is"),
        ("--security-opt=seccomp=*|--annotation=*", "--security-opt=seccomp=unconfined", "seccomp mode is 0"),
        ("--tmpfs=/dev:*", "--tmpfs=/dev:rw,nosuid,nodev,noexec,size=64k", "/dev is writable"),
        ("--tmpfs=/run:*", "--tmpfs=/run:rw,size=64k", "/run is writable"),
        ("--http-proxy=false", "--volume=/etc:/srv:ro", "/srv is mounted and was not asked for"),
        ("--shm-size=*", "--shm-size=64m", "/dev/shm holds"),
        ("--ulimit=nofile=*", "--ulimit=nofile=8192:8192", "limit open_files is 8192"),
        ("--unsetenv-all", "--env=LEAK=1", "the environment also has LEAK"),
        ("--env=HOME=*", "--env=HOME=/elsewhere", "the environment is not what was asked for"),
        ("--security-opt=mask=*", "--quiet", "/proc/kallsyms is shown"),
    ],
)
def test_a_podman_that_does_not_obey_is_refused_by_what_is_measured(
    word: str, instead: str, found: str, open_folder: Path, tmp_path: Path
) -> None:
    walls = UntriedWalls(disobedient_podman(open_folder, word=word, instead=instead))
    ran = run_behind_podman(order(*SHELL, "echo ran"), tmp_path / "job", walls=walls)
    assert ran.exit.reason is ExitReason.REFUSED, ran.exit.message
    assert found in ran.exit.message
    assert ran.log == b""


@pytest.mark.sandbox
@needs_root
@pytest.mark.parametrize("victim", ["runner", "holder", "child", "keeper", "podman", "conmon", "guest"])
def test_whatever_is_killed_takes_all_the_rest_along(victim: str, tmp_path: Path) -> None:
    """SIGKILL to one process of a running sandbox: nothing of it stays, and no group after the next sweep."""
    up, tell_up = os.pipe()
    runner = os.fork()
    if runner == 0:
        try:
            spec = order(*SHELL, "sleep 600 & echo up; wait", job_id=f"victim-{victim}")
            log = tmp_path / "job" / "stdout.log"

            def tell() -> bool:
                if log.exists() and b" up\n" in log.read_bytes():
                    os.write(tell_up, b"1")
                return False

            run_behind_podman(spec, tmp_path / "job", should_cancel=tell)
        finally:
            os._exit(0)
    os.close(tell_up)
    assert os.read(up, 1) == b"1", "it did not come up"
    family = processes_of(runner)
    for pid in (family["child"], family["keeper"]):
        links = [str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()]
        assert not [link for link in links if "socket:" in link], "a copy of the holder's own files"
    watched = {pid: os.pidfd_open(pid) for pid in descendants(runner)}
    assert len(watched) >= 7
    os.kill(runner if victim == "runner" else family[victim], signal.SIGKILL)
    for pid, handle in watched.items():
        assert select.select([handle], [], [], DEATH_DEADLINE_MS / 1000)[0], f"process {pid} lives on"
        os.close(handle)
    os.waitpid(runner, 0)
    os.close(up)
    cgroup.sweep(cgroup.host_folders())
    left = [p for parent in cgroup.host_folders().values() for p in parent.glob(f"assay-*-victim-{victim}")]
    assert left == []


def processes_of(runner: int) -> dict[str, int]:
    """The processes of one sandbox by what they are."""
    holder = children_of(runner)[0]
    child = children_of(holder)[0]
    keeper = children_of(child)[0]
    named = {name_of(pid): pid for pid in descendants(keeper)}
    return {
        "holder": holder,
        "child": child,
        "keeper": keeper,
        "podman": named["podman"],
        "conmon": named["conmon"],
        "guest": children_of(named["conmon"])[0],
    }


def children_of(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def name_of(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def busybox_image(folder: Path, *more: Item) -> Image:
    """The smallest image, unpacked by whoever asks: a shell."""
    names = ("sh", "id", "cat", "touch", "true")
    made = unpacked(
        folder / "image",
        layer(
            file("bin/busybox", Path(find_gate()).read_bytes(), mode=0o755),
            *(link(f"bin/{name}", "busybox") for name in names),
            *more,
        ),
    )
    return Image(tree=str(made.tree), manifest_sha256=made.facts.manifest_sha256)


@pytest.mark.sandbox
@needs_root
def test_an_ordinary_user_runs_champions_behind_podman(open_folder: Path) -> None:
    """In its own user namespace, without newuidmap and without a line in /etc/subuid."""
    user = 65533
    os.chown(open_folder, user, user)

    def run() -> None:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
        linux.set_dumpable()
        script = "id -u; cat /proc/self/uid_map; touch /etc/x /workspace && echo kept >/app/checkpoints/model"
        spec = replace(
            order("/bin/sh", "-c", script),
            runtime=None, image=busybox_image(open_folder), profile=Profile.CHAMPION, output_target="/app/checkpoints",
        )  # fmt: skip
        ran = run_behind_podman(spec, open_folder / "job")
        assert ran.exit.code == 0, (ran.exit, ran.log)
        assert ran.log.split() == [b"0", b"0", b"0", b"1"]
        assert ran.harvested == ["model"]
        measured = ran.isolation[0]
        assert (measured["uid_map"], measured["walls_user_ids"]) == ([[0, user, 1]], [user])
        assert "user id: the guest's is the runner's own" in measured["unenforced"]

    in_a_child(run)


@pytest.mark.sandbox
@needs_root
def test_the_hosts_own_podman_configuration_changes_nothing(tmp_path: Path) -> None:
    def run() -> None:
        linux.unshare(linux.CLONE_NEWNS)
        linux.mount("", "/", flags=linux.MS_REC | linux.MS_PRIVATE)
        for place in ("/etc/containers", "/usr/share/containers"):
            linux.mount("tmpfs", place, kind="tmpfs")
            conf = '[containers]\nenv = ["LEAK=1"]\nvolumes = ["/etc:/leak"]\n[engine]\nruntime = "none"\n'
            Path(place, "containers.conf").write_text(conf)
            Path(place, "storage.conf").write_text('[storage]\ndriver = "none"\n')
            Path(place, "mounts.conf").write_text("/etc:/mnt\n")
        ran = run_behind_podman(order(*SHELL, "ls -A /mnt; env | grep LEAK"), tmp_path / "job")
        assert (ran.exit.reason, ran.log) == (ExitReason.EXITED, b""), (ran.exit, ran.log)

    in_a_child(run)
