"""Runs podman: where it is, where it stores images, how it is called, and how a call ends.

Covered: every call has a time limit and its own log or a capped answer; when it ends, nothing that it started
goes on running. The environment is the operator's, less whatever podman and its builds do not need.
Not covered: what podman itself does right or wrong; digests are computed again by tournament_sync.images.oci.
"""

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

from tournament_sync.errors import BuildError

MAX_LOG_BYTES = 64 << 20  # of one build; the rest is read and dropped
_TAIL_BYTES = 2000  # of what a failed call said
_PASSED_ON = (
    *("PATH", "HOME", "USER", "LANG", "TMPDIR", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME"),
    *("CONTAINERS_CONF", "CONTAINERS_REGISTRIES_CONF", "CONTAINERS_STORAGE_CONF", "REGISTRY_AUTH_FILE"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
)


class BuildNetwork(StrEnum):
    """What the commands of a Dockerfile may reach. Upstream restricts nothing."""

    HOST = "host"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageTools:
    """How podman is called. None: as podman itself is configured.

    `root` and `run_root` are a storage of its own; builds in one storage must not overlap. `runtime` is the
    OCI runtime: `usual_tools` chooses one that works on this host.
    """

    podman: str = "podman"
    root: Path | None = None
    run_root: Path | None = None
    storage_driver: str | None = None
    runtime: str | None = None
    build_network: BuildNetwork = BuildNetwork.HOST
    build_timeout_s: float = 4 * 3600  # champions compile CUDA kernels
    timeout_s: float = 3600  # pull, save and load of tens of gigabytes


def usual_tools(*, cgroups: Path = Path("/sys/fs/cgroup")) -> ImageTools:
    """The tools of this host: runc where cgroups are not version 2 alone, which crun cannot use."""
    return ImageTools(runtime=None if (cgroups / "cgroup.controllers").exists() else "runc")


def ask(tools: ImageTools, *arguments: str, doing: str) -> str:
    """What podman answers. Raises BuildError, which says what was being done, for every other end."""
    with _running(
        tools, arguments, timeout_s=tools.timeout_s, doing=doing, errors=subprocess.PIPE
    ) as process:
        answer, errors = process.communicate()
    if process.returncode:
        raise BuildError(f"{doing}: podman ended with {process.returncode}: {_last_words(errors)}")
    return answer.decode(errors="replace").strip()


def run_logged(tools: ImageTools, *arguments: str, log: Path, doing: str) -> None:
    """Run podman with everything it says in `log`, within the build's time. Raises BuildError.

    `log` must not be there yet, not even as a link.
    """
    with (
        create_file(log) as file,
        _running(
            tools, arguments, timeout_s=tools.build_timeout_s, doing=doing, errors=subprocess.STDOUT
        ) as process,
    ):
        assert process.stdout  # a pipe, see _running
        left, tail = MAX_LOG_BYTES, b""
        while chunk := process.stdout.read1(1 << 16):  # type: ignore[attr-defined]  # a BufferedReader
            left -= file.write(chunk[:left])
            tail = (tail + chunk)[-_TAIL_BYTES:]
    if process.returncode:
        raise BuildError(
            f"{doing}: podman ended with {process.returncode}: {_last_words(tail)} (whole log: {log})"
        )


def create_file(path: Path) -> BinaryIO:
    """A new file for writing. Raises FileExistsError for whatever is there, links included."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    return os.fdopen(handle, "wb")


@contextmanager
def _running(
    tools: ImageTools, arguments: Sequence[str], *, timeout_s: float, doing: str, errors: int
) -> Iterator[subprocess.Popen[bytes]]:
    """A call of podman; when the block ends, so has it."""
    if shutil.which(tools.podman) is None:
        raise BuildError(
            f"{doing}: {tools.podman} is not there: install the operating system's package 'podman'"
        )
    podman = (tools.podman, *_global_options(tools))
    # podman leaves the commands of a Dockerfile running when it is killed: in a process namespace nothing
    # outlives its first process. Without root, the way there is through the user namespace of podman's own,
    # of whose processes only the outermost can be killed from here.
    alone = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
    wrapped = alone if os.geteuid() == 0 else (*podman, "unshare", "setpriv", "--pdeathsig", "KILL", *alone)
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    expired = threading.Event()
    with subprocess.Popen(
        [*wrapped, *podman, *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=errors,
    ) as process:

        def expire() -> None:
            expired.set()
            process.kill()

        timer = threading.Timer(timeout_s, expire)
        timer.start()
        try:
            yield process
            process.wait()
        finally:
            timer.cancel()
            process.kill()
    if expired.is_set():
        raise BuildError(f"{doing}: not done within {timeout_s:g} s")


def _global_options(tools: ImageTools) -> Iterator[str]:
    # No daemon of the host is asked: neither systemd for control groups nor its journal for events.
    yield from ("--cgroup-manager", "cgroupfs", "--events-backend", "file")
    if tools.root is not None:
        yield from ("--root", str(tools.root))
    if tools.run_root is not None:
        yield from ("--runroot", str(tools.run_root), "--tmpdir", str(tools.run_root / "libpod"))
    if tools.storage_driver is not None:
        yield from ("--storage-driver", tools.storage_driver)
    if tools.runtime is not None:
        yield from ("--runtime", tools.runtime)


def _last_words(output: bytes) -> str:
    """The last lines of what podman said, on one line, safe to print."""
    lines = output[-_TAIL_BYTES:].decode(errors="replace").strip().splitlines()[-3:]
    return "".join(c if c.isprintable() else "?" for c in " | ".join(lines))[-500:]
