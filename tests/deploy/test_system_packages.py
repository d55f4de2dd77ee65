"""The set-up script finds a newer runsc without knowing where this machine gets its packages from."""

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "deploy/setup/system-packages"
REAL = ("awk", "cat", "cut", "dpkg", "env", "head", "sed", "sh", "tee", "tr")
THERE = ("bwrap", "busybox", "git", "mkfs.ext4", "unshare", "python", "podman", "conmon", "crun")
OLD, NEW = "0.0~20221219.0-2", "0.0~20240729.0-4~bpo12+2"
DEB822 = """\
Types: deb
# a comment, http://packages.test/old
URIs: http://packages.test/debian
Suites: {suites}
Components: main
Signed-By: /keys/debian.gpg
"""


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A Debian with everything but runsc; its package tools write down what they are told."""
    programs, sources = tmp_path / "bin", tmp_path / "apt" / "sources.list.d"
    programs.mkdir()
    sources.mkdir(parents=True)
    for name in REAL:
        (programs / name).symlink_to(str(shutil.which(name)))
    tools = dict.fromkeys(THERE, "exit 0")
    tools |= {
        "id": "echo 0",
        "apt-get": f'echo "$@" >>{tmp_path}/told',
        # What the sources have: the newer one only where backports are among them.
        "apt-cache": f"cat {tmp_path}/apt/sources.list {sources}/* 2>/dev/null | sed -n '/-backports/"
        f's/.*/runsc | {NEW} | x/p\' | head -n 1; echo "runsc | {OLD} | x"',
    }
    for name, act in tools.items():
        (programs / name).write_text(f"#!/bin/sh\n{act}\n")
        (programs / name).chmod(0o755)
    (tmp_path / "os-release").write_text("VERSION_CODENAME=bookworm\n")
    return tmp_path


def set_up(machine: Path, *options: str) -> subprocess.CompletedProcess[str]:
    text = SCRIPT.read_text().replace('PATH="$PATH:/usr/sbin:/sbin"', "")
    text = text.replace("apt=/etc/apt", f"apt={machine}/apt").replace(
        "/etc/os-release", f"{machine}/os-release"
    )
    return subprocess.run(
        ["/bin/bash", "-c", text, "system-packages", "--sandboxes", *options],
        env={"PATH": str(machine / "bin"), "PYTHON": "python"},
        capture_output=True,
        text=True,
        check=False,
    )


def told(machine: Path) -> list[str]:
    return (machine / "told").read_text().splitlines()


def test_backports_are_added_from_the_machines_own_source(machine: Path) -> None:
    sources = machine / "apt" / "sources.list.d"
    security = DEB822.format(suites="bookworm-security").replace("/debian\n", "/security\n")
    (sources / "debian.sources").write_text(
        f"{security}\n{DEB822.format(suites='bookworm bookworm-updates')}"
    )
    done = set_up(machine)
    assert (done.returncode, done.stderr) == (0, "")
    assert (sources / "assay-backports.sources").read_text() == (
        "Types: deb\nURIs: http://packages.test/debian\nSuites: bookworm-backports\n"
        "Components: main\nSigned-By: /keys/debian.gpg\n"
    )
    assert (
        "→ package source: bookworm-backports, beside this machine's own bookworm, for runsc" in done.stdout
    )
    assert told(machine)[-1] == f"install -y -qq --no-install-recommends runsc={NEW}"


def test_backports_are_added_beside_a_line_of_the_old_form(machine: Path) -> None:
    line = "deb [signed-by=/keys/debian.gpg] http://packages.test/debian bookworm main contrib\n"
    (machine / "apt" / "sources.list").write_text(
        f"# {line}deb http://x.test/s bookworm-security main\n{line}"
    )
    assert set_up(machine).returncode == 0
    added = machine / "apt" / "sources.list.d" / "assay-backports.list"
    assert added.read_text() == line.replace("bookworm ", "bookworm-backports ")


def test_no_source_is_added_where_a_newer_runsc_can_be_had(machine: Path) -> None:
    sources = machine / "apt" / "sources.list.d"
    (sources / "own.sources").write_text(DEB822.format(suites="bookworm-backports"))
    assert set_up(machine).returncode == 0
    assert [path.name for path in sources.iterdir()] == ["own.sources"]
    assert told(machine) == ["update -qq", f"install -y -qq --no-install-recommends runsc={NEW}"]


def test_a_machine_without_a_newer_runsc_is_told_so(machine: Path) -> None:
    sources = machine / "apt" / "sources.list.d"
    (sources / "off.sources").write_text(f"Enabled: no\n{DEB822.format(suites='bookworm')}")
    done = set_up(machine)
    assert (done.returncode, told(machine)) == (2, ["update -qq"])
    assert "no package source of this machine has a runsc of 2024 or later" in done.stderr
    assert [path.name for path in sources.iterdir()] == ["off.sources"]


@pytest.mark.parametrize(
    ("version", "code"), [("0.0~20221219.0", 2), ("release-20240729.0", 0), ("20301231", 0)]
)
def test_only_a_runsc_of_2024_or_later_will_do(machine: Path, version: str, code: int) -> None:
    (machine / "bin" / "runsc").write_text(f"#!/bin/sh\necho runsc version {version}\n")
    (machine / "bin" / "runsc").chmod(0o755)
    done = set_up(machine, "--check")
    assert done.returncode == code
    assert ("Debian 12 has that in bookworm-backports" in done.stderr) == (code == 2)
    assert not (machine / "told").exists()


def test_every_sandbox_needs_the_static_gate(machine: Path) -> None:
    (machine / "bin" / "busybox").unlink()
    assert "--no-install-recommends busybox-static runsc\n" in set_up(machine, "--check").stderr
