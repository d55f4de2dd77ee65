"""The processes of a guest whose processes are the host's own: all but gVisor's."""

import os
import signal
from contextlib import suppress
from pathlib import Path

from runner.sandbox.walls import Stage, Started


def ask_processes_to_end(started: Started, stage: Stage) -> None:
    """SIGTERM to the guest's processes but not to its walls."""
    for pid in guest_processes(started, stage):
        send(pid, signal.SIGTERM)
        send(pid, signal.SIGCONT)  # a stopped process would not hear it


def guest_processes(started: Started, stage: Stage) -> list[int]:
    """Process ids on the host of everything in the guest."""
    members = set(stage.group.processes()) or descendants(started.first)
    return sorted(members - started.walls)


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that may be gone."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def descendants(pid: int) -> set[int]:
    """Everything below `pid`."""
    found: set[int] = set()
    pending = [pid]
    while pending:
        current = pending.pop()
        with suppress(OSError):
            for task in Path(f"/proc/{current}/task").iterdir():
                for child in (task / "children").read_text().split():
                    found.add(int(child))
                    pending.append(int(child))
    return found
