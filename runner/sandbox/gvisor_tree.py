"""The processes below our child: keeper, runsc, sentry and gofer, found by who started whom.

What is covered: each is recognised by its parent and by the name that runsc gives it, with a deadline.
What is not covered: whether it is as it should be; that is measured.
"""

import os
import select
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from runner.errors import SandboxUnavailableError
from runner.sandbox.launch import last_words

START_DEADLINE_S = 30.0
PAUSE_S = 0.002
_SENTRY, _GOFER = b"runsc-sandbox", b"runsc-gofer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """Process ids on the host."""

    child: int
    keeper: int  # process 1 of the namespace that all the others are in
    runsc: int
    sentry: int
    gofer: int


def await_tree(child: int, output: int) -> Tree:
    """The processes, once the gate has begun to report on `output`.

    Raises SandboxUnavailableError with runsc's own words if it does not get there.
    """
    deadline = time.monotonic() + START_DEADLINE_S
    if select.select([output], [], [], START_DEADLINE_S)[0]:
        while time.monotonic() < deadline:
            # Not reaped: whoever waits for our child wants its code.
            if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                break
            tree = find_tree(child)
            if tree is not None:
                return tree
            time.sleep(PAUSE_S)
    raise SandboxUnavailableError(last_words(output) or "gVisor did not start the guest, nor say why")


def find_tree(child: int) -> Tree | None:
    """The processes as they are now; None if one is missing."""
    with suppress(OSError, IndexError, KeyError):
        keeper = _children(child)[0]
        runsc = _children(keeper)[0]
        named = {Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]: pid for pid in _children(runsc)}
        return Tree(child=child, keeper=keeper, runsc=runsc, sentry=named[_SENTRY], gofer=named[_GOFER])
    return None


def _children(pid: int) -> list[int]:
    """Of every thread: runsc starts its own from any of them."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(word) for word in (task / "children").read_text().split()]
    return found
