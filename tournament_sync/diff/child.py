"""The process in which two champions are compared: it limits itself, reads two trees and prints the difference."""

import gc
import json
import os
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attestation.oms import FileDigest, Manifest
from tournament_sync.diff.comparison import compare_here
from tournament_sync.diff.model import MAX_DIFF_BYTES, encode_diff
from tournament_sync.errors import SyncError
from tournament_sync.inspection.report import parse_report
from tournament_sync.limited_child import EXIT_UNREADABLE, limit

_MAX_REQUEST_BYTES = 64 << 20  # two reports and two manifests


def main() -> None:
    """Read the request on stdin, write the difference to stdout."""
    request = json.loads(sys.stdin.buffer.read(_MAX_REQUEST_BYTES))
    limit(cpu_s=request["cpu_s"])
    gc.disable()  # syntax trees have no cycles, and looking for some takes a fifth of the time
    warnings.simplefilter("ignore")  # what is odd in a champion's source is told by the inspection
    old, new = request["old"], request["new"]
    try:
        diff = compare_here(
            Path(old["tree"]),
            Path(new["tree"]),
            old=parse_report(old["report"].encode()),
            new=parse_report(new["report"].encode()),
            old_manifest=_manifest(old),
            new_manifest=_manifest(new),
        )
        told, code = encode_diff(diff), 0
    except (SyncError, OSError, MemoryError, RecursionError) as error:
        told, code = f"{type(error).__name__}: {error}".encode(errors="backslashreplace"), EXIT_UNREADABLE
    sys.stdout.buffer.write(told[: MAX_DIFF_BYTES + 1])
    sys.stdout.buffer.flush()
    # Without the interpreter's own end: freeing what large trees left takes as long as reading them.
    os._exit(code)


# Any: the parent's own JSON.
def _manifest(side: Mapping[str, Any]) -> Manifest | None:
    if side["manifest"] is None:
        return None
    return Manifest(files=tuple(FileDigest(name=name, sha256=sha256) for name, sha256 in side["manifest"]))
