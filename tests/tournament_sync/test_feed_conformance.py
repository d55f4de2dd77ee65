"""The client that the public suite drives, driven here as the suite does; the suite itself is run by hand."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.tournament_sync.tuf_repository import TufRepository
from tournament_sync.feed.serve import feed_server

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "tests/conformance/tuf_client"


@pytest.fixture
def repository(tmp_path: Path) -> TufRepository:
    repository = TufRepository(
        tmp_path / "repository", now=datetime.now(UTC)
    )  # the client looks at the clock
    repository.add_target("text/file.txt", b"content", role="text")
    repository.publish()
    return repository


@pytest.fixture
def url(repository: TufRepository) -> Iterator[str]:
    server = feed_server(repository.folder, host="127.0.0.1", port=0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def client(tmp_path: Path, url: str) -> Callable[..., int]:
    def call(*arguments: str) -> int:
        command = [sys.executable, str(CLIENT), "--metadata-dir", str(tmp_path / "state")]
        command += ["--metadata-url", f"{url}/metadata", "--target-base-url", f"{url}/targets"]
        command += ["--target-dir", str(tmp_path / "downloads"), *arguments]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, env=environment, check=False, capture_output=True).returncode

    (tmp_path / "state").mkdir()
    (tmp_path / "downloads").mkdir()
    return call


def test_the_client_can_be_started_by_its_name() -> None:
    assert os.access(CLIENT, os.X_OK)


def test_init_refresh_and_download(repository: TufRepository, client, tmp_path: Path) -> None:
    root = tmp_path / "root.json"
    root.write_bytes(repository.first_root)
    assert client("init", str(root)) == 0
    assert client("refresh") == 0
    assert (tmp_path / "state/timestamp.json").read_bytes() == repository.metadata("timestamp")
    assert client("--target-name", "text/file.txt", "download") == 0
    assert [path.read_bytes() for path in (tmp_path / "downloads").iterdir()] == [b"content"]
    assert client("--target-name", "text/absent.txt", "download") == 1
    repository.signers["timestamp"] = []
    repository.publish()
    assert client("refresh") == 1
