"""The client of the tournament's API against a real server that is slow, broken, huge or lying."""

import contextlib
import gzip
import ipaddress
import json
import socket
import ssl
import time
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation import __version__
from tests.tournament_sync.tournament_server import (
    TOURNAMENT_ID,
    TournamentServer,
    details,
    gzip_reply,
    latest,
    raw_reply,
    reply,
    serve,
    weights,
)
from tournament_sync.errors import SourceUnavailableError, SyncError, TournamentError
from tournament_sync.tournament.api import LATEST_PATH, WEIGHTS_PATH, Fetched, TournamentApi, details_path

JSON = "application/json"
JSON_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
PACKED = gzip.compress(b"{}", mtime=0)
LIMIT = 4096


@pytest.fixture
def server() -> Iterator[TournamentServer]:
    with serve() as running:
        yield running


@pytest.fixture
def api(server: TournamentServer) -> TournamentApi:
    return TournamentApi(server.url, timeout_s=2.0, deadline_s=2.0, max_bytes=LIMIT)


def test_reads_a_tournament_where_the_tournament_has_it(server, api) -> None:
    server.answer = lambda _: [reply(details())]
    assert api.details(TOURNAMENT_ID).tournament_id == TOURNAMENT_ID
    assert [request.target for request in server.requests] == [f"/v1/tournaments/{TOURNAMENT_ID}/details"]


def test_reads_the_latest_tournaments_and_the_ranking(server, api) -> None:
    answers = {LATEST_PATH: latest(), WEIGHTS_PATH: weights()}
    server.answer = lambda request: [reply(answers[request.target])]
    assert api.latest().image is None
    assert [miner.rank for miner in api.weights().text_top_miners] == [1, 2]


def test_asks_as_itself_and_takes_nothing_from_the_environment(server, api, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
    (tmp_path / ".netrc").write_text("default login somebody password secret")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    server.answer = lambda _: [reply(latest())]
    api.latest()
    headers = server.requests[0].headers
    assert headers["user-agent"] == f"assay/{__version__}"
    assert headers["accept"] == JSON
    assert headers["accept-encoding"] == "gzip"
    assert not {"authorization", "cookie", "if-none-match"} & headers.keys()


def test_goes_through_a_proxy_that_was_asked_for(server) -> None:
    server.answer = lambda _: [reply(weights())]
    TournamentApi("http://tournament.invalid", proxy=server.url).weights()
    assert server.requests[0].target == f"http://tournament.invalid{WEIGHTS_PATH}"


@pytest.mark.parametrize(
    ("proxy", "message"),
    [
        ("ftp://proxy.invalid", "has scheme 'ftp', expected http or https"),
        ("socks5://proxy.invalid", "has scheme 'socks5'"),
        ("proxy.invalid:3128", "expected http or https"),
        ("http://proxy.invalid:port", "cannot be read"),
    ],
)
def test_refuses_a_proxy_of_another_kind(proxy: str, message: str) -> None:
    with pytest.raises(SourceUnavailableError, match=f"the proxy's URL .*{message}"):
        TournamentApi("http://tournament.invalid", proxy=proxy)


def test_path_leads_nowhere_else(server, api) -> None:
    server.answer = lambda _: [raw_reply(b"{}", **{"Content-Type": JSON})]
    assert api.fetch("//elsewhere.invalid/x", etag=None).body == b"{}"
    assert server.requests[0].target == "//elsewhere.invalid/x"
    for path in ("/x?key=1", "/x#y", "x", "/x\n"):
        with pytest.raises(SourceUnavailableError, match="is no path of the API"):
            api.fetch(path, etag=None)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://tournament.invalid", "is not http://… or https://…"),
        ("tournament.invalid", "is not http://… or https://…"),
        ("https://", "is not http://… or https://…"),
        ("file:///etc/passwd", "is not http://… or https://…"),
        ("https://somebody:secret@tournament.invalid", "has no user name"),
        ("https://tournament.invalid/?key=1", "has no user name, query or fragment"),
        ("https://tournament.invalid/#x", "has no user name, query or fragment"),
        ("https://tournament.invalid/api", "has a path, expected a host only"),
        ("https://tournament.invalid:port", "cannot be read"),
        ("https://a\x00b", "cannot be read"),
    ],
)
def test_refuses_an_address_that_is_none_of_an_api(url: str, message: str) -> None:
    with pytest.raises(SourceUnavailableError, match=message) as refused:
        TournamentApi(url)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "tournament_id", ["", "latest", "../../x", f"{TOURNAMENT_ID}/..", TOURNAMENT_ID + "\n"]
)
def test_refuses_to_ask_for_what_is_no_tournament(server, api, tournament_id: str) -> None:
    with pytest.raises(TournamentError, match="is not of the form tourn_"):
        api.details(tournament_id)
    assert server.requests == []


def test_refuses_an_answer_about_another_tournament(server, api) -> None:
    other = "tourn_ffffffffffffffff_20261101"
    server.answer = lambda _: [reply(details())]
    with pytest.raises(TournamentError, match=f"asked for {other}, the answer is about {TOURNAMENT_ID}"):
        api.details(other)


# Conditional requests


def test_unchanged_answer_costs_no_body(server, api) -> None:
    def answer(request):
        if request.headers.get("if-none-match") == '"v1"':
            return [raw_reply(b"", status="304 Not Modified", ETag='"v1"')]
        return [reply(latest(), ETag='"v1"')]

    server.answer = answer
    first = api.fetch(LATEST_PATH, etag=None)
    assert first.body is not None
    assert first.etag == '"v1"'
    assert api.fetch(LATEST_PATH, etag=first.etag) == Fetched(body=None, etag='"v1"')
    assert len(server.requests) == 2


def test_unchanged_answer_without_etag_keeps_the_old_one(server, api) -> None:
    server.answer = lambda _: [raw_reply(b"", status="304 Not Modified")]
    assert api.fetch(LATEST_PATH, etag='W/"v1"') == Fetched(body=None, etag='W/"v1"')


def test_changed_answer_replaces_the_etag(server, api) -> None:
    server.answer = lambda _: [reply(latest(), ETag='"v2"')]
    fetched = api.fetch(LATEST_PATH, etag='"v1"')
    assert fetched.body == json.dumps(latest()).encode()
    assert fetched.etag == '"v2"'


@pytest.mark.parametrize("etag", ["v1", '"a"b"', '"' + "x" * 300 + '"', '"é"', '"a b"'])
def test_etag_that_cannot_be_sent_back_is_none(server, api, etag: str) -> None:
    server.answer = lambda _: [raw_reply(b"{}", **{"Content-Type": JSON, "ETag": etag})]
    assert api.fetch(LATEST_PATH, etag=etag) == Fetched(body=b"{}", etag=None)
    assert "if-none-match" not in server.requests[0].headers


def test_refuses_unchanged_as_answer_to_a_first_question(server, api) -> None:
    server.answer = lambda _: [raw_reply(b"", status="304 Not Modified")]
    with pytest.raises(TournamentError, match="304, though nothing was said"):
        api.latest()


# Slow, broken and huge


def test_gives_up_on_a_server_that_never_answers(server) -> None:
    server.answer = server.silence
    api = TournamentApi(server.url, timeout_s=0.3)
    with pytest.raises(SourceUnavailableError, match=r"no answer in 0\.3 s"):
        api.latest()


def test_gives_up_on_a_body_that_never_comes(server) -> None:
    server.answer = server.stall(after=JSON_HEAD + b"Content-Length: 9\r\n\r\n{")
    with pytest.raises(SourceUnavailableError, match=r"no answer in 0\.3 s"):
        TournamentApi(server.url, timeout_s=0.3).latest()


def test_deadline_ends_an_answer_that_drips(server) -> None:
    server.answer = server.drip(every_s=0.05)
    started = time.monotonic()
    with pytest.raises(SourceUnavailableError, match=r"no whole answer in 0\.3 s"):
        TournamentApi(server.url, timeout_s=30.0, deadline_s=0.3).latest()
    assert time.monotonic() - started < 3


def test_tells_that_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(SourceUnavailableError, match=url):
            TournamentApi(url).latest()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n{}",
        JSON_HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        JSON_HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{",
        JSON_HEAD + b"Content-Length: 500\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000,
        b"HTTP/1.1 302 Found\r\nLocation: http://[\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 3,
    ],
)
def test_broken_answer_is_no_answer(server, api, answer: bytes) -> None:
    server.answer = lambda _: [answer]
    with pytest.raises(SourceUnavailableError, match=server.url):
        api.latest()


def test_refuses_json_that_is_cut_off(server, api) -> None:
    cut = json.dumps(latest()).encode()[:-9]
    server.answer = lambda _: [raw_reply(cut, **{"Content-Type": JSON, "Content-Length": ""})]
    with pytest.raises(TournamentError, match="not JSON"):
        api.latest()


@pytest.mark.parametrize("framing", [b"Connection: close\r\n\r\n", b"Content-Length: 9999999999\r\n\r\n"])
def test_stops_reading_an_endless_body(server, api, framing: bytes) -> None:
    server.answer = server.endless(piece=b" " * 1000, head=JSON_HEAD + framing)
    with pytest.raises(TournamentError, match=f"over the limit of {LIMIT} bytes"):
        api.latest()


def test_takes_an_answer_of_exactly_the_limit(server, api) -> None:
    exact = b" " * LIMIT
    server.answer = lambda _: [raw_reply(exact, **{"Content-Type": JSON})]
    assert api.fetch("/x", etag=None).body == exact
    server.answer = lambda _: [gzip_reply(exact)]
    assert api.fetch("/x", etag=None).body == exact


@pytest.mark.parametrize("pack", [lambda body: raw_reply(body, **{"Content-Type": JSON}), gzip_reply])
def test_refuses_one_byte_over_the_limit(server, api, pack) -> None:
    server.answer = lambda _: [pack(b" " * (LIMIT + 1))]
    with pytest.raises(TournamentError, match=f"over the limit of {LIMIT} bytes"):
        api.fetch("/x", etag=None)


# Compressed


def test_reads_a_compressed_answer(server, api) -> None:
    server.answer = lambda _: [gzip_reply(json.dumps(latest()).encode())]
    assert api.latest().text is not None


def test_refuses_a_compressed_bomb(server, api) -> None:
    bomb = gzip.compress(b"\0" * (8 << 20))
    assert len(bomb) < 10_000
    server.answer = lambda _: [gzip_reply(bomb)]
    tracemalloc.start()
    try:
        with pytest.raises(TournamentError, match=f"over the limit of {LIMIT} bytes, decompressed"):
            api.latest()
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 4 << 20  # half of it was never there


def test_refuses_compressed_bytes_without_end_that_hold_nothing(server, api) -> None:
    # Empty deflate blocks: much on the wire, nothing after decompression.
    empty = b"\x00\x00\x00\xff\xff" * 100
    head = JSON_HEAD + b"Content-Encoding: gzip\r\nConnection: close\r\n\r\n" + gzip.compress(b"")[:10]
    server.answer = server.endless(piece=empty, head=head)
    with pytest.raises(TournamentError, match=f"over the limit of {LIMIT} bytes, decompressed"):
        api.latest()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (PACKED[:-4], "ends early"),
        (PACKED + b"more", "bytes after its end"),
        (PACKED * 2, "bytes after its end"),
        (b"\x1f\x8b" + b"\xff" * 30, "damaged"),
    ],
    ids=["cut", "followed", "two", "noise"],
)
def test_refuses_damaged_compression(server, api, body: bytes, message: str) -> None:
    server.answer = lambda _: [gzip_reply(body)]
    with pytest.raises(TournamentError, match=message):
        api.latest()


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "zstd"])
def test_refuses_compression_that_was_not_asked_for(server, api, encoding: str) -> None:
    server.answer = lambda _: [reply(latest(), **{"Content-Encoding": encoding})]
    with pytest.raises(TournamentError, match=f"content encoding '{encoding}', expected gzip or none"):
        api.latest()


# Status, media type, redirects


@pytest.mark.parametrize("found", ["", "text/html; charset=utf-8", "application/json-seq", "text/json"])
def test_refuses_what_is_not_announced_as_json(server, api, found: str) -> None:
    server.answer = lambda _: [reply(latest(), **{"Content-Type": found})]
    with pytest.raises(TournamentError, match=f"content type '{found}', expected application/json"):
        api.latest()


def test_takes_json_with_a_charset(server, api) -> None:
    server.answer = lambda _: [reply(latest(), **{"Content-Type": "Application/JSON; charset=utf-8"})]
    assert api.latest().text is not None


@pytest.mark.parametrize(
    ("status", "message"),
    [
        ("404 Not Found", "404, not there"),
        ("401 Unauthorized", "status 401, expected 200"),
        ("500 Internal Server Error", "status 500, expected 200"),
        ("503 Service Unavailable", "status 503, expected 200"),
        ("204 No Content", "status 204, expected 200"),
        ("206 Partial Content", "status 206, expected 200"),
        ("302 Found", "status 302, expected 200"),
    ],
)
def test_tells_the_status_and_not_the_body(server, api, status: str, message: str) -> None:
    server.answer = lambda _: [reply({"detail": "words of the server"}, status=status)]
    with pytest.raises(SourceUnavailableError, match=message) as refused:
        api.latest()
    assert "words" not in str(refused.value)


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({"Retry_After": "120"}, "after: 120$"),
        ({}, "after: not said$"),
        ({"Retry_After": "\x1b[2J" * 90}, "x1b"),
    ],
)
def test_tells_when_to_ask_again(server, api, headers: dict[str, str], told: str) -> None:
    server.answer = lambda _: [reply({}, status="429 Too Many Requests", **headers)]
    with pytest.raises(SourceUnavailableError, match=told) as refused:
        api.latest()
    assert "\x1b" not in str(refused.value)
    assert len(str(refused.value)) < 300


def test_follows_a_redirect_within_the_host_and_sends_no_cookie(server, api) -> None:
    def answer(request):
        if request.target == LATEST_PATH:
            moved = {"Location": f"{LATEST_PATH}/", "Set-Cookie": "who=you; Path=/"}
            return [reply({}, status="307 Temporary Redirect", **moved)]
        return [reply(latest())]

    server.answer = answer
    assert api.latest().text is not None
    assert [request.target for request in server.requests] == [LATEST_PATH, f"{LATEST_PATH}/"]
    assert "cookie" not in server.requests[1].headers


@pytest.mark.parametrize(
    "location",
    [
        "https://127.0.0.1/x",
        "http://elsewhere.invalid/x",
        "//elsewhere.invalid/x",
        "http://127.0.0.1:9/x",
        "http://localhost/x",
        "file:///etc/passwd",
    ],
)
def test_follows_no_redirect_to_elsewhere(server, api, location: str) -> None:
    server.answer = lambda _: [reply({}, status="302 Found", Location=location)]
    with pytest.raises(SourceUnavailableError, match="another scheme or host than asked; not followed"):
        api.latest()
    assert len(server.requests) == 1


def test_redirect_with_a_password_is_not_followed_and_not_told(server, api) -> None:
    host = server.url.removeprefix("http://")
    server.answer = lambda _: [reply({}, status="302 Found", Location=f"http://somebody:secret@{host}/x")]
    with pytest.raises(SourceUnavailableError, match="not followed") as refused:
        api.latest()
    assert "secret" not in str(refused.value)


def test_ends_a_circle_of_redirects(server, api) -> None:
    server.answer = lambda request: [reply({}, status="301 Moved", Location=request.target + "x" * 900)]
    with pytest.raises(SourceUnavailableError, match="more than 3 redirects") as refused:
        api.latest()
    assert len(server.requests) == 4
    assert len(str(refused.value)) < 300


# Over TLS


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """A certificate for loopback that is its own authority, its key in the same file."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), True)
        .sign(key, SHA256())
    )
    path = tmp_path / "authority.pem"
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(pem + certificate.public_bytes(Encoding.PEM))
    return path


@pytest.fixture
def tls_server(authority: Path) -> Iterator[TournamentServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority)
    with serve(tls=context) as running:
        running.answer = lambda _: [reply(latest())]
        yield running


def test_refuses_a_certificate_of_nobody(tls_server) -> None:
    with pytest.raises(SourceUnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
        TournamentApi(tls_server.url).latest()
    assert tls_server.requests == []


def test_takes_the_certificate_of_a_named_authority(tls_server, authority: Path) -> None:
    assert TournamentApi(tls_server.url, ca_file=authority).latest().text is not None


def test_refuses_a_file_without_certificates(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_bytes(b"")
    for file in ("empty.pem", "absent.pem"):
        with pytest.raises(SourceUnavailableError, match=f"{file}: no certificates to trust"):
            TournamentApi("https://tournament.invalid", ca_file=tmp_path / file)


# Whatever comes


@pytest.fixture(scope="module")
def long_lived() -> Iterator[TournamentServer]:
    with serve() as running:
        yield running


@pytest.fixture(scope="module")
def long_lived_api(long_lived: TournamentServer) -> TournamentApi:
    return TournamentApi(long_lived.url, timeout_s=1.0, deadline_s=1.0)


@settings(max_examples=40, deadline=None)
@given(
    head=st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n", JSON_HEAD, JSON_HEAD + b"Content-Encoding: gzip\r\n"]),
    rest=st.binary(max_size=200),
)
def test_any_bytes_are_an_answer_or_our_error(long_lived, long_lived_api, head: bytes, rest: bytes) -> None:
    long_lived.answer = lambda _: [head + rest]
    with contextlib.suppress(SyncError):
        assert isinstance(long_lived_api.fetch(details_path(TOURNAMENT_ID), etag=None), Fetched)
