"""Following a log over broken connections, and plots in a terminal."""

import json
import os
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from sqlalchemy import Engine, update
from typer.testing import CliRunner

from appliance.api import following as server_following
from appliance.cli import make_app
from appliance.cli.following import MAX_FAILURES, follow_log
from appliance.cli.log_events import LogEvent, parse_events
from appliance.cli.metrics import curves, plots, sparkline
from appliance.domain import Run, RunState
from appliance.errors import ApiError, UnreachableError
from appliance.store.tables import run as run_table
from appliance.tokens import Role
from runner.losses import LOSSES_NAME, Losses, LossPoint, Source, StepKind, encode_losses
from runner.sample import METRICS_NAME
from tests.appliance.test_api_watching import sample

Submit = Callable[..., Run]
Assay = Callable[..., Any]
APP = make_app()


@pytest.fixture
def assay(api: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Assay]:
    """Runs `assay …` against a real server on a free port, as the submitter. Its streams are short."""
    monkeypatch.setattr(server_following, "POLL_S", 0.01)
    monkeypatch.setattr(server_following, "MAX_STREAM_S", 0.05)
    monkeypatch.setattr("appliance.cli.following.FIRST_WAIT_S", 0.01)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(api.app, log_config=None))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    token_file = tmp_path / "token"
    token_file.write_text(api.secrets[Role.SUBMITTER])
    at = ["--url", f"http://127.0.0.1:{listener.getsockname()[1]}", "--token-file", str(token_file)]
    try:
        yield lambda *arguments: CliRunner().invoke(APP, [*arguments, *at])
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "jobs" / "run-001"
    made.mkdir(parents=True)
    return made


# Following.


def test_a_log_is_followed_over_many_connections_until_the_run_ends(
    assay: Assay, submit: Submit, folder: Path, stocked: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(RunState.RUNNING)
    log = folder / "stdout.log"
    log.write_bytes(b"line 0\n")
    opened = 0

    def counted(*arguments: Any, **named: Any) -> Any:
        """The guest prints with every connection, and ends with the eighth."""
        nonlocal opened
        opened += 1
        with log.open("ab") as file:
            file.write(b"line %d \x1b[2J\n" % opened)
        if opened == 8:
            with stocked.begin() as conn:
                conn.execute(update(run_table).values(state=RunState.HARVESTED))
        return real(*arguments, **named)

    real = server_following.follow
    monkeypatch.setattr(server_following, "follow", counted)
    done = assay("runs", "logs", "run-001", "--follow")
    assert done.exit_code == 0
    assert done.stdout == "line 0\n" + "".join(f"line {n} \\x1b[2J\n" for n in range(1, 9))
    assert done.stderr == "run-001 is harvested\n"
    assert opened == 8


def test_whoever_follows_a_run_that_waits_is_told_why_nothing_comes(
    assay: Assay, submit: Submit, folder: Path, stocked: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(RunState.PLACED)
    real = server_following.follow

    def ends(*arguments: Any, **named: Any) -> Any:
        with stocked.begin() as conn:
            conn.execute(update(run_table).values(state=RunState.CANCELLED))
        return real(*arguments, **named)

    monkeypatch.setattr(server_following, "follow", ends)
    done = assay("runs", "logs", "run-001", "--follow")
    assert done.stderr.startswith("run-001 prints nothing yet: ")
    assert done.stderr.endswith("run-001 is cancelled\n")


class Flaky:
    """A server whose connections end as they are told."""

    def __init__(self, *connections: Iterable[LogEvent | Exception]) -> None:
        self.connections, self.offsets = list(connections), list[int]()

    def follow_logs(self, run_id: str, *, offset: int) -> Iterator[LogEvent]:
        self.offsets.append(offset)
        for event in self.connections.pop(0):
            if isinstance(event, Exception):
                raise event
            yield event


ONE, TWO = LogEvent(text="one\n", next_offset=4), LogEvent(text="two\n", next_offset=8)
END = LogEvent(text="", next_offset=8, state="logged")
LOST = UnreachableError("it cannot be reached")
BUSY = ApiError("ask again", status=503, code="busy")


def followed(source: Flaky) -> tuple[str, str, list[float]]:
    shown, waits = list[str](), list[float]()
    state = follow_log(source, "run-1", show=shown.append, sleep=waits.append)
    return "".join(shown), state, waits


def test_a_broken_connection_is_resumed_and_nothing_shown_twice(capsys: pytest.CaptureFixture[str]) -> None:
    source = Flaky([ONE, LOST], [LOST], [BUSY], [TWO], [], [END])
    shown, state, waits = followed(source)
    assert (shown, state, source.offsets) == ("one\ntwo\n", "logged", [0, 4, 4, 4, 8, 8])
    assert waits == [1.0, 2.0, 4.0, 0.5, 0.5]
    told = capsys.readouterr().err
    assert told == "it cannot be reached; going on from byte 4 as soon as that is possible\n"


def test_waiting_is_bounded_and_so_is_patience() -> None:
    source = Flaky([ONE, LOST], *[[LOST]] * MAX_FAILURES)
    waits: list[float] = []
    with pytest.raises(UnreachableError, match="cannot be reached"):
        follow_log(source, "run-1", show=lambda _: None, sleep=waits.append)
    assert (len(waits), max(waits)) == (MAX_FAILURES - 1, 10.0)
    assert 240 < sum(waits) < 360


def test_a_server_that_was_never_there_is_told_at_once() -> None:
    with pytest.raises(UnreachableError, match="cannot be reached"):
        followed(Flaky([LOST]))


@pytest.mark.parametrize("code", ["forbidden", "not-found", "artifact"])
def test_refusals_are_not_tried_again(code: str) -> None:
    with pytest.raises(ApiError, match="refused"):
        followed(Flaky([ONE, ApiError("refused", status=403, code=code)]))


def test_a_run_that_is_not_there_is_refused(assay: Assay) -> None:
    done = assay("runs", "logs", "run-9", "-f")
    assert (done.exit_code, done.stdout, done.stderr) == (1, "", "assay: no run run-9\n")


# Events.


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_events_are_read_however_they_are_cut(size: int) -> None:
    text = 'retry: 1\n\nevent: log\nid: 3\ndata: {"text": "a: b\\n\\n"}\n\n'
    text += ': quiet\n\nevent: end\nid: 3\ndata: {"state": "x"}\n\n'
    pieces = [text[place : place + size] for place in range(0, len(text), size)]
    wanted = [LogEvent(text="a: b\n\n", next_offset=3), LogEvent(text="", next_offset=3, state="x")]
    assert list(parse_events(pieces)) == wanted


def test_an_unfinished_event_is_passed_over() -> None:
    assert list(parse_events(['event: log\nid: 3\ndata: {"text": "a"}\n'])) == []


@pytest.mark.parametrize(
    "event",
    [
        'event: log\nid: x\ndata: {"text": "a"}',
        'event: log\ndata: {"text": "a"}',
        "event: log\nid: 1",
        "event: log\nid: 1\ndata: {",
        "event: log\nid: 1\ndata: []",
        "event: end\nid: 1\ndata: {}",
        "event: other\nid: 1\ndata: {}",
        "event: problem\nid: 1\ndata: {}",
        "event: log\nid: 1\ndata: " + "[" * 100_000,
    ],
)
def test_refuses_what_is_no_event_of_a_log(event: str) -> None:
    with pytest.raises(UnreachableError, match="no event of a log"):
        list(parse_events([event + "\n\n"]))


def test_refuses_an_event_without_end() -> None:
    with pytest.raises(UnreachableError, match="more than 1048576 characters"):
        list(parse_events(["x" * (1 << 20)] * 2))


def test_a_problem_in_the_stream_is_the_servers() -> None:
    told = 'event: problem\nid: 1\ndata: {"detail": "gone", "status": 500, "code": "artifact"}\n\n'
    with pytest.raises(ApiError, match="gone") as caught:
        list(parse_events([told]))
    assert (caught.value.answer_status, caught.value.answer_code) == (500, "artifact")


# Plots.


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ([0, 1, 2, 3, 4, 5, 6, 7], "▁▂▃▄▅▆▇█"),
        ([7.0, None, 0.0], "█ ▁"),
        ([5, 5, 5], "▁▁▁"),
        ([None, None], ""),
        ([], ""),
    ],
)
def test_a_sparkline_spans_from_least_to_greatest(values: list[float | None], line: str) -> None:
    assert sparkline(values) == line


def test_plots_show_what_was_measured_and_nothing_else() -> None:
    samples = [
        sample(
            0, cpu_ms=0, memory_bytes=1 << 30, root_bytes=None, gpu_percent=[None], gpu_power_mw=[250_000]
        ),
        sample(
            2000,
            cpu_ms=3000,
            memory_bytes=2 << 30,
            root_bytes=None,
            gpu_percent=[None],
            gpu_power_mw=[300_000],
        ),
    ]
    lines = {line.split("  ")[0].strip(): line for line in plots(samples)}
    assert "0:00:02 h of the run, 2 samples" in lines
    assert "last 1.50" in next(line for line in lines.values() if line.startswith("CPUs"))
    assert "▁█  1.00…2.00, last 2.00" in next(line for line in lines.values() if line.startswith("memory"))
    assert "▁█  250…300, last 300" in next(line for line in lines.values() if line.startswith("GPU 0 W"))
    assert not [line for line in lines.values() if line.startswith(("root", "GPU 0 %"))]


def test_nothing_measured_is_no_plot() -> None:
    assert plots([]) == []


def test_curves_are_cut_to_the_screen_and_names_are_escaped() -> None:
    points = [{"step": n, "name": "loss\x1b[2J", "micros": 1_000_000 - n} for n in range(1001)]
    (line, told) = curves({"points": points, "not_finite": 3})
    assert line.startswith("loss\\x1b[2J")
    assert "\x1b" not in line
    assert len(line) < 130
    assert line.endswith("last 0.9990")
    assert told == "3 values are not finite"


def test_metrics_are_plotted_with_their_losses(assay: Assay, submit: Submit, folder: Path) -> None:
    submit(RunState.LOGGED)
    (folder / METRICS_NAME).write_text("".join(json.dumps(sample(1000 * n, pids=n)) + "\n" for n in range(9)))
    points = tuple(LossPoint(step=n, name="loss", micros=n) for n in range(9))
    found = Losses(source=Source.WANDB, steps=StepKind.STEPS, file="a\nb", points=points)
    (folder / LOSSES_NAME).write_bytes(encode_losses(found))
    done = assay("runs", "metrics", "run-001")
    lines = done.stdout.splitlines()
    assert lines[0] == "0:00:08 h of the run, 9 samples"
    assert any(line.startswith("processes") and "▁▂▃▄▅▅▆▇█" in line for line in lines)
    assert lines[-1] == "losses are what the champion says, in offline W&B run: a\\nb"
    page = json.loads(assay("runs", "metrics", "run-001", "-o", "json", "--points", "3").stdout)
    assert [s["elapsed_ms"] for s in page["samples"]] == [2000, 5000, 8000]


def test_a_run_without_metrics_says_so(assay: Assay, submit: Submit) -> None:
    submit(RunState.RUNNING)
    done = assay("runs", "metrics", "run-001")
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr.splitlines()[0] == "nothing is measured yet"
    assert "no loss curve" in done.stderr


def test_the_whole_way_of_a_log_from_a_guest_to_a_terminal(
    assay: Assay, submit: Submit, folder: Path
) -> None:
    """A real pipe, a real log, a real server; a secret on the way."""
    from runner.log import GuestLog
    from runner.scrub import Scrubber

    submit(RunState.FAILED)
    source, pipe = os.pipe()
    os.set_blocking(source, False)
    descriptor = os.open(folder, os.O_RDONLY)
    with (folder / "stdout.log").open("wb") as target:
        log = GuestLog(
            source=source,
            target=target.fileno(),
            folder=descriptor,
            cap_bytes=1 << 20,
            scrubber=Scrubber(values=["canary-secret"]),
        )
        os.write(pipe, b"\x1b[31mtoken canary-")
        log.drain()
        os.write(pipe, b"secret\n")
        os.close(pipe)
        log.finish()
    os.close(descriptor)
    os.close(source)
    done = assay("runs", "logs", "run-001", "-f")
    assert done.stdout.endswith("Z \\x1b[31mtoken [scrubbed]\n")
