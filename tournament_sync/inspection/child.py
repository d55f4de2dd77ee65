"""The process in which a champion's files are read: it limits itself, reads one tree and prints the report.

Covered: memory, processor time, open files, files written (none) and core dumps, so that a file that makes a parser
run away ends this process and nothing else.
Not covered: a parser that is made to run foreign code; the process has the rights of whoever started it.
"""

import gc
import json
import os
import resource
import sys
import warnings
from pathlib import Path

from tournament_sync.inspection.gather import inspect_here
from tournament_sync.inspection.report import encode_report
from tournament_sync.inspection.tree import TooManyEntriesError

EXIT_UNREADABLE = 3  # the reason is on stdout
MAX_MEMORY_BYTES = 2 << 30  # address space; a file of 2 MiB that is all brackets takes under 1 GiB as a tree
_MAX_OPEN_FILES = 32
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


def limit(*, cpu_s: int) -> None:
    """Take from this process what reading does not need."""
    limits = {
        resource.RLIMIT_CPU: cpu_s + 1,
        resource.RLIMIT_AS: MAX_MEMORY_BYTES,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: _MAX_OPEN_FILES,
    }
    for kind, wanted in limits.items():
        hard = resource.getrlimit(kind)[1]
        if hard != resource.RLIM_INFINITY:
            wanted = min(wanted, hard)  # noqa: PLW2901  who started this process may have set less
        # A second between the two, because only the softer limit on time says by its signal what it was.
        soft = max(1, wanted - 1) if kind == resource.RLIMIT_CPU else wanted
        resource.setrlimit(kind, (soft, wanted))
