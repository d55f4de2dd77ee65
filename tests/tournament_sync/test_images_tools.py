"""Calls of podman end within their time, tell why they failed, and leave nothing running."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tournament_sync.errors import BuildError
from tournament_sync.images import tools as module
from tournament_sync.images.tools import BuildNetwork, ImageTools, ask, run_logged, usual_tools

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can wrap a program that is not podman")

Podman = Callable[[str], ImageTools]


@pytest.fixture
def podman(tmp_path: Path) -> Podman:
    """Tools whose podman is a shell script."""

    def make(script: str) -> ImageTools:
        program = tmp_path / "podman"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        return ImageTools(podman=str(program), timeout_s=20, build_timeout_s=20)

    return make


def is_running(argument: str) -> bool:
    """Whether any process was started with `argument`."""
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if argument.encode() in process.read_bytes().split(b"\0"):
                return True
        except (FileNotFoundError, ProcessLookupError):
            continue
    return False


def test_gives_the_answer(podman: Podman) -> None:
    assert ask(podman("echo '  answer '; echo talk >&2"), doing="asking") == "answer"


def test_calls_podman_with_a_storage_of_its_own(podman: Podman, tmp_path: Path) -> None:
    plain = podman('echo "$@"')
    assert ask(plain, "images", doing="x") == "--cgroup-manager cgroupfs --events-backend file images"
    own = ImageTools(
        podman=plain.podman,
        root=tmp_path / "r",
        run_root=tmp_path / "u",
        storage_driver="vfs",
        runtime="runc",
    )
    assert ask(own, "load", "a b", doing="x") == (
        "--cgroup-manager cgroupfs --events-backend file"
        f" --root {tmp_path}/r --runroot {tmp_path}/u --tmpdir {tmp_path}/u/libpod"
        " --storage-driver vfs --runtime runc load a b"
    )


def test_passes_no_secret_of_the_environment_on(podman: Podman, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_TOKEN", "secret")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid")
    answer = ask(podman("env"), doing="x")
    assert "HTTPS_PROXY=http://proxy.invalid" in answer
    assert "ASSAY_TOKEN" not in answer


def test_says_what_to_install_where_there_is_no_podman() -> None:
    with pytest.raises(
        BuildError, match=r"asking: podman-not-there is not there: install .* package 'podman'"
    ):
        ask(ImageTools(podman="podman-not-there"), doing="asking")


def test_a_failure_says_what_was_done_and_podmans_last_words(podman: Podman) -> None:
    script = "echo first >&2; echo second >&2; echo third >&2; printf 'the \\033[31mend\\n' >&2; exit 125"
    with pytest.raises(
        BuildError, match=r"loading: podman ended with 125: second \| third \| the \?\[31mend$"
    ):
        ask(podman(script), doing="loading")


@pytest.mark.parametrize("is_logged", [False, True])
def test_nothing_survives_the_time_limit(podman: Podman, tmp_path: Path, is_logged: bool) -> None:
    started = tmp_path / "started"
    length = f"{300 + os.getpid()}.25"
    tools = podman(f"setsid sleep {length} & echo working; : > {started}; sleep {length}")
    tools = ImageTools(podman=tools.podman, timeout_s=1.5, build_timeout_s=1.5)
    with pytest.raises(BuildError, match=r"building: not done within 1\.5 s"):
        if is_logged:
            run_logged(tools, log=tmp_path / "log", doing="building")
        else:
            ask(tools, doing="building")
    assert started.exists()
    assert not is_running(length)


def test_what_podman_leaves_in_the_background_ends_with_it(podman: Podman, tmp_path: Path) -> None:
    length = f"{600 + os.getpid()}.5"
    run_logged(podman(f"setsid sleep {length} >/dev/null 2>&1 &"), log=tmp_path / "log", doing="building")
    assert not is_running(length)


def test_the_log_has_everything_that_was_said(podman: Podman, tmp_path: Path) -> None:
    run_logged(podman("echo out; echo talk >&2"), log=tmp_path / "log", doing="building")
    assert (tmp_path / "log").read_text() == "out\ntalk\n"


def test_the_log_stays_when_a_build_fails(podman: Podman, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.raises(BuildError, match=rf"building: podman ended with 1: no \(whole log: {log}\)"):
        run_logged(podman("echo no; exit 1"), log=log, doing="building")
    assert log.read_text() == "no\n"


@pytest.mark.parametrize("is_link", [True, False])
def test_no_log_is_written_over_or_through_what_is_there(
    podman: Podman, tmp_path: Path, is_link: bool
) -> None:
    log, victim = tmp_path / "log", tmp_path / "victim"
    victim.write_text("mine")
    if is_link:
        log.symlink_to(victim)
    else:
        log.write_text("mine")
    with pytest.raises(FileExistsError):
        run_logged(podman("echo theirs"), log=log, doing="building")
    assert (log.read_text(), victim.read_text()) == ("mine", "mine")


def test_an_endless_log_is_cut_and_its_end_still_told(
    podman: Podman, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_LOG_BYTES", 1000)
    log = tmp_path / "log"
    with pytest.raises(BuildError, match="the end"):
        run_logged(podman("head -c 3000000 /dev/zero; echo; echo the end; exit 1"), log=log, doing="x")
    assert log.stat().st_size == 1000


@pytest.mark.parametrize(("is_version_2", "runtime"), [(True, None), (False, "runc")])
def test_chooses_a_runtime_that_knows_the_hosts_control_groups(
    tmp_path: Path, is_version_2: bool, runtime: str | None
) -> None:
    if is_version_2:
        (tmp_path / "cgroup.controllers").touch()
    tools = usual_tools(cgroups=tmp_path)
    assert (tools.runtime, tools.build_network, tools.root) == (runtime, BuildNetwork.HOST, None)
