"""A run's log as server-sent events: pieces as they come, resumed by their ids, and an end."""

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Final

from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from appliance.api.downloads import LogPiece
from appliance.api.errors import problem_of
from appliance.domain import RunState
from appliance.errors import ApplianceError, BusyError

MAX_FOLLOWERS: Final = 64  # streams in this process
MAX_FOLLOWERS_EACH: Final = 8  # of one token's name
KEPT_FOR_NEWCOMERS: Final = 16  # of all: for names that follow nothing yet
POLL_S: Final = 0.5
HEARTBEAT_S: Final = 15.0
# A stream ends by itself now and then: whoever resumes it shows a token that still counts.
MAX_STREAM_S: Final = 300.0
RETRY_MS: Final = 1000
# States in which the champion may still print.
PRINTING: Final = (RunState.SUBMITTED, RunState.PLACED, RunState.RUNNING)
HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
MEDIA_TYPE: Final = "text/event-stream"


@dataclass(slots=True)
class Followers:
    """Who follows at present; bounded for all and for each, so that a few cannot shut out the others."""

    _count: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock, compare=False)

    def enter(self, name: str) -> None:
        """One more. Raises BusyError."""
        with self._lock:
            room = MAX_FOLLOWERS - (KEPT_FOR_NEWCOMERS if self._count[name] else 0)
            if self._count[name] >= MAX_FOLLOWERS_EACH or self._count.total() >= room:
                raise BusyError("as many logs as may be are followed; ask again in a few seconds")
            self._count[name] += 1

    def leave(self, name: str) -> None:
        """One less."""
        with self._lock:
            self._count -= Counter((name,))


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """A log to follow: how to read it, and the state of its run. Both may block."""

    read: Callable[[int], LogPiece]
    state: Callable[[], RunState]


class FollowResponse(StreamingResponse):
    """A stream that takes a follower's place until it ends, however it does."""

    def __init__(self, followed: Followed, *, offset: int, name: str, followers: Followers) -> None:
        followers.enter(name)
        self._followers, self._name = followers, name
        super().__init__(follow(followed, offset=offset), media_type=MEDIA_TYPE, headers=HEADERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._followers.leave(self._name)


async def follow(followed: Followed, *, offset: int) -> AsyncIterator[bytes]:
    """Events from byte `offset` on: `log` with text, at last `end` or `problem`; comments while nothing happens.

    An event's id is where the log goes on behind it.
    """
    began = sent = time.monotonic()
    yield b"retry: %d\n\n" % RETRY_MS
    while time.monotonic() - began < MAX_STREAM_S:
        try:
            # The state before the log: what was printed before the end is read after it.
            state = await run_in_threadpool(followed.state)
            piece = await run_in_threadpool(followed.read, offset)
        except ApplianceError as error:
            yield _event("problem", asdict(problem_of(error)), offset)
            return
        if piece.next_offset != offset:
            offset = piece.next_offset
            yield _event("log", {"text": piece.text}, offset)
            sent = time.monotonic()
        if not piece.is_last:
            continue
        if state not in PRINTING:
            yield _event("end", {"state": state.value}, offset)
            return
        if time.monotonic() - sent >= HEARTBEAT_S:
            yield b": nothing new\n\n"
            sent = time.monotonic()
        await asyncio.sleep(POLL_S)


def _event(kind: str, value: Mapping[str, object], offset: int) -> bytes:
    # ASCII on one line: a guest's text neither ends an event nor reaches a terminal unescaped.
    return b"event: %b\nid: %d\ndata: %b\n\n" % (kind.encode(), offset, json.dumps(value).encode("ascii"))
