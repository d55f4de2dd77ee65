"""What taking a champion's output costs: harvest beside `cp` and then `sha256sum`, paired, in one run.

Each pair is one of both, in alternating order, on the same files, which are in the page cache as they are after
training. The harvest opens every file beneath the output, checks it, copies and hashes it in one pass and flushes it;
`cp -r` and `sha256sum` run one after the other and flush nothing. So the ratio (`cp` + `sha256sum`) / harvest is to
the harvest's disadvantage; beside it stands the one with a `sync` of the copies after `cp`.

  model       a few shards of weights, as a full fine-tune leaves
  many files  500 files of 64 KB, the most that is taken

Prints one Markdown table with the machine's one-minute load before each pair. Nothing else should run on the machine.
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import monotonic

from runner.harvest import MAX_FILES, Harvest, HarvestLimits, collect

SHARDS, MANY_BYTES = 4, 64 << 10
CHUNK_BYTES = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Seconds of each; `load` is the machine's one-minute load before."""

    load: float
    harvest_s: float
    cp_s: float
    sync_s: float
    sha256sum_s: float

    @property
    def ratio(self) -> float:
        return (self.cp_s + self.sha256sum_s) / self.harvest_s

    @property
    def flushed_ratio(self) -> float:
        return (self.cp_s + self.sync_s + self.sha256sum_s) / self.harvest_s


def main() -> None:
    parser = argparse.ArgumentParser(description="The cost of taking a champion's output.")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--size", type=int, default=4 << 30, help="bytes of the model")
    parser.add_argument("--folder", type=Path, help="where to work; the disk that is measured")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="assay-harvest-", dir=asked.folder) as folder:
        outputs = {"model": Path(folder) / "model", "many files": Path(folder) / "many"}
        write_model(outputs["model"], size_bytes=asked.size)
        write_many(outputs["many files"])
        pairs = {name: measure(output, name, count=asked.pairs) for name, output in outputs.items()}
    print(table(pairs))


def write_model(output: Path, *, size_bytes: int) -> None:
    """Random bytes: no disk compresses them."""
    output.mkdir()
    for shard in range(SHARDS):
        with (output / f"model-{shard + 1:05}-of-{SHARDS:05}.safetensors").open("wb") as file:
            for begin in range(0, size_bytes // SHARDS, CHUNK_BYTES):
                file.write(os.urandom(min(CHUNK_BYTES, size_bytes // SHARDS - begin)))


def write_many(output: Path) -> None:
    output.mkdir()
    for number in range(MAX_FILES):
        (output / f"file{number:03}.json").write_bytes(os.urandom(MANY_BYTES))


def measure(output: Path, name: str, *, count: int) -> list[Pair]:
    """`count` pairs; which goes first alternates. Two more go before, not counted."""
    pairs = []
    for number in range(-1, count):
        say(f"{name}: pair {number + 1} of {count}" if number >= 0 else f"{name}: warm-up, not counted")
        load, target = os.getloadavg()[0], output.parent / "taken"
        if number % 2:
            harvest_s = harvested(output, target)
            plain = copied(output, target)
        else:
            plain = copied(output, target)
            harvest_s = harvested(output, target)
        cp_s, sync_s, sha256sum_s = plain
        pairs.append(Pair(load=load, harvest_s=harvest_s, cp_s=cp_s, sync_s=sync_s, sha256sum_s=sha256sum_s))
    return pairs[1:]


def harvested(output: Path, target: Path) -> float:
    """Seconds of a harvest, which must be whole."""
    target.mkdir()
    os.sync()
    found: list[Harvest] = []
    source, into = (os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (output, target))
    seconds = timed(
        lambda: found.append(
            collect(source, into, limits=HarvestLimits(total_bytes=1 << 50, files=MAX_FILES))
        )
    )
    os.close(source)
    os.close(into)
    assert not found[0].rejected, found[0].rejected
    assert len(found[0].files) == len(list(output.iterdir()))
    shutil.rmtree(target)
    return seconds


def copied(output: Path, target: Path) -> tuple[float, float, float]:
    """Seconds of `cp`, of flushing what it wrote, and of `sha256sum`."""
    os.sync()
    cp_s = timed(lambda: run("cp", "-r", str(output), str(target)))
    files = sorted(str(path) for path in target.iterdir())
    sync_s = timed(lambda: run("sync", *files))
    sha256sum_s = timed(lambda: run("sha256sum", *files))
    shutil.rmtree(target)
    return cp_s, sync_s, sha256sum_s


def table(measured: dict[str, list[Pair]]) -> str:
    """The measurements as Markdown, medians last of each."""
    lines = [
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, kernel"
        f" {platform.release()}",
        "",
        "| output | pair (load) | cp s | sha256sum s | flush s | harvest s | (cp + sha256sum) / harvest | flushed |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, pairs in measured.items():
        lines += [
            row(name, f"{number} ({pair.load:.2f})", pair) for number, pair in enumerate(pairs, start=1)
        ]
        fields = ("load", "harvest_s", "cp_s", "sync_s", "sha256sum_s")
        middle = Pair(**{each: median(getattr(pair, each) for pair in pairs) for each in fields})
        ratios = (median(pair.ratio for pair in pairs), median(pair.flushed_ratio for pair in pairs))
        lines.append(row(name, "median", middle, ratios=ratios))
    return "\n".join(lines)


def row(name: str, title: str, pair: Pair, *, ratios: tuple[float, float] | None = None) -> str:
    ratio, flushed = ratios or (pair.ratio, pair.flushed_ratio)
    return (
        f"| {name} | {title} | {pair.cp_s:.2f} | {pair.sha256sum_s:.2f} | {pair.sync_s:.2f} | {pair.harvest_s:.2f} |"
        f" {ratio:.2f} | {flushed:.2f} |"
    )


def timed(step: Callable[[], object]) -> float:
    began = monotonic()
    step()
    return monotonic() - began


def run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
