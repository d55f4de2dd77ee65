"""The process in which a champion's files are read: it limits itself, reads one tree and prints the report."""

import gc
import json
import os
import sys
import warnings
from pathlib import Path

from tournament_sync.inspection.gather import inspect_here
from tournament_sync.inspection.report import encode_report
from tournament_sync.inspection.tree import TooManyEntriesError
from tournament_sync.limited_child import EXIT_UNREADABLE, limit

_MAX_REQUEST_BYTES = 64 << 10


def main() -> None:
    """Read the request on stdin, write the report to stdout."""
    request = json.loads(sys.stdin.buffer.read(_MAX_REQUEST_BYTES))
    limit(cpu_s=request["cpu_s"])
    gc.disable()  # syntax trees have no cycles, and looking for some takes a fifth of the time
    warnings.simplefilter("ignore")  # what is odd in a champion's source is told by rules, not on stderr
    try:
        report = inspect_here(Path(request["tree"]), manifest_sha256=request["manifest_sha256"])
        told, code = encode_report(report), 0
    except (TooManyEntriesError, OSError, MemoryError, RecursionError) as error:
        told, code = f"{type(error).__name__}: {error}".encode(errors="backslashreplace"), EXIT_UNREADABLE
    sys.stdout.buffer.write(told)
    sys.stdout.buffer.flush()
    # Without the interpreter's own end: freeing what a large tree left takes as long as reading it.
    os._exit(code)
