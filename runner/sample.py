"""Samples of what a guest uses: their fixed fields, how two become one, and reading them back.

What is covered: files that were cut off, thinned out between two reads, or are not ours: what is no sample is left
out.
What is not covered: truth. A guest cannot write them, but everything in them is what the kernel told.
"""

from collections.abc import Mapping, Sequence
from functools import reduce
from math import ceil
from pathlib import Path
from typing import Final

from runner.thinned import Record, read_lines

METRICS_NAME: Final = "metrics.jsonl"
MAX_BYTES: Final = 16 << 20

Number = int | None  # None: it could not be told
Sample = Mapping[str, Number | list[Number]]

_CLOCKS: Final = ("elapsed_ms", "at_ms")
_COUNTERS: Final = (
    "cpu_ms", "network_received_bytes", "network_sent_bytes", "loopback_bytes",
)  # fmt: skip
_PEAKS: Final = ("memory_bytes", "memory_anonymous_bytes", "pids", "output_bytes", "root_bytes")
_GPU_MEANS: Final = ("gpu_percent", "gpu_power_mw")
_GPU_PEAKS: Final = ("gpu_memory_bytes", "gpu_celsius")
NUMBERS: Final = (*_CLOCKS, *_COUNTERS, *_PEAKS)
LISTS: Final = (*_GPU_MEANS, *_GPU_PEAKS)  # one entry per granted device, in the order of the grant
FIELDS: Final = frozenset((*NUMBERS, *LISTS))


def merge_pairs(records: Sequence[Record]) -> list[Record]:
    """Half as many samples of the same time."""
    samples = _samples(records)
    pairs = [samples[place : place + 2] for place in range(0, len(samples), 2)]
    return [_merged(pair) for pair in pairs]


def merge(first: Sample, second: Sample) -> Sample:
    """One sample for both: clocks and counters of the later one, peaks, means."""
    merged: dict[str, Number | list[Number]] = {}
    for name, value in second.items():
        before = first[name]
        if name in _PEAKS:
            merged[name] = _peak(_number(before), _number(value))
        elif name in LISTS:
            one = _peak if name in _GPU_PEAKS else _mean
            pairs = zip(_list(before), _list(value), strict=False)
            merged[name] = [one(a, b) for a, b in pairs]
        else:
            merged[name] = value
    return merged


def read_samples(folder: Path, *, after_ms: int = -1, points: int | None = None) -> tuple[Sample, ...]:
    """The job's samples behind `after_ms` of its time, merged to at most `points`. Raises HarvestError."""
    samples = _samples(read_lines(folder / METRICS_NAME, max_bytes=MAX_BYTES))
    found = [sample for sample in samples if _elapsed(sample) > after_ms]
    if points is None or len(found) <= points:
        return tuple(found)
    size = ceil(len(found) / points)
    return tuple(_merged(found[place : place + size]) for place in range(0, len(found), size))


def _merged(samples: Sequence[Sample]) -> Sample:
    return reduce(merge, samples)


def _elapsed(sample: Sample) -> int:
    return _number(sample["elapsed_ms"]) or 0


def _samples(records: Sequence[Record]) -> list[Sample]:
    return [sample for record in records if (sample := _sample(record)) is not None]


def _sample(record: Record) -> Sample | None:
    if set(record) != FIELDS or record["elapsed_ms"] is None or record["at_ms"] is None:
        return None
    checked: dict[str, Number | list[Number]] = {}
    for name, value in record.items():
        if name in LISTS:
            if not isinstance(value, list) or not all(map(_is_number, value)):
                return None
            checked[name] = list(value)
        elif _is_number(value):
            checked[name] = _number(value)
        else:
            return None
    return checked


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool))


def _number(value: object) -> Number:
    return value if isinstance(value, int) else None


def _list(value: object) -> list[Number]:
    return value if isinstance(value, list) else []


def _peak(first: Number, second: Number) -> Number:
    return max((n for n in (first, second) if n is not None), default=None)


def _mean(first: Number, second: Number) -> Number:
    known = [n for n in (first, second) if n is not None]
    return sum(known) // len(known) if known else None
