"""Server-sent events of a run's log, parsed strictly: the server's text is a guest's."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from appliance.errors import ApiError, UnreachableError

MAX_EVENT_CHARS: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEvent:
    """Some text, or the end: then `state` is the run's. The log goes on at `next_offset`."""

    text: str
    next_offset: int
    state: str | None = None


def parse_events(chunks: Iterable[str]) -> Iterator[LogEvent]:
    """The events in a stream; comments and what is not finished are passed over.

    Raises ApiError for a problem that the stream tells, UnreachableError for what is no event of a log.
    Source: WHATWG HTML, 9.2 "Server-sent events", of which our server uses the line feed only.
    """
    pending = ""
    for chunk in chunks:
        pending += chunk
        *blocks, pending = pending.split("\n\n")
        if len(pending) > MAX_EVENT_CHARS:
            raise UnreachableError(f"the server sent an event of more than {MAX_EVENT_CHARS} characters")
        for block in blocks:
            fields = dict(
                line.split(": ", 1) for line in block.split("\n") if ": " in line and not line.startswith(":")
            )
            if "event" in fields:
                yield _event(fields)


def _event(fields: dict[str, str]) -> LogEvent:
    try:
        data, next_offset = json.loads(fields["data"]), int(fields["id"])
        match fields["event"]:
            case "log":
                return LogEvent(text=str(data["text"]), next_offset=next_offset)
            case "end":
                return LogEvent(text="", next_offset=next_offset, state=str(data["state"]))
            case "problem":
                problem = ApiError(str(data["detail"]), status=int(data["status"]), code=str(data["code"]))
            case other:
                raise ValueError(other)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UnreachableError("the server sent something that is no event of a log") from error
    raise problem
