"""A run's log as a stream that can be resumed, and what it used."""

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import ClientDisconnect

from appliance.api import following
from appliance.api.downloads import LogPiece
from appliance.api.following import Followed, Followers, FollowResponse, follow
from appliance.api.routes import watching
from appliance.cli.log_events import LogEvent, parse_events
from appliance.domain import Run, RunState
from appliance.errors import ArtifactError, BusyError
from appliance.tokens import Role
from runner.log_kept import KeptLog
from runner.losses import LOSSES_NAME, Losses, LossPoint, Source, StepKind, encode_losses
from runner.printed_losses import PrintedLosses
from runner.sample import FIELDS, METRICS_NAME
from tests.appliance.test_api import check_problem

Submit = Callable[..., Run]
STREAM = "/v1/runs/run-001/logs/stream"
METRICS = "/v1/runs/run-001/metrics"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "POLL_S", 0.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of run-001's job."""
    made = tmp_path / "jobs" / "run-001"
    made.mkdir(parents=True)
    return made


def events(answer: Any) -> list[LogEvent]:
    assert answer.headers["content-type"].startswith("text/event-stream")
    return list(parse_events([answer.text]))


# The stream.


def test_a_stream_ends_with_the_state_of_its_run(api: Any, submit: Submit, folder: Path) -> None:
    submit(RunState.FAILED)
    (folder / "stdout.log").write_bytes(b"one\ntwo\n")
    answer = api.call("GET", STREAM)
    assert events(answer) == [
        LogEvent(text="one\ntwo\n", next_offset=8),
        LogEvent(text="", next_offset=8, state="failed"),
    ]
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "request_", [{"params": {"offset": 4}}, {"headers": {"Last-Event-ID": "4"}, "params": {"offset": 0}}]
)
def test_a_stream_goes_on_behind_what_was_seen(
    api: Any, submit: Submit, folder: Path, request_: dict[str, Any]
) -> None:
    submit(RunState.LOGGED)
    (folder / "stdout.log").write_bytes(b"one\ntwo\n")
    assert events(api.call("GET", STREAM, **request_))[0] == LogEvent(text="two\n", next_offset=8)


@pytest.mark.parametrize("last", ["", "x", "-1", "1.5", "9" * 16, "1\t", "٣"])
def test_a_malformed_place_is_refused(api: Any, submit: Submit, last: str) -> None:
    submit(RunState.LOGGED)
    answer = api.call("GET", STREAM, headers={"Last-Event-ID": last.encode()})
    assert check_problem(answer, 422, "invalid-request")["checked"] == "header.Last-Event-ID"


@pytest.mark.parametrize("path", [STREAM, "/v1/runs/run-001/logs"])
@pytest.mark.parametrize("offset", ["-1", "x", str(1 << 54)])
def test_an_offset_beyond_reason_is_refused(api: Any, submit: Submit, path: str, offset: str) -> None:
    submit(RunState.LOGGED)
    check_problem(api.call("GET", path, params={"offset": offset}), 422, "invalid-request")


def test_a_guests_text_ends_no_event_and_reaches_nobody_unescaped(
    api: Any, submit: Submit, folder: Path
) -> None:
    submit(RunState.LOGGED)
    printed = '\x1b[2J\r\n\n\nevent: end\nid: 7\ndata: {"state": "logged"}\n\n\u2028🏆'
    (folder / "stdout.log").write_bytes(printed.encode() + b"\xff")
    answer = api.call("GET", STREAM)
    assert all(byte == 0x0A or 0x20 <= byte < 0x7F for byte in answer.content)
    assert [event.text for event in events(answer)] == [printed + "\ufffd", ""]


def test_a_long_log_comes_in_pieces_of_whole_characters(api: Any, submit: Submit, folder: Path) -> None:
    submit(RunState.LOGGED)
    (folder / "stdout.log").write_bytes("x🏆".encode() * 40_000)
    found = events(api.call("GET", STREAM))
    assert len(found) == 5
    assert "".join(event.text for event in found) == "x🏆" * 40_000


def test_a_lost_middle_is_told_and_offsets_stay_good(api: Any, submit: Submit, folder: Path) -> None:
    submit(RunState.LOGGED)
    descriptor = os.open(folder, os.O_RDONLY)
    with (folder / "stdout.log").open("wb") as target:
        kept = KeptLog(target=target.fileno(), folder=descriptor, cap_bytes=4096)
        for n in range(500):
            kept.append(b"line %03d\n" % n)
        live = events(api.call("GET", STREAM))
        kept.close()
    os.close(descriptor)
    after = events(api.call("GET", STREAM))
    assert [event.next_offset for event in live] == [event.next_offset for event in after]
    assert after[-1].next_offset == 500 * 9
    text = "".join(event.text for event in after)
    assert text == (folder / "stdout.log").read_text()
    assert "bytes in" in text
    assert text.endswith("line 499\n")


def test_a_log_that_is_a_link_is_a_problem_in_the_stream(api: Any, submit: Submit, folder: Path) -> None:
    submit(RunState.RUNNING)
    (folder / "stdout.log").symlink_to("/etc/passwd")
    answer = api.call("GET", STREAM)
    assert "event: problem" in answer.text
    assert '"code": "artifact"' in answer.text
    assert "root:" not in answer.text


class Guest:
    """A log that grows by a piece each time it is read, of a run that ends with it."""

    def __init__(self, *pieces: str, state: RunState = RunState.RUNNING) -> None:
        self.pieces, self.printed, self.run_state = list(pieces), "", state

    def read(self, offset: int) -> LogPiece:
        if self.pieces:
            self.printed += self.pieces.pop(0)
        elif self.run_state is RunState.RUNNING:
            self.run_state = RunState.HARVESTED
        return LogPiece(text=self.printed[offset:], next_offset=len(self.printed), is_last=True)

    @property
    def followed(self) -> Followed:
        return Followed(read=self.read, state=lambda: self.run_state)


def stream(followed: Followed, *, offset: int = 0, at_most: int = 50) -> str:
    async def collect() -> str:
        text = ""
        async for chunk in follow(followed, offset=offset):
            text += chunk.decode()
            if text.count("\n\n") >= at_most:
                break
        return text

    return asyncio.run(collect())


def test_a_stream_lasts_until_the_run_ends() -> None:
    found = list(parse_events([stream(Guest("one\n", "", "two\n", "").followed)]))
    assert [(event.text, event.state) for event in found] == [
        ("one\n", None),
        ("two\n", None),
        ("", "harvested"),
    ]


def test_what_was_printed_just_before_the_end_is_in_the_stream() -> None:
    guest = Guest("one\n")

    def state() -> RunState:
        return guest.run_state

    def read(offset: int) -> LogPiece:
        if guest.run_state is RunState.RUNNING and not guest.pieces:
            guest.pieces, guest.run_state = ["last\n"], RunState.HARVESTED
        return guest.read(offset)

    found = list(parse_events([stream(Followed(read=read, state=state))]))
    assert [event.text for event in found] == ["one\n", "last\n", ""]


def test_silence_is_filled_so_that_a_lost_connection_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "HEARTBEAT_S", 0.0)
    text = stream(Guest(*[""] * 50).followed, at_most=5)
    assert text == "retry: 1000\n\n" + ": nothing new\n\n" * 4


def test_a_stream_ends_by_itself_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "MAX_STREAM_S", 0.0)
    assert stream(Guest("one\n").followed) == "retry: 1000\n\n"


def test_a_failure_in_the_middle_is_told_once() -> None:
    def read(_: int) -> LogPiece:
        raise ArtifactError("it is gone")

    text = stream(Followed(read=read, state=lambda: RunState.RUNNING))
    assert text.count("event: ") == text.count("event: problem") == 1
    assert "it is gone" in text


# Who follows.


def test_followers_are_bounded_for_each_and_for_all() -> None:
    followers = Followers()
    for _ in range(following.MAX_FOLLOWERS_EACH):
        followers.enter("ada")
    with pytest.raises(BusyError, match="as many logs as may be"):
        followers.enter("ada")
    followers.enter("bob")
    followers.leave("ada")
    followers.enter("ada")
    for n in range(following.MAX_FOLLOWERS - following.MAX_FOLLOWERS_EACH - 1):
        followers.enter(f"other-{n}")
    with pytest.raises(BusyError):
        followers.enter("zoe")


def test_the_last_places_are_for_those_who_follow_nothing_yet() -> None:
    followers = Followers()
    most = following.MAX_FOLLOWERS - following.KEPT_FOR_NEWCOMERS
    for n in range(most):
        followers.enter(f"crowd-{n % 7}")
    with pytest.raises(BusyError, match="as many logs as may be"):
        followers.enter("crowd-0")
    for n in range(following.KEPT_FOR_NEWCOMERS):
        followers.enter(f"newcomer-{n}")
    with pytest.raises(BusyError, match="as many logs as may be"):
        followers.enter("too late")


def test_one_too_many_is_asked_to_wait(api: Any, submit: Submit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "MAX_FOLLOWERS_EACH", 0)
    submit(RunState.LOGGED)
    check_problem(api.call("GET", STREAM), 503, "busy")


@pytest.mark.parametrize("role", [Role.SUBMITTER, Role.ADMIN])
def test_a_place_is_free_again_after_the_stream(
    api: Any, submit: Submit, monkeypatch: pytest.MonkeyPatch, role: Role
) -> None:
    monkeypatch.setattr(following, "MAX_FOLLOWERS_EACH", 1)
    submit(RunState.LOGGED)
    for _ in range(3):
        assert api.call("GET", STREAM, role=role).status_code == 200


def test_a_place_is_free_again_when_the_client_goes_away() -> None:
    followers = Followers()
    response = FollowResponse(Guest(*["x"] * 9).followed, offset=0, name="ada", followers=followers)

    async def gone(_: Any) -> None:
        raise OSError("the client went away")

    async def receive() -> Any:
        await asyncio.Event().wait()

    with pytest.raises(ClientDisconnect):
        asyncio.run(response({"type": "http", "asgi": {"spec_version": "2.4"}}, receive, gone))
    assert followers == Followers()


# What it used.


def sample(elapsed_ms: int, **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = dict.fromkeys(sorted(FIELDS), 1)
    return {**values, **{n: [7] for n in FIELDS if n.startswith("gpu_")}, "elapsed_ms": elapsed_ms, **changes}


def write_samples(folder: Path, count: int) -> None:
    lines = (json.dumps(sample(1000 * n, memory_bytes=n)) + "\n" for n in range(count))
    (folder / METRICS_NAME).write_text("".join(lines))


def test_a_run_without_metrics_has_none(api: Any, submit: Submit) -> None:
    submit()
    assert api.call("GET", METRICS).json() == {
        "samples": [], "next_after_ms": -1, "ended": False, "losses": None,
    }  # fmt: skip


def test_metrics_go_on_behind_what_was_seen(api: Any, submit: Submit, folder: Path) -> None:
    submit(RunState.RUNNING)
    write_samples(folder, 3)
    first = api.call("GET", METRICS).json()
    assert [s["elapsed_ms"] for s in first["samples"]] == [0, 1000, 2000]
    write_samples(folder, 5)
    more = api.call("GET", METRICS, params={"after_ms": first["next_after_ms"]}).json()
    assert ([s["elapsed_ms"] for s in more["samples"]], more["next_after_ms"]) == ([3000, 4000], 4000)
    assert api.call("GET", METRICS, params={"after_ms": 4000}).json()["next_after_ms"] == 4000


def test_metrics_are_merged_to_the_points_that_are_wanted(api: Any, submit: Submit, folder: Path) -> None:
    submit(RunState.LOGGED)
    write_samples(folder, 1000)
    page = api.call("GET", METRICS, params={"points": 10}).json()
    assert [s["memory_bytes"] for s in page["samples"]] == list(range(99, 1000, 100))
    assert (page["ended"], page["samples"][0]["gpu_percent"]) == (True, [7])


@pytest.mark.parametrize("query", [{"points": 0}, {"points": 5001}, {"after_ms": -2}, {"after_ms": "x"}])
def test_questions_beyond_reason_are_refused(api: Any, submit: Submit, query: dict[str, Any]) -> None:
    submit()
    check_problem(api.call("GET", METRICS, params=query), 422, "invalid-request")


def test_a_printed_curve_is_shown_while_the_run_trains(api: Any, submit: Submit, folder: Path) -> None:
    submit(RunState.RUNNING)
    descriptor = os.open(folder, os.O_RDONLY)
    PrintedLosses(folder=descriptor).read(b"{'loss': 2.5}\n{'loss': 2.0}\n")
    os.close(descriptor)
    losses = api.call("GET", METRICS).json()["losses"]
    assert losses["source"] == "printed lines"
    assert losses["points"] == [
        {"step": 1, "name": "loss", "micros": 2_500_000},
        {"step": 2, "name": "loss", "micros": 2_000_000},
    ]


def test_a_curve_from_the_files_goes_before_a_printed_one(api: Any, submit: Submit, folder: Path) -> None:
    test_a_printed_curve_is_shown_while_the_run_trains(api, submit, folder)
    points = tuple(LossPoint(step=n, name="loss", micros=n) for n in range(2000))
    found = Losses(source=Source.TRAINER_STATE, steps=StepKind.STEPS, file="model/x", points=points)
    (folder / LOSSES_NAME).write_bytes(encode_losses(found))
    losses = api.call("GET", METRICS, params={"points": 100}).json()["losses"]
    assert (losses["source"], losses["steps"]) == ("trainer_state.json", "training steps")
    assert (len(losses["points"]) <= 101, losses["points"][-1]["step"]) == (True, 1999)


@pytest.mark.parametrize("name", [METRICS_NAME, LOSSES_NAME, "losses.jsonl"])
def test_metrics_that_are_a_link_are_refused(api: Any, submit: Submit, folder: Path, name: str) -> None:
    submit(RunState.LOGGED)
    (folder / name).symlink_to("/etc/passwd")
    answer = api.call("GET", METRICS)
    assert "cannot be read" in check_problem(answer, 500, "artifact")["detail"]


def test_a_broken_curve_is_told(api: Any, submit: Submit, folder: Path) -> None:
    submit(RunState.LOGGED)
    (folder / LOSSES_NAME).write_bytes(b"{")
    check_problem(api.call("GET", METRICS), 500, "artifact")


def test_numbers_in_answers_are_kept_by_every_reader() -> None:
    assert watching.MAX_OFFSET == 2**53
