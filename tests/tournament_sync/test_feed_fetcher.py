"""Folders that want to be left, and servers that do not do as they should."""

import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tuf.api.exceptions import (
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    SlowRetrievalError,
)

from tournament_sync.feed.fetcher import DirectoryFetcher, HttpFetcher

# Folders


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "feed/metadata").mkdir(parents=True)
    (tmp_path / "feed/metadata/timestamp.json").write_bytes(b"content")
    (tmp_path / "secret").write_bytes(b"secret")
    return tmp_path / "feed"


def read(folder: Path, path: str) -> bytes:
    return DirectoryFetcher(folder).download_bytes(f"feed:///{path}", 100)


def test_reads_a_file_of_the_folder(folder: Path) -> None:
    assert read(folder, "metadata/timestamp.json") == b"content"


def test_a_folder_may_be_reached_by_a_link(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "stick").symlink_to(folder)
    assert read(tmp_path / "stick", "metadata/timestamp.json") == b"content"


@pytest.mark.parametrize(
    "path",
    ["../secret", "metadata/../../secret", "%2e%2e/secret", "metadata/%2e%2e/%2e%2e/secret", "//../secret"],
)
def test_refuses_a_path_that_leaves_the_folder(folder: Path, path: str) -> None:
    with pytest.raises(DownloadError, match=r"leads out of the folder \(rule: folder\)"):
        read(folder, path)


@pytest.mark.parametrize("target", ["../../secret", "timestamp.json"])
def test_refuses_a_link_wherever_it_leads(folder: Path, target: str) -> None:
    (folder / "metadata/link.json").symlink_to(target)
    with pytest.raises(DownloadError, match="is reached by a link"):
        read(folder, "metadata/link.json")


def test_refuses_a_folder_that_is_a_link(folder: Path, tmp_path: Path) -> None:
    (folder / "targets").symlink_to(tmp_path)
    with pytest.raises(DownloadError, match="is reached by a link"):
        read(folder, "targets/secret")


def test_a_pipe_and_a_folder_are_not_there(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    for name in ("pipe", "metadata", "absent"):
        with pytest.raises(DownloadHTTPError) as caught:
            read(folder, name)
        assert caught.value.status_code == 404


@pytest.mark.parametrize("path", ["%00", "a" * 300, "link-loop"])
def test_a_path_that_no_file_can_have_is_refused(folder: Path, path: str) -> None:
    (folder / "link-loop").symlink_to("link-loop")
    with pytest.raises(DownloadError):
        read(folder, path)


def test_reads_no_more_than_asked_for(folder: Path) -> None:
    (folder / "long").write_bytes(bytes(101))
    with pytest.raises(DownloadLengthMismatchError):
        read(folder, "long")


# Servers


class Ticking:
    """A clock that moves a second whenever it is looked at."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        self.now_s += 1
        return self.now_s


Answer = Callable[[BaseHTTPRequestHandler], None]


@pytest.fixture
def server() -> Iterator[Callable[[Answer], str]]:
    servers: list[ThreadingHTTPServer] = []

    def start(answer: Answer) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer(self)

            def log_message(self, *_: object) -> None:
                pass

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        thread = threading.Thread(
            target=servers[-1].serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        thread.start()
        return f"http://127.0.0.1:{servers[-1].server_address[1]}/x"

    yield start
    for each in servers:
        each.shutdown()
        each.server_close()


def answering(status: int, body: bytes = b"", **headers: str) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body)

    return answer


def fetch(url: str, *, limit: int = 100, **options: object) -> bytes:
    fetcher = HttpFetcher(**options)  # type: ignore[arg-type]
    try:
        return fetcher.download_bytes(url, limit)
    finally:
        fetcher.close()


def test_reads_an_answer(server) -> None:
    assert fetch(server(answering(200, b"content"))) == b"content"


@pytest.mark.parametrize("status", [403, 404, 500, 204, 206])
def test_any_answer_but_200_is_an_error_with_its_status(server, status: int) -> None:
    with pytest.raises(DownloadHTTPError) as caught:
        fetch(server(answering(status)))
    assert caught.value.status_code == status


def test_a_redirect_is_not_followed(server) -> None:
    asked: list[str] = []

    def elsewhere(request: BaseHTTPRequestHandler) -> None:
        asked.append(request.path)
        answering(302, Location="/elsewhere")(request)

    with pytest.raises(DownloadHTTPError, match="answered 302"):
        fetch(server(elsewhere))
    assert asked == ["/x"]


def test_an_answer_without_end_is_cut_off(server) -> None:
    def endless(request: BaseHTTPRequestHandler) -> None:
        answering(200)(request)
        try:
            for _ in range(100_000):
                request.wfile.write(bytes(4096))
        except OSError:
            pass

    with pytest.raises(DownloadLengthMismatchError):
        fetch(server(endless), limit=10_000)


def test_an_answer_shorter_than_it_says_is_refused(server) -> None:
    with pytest.raises(DownloadError, match="cannot be read"):
        fetch(server(answering(200, b"short", **{"Content-Length": "50"})))


def test_a_server_that_says_nothing_is_left(server) -> None:
    released = threading.Event()
    with pytest.raises(SlowRetrievalError, match="was silent for longer than allowed"):
        fetch(server(lambda _: released.wait(10) and None), silence_timeout_s=0.05)
    released.set()


def test_a_server_that_never_finishes_is_left(server) -> None:
    def dripping(request: BaseHTTPRequestHandler) -> None:
        answering(200)(request)
        try:
            for _ in range(10_000):
                request.wfile.write(b"x")
                request.wfile.flush()
        except OSError:
            pass

    with pytest.raises(SlowRetrievalError, match="took longer than 2 s"):
        fetch(server(dripping), limit=1 << 30, download_timeout_s=2, clock_s=Ticking())


def test_compressed_bytes_are_not_asked_for_and_not_unpacked(server) -> None:
    asked: list[str | None] = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        asked.append(request.headers["Accept-Encoding"])
        answering(200, b"raw", **{"Content-Encoding": "gzip"})(request)

    assert fetch(server(answer)) == b"raw"
    assert asked == ["identity"]


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/x", "http:///x", "http://[/x", "http://127.0.0.1:99999/"]
)
def test_a_server_that_is_not_there_is_an_error_of_the_download(url: str) -> None:
    with pytest.raises(DownloadError):
        fetch(url)
