"""Curves of runs as pages ask for them again and again: parsed once while their files stay as they are."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Final, TypeVar, cast

from appliance.errors import BusyError
from runner.losses import LOSSES_NAME, Losses
from runner.printed_losses import PRINTED_NAME, find_job_losses
from runner.sample import METRICS_NAME, Sample, read_samples

MAX_KEPT: Final = 8  # curves; the largest are about 8 MiB
MAX_WAITING: Final = 4  # each holds a thread of the server's while it waits

_Curve = TypeVar("_Curve", tuple[Sample, ...], Losses | None)


class Curves:
    """Reads what a job's folder holds of it, one file at a time: parsing is work for seconds, and asking is free."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, object] = OrderedDict()
        self._lock = threading.Lock()
        self._parsing = threading.Lock()
        self._places = threading.BoundedSemaphore(MAX_WAITING)

    def samples(self, folder: Path, *, after_ms: int, points: int) -> tuple[Sample, ...]:
        """What `read_samples` finds. Raises HarvestError, and BusyError if too many wait."""
        key = ("samples", folder, after_ms, points, _stamp(folder / METRICS_NAME))
        return self.find(key, lambda: read_samples(folder, after_ms=after_ms, points=points))

    def losses(self, folder: Path) -> Losses | None:
        """What `find_job_losses` finds. Raises RunnerError, and BusyError if too many wait."""
        key = ("losses", folder, _stamp(folder / LOSSES_NAME), _stamp(folder / PRINTED_NAME))
        return self.find(key, lambda: find_job_losses(folder))

    def find(self, key: Hashable, read: Callable[[], _Curve]) -> _Curve:
        """What is kept under `key`, else what `read` gives, one reading at a time. Raises BusyError."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return cast(_Curve, self._kept[key])  # a key begins with what it is of
        if not self._places.acquire(blocking=False):
            raise BusyError("as many curves as may be are read; ask again in a few seconds")
        try:
            with self._parsing:
                found = read()
        finally:
            self._places.release()
        with self._lock:
            self._kept[key] = found
            while len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
        return found


def _stamp(path: Path) -> tuple[int, ...] | None:
    """What changes with the file; taken before it is read, so that what is added meanwhile is read again."""
    try:
        facts = path.lstat()
    except OSError:
        return None
    return facts.st_ino, facts.st_size, facts.st_mtime_ns
