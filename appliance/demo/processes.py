"""The appliance's own processes, started and stopped around the demo."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from appliance.errors import HomeError

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Processes:
    """Server and worker, by their log files."""

    url: str
    running: dict[Path, subprocess.Popen[bytes]]

    def check(self) -> None:
        """Raises HomeError, with the last line of its log, if one of them has ended."""
        for log, process in self.running.items():
            if process.poll() is not None:
                raise HomeError(f"{log.stem} ended with {process.returncode}: {_last_line(log)}")


@contextmanager
def appliance_processes(home: Path, *, log_dir: Path, port: int) -> Iterator[Processes]:
    """Run `assay serve` and `assay worker` on `home`, and stop both at the end."""
    log_dir.mkdir(parents=True, exist_ok=True)
    serve_log, worker_log = log_dir / "serve.log", log_dir / "worker.log"
    serve = ["serve", "--home", str(home), "--port", str(port)]
    with (
        _running(serve, log=serve_log) as server,
        _running(["worker", "--home", str(home)], log=worker_log) as worker,
    ):
        processes = Processes(f"http://127.0.0.1:{port}", {serve_log: server, worker_log: worker})
        _wait_until_ready(processes)
        yield processes


def free_port() -> int:
    """A port of the loopback interface that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _running(arguments: list[str], *, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "appliance", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(processes: Processes) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        processes.check()
        try:
            if httpx.get(f"{processes.url}/healthz", timeout=1.0).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise HomeError(f"the API did not answer within {START_TIMEOUT_S:g} s")


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "nothing"
