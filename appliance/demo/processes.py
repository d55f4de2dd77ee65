"""The appliance's own processes, started and stopped around the demo."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from appliance.errors import HomeError

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0


@contextmanager
def appliance_processes(home: Path, *, log_dir: Path, port: int) -> Iterator[str]:
    """Run `assay serve` and `assay worker` on `home`; gives the URL of the API, stops both at the end."""
    log_dir.mkdir(parents=True, exist_ok=True)
    url = f"http://127.0.0.1:{port}"
    serve = ["serve", "--home", str(home), "--port", str(port)]
    work = ["worker", "--home", str(home)]
    with (
        _running(serve, log=log_dir / "serve.log") as server,
        _running(work, log=log_dir / "worker.log") as worker,
    ):
        _wait_until_ready(url, {"server": server, "worker": worker}, log_dir=log_dir)
        yield url


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


def _wait_until_ready(url: str, processes: dict[str, subprocess.Popen[bytes]], *, log_dir: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        for name, process in processes.items():
            if process.poll() is not None:
                log = log_dir / ("serve.log" if name == "server" else "worker.log")
                raise HomeError(f"the {name} ended at once, its log says: {_last_line(log)}")
        try:
            if httpx.get(f"{url}/healthz", timeout=1.0).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise HomeError(f"the API did not answer within {START_TIMEOUT_S:g} s; see {log_dir}")


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "nothing"
