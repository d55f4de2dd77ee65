"""A child process under limits for reading hostile files: whatever becomes of it, its parent goes on and knows why.

Covered: memory, processor time, wall-clock time, open files, files written (none), core dumps, how much it prints.
Not covered: a parser that is made to run foreign code; the child has the rights of whoever started it.
"""

import math
import os
import resource
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import tournament_sync
from tournament_sync.errors import ReportError

EXIT_UNREADABLE = 3  # the reason is on stdout
MAX_MEMORY_BYTES = 2 << 30  # address space; a file of 2 MiB that is all brackets takes under 1 GiB as a tree
_MAX_OPEN_FILES = 32
_KEPT_BYTES = 128 << 20
_ENVIRONMENT = {
    "PATH": os.defpath,
    "LC_ALL": "C.UTF-8",
    # For glibc's allocator. It would give the memory of each syntax tree back, and ask for as much again for the next.
    "MALLOC_TRIM_THRESHOLD_": str(_KEPT_BYTES),
    "MALLOC_MMAP_THRESHOLD_": str(_KEPT_BYTES // 4),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a child is for, in a word for messages, and what it may take."""

    name: str
    timeout_s: float
    max_printed_bytes: int


def program_of(module: str) -> str:
    """What the interpreter is given to run `main` of `module`.

    -I shuts out the environment, the working directory and whatever lies in a home; so the path is handed over.
    """
    return f"import sys; sys.path[:0] = sys.argv[1:]; from {module} import main; main()"


def cpu_limit_s(timeout_s: float) -> int:
    """Processor seconds for a child that may take `timeout_s`."""
    return max(1, math.ceil(timeout_s))


def ask(program: str, request: bytes, *, work: Work) -> bytes | str:
    """What the child printed, or why it printed nothing that counts. It must read `request` to its end first.

    Raises ReportError if no child can be started.
    """
    roots = [str(Path(path).absolute().parent) for path in tournament_sync.__path__]
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-B", "-c", program, *roots],
            env=_ENVIRONMENT,
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except OSError as error:
        raise ReportError(f"the {work.name} could not be started: {error}") from error
    late = threading.Event()

    def end() -> None:
        late.set()
        process.kill()

    timer = threading.Timer(work.timeout_s, end)
    timer.start()
    with process:
        try:
            printed = _talk(process, request, max_bytes=work.max_printed_bytes)
            if len(printed) > work.max_printed_bytes:
                process.kill()
                return f"the {work.name} wrote more than {work.max_printed_bytes} bytes"
            code = process.wait()
        finally:
            timer.cancel()
            process.kill()
    if late.is_set():
        return f"the {work.name} took longer than {work.timeout_s:g} s"
    return printed if code == 0 else _told(work.name, code, printed)


def limit(*, cpu_s: int) -> None:
    """Take from this process, the child, what reading does not need."""
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


def _talk(process: subprocess.Popen[bytes], request: bytes, *, max_bytes: int) -> bytes:
    assert process.stdin is not None and process.stdout is not None  # pipes
    try:
        process.stdin.write(request)
        process.stdin.close()
    except BrokenPipeError:
        pass  # it ended before it listened; its exit code says why
    return process.stdout.read(max_bytes + 1)


def _told(name: str, code: int, printed: bytes) -> str:
    if code == EXIT_UNREADABLE:
        return f"the tree could not be read: {printed[:500].decode(errors='replace')}"
    if code == -signal.SIGXCPU:
        return f"the {name} used up its processor time"
    if code < 0:
        return f"the {name} died of signal {signal.Signals(-code).name}"
    return f"the {name} ended with code {code}"
