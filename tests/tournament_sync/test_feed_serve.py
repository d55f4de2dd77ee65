"""The mirror: what it gives, and all that it does not give."""

import http.client
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tournament_sync.errors import SourceUnavailableError
from tournament_sync.feed.serve import feed_server, serve_feed

Ask = Callable[..., http.client.HTTPResponse]


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    feed = tmp_path / "feed"
    (feed / "metadata").mkdir(parents=True)
    (feed / "targets/text").mkdir(parents=True)
    (feed / "metadata/timestamp.json").write_bytes(b"timestamp")
    (feed / "targets/text/ab.god-a.champion.tar").write_bytes(b"archive")
    (feed / "targets/.archive.part").write_bytes(b"unfinished")
    (feed / "metadata/loop").symlink_to("loop")
    (feed / "notes.txt").write_bytes(b"notes")
    (tmp_path / "secret").write_bytes(b"secret")
    return feed


@pytest.fixture
def port(mirror: Path) -> Iterator[int]:
    server = feed_server(mirror, host="127.0.0.1", port=0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def ask(port: int) -> Iterator[Ask]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)

    def call(path: str, method: str = "GET", **headers: str) -> http.client.HTTPResponse:
        connection.close()
        connection.putrequest(method, path, skip_host=False)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        return connection.getresponse()

    yield call
    connection.close()


@pytest.mark.parametrize(
    ("path", "content"),
    [("/metadata/timestamp.json", b"timestamp"), ("/targets/text/ab.god-a.champion.tar", b"archive")],
)
def test_gives_the_files_of_the_feed(ask: Ask, path: str, content: bytes) -> None:
    answer = ask(path)
    assert (answer.status, answer.read()) == (200, content)
    assert answer.headers["Content-Length"] == str(len(content))


def test_gives_the_headers_alone_if_asked_so(ask: Ask) -> None:
    answer = ask("/metadata/timestamp.json", "HEAD")
    assert (answer.status, answer.read()) == (200, b"")
    assert answer.headers["Content-Length"] == "9"


def test_does_not_send_what_the_client_has(ask: Ask, mirror: Path) -> None:
    etag = ask("/metadata/timestamp.json").headers["ETag"]
    again = ask("/metadata/timestamp.json", If_None_Match=etag)
    assert (again.status, again.read()) == (304, b"")
    beside = mirror / "metadata/new"
    beside.write_bytes(b"TIMESTAMP")
    beside.replace(mirror / "metadata/timestamp.json")
    renewed = ask("/metadata/timestamp.json", If_None_Match=etag)
    assert (renewed.status, renewed.read()) == (200, b"TIMESTAMP")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/metadata",
        "/metadata/",
        "/targets/text/",
        "/notes.txt",
        "/../secret",
        "/metadata/../../secret",
        "/metadata/..%2f..%2fsecret",
        "/metadata/%2e%2e/%2e%2e/secret",
        "/metadata//timestamp.json",
        "/metadata/timestamp.json?x",
        "/metadata/timestamp.json%00",
        "/targets/.archive.part",
        "/metadata/loop",
        "/metadata/absent.json",
        "/metadata/" + "a" * 300,
        "http://elsewhere/metadata/timestamp.json",
    ],
)
def test_everything_else_is_not_found(ask: Ask, path: str) -> None:
    answer = ask(path)
    assert answer.status == 404
    assert b"secret" not in answer.read().replace(path.encode(), b"")


@pytest.mark.parametrize("what", ["file", "folder", "inside", "pipe"])
def test_follows_no_link_and_waits_for_no_pipe(ask: Ask, mirror: Path, tmp_path: Path, what: str) -> None:
    path = mirror / "metadata/other"
    match what:
        case "file":
            path.symlink_to(tmp_path / "secret")
        case "inside":
            path.symlink_to("timestamp.json")
        case "folder":
            path.symlink_to(tmp_path)
        case "pipe":
            os.mkfifo(path)
    assert ask("/metadata/other/secret" if what == "folder" else "/metadata/other").status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
def test_changes_nothing(ask: Ask, mirror: Path, method: str) -> None:
    assert ask("/metadata/timestamp.json", method).status == 501
    assert (mirror / "metadata/timestamp.json").read_bytes() == b"timestamp"


def test_says_nothing_about_its_machine(ask: Ask) -> None:
    server = ask("/metadata/timestamp.json").headers["Server"]
    assert server.strip() == "assay-feed"


@pytest.mark.parametrize("words", [b"GET /\x1b]0;title HTTP/1.1\r\n\r\n", b"\x1b]0;title\r\n\r\n"])
def test_a_stranger_s_words_do_not_reach_the_terminal(
    port: int, capfd: pytest.CaptureFixture[str], words: bytes
) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(words)
        assert connection.recv(1000)
    assert capfd.readouterr().err == ""


def test_refuses_to_serve_what_is_no_feed(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailableError, match=r"is no feed: it has no metadata/timestamp.json"):
        serve_feed(tmp_path, host="127.0.0.1", port=0)


def test_refuses_an_address_that_is_taken(mirror: Path) -> None:
    with (
        feed_server(mirror, host="127.0.0.1", port=0) as first,
        pytest.raises(SourceUnavailableError, match="cannot be served: Address already in use"),
    ):
        serve_feed(mirror, host="127.0.0.1", port=first.server_port)
