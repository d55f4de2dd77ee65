"""What a guest uses, once a second: CPU, memory, processes, disks, network, GPUs. One line of integers each.

What is covered: a run of days in a file of bounded size, by halving the resolution; sources that are missing or
fail, which are null and never 0; whatever goes wrong here never ends a run.
What is not covered: peaks between two samples; the control group's own peak is in the facts of the run's end.
"""

import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from runner.sample import METRICS_NAME, Sample, merge_pairs
from runner.thinned import ThinnedLines

INTERVAL_S: Final = 1.0
CAP_BYTES: Final = 8 << 20
MAX_FAILURES: Final = 30  # one after another, before it is given up
MAX_GPUS: Final = 16

_LOOPBACK: Final = "lo"
_MEMORY_FILES: Final = (("memory", "memory.usage_in_bytes"), ("unified", "memory.current"))
_PIDS_FILES: Final = (("pids", "pids.current"), ("unified", "pids.current"))


class GpuUse(Protocol):
    """What one device does now; None for what its driver does not tell."""

    @property
    def utilisation_percent(self) -> int | None: ...
    @property
    def memory_used_bytes(self) -> int | None: ...
    @property
    def power_mw(self) -> int | None: ...
    @property
    def temperature_c(self) -> int | None: ...


class GpuReader(Protocol):
    """Asks the driver about devices."""

    def read(self, uuids: Iterable[str]) -> Mapping[str, GpuUse]:
        """What each of `uuids` does now. May raise anything; the devices are then unknown for a second."""
        ...


@dataclass(slots=True, kw_only=True)
class Meter:
    """Appends to `metrics.jsonl` in the open `folder`. Call `tick` as often as you like; it never raises.

    `groups` are the guest's control group folders by controller, `unified` the version 2 one. `pid` is any process
    in the guest's network namespace. `output` and `root` are paths or descriptors on the volumes that it may fill.
    """

    folder: int
    groups: Mapping[str, Path]
    pid: int | None
    output: str | int | None = None
    root: str | int | None = None
    gpus: GpuReader | None = None
    gpu_uuids: Sequence[str] = ()
    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    cap_bytes: int = CAP_BYTES
    failures: int = 0
    _lines: ThinnedLines | None = field(init=False, default=None)
    _began: float | None = field(init=False, default=None)
    _next: float = field(init=False, default=0.0)

    def tick(self, now_monotonic: float) -> None:
        """Take a sample if one is due."""
        if self._began is None:
            self._began = self._next = now_monotonic
        if now_monotonic < self._next or self.failures >= MAX_FAILURES:
            return
        self._next = now_monotonic + INTERVAL_S
        try:
            self._take(now_monotonic - self._began)
            self._next = now_monotonic + INTERVAL_S * 2 ** self._file().thinnings
            self.failures = 0
        except (OSError, ValueError, LookupError):
            self.failures += 1  # a picture of a run must not end the run

    def close(self) -> None:
        """Have what was taken on the disk."""
        if self._lines is not None:
            with suppress(OSError):
                self._lines.close()
            self._lines = None
        self.failures = MAX_FAILURES

    def _file(self) -> ThinnedLines:
        if self._lines is None:
            self._lines = ThinnedLines(
                folder=self.folder, name=METRICS_NAME, cap_bytes=self.cap_bytes, thin=merge_pairs
            )
        return self._lines

    def _take(self, elapsed_s: float) -> None:
        gpus = self._read_gpus()
        received, sent, loopback = _network(self.pid)
        sample: Sample = {
            "elapsed_ms": int(elapsed_s * 1000),
            "at_ms": self.now_ms(),
            "cpu_ms": self._cpu_ms(),
            "memory_bytes": self._number(_MEMORY_FILES),
            "memory_anonymous_bytes": self._anonymous_bytes(),
            "pids": self._number(_PIDS_FILES),
            "output_bytes": _used_bytes(self.output),
            "root_bytes": _used_bytes(self.root),
            "network_received_bytes": received,
            "network_sent_bytes": sent,
            "loopback_bytes": loopback,
            "gpu_percent": [None if gpu is None else gpu.utilisation_percent for gpu in gpus],
            "gpu_memory_bytes": [None if gpu is None else gpu.memory_used_bytes for gpu in gpus],
            "gpu_power_mw": [None if gpu is None else gpu.power_mw for gpu in gpus],
            "gpu_celsius": [None if gpu is None else gpu.temperature_c for gpu in gpus],
        }
        self._file().append(sample)

    def _read_gpus(self) -> list[GpuUse | None]:
        wanted, found = self.gpu_uuids[:MAX_GPUS], dict[str, GpuUse]()
        if self.gpus is not None and wanted:
            with suppress(
                OSError, ValueError, LookupError
            ):  # a picture of a run: what cannot be read is unknown
                found = dict(self.gpus.read(wanted))
        return [found.get(uuid) for uuid in wanted]

    def _cpu_ms(self) -> int | None:
        nanoseconds = self._number((("cpuacct", "cpuacct.usage"),))
        if nanoseconds is not None:
            return nanoseconds // 1_000_000
        microseconds = _number_after("usage_usec", self._read("unified", "cpu.stat"))
        return None if microseconds is None else microseconds // 1000

    def _anonymous_bytes(self) -> int | None:
        """What only the guest's end frees; the rest of its memory is mostly cached files."""
        whole = _number_after("total_rss", self._read("memory", "memory.stat"))
        return whole if whole is not None else _number_after("anon", self._read("unified", "memory.stat"))

    def _number(self, places: Sequence[tuple[str, str]]) -> int | None:
        for controller, file in places:
            text = (self._read(controller, file) or "").strip()
            if text.isascii() and text.isdigit():
                return int(text)
        return None

    def _read(self, controller: str, file: str) -> str | None:
        folder = self.groups.get(controller)
        try:
            return (folder / file).read_text() if folder is not None else None
        except OSError:
            return None


def _used_bytes(volume: str | int | None) -> int | None:
    if volume is None:
        return None
    try:
        facts = os.statvfs(volume)
    except OSError:
        return None
    return (facts.f_blocks - facts.f_bfree) * facts.f_frsize


def _network(pid: int | None) -> tuple[int | None, int | None, int | None]:
    """Bytes received and sent by everything but the loopback, and received by that, in the namespace of `pid`."""
    try:
        table = Path(f"/proc/{pid}/net/dev").read_text()
    except OSError:
        return None, None, None
    received = sent = loopback = 0
    for line in table.splitlines()[2:]:  # two lines of headings
        name, _, counters = line.partition(":")
        numbers = [int(n) for n in counters.split()]
        if name.strip() == _LOOPBACK:
            loopback += numbers[0]
        else:
            received, sent = received + numbers[0], sent + numbers[8]
    return received, sent, loopback


def _number_after(word: str, text: str | None) -> int | None:
    match = re.search(rf"^{word} (\d+)$", text or "", re.MULTILINE)
    return int(match[1]) if match else None
