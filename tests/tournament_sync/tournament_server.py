"""A real HTTP server on loopback that answers byte for byte what a test says, hostile answers too."""

import gzip
import json
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

GRACE_S = 5.0  # how long an answer that never ends would last if the test did not end before
TOURNAMENT_ID = "tourn_00112233aabbccdd_20261101"
WINNER = "5" + "W" * 47
RUNNER_UP = "5" + "R" * 47
TRAINED = "0123abcd" + "5" * 32
REPOSITORY = "god-text-tourn-00112233aabbccdd-20261101-position-1"
ORIGIN = f"https://github.com/gradients-opensource/{REPOSITORY}.git"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What was asked; header names in lower case."""

    method: str
    target: str
    headers: dict[str, str]


Pieces = Iterable[bytes]
Answer = Callable[[Request], Pieces]


@dataclass(slots=True, kw_only=True)
class TournamentServer:
    """`answer` may be set at any time; `requests` are those that came; `over` ends whatever still waits."""

    url: str = ""
    answer: Answer = lambda _: [reply({})]
    requests: list[Request] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def silence(self, _: Request) -> Iterator[bytes]:
        """Takes the request and never answers."""
        self.over.wait(GRACE_S)
        yield b""

    def stall(self, *, after: bytes) -> Answer:
        """Begins an answer and never ends it."""
        return lambda request: [after, *self.silence(request)]

    def drip(self, *, every_s: float) -> Answer:
        """A header that grows by a letter at a time, each soon enough for the limit of one wait."""

        def letters(_: Request) -> Iterator[bytes]:
            yield b"HTTP/1.1 200 OK\r\nX-Slow: "
            while not self.over.wait(every_s):
                yield b"z"

        return letters

    def endless(self, *, piece: bytes, head: bytes) -> Answer:
        """A body without an end, as fast as it is taken."""

        def pieces(_: Request) -> Iterator[bytes]:
            yield head
            while not self.over.is_set():
                yield piece

        return pieces


@contextmanager
def serve(*, tls: ssl.SSLContext | None = None) -> Iterator[TournamentServer]:
    """A server on a free port of loopback."""
    server = TournamentServer()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            request = _read_request(self.rfile)
            server.requests.append(request)
            try:
                for piece in server.answer(request):
                    self.wfile.write(piece)
            except OSError:
                pass  # the client had enough

    class Listener(socketserver.ThreadingTCPServer):
        daemon_threads = True

        def get_request(self):
            connection, address = super().get_request()
            return (connection if tls is None else tls.wrap_socket(connection, server_side=True)), address

    with Listener(("127.0.0.1", 0), Handler) as listener:
        server.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{listener.server_address[1]}"
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            listener.shutdown()
            thread.join()


def reply(value: object, *, status: str = "200 OK", **headers: str) -> bytes:
    """A whole answer with `value` as JSON."""
    return raw_reply(
        json.dumps(value).encode(), status=status, **{"Content-Type": "application/json", **headers}
    )


def raw_reply(body: bytes, *, status: str = "200 OK", **headers: str) -> bytes:
    """A whole answer; a header given as the empty text is left out."""
    given = {"Content-Length": str(len(body)), "Connection": "close", **headers}
    lines = [f"{name.replace('_', '-')}: {text}" for name, text in given.items() if text]
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode() + body


def gzip_reply(body: bytes, **headers: str) -> bytes:
    """`body`, compressed already or not, announced as gzip."""
    packed = body if body.startswith(b"\x1f\x8b") else gzip.compress(body)
    return raw_reply(packed, **{"Content-Type": "application/json", "Content-Encoding": "gzip", **headers})


def participant(hotkey: str, **changes: object) -> dict[str, object]:
    """One recorded-shape participant."""
    return {
        "tournament_id": TOURNAMENT_ID,
        "hotkey": hotkey,
        "eliminated_in_round_id": None,
        "final_position": None,
        "training_repo": "https://github.com/somebody/trainer",
        "training_commit_hash": None,
        "github_token": None,
        "backup_repo": None,
        "requested_datasets": None,
        **changes,
    }


def details(**changes: object) -> dict[str, object]:
    """A recorded-shape answer about one tournament, with the fields that Assay does not keep."""
    return {
        "tournament_id": TOURNAMENT_ID,
        "tournament_type": "text",
        "status": "completed",
        "base_winner_hotkey": "5" + "B" * 47,
        "winner_hotkey": WINNER,
        "diff_report": None,
        "participants": [
            participant(WINNER, final_position=1, training_commit_hash=TRAINED, backup_repo=ORIGIN),
            participant(
                RUNNER_UP,
                final_position=2,
                eliminated_in_round_id=f"{TOURNAMENT_ID}_round_002",
                training_commit_hash="9" * 40,
                backup_repo=ORIGIN.replace("position-1", "position-2"),
            ),
        ],
        "rounds": [
            {
                "round_id": f"{TOURNAMENT_ID}_round_002",
                "round_number": 2,
                "round_type": "knockout",
                "is_final_round": True,
                "status": "completed",
                "participants": [WINNER, RUNNER_UP],
                "tasks": [
                    {
                        "task_id": "7d9b2f8e-1111-4222-8333-444455556666",
                        "group_id": None,
                        "winner": WINNER,
                        "participant_scores": [{"hotkey": WINNER, "test_loss": 1.0625, "score_reason": None}],
                        "task_type": "InstructTextTask",
                    }
                ],
            }
        ],
        "final_scores": [{"hotkey": WINNER, "score": 0.75}],
        "text_tournament_weight": 0.5,
        "image_tournament_weight": 0.25,
        "environment_tournament_weight": None,
        "boss_round_performance": [{"task_id": "t", "boss_score": -1e-07, "challenger_won": True}],
        "sync_performance": [],
        **changes,
    }


def latest(**changes: object) -> dict[str, object]:
    """A recorded-shape answer about the latest tournaments."""
    burn = {"text_performance_diff": 0.125, "burn_weight": 0.5}
    return {"text": details(), "image": None, "environment": None, "burn_data": burn, **changes}


def weights(**changes: object) -> dict[str, object]:
    """A recorded-shape ranking."""
    return {
        "burn_data": {"burn_weight": 0.5},
        "text_top_miners": [
            {"hotkey": WINNER, "rank": 1, "weight": 0.375},
            {"hotkey": RUNNER_UP, "rank": 2, "weight": 0.0625},
        ],
        "image_top_miners": [],
        "environment_top_miners": [],
        **changes,
    }


def _read_request(stream) -> Request:
    method, target, _ = stream.readline().decode("latin-1").split(" ")
    headers = {}
    while line := stream.readline().decode("latin-1").strip():
        name, _, text = line.partition(":")
        headers[name.lower()] = text.strip()
    return Request(method=method, target=target, headers=headers)
