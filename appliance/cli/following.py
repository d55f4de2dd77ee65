"""Following a run's log to its end, over as many connections as that takes."""

import time
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from appliance.cli.log_events import LogEvent
from appliance.cli.output import talk
from appliance.errors import ApiError, UnreachableError

FIRST_WAIT_S: Final = 0.5
MAX_WAIT_S: Final = 10.0
MAX_FAILURES: Final = 30  # one after another: about five minutes


class LogSource(Protocol):
    """What a log is followed over."""

    def follow_logs(self, run_id: str, *, offset: int) -> Iterator[LogEvent]:
        """Events behind `offset`, until the connection ends."""
        ...


def follow_log(
    source: LogSource,
    run_id: str,
    *,
    show: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Show every piece once, in order; returns the run's state at the end of its log.

    Goes on where a connection broke off. Raises UnreachableError if there never was one, or none for five minutes;
    ApiError for refusals.
    """
    offset, failures, has_connected = 0, 0, False
    while True:
        try:
            for event in source.follow_logs(run_id, offset=offset):
                failures, has_connected = 0, True
                show(event.text)
                offset = event.next_offset
                if event.state is not None:
                    return event.state
            failures, has_connected = 0, True  # the server ends long streams, so that they are asked for anew
        except (UnreachableError, ApiError) as error:
            is_busy = isinstance(error, ApiError) and error.answer_code == "busy"
            is_broken = isinstance(error, UnreachableError) and has_connected
            failures += 1
            if not (is_busy or is_broken) or failures >= MAX_FAILURES:
                raise
            if failures == 1:
                talk(f"{error}; going on from byte {offset} as soon as that is possible")
        sleep(min(MAX_WAIT_S, FIRST_WAIT_S * 2**failures))
