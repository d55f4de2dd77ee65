"""What Assay costs: the same training script bare and through Assay, paired, in one run.

Each pair is one bare run and one run through the real server, worker and sandbox, in alternating order, with the
same interpreter, packages, arguments, environment, model and data. Measured are, in seconds:

  bare         start of the script to its end
  sandboxed    submit over HTTP to the end of the sandboxed job, its output harvested and hashed
  first line   submit over HTTP to the script's first line of output

Prints one Markdown table; `--rows` sets how long the job takes. Nothing else should run on the machine; the load
before each run is in the table.
"""

import argparse
import os
import platform
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from appliance.assembly import Appliance
from appliance.cli.client import ApiClient
from appliance.demo import story
from appliance.demo.processes import appliance_processes, free_port
from appliance.demo.screen import Screen
from appliance.imports import import_dataset, import_model
from runner.spec import SandboxSpec, parse_spec

POLL_S = 0.002
HOURS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """An appliance with something to train, and the order that is run again and again."""

    appliance: Appliance
    order: dict[str, object]
    token: str

    @property
    def home_dir(self) -> Path:
        return self.appliance.home.root


@dataclass(frozen=True, slots=True, kw_only=True)
class Bare:
    """A run without walls; `load` is the machine's one-minute load before it."""

    seconds: float
    load: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandboxed:
    """A run through Assay."""

    run_id: str
    seconds: float
    first_line_s: float
    load: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One of each."""

    bare: Bare
    sandboxed: Sandboxed

    @property
    def ratio(self) -> float:
        return self.sandboxed.seconds / self.bare.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description="The cost of Assay over the bare script.")
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--rows", type=int, default=3000, help="rows of the demo's data set")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="assay-overhead-") as folder:
        pairs = measure(Path(folder), count=asked.pairs, rows=asked.rows)
    print(table(pairs))


def measure(folder: Path, *, count: int, rows: int) -> list[Pair]:
    """`count` pairs in `folder`; the order within a pair alternates."""
    site = prepare(folder, rows=rows)
    pairs = []
    with appliance_processes(site.home_dir, log_dir=folder / "logs", port=free_port()) as processes:
        api = ApiClient(processes.url, token=site.token)
        say("warm-up through Assay, not counted")
        spec = spec_of(site, run_sandboxed(api, site).run_id)
        for number in range(count):
            say(f"pair {number + 1} of {count}")
            bare_first = number % 2 == 0
            bare = run_bare(spec, folder / f"bare-{number}") if bare_first else None
            sandboxed = run_sandboxed(api, site)
            bare = bare or run_bare(spec, folder / f"bare-{number}")
            pairs.append(Pair(bare=bare, sandboxed=sandboxed))
    return pairs


def prepare(folder: Path, *, rows: int) -> Site:
    """A home with the reference champion, the demo's base model and a data set of `rows` rows."""
    screen = Screen()
    appliance = story.make_home(folder)
    champion = story.sync_reference_champion(appliance, folder / "feed")
    story.admit_champion(appliance, champion, screen)
    model, data = folder / "base-model", folder / "complaints.jsonl"
    story.run_script("make_base_model.py", "--output", str(model))
    story.run_script("make_dataset.py", "--output", str(data), "--rows", str(rows))
    base = import_model(appliance, model, name="local/base-model", actor=story.SUBMITTER)
    dataset = import_dataset(appliance, data, actor=story.SUBMITTER)
    order = {
        "champion": champion.manifest_sha256,
        "base_model": base.root_sha256,
        "dataset": dataset.root_sha256,
        "hours_to_complete": HOURS,
    }
    return Site(appliance=appliance, order=order, token=story.make_token(appliance))


def run_sandboxed(api: ApiClient, site: Site) -> Sandboxed:
    """Submit over HTTP; the clock stops when the job has ended, its output harvested."""
    load, began = os.getloadavg()[0], time.monotonic()
    run_id = api.submit(site.order, idempotency_key=secrets.token_hex(16))["id"]
    job_dir = site.appliance.home.jobs_dir / run_id
    wait_for(lambda: size_of(job_dir / "stdout.log") > 0)
    first_line_s = time.monotonic() - began
    wait_for((job_dir / "exit.json").exists)
    seconds = time.monotonic() - began
    while api.show(run_id)["state"] not in {"logged", "failed"}:  # nothing of this run disturbs the next
        time.sleep(0.2)
    return Sandboxed(run_id=run_id, seconds=seconds, first_line_s=first_line_s, load=load)


def run_bare(spec: SandboxSpec, root: Path) -> Bare:
    """The same script with the same arguments and environment as a plain child, inputs linked into `root`."""
    for mount in spec.mounts:
        link = root / mount.target.lstrip("/")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(mount.source)
    for name in spec.output_folders:
        (root / spec.output_target.lstrip("/") / name).mkdir(parents=True, exist_ok=True)
    environment = {
        **spec.env,
        "CHAMPION_ROOT": str(root),
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    environment.pop("PYTHONPATH", None)  # the sandbox's own way to the same packages
    load, began = os.getloadavg()[0], time.monotonic()
    subprocess.run(
        spec.argv,
        cwd=root / spec.cwd.lstrip("/"),
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    return Bare(seconds=time.monotonic() - began, load=load)


def spec_of(site: Site, run_id: str) -> SandboxSpec:
    """What the worker started for that run."""
    return parse_spec((site.appliance.home.jobs_dir / run_id / "job.json").read_bytes())


def table(pairs: list[Pair]) -> str:
    """The measurements as Markdown, medians last."""
    lines = [
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()},"
        f" kernel {platform.release()}",
        "",
        "| pair | bare s (load) | through Assay s (load) | ratio | submit → first line s |",
        "|---|---|---|---|---|",
    ]
    for number, pair in enumerate(pairs, start=1):
        bare, sandboxed = pair.bare, pair.sandboxed
        lines.append(
            f"| {number} | {bare.seconds:.1f} ({bare.load:.2f}) | {sandboxed.seconds:.1f} ({sandboxed.load:.2f}) |"
            f" {pair.ratio:.3f} | {sandboxed.first_line_s:.2f} |"
        )
    ratio = median(pair.ratio for pair in pairs)
    first_line_s = median(pair.sandboxed.first_line_s for pair in pairs)
    return "\n".join([*lines, f"| median | | | {ratio:.3f} | {first_line_s:.2f} |"])


def wait_for(happened: Callable[[], bool]) -> None:
    """Look every two milliseconds."""
    while not happened():
        time.sleep(POLL_S)


def size_of(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
