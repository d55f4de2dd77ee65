"""What each sandbox driver costs: the same work bare and behind its walls, paired, in one run.

Each round runs every workload bare and behind each driver that this host can use, in an order that turns by one
with each round, with the same interpreter and packages. Measured are

  start      from the order to the release of the guest, walls measured twice, inputs mounted
  workloads  wall time of the guest's own work, told by the guest itself: matrix products, a small training, many
             small operations, many small files, system calls
  stage      start with a model of `--model-gib` as input, beside start with a model of one byte

Prints Markdown tables of medians. `--train-s` sets how long the training takes bare. Nothing else should run on
the machine; the load before each round is printed.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median

from runner.errors import SandboxUnavailableError
from runner.runtime import locate_runtime
from runner.sandbox.drivers import DRIVERS, sandbox_of
from runner.sandbox.held import HeldSandbox
from runner.spec import ExitReason, Limits, Mount, Profile, SandboxSpec

PYTHON = "/opt/venv/bin/python"
# One file for bare and guest: prints JSON of seconds by workload.
SCRIPT = """
import json, os, sys, tempfile, time
import torch
torch.set_num_threads(2)
train_s, folder = float(sys.argv[1]), sys.argv[2]
told = {}

def timed(name, work):
    began = time.monotonic()
    work()
    told[name] = time.monotonic() - began

def products():
    a = torch.rand(1024, 1024)
    out = torch.empty(1024, 1024)
    for _ in range(60): torch.mm(a, a, out=out)

def small_operations():
    x = torch.rand(8)
    for _ in range(200_000): x = x * 1.0001

def files():
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        for n in range(3000):
            with open(f"{scratch}/{n}", "wb") as file: file.write(b"x" * 4096)
        for n in range(3000):
            with open(f"{scratch}/{n}", "rb") as file: file.read()

def calls():
    for _ in range(200_000): os.getppid()

def train(steps):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(512, 1024), torch.nn.ReLU(), torch.nn.Linear(1024, 512))
    optimiser = torch.optim.AdamW(model.parameters())
    x, y = torch.rand(256, 512), torch.rand(256, 512)
    for _ in range(steps):
        optimiser.zero_grad()
        torch.nn.functional.mse_loss(model(x), y).backward()
        optimiser.step()

timed("matrix products", products)
timed("small operations", small_operations)
timed("files", files)
timed("system calls", calls)
steps = int(sys.argv[3])
if not steps:
    began = time.monotonic()
    train(50)
    steps = max(50, int(50 * train_s / (time.monotonic() - began)))
timed("training", lambda: train(steps))
told["steps"] = steps
print(json.dumps(told))
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--starts", type=int, default=15)
    parser.add_argument("--train-s", type=float, default=60.0)
    parser.add_argument("--model-gib", type=int, default=20)
    parser.add_argument("--drivers", nargs="*", default=list(DRIVERS))
    options = parser.parse_args()
    usable = {name: sandbox for name in options.drivers if (sandbox := usable_sandbox(name)) is not None}
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {platform.release()}"
    )
    with tempfile.TemporaryDirectory(prefix="assay-bench-") as folder:
        scratch = Path(folder)
        scratch.chmod(0o755)
        print_starts(usable, scratch, starts=options.starts, model_bytes=options.model_gib << 30)
        print_workloads(usable, scratch, rounds=options.rounds, train_s=options.train_s)


def usable_sandbox(name: str) -> HeldSandbox | None:
    """The driver's sandbox, or None with the reason told."""
    sandbox = sandbox_of(name)
    try:
        sandbox.check()
    except SandboxUnavailableError as error:
        print(f"{name}: not measured: {error}")
        return None
    return sandbox


def print_starts(
    sandboxes: Mapping[str, HeldSandbox], scratch: Path, *, starts: int, model_bytes: int
) -> None:
    """Start-up with a tiny and with a large model as input, alternating."""
    models = {"tiny": 1, "large": model_bytes}
    for name, size_bytes in models.items():
        (scratch / name).mkdir()
        with (scratch / name / "model.safetensors").open("wb") as file:
            file.truncate(size_bytes)  # a hole: what is measured is that nobody reads or copies it
    print(f"\nload {os.getloadavg()[0]:.2f}; medians of {starts}, milliseconds\n")
    print(f"| driver | start | start, model of {model_bytes >> 30} GiB | order to end |\n|---|---|---|---|")
    for name, sandbox in sandboxes.items():
        took: dict[str, list[float]] = {"tiny": [], "large": [], "whole": []}
        for number in range(starts):
            for size in ("tiny", "large") if number % 2 else ("large", "tiny"):
                mounts = (Mount(source=str(scratch / size), target="/cache/models/m"),)
                began = time.monotonic()
                measured = run(sandbox, ("/bin/true",), scratch, mounts=mounts)[0]
                took[size].append((measured - began) * 1000)
                took["whole"].append((time.monotonic() - began) * 1000)
        print(f"| {name} | {' | '.join(f'{median(values):.0f}' for values in took.values())} |")


def print_workloads(
    sandboxes: Mapping[str, HeldSandbox], scratch: Path, *, rounds: int, train_s: float
) -> None:
    """Ratios to bare by workload."""
    script = scratch / "work.py"
    script.write_text(SCRIPT)
    steps = int(bare(script, scratch, train_s=train_s, steps=0)["steps"])  # also warms the caches
    kinds = ["bare", *sandboxes]
    told: dict[str, list[Mapping[str, float]]] = {kind: [] for kind in kinds}
    loads = []
    for number in range(rounds):
        loads.append(os.getloadavg()[0])
        for kind in kinds[number % len(kinds) :] + kinds[: number % len(kinds)]:
            if kind == "bare":
                told[kind].append(bare(script, scratch, train_s=train_s, steps=steps))
            else:
                told[kind].append(guest(sandboxes[kind], script, scratch, train_s=train_s, steps=steps))
            print(f"  round {number + 1}, {kind}: {told[kind][-1]}", file=sys.stderr)
    print(f"\n{rounds} rounds; load before each: {', '.join(f'{load:.2f}' for load in loads)}\n")
    names = [name for name in told["bare"][0] if name != "steps"]
    print(f"| workload | bare s | {' | '.join(f'{kind} × bare' for kind in sandboxes)} |")
    print(f"|---|---|{'---|' * len(sandboxes)}")
    for name in names:
        ratios = [
            median(one[name] / base[name] for one, base in zip(told[kind], told["bare"], strict=True))
            for kind in sandboxes
        ]
        base_s = median(one[name] for one in told["bare"])
        print(f"| {name} | {base_s:.2f} | {' | '.join(f'{ratio:.3f}' for ratio in ratios)} |")


def bare(script: Path, scratch: Path, *, train_s: float, steps: int) -> Mapping[str, float]:
    """The work without walls."""
    command = [sys.executable, "-I", str(script), str(train_s), str(scratch), str(steps)]
    environment = {"PATH": "/usr/bin:/bin", "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return parse(done.stdout)


def guest(
    sandbox: HeldSandbox, script: Path, scratch: Path, *, train_s: float, steps: int
) -> Mapping[str, float]:
    """The work behind walls, with a champion's root; its files go to the root volume."""
    mounts = (Mount(source=str(script), target="/in/work.py"),)
    argv = (PYTHON, "-I", "/in/work.py", str(train_s), "/root", str(steps))
    return parse(run(sandbox, argv, scratch, mounts=mounts)[1])


def run(
    sandbox: HeldSandbox, argv: tuple[str, ...], scratch: Path, *, mounts: tuple[Mount, ...]
) -> tuple[float, str]:
    """When the walls were measured for good, and the log."""
    measured: list[float] = []
    job_dir = scratch / "job"
    job_dir.mkdir()
    spec = SandboxSpec(
        job_id="bench",
        argv=argv,
        env={"OMP_WAIT_POLICY": "PASSIVE"},
        cwd="/root",
        mounts=mounts,
        output_target="/app/checkpoints",
        limits=Limits(wall_clock_s=7200, cpu_millis=1000 * (os.cpu_count() or 1), pids=4096),
        runtime=locate_runtime(),
        profile=Profile.CHAMPION,
        driver=sandbox.name,
    )
    ended = sandbox.run(
        spec,
        job_dir=job_dir,
        on_measured=lambda _: measured.append(time.monotonic()),
        should_cancel=lambda: False,
    )
    log = (job_dir / "stdout.log").read_text()
    if ended.reason is not ExitReason.EXITED or ended.code != 0:
        raise SystemExit(f"{sandbox.name}: {ended.message}\n{log}")
    shutil.rmtree(job_dir)
    return measured[0], log


def parse(text: str) -> Mapping[str, float]:
    """What the script told in its last line, behind whatever stands before it."""
    last = text.strip().splitlines()[-1]
    found: Mapping[str, float] = json.loads(last[last.index("{") :])
    return found


if __name__ == "__main__":
    main()
