"""What a guest uses is sampled once a second, bounded, and never at the run's cost."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from runner.errors import HarvestError
from runner.inventory.samples import NOTHING, GpuSample
from runner.meter import Meter
from runner.sample import FIELDS, Sample, merge, merge_pairs, read_samples
from runner.thinned import ThinnedLines, parse_lines, read_lines

HALF_A_GPU = GpuSample(utilisation_percent=50, memory_used_bytes=8 << 30, power_mw=250_000, temperature_c=61)


class Gpus:
    """A driver that knows one device, and has forgotten another."""

    def read(self, uuids: Iterable[str]) -> Mapping[str, GpuSample]:
        return {uuid: HALF_A_GPU if uuid == "GPU-1" else NOTHING for uuid in uuids}


class Broken:
    """A driver whose library fails."""

    def read(self, uuids: Iterable[str]) -> Mapping[str, GpuSample]:
        raise OSError("a library's own error")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def version_1(tmp_path: Path) -> dict[str, Path]:
    files = {
        "memory/memory.usage_in_bytes": "4096\n",
        "memory/memory.stat": "cache 1\nrss 7\ntotal_rss 2048\n",
        "pids/pids.current": "3\n",
        "cpuacct/cpuacct.usage": "1500000000\n",
    }
    return groups(tmp_path / "v1", files)


@pytest.fixture
def version_2(tmp_path: Path) -> dict[str, Path]:
    files = {
        "unified/memory.current": "4096\n",
        "unified/memory.stat": "anon 2048\nfile 1\n",
        "unified/pids.current": "3\n",
        "unified/cpu.stat": "usage_usec 1500000\nuser_usec 1\n",
    }
    return groups(tmp_path / "v2", files)


def groups(root: Path, files: dict[str, str]) -> dict[str, Path]:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return {Path(name).parent.name: (root / name).parent for name in files}


def sample(elapsed_ms: int, **changes: Any) -> Sample:
    values: dict[str, Any] = dict.fromkeys(sorted(FIELDS), 0)
    values |= {name: [] for name in FIELDS if name.startswith("gpu_")}
    return {**values, "elapsed_ms": elapsed_ms, "at_ms": 1000 + elapsed_ms, **changes}


@pytest.mark.parametrize("version", ["version_1", "version_2"])
def test_a_sample_has_what_the_kernel_tells(
    version: str, request: pytest.FixtureRequest, folder: int, tmp_path: Path
) -> None:
    meter = Meter(
        folder=folder,
        groups=request.getfixturevalue(version),
        pid=os.getpid(),
        output=str(tmp_path),
        now_ms=lambda: 7,
    )
    meter.tick(100.0)
    meter.close()
    (taken,) = read_samples(tmp_path)
    assert set(taken) == FIELDS
    assert (taken["elapsed_ms"], taken["at_ms"], taken["cpu_ms"]) == (0, 7, 1500)
    assert (taken["memory_bytes"], taken["memory_anonymous_bytes"], taken["pids"]) == (4096, 2048, 3)
    facts = os.statvfs(tmp_path)
    assert abs(int(str(taken["output_bytes"])) - (facts.f_blocks - facts.f_bfree) * facts.f_frsize) < 1 << 30
    assert taken["root_bytes"] is None
    assert isinstance(taken["network_received_bytes"], int)
    assert isinstance(taken["loopback_bytes"], int)


def test_what_cannot_be_told_is_null_and_never_nothing(folder: int, tmp_path: Path) -> None:
    Meter(folder=folder, groups={}, pid=None, output=str(tmp_path / "missing"), gpu_uuids=["GPU-1"]).tick(1.0)
    (taken,) = read_samples(tmp_path)
    known = {name: value for name, value in taken.items() if value is not None}
    assert set(known) == {
        "elapsed_ms",
        "at_ms",
        "gpu_percent",
        "gpu_memory_bytes",
        "gpu_power_mw",
        "gpu_celsius",
    }
    assert taken["gpu_percent"] == [None]


def test_a_broken_driver_is_unknown(folder: int, tmp_path: Path) -> None:
    Meter(folder=folder, groups={}, pid=None, gpus=Broken(), gpu_uuids=["GPU-1"]).tick(1.0)
    (taken,) = read_samples(tmp_path)
    assert taken["gpu_percent"] == [None]


def test_devices_are_told_in_the_order_of_the_grant_and_a_lost_one_is_unknown(
    folder: int, tmp_path: Path
) -> None:
    Meter(folder=folder, groups={}, pid=None, gpus=Gpus(), gpu_uuids=("GPU-0", "GPU-1")).tick(1.0)
    (taken,) = read_samples(tmp_path)
    assert (taken["gpu_percent"], taken["gpu_memory_bytes"]) == ([None, 50], [None, 8 << 30])
    assert (taken["gpu_power_mw"], taken["gpu_celsius"]) == ([None, 250_000], [None, 61])


def test_a_sample_is_taken_once_a_second_however_often_it_is_asked(folder: int, tmp_path: Path) -> None:
    meter = Meter(folder=folder, groups={}, pid=None)
    for tenth in range(35):
        meter.tick(50.0 + tenth / 10)
    assert [s["elapsed_ms"] for s in read_samples(tmp_path)] == [0, 1000, 2000, 3000]


def test_days_fit_into_the_cap_and_span_everything(
    version_1: dict[str, Path], folder: int, tmp_path: Path
) -> None:
    meter = Meter(folder=folder, groups=version_1, pid=os.getpid(), cap_bytes=32 << 10)
    for second in range(3000):
        meter.tick(float(second))
    assert (tmp_path / "metrics.jsonl").stat().st_size <= 32 << 10
    times = [int(str(s["elapsed_ms"])) for s in read_samples(tmp_path)]
    assert times == sorted(set(times))
    assert times[0] < 200_000
    assert times[-1] > 2_900_000
    assert max(later - earlier for earlier, later in pairwise(times)) <= 64_000


def test_a_full_disk_is_nothing_to_the_run(folder: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    meter = Meter(folder=folder, groups={}, pid=None)
    monkeypatch.setattr(os, "write", full)
    for second in range(100):
        meter.tick(float(second))
    assert meter.failures == 30


def test_a_closed_meter_takes_nothing(folder: int, tmp_path: Path) -> None:
    meter = Meter(folder=folder, groups={}, pid=None)
    meter.tick(0.0)
    meter.close()
    meter.tick(5.0)
    assert len(read_samples(tmp_path)) == 1


def test_two_samples_become_one_without_losing_a_peak() -> None:
    first = sample(1, cpu_ms=5, memory_bytes=9, pids=None, gpu_percent=[20, None], gpu_celsius=[70, 1])
    second = sample(2, cpu_ms=8, memory_bytes=4, pids=2, gpu_percent=[40, 7], gpu_celsius=[60, None])
    merged = merge(first, second)
    assert (merged["elapsed_ms"], merged["cpu_ms"], merged["memory_bytes"], merged["pids"]) == (2, 8, 9, 2)
    assert (merged["gpu_percent"], merged["gpu_celsius"]) == ([30, 7], [70, 1])
    assert [s["elapsed_ms"] for s in merge_pairs([sample(n) for n in range(5)])] == [1, 3, 4]


def write(folder: Path, samples: list[Sample]) -> None:
    (folder / "metrics.jsonl").write_text("".join(json.dumps(s) + "\n" for s in samples))


def test_reading_goes_on_behind_a_time(tmp_path: Path) -> None:
    write(tmp_path, [sample(n) for n in range(10)])
    assert [s["elapsed_ms"] for s in read_samples(tmp_path, after_ms=6)] == [7, 8, 9]


@pytest.mark.parametrize(
    ("points", "times"), [(10, list(range(10))), (5, [1, 3, 5, 7, 9]), (4, [2, 5, 8, 9])]
)
def test_reading_merges_to_the_points_that_are_wanted(tmp_path: Path, points: int, times: list[int]) -> None:
    write(tmp_path, [sample(n) for n in range(10)])
    assert [s["elapsed_ms"] for s in read_samples(tmp_path, points=points)] == times


@pytest.mark.parametrize(
    "line",
    [
        "", "{", "[]", "7", "null", "{}", '{"elapsed_ms": 1}', "[" * 100_000,
        json.dumps({**sample(1), "more": 1}),
        json.dumps({**sample(1), "pids": 1.5}),
        json.dumps({**sample(1), "pids": True}),
        json.dumps({**sample(1), "elapsed_ms": None}),
        json.dumps({**sample(1), "gpu_percent": 7}),
        json.dumps({**sample(1), "gpu_percent": ["x"]}),
    ],
)  # fmt: skip
def test_what_is_no_sample_is_left_out(tmp_path: Path, line: str) -> None:
    (tmp_path / "metrics.jsonl").write_text(f"{line}\n{json.dumps(sample(5))}\n{json.dumps(sample(6))}")
    assert [s["elapsed_ms"] for s in read_samples(tmp_path)] == [5]  # and neither is an unfinished one


def test_no_file_is_no_sample(tmp_path: Path) -> None:
    assert read_samples(tmp_path) == ()


def test_refuses_a_link(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").symlink_to("/etc/hostname")
    with pytest.raises(HarvestError, match="cannot be read"):
        read_samples(tmp_path)


# Files of bounded size.


def halve(records: Any) -> Any:
    return records[::2]


def test_a_full_file_is_thinned_out_and_goes_on(folder: int, tmp_path: Path) -> None:
    lines = ThinnedLines(folder=folder, name="x.jsonl", cap_bytes=1000, thin=halve)
    for n in range(1000):
        lines.append({"n": n})
        assert (tmp_path / "x.jsonl").stat().st_size <= 1000
    numbers = [record["n"] for record in read_lines(tmp_path / "x.jsonl", max_bytes=1000)]
    assert (numbers[0], numbers[-1], lines.thinnings > 3) == (0, 999, True)


def test_thinning_that_thins_nothing_loses_the_oldest(folder: int, tmp_path: Path) -> None:
    lines = ThinnedLines(folder=folder, name="x.jsonl", cap_bytes=1000, thin=lambda records: records)
    for n in range(500):
        lines.append({"n": n})
    numbers = [record["n"] for record in read_lines(tmp_path / "x.jsonl", max_bytes=1000)]
    assert numbers == list(range(int(str(numbers[0])), 500))


def test_a_kill_while_thinning_loses_nothing(
    folder: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ThinnedLines(folder=folder, name="x.jsonl", cap_bytes=100, thin=halve)
    for n in range(10):
        lines.append({"n": n})
    before = (tmp_path / "x.jsonl").read_bytes()

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        for n in range(10):
            lines.append({"n": n})
    assert (tmp_path / "x.jsonl").read_bytes().startswith(before)


def test_records_that_are_cut_off_are_left_out() -> None:
    assert parse_lines(b'{"a":1}\n{"a":2}\n{"a"') == [{"a": 1}, {"a": 2}]
