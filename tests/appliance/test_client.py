"""What the client unpacks comes from a server, and a server may lie."""

import io
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from appliance.cli.client import ApiClient
from appliance.errors import ApiError, ConflictError
from appliance.tokens import format_token
from attestation.errors import MalformedError

TOKEN = format_token(b"t" * 32)


class _Serving(BaseHTTPRequestHandler):
    answer = b""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.answer)))
        self.end_headers()
        self.wfile.write(self.answer)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def client() -> Iterator[ApiClient]:
    server = HTTPServer(("127.0.0.1", 0), _Serving)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield ApiClient(f"http://127.0.0.1:{server.server_port}", token=TOKEN)
    server.shutdown()
    thread.join()
    server.server_close()


def archive(*members: tarfile.TarInfo) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for member in members:
            member.size = 4 if member.isreg() else 0
            tar.addfile(member, io.BytesIO(b"data") if member.isreg() else None)
    return out.getvalue()


def link(name: str, target: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def test_unpacks_plain_files_below_the_new_folder(client: ApiClient, tmp_path: Path) -> None:
    _Serving.answer = archive(tarfile.TarInfo("run-1/a.txt"), tarfile.TarInfo("run-1/sub/b.txt"))
    folder = client.fetch("run-1", "evidence", into=tmp_path / "new")
    assert (folder / "sub" / "b.txt").read_bytes() == b"data"


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "run-1/../../evil", "run-1/a\nb"])
def test_refuses_names_that_leave_the_folder(client: ApiClient, tmp_path: Path, name: str) -> None:
    _Serving.answer = archive(tarfile.TarInfo(name))
    with pytest.raises(MalformedError, match="unsafe file name"):
        client.fetch("run-1", "evidence", into=tmp_path / "in" / "new")
    assert list((tmp_path / "in").iterdir()) == []


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_refuses_everything_but_plain_files(client: ApiClient, tmp_path: Path, kind: bytes) -> None:
    _Serving.answer = archive(link("run-1/x", "/etc/passwd", kind))
    with pytest.raises(ConflictError, match="no plain file"):
        client.fetch("run-1", "evidence", into=tmp_path / "in" / "new")
    assert list((tmp_path / "in").iterdir()) == []


def test_refuses_what_is_no_archive(client: ApiClient, tmp_path: Path) -> None:
    _Serving.answer = b"<html>"
    with pytest.raises(ConflictError, match="cannot be written"):
        client.fetch("run-1", "evidence", into=tmp_path / "new")


def test_keeps_a_folder_that_exists(client: ApiClient, tmp_path: Path) -> None:
    with pytest.raises(ConflictError, match="exists"):
        client.fetch("run-1", "evidence", into=tmp_path)


def test_refuses_a_malformed_token_before_sending_it() -> None:
    with pytest.raises(ApiError, match="not of the form"):
        ApiClient("http://127.0.0.1:1", token="secret")
