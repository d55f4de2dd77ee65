"""Champions run as a node runs them: a tree, an order, a job folder, the agent; and what was left of it."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from runner.contract.epochs import ContractEpoch
from runner.contract.launch import ContractLaunch, contract_launch
from runner.contract.order import TrainingInputs, TrainingOrder
from runner.contract.tasks import InstructTask, Task
from runner.log import without_times
from runner.runtime import locate_runtime
from runner.spec import Exit, Limits, Profile, SandboxSpec, encode_spec, parse_exit
from runner.verdict import Verdict, VerdictReport, decide_verdict
from tests.runner.tensors import BASE, write_model

SCRIPTS = Path(__file__).parent / "champions"
MIB = 1 << 20
ROWS = [{"instruct": f"what is {n}", "output": str(n)} for n in range(8)]
TASK_ID, REPOSITORY = "5f2d", "tournament-x-5f2d-5GhotkeyA"
LEAF = f"{TASK_ID}/{REPOSITORY}"
DEADLINE_S = 300.0
DOCKERFILE = """\
FROM some/image:tag
COPY scripts /workspace/scripts
WORKDIR /workspace/scripts
ENV QUIET=1
ENTRYPOINT {entrypoint}
"""


def limits(**changes: Any) -> Limits:
    """Room for the scripts in `champions/` and for little more, with `changes`."""
    small: dict[str, Any] = {
        "wall_clock_s": 120.0,
        "grace_s": 2.0,
        "memory_bytes": 512 * MIB,
        "pids": 256,
        "output_bytes": 24 * MIB,
        "output_inodes": 512,
        "root_bytes": 24 * MIB,
        "root_inodes": 512,
        "tmp_bytes": 24 * MIB,
        "shm_bytes": 64 * MIB,
        "log_bytes": 256 << 10,
        "open_files": 65_536,
    }
    return Limits(**{**small, **changes})


def champion(
    folder: Path, habit: str, *, where: str = "ops/docker", entrypoint: tuple[str, ...] = ()
) -> Path:
    """A champion's tree whose entry point is the script `habit`, or `entrypoint`."""
    scripts = folder / "scripts"
    (folder / where).mkdir(parents=True)
    (scripts / "assets").mkdir(parents=True)
    (scripts / "assets" / "table.json").write_text("{}")
    for name in ("contract", habit):
        shutil.copy(SCRIPTS / f"{name}.py", scripts)
    words = json.dumps(entrypoint or ("python", "-m", habit))
    dockerfile = folder / where / "standalone-text-trainer.dockerfile"
    dockerfile.write_text(DOCKERFILE.format(entrypoint=words))
    return folder


def inputs(folder: Path) -> TrainingInputs:
    """A base model of some tensors and a train file."""
    model = write_model(folder / "model", BASE)
    (folder / "train.json").write_text(json.dumps(ROWS))
    return TrainingInputs(base_model=model, dataset=folder / "train.json")


def order(
    task: Task | None = None, *, epoch: ContractEpoch = ContractEpoch.E4, hours: float = 2
) -> TrainingOrder:
    """What a champion is told; of instruct text, unless another task is given."""
    return TrainingOrder(
        epoch=epoch,
        task=task or InstructTask(columns=("instruct", "output")),
        task_id=TASK_ID,
        model="Qwen/Qwen3-0.6B",
        expected_repo_name=REPOSITORY,
        hours_to_complete=hours,
        participant="5GhotkeyABCDEF",
    )


def spec_of(
    launch: ContractLaunch,
    *,
    driver: str,
    granted: Limits | None = None,
    env: Mapping[str, str] | None = None,
    job_id: str = "job",
) -> SandboxSpec:
    """The job of `launch` behind `driver`."""
    return SandboxSpec(
        job_id=job_id,
        argv=launch.argv,
        env={**launch.env, **(env or {})},
        cwd=launch.cwd,
        mounts=launch.mounts,
        output_target=launch.output_target,
        output_folders=launch.output_folders,
        limits=granted or limits(),
        runtime=locate_runtime(),
        profile=Profile.CHAMPION,
        driver=driver,
        declared_outputs=(launch.output_leaf,),
    )


@dataclass(frozen=True)
class Ran:
    """What one champion left behind."""

    job_dir: Path
    base: Path
    leaf: str = LEAF

    @cached_property
    def exit(self) -> Exit:
        return parse_exit((self.job_dir / "exit.json").read_bytes())

    @property
    def log(self) -> str:
        return without_times((self.job_dir / "stdout.log").read_bytes()).decode(errors="replace")

    @property
    def facts(self) -> dict[str, str]:
        """What the script said of itself, see champions/contract.py."""
        pairs = (line.partition("=") for line in self.log.splitlines())
        return {name: value for name, equals, value in pairs if equals}

    @property
    def isolation(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.job_dir / "isolation.json").read_bytes())
        return found

    @property
    def harvested(self) -> list[str]:
        """The files of the submission, and those beside it by their whole path."""
        folder = self.job_dir / "harvest"
        paths = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir())
        return [path.removeprefix(f"{self.leaf}/") for path in paths]

    @property
    def rejected(self) -> dict[str, str]:
        """As `harvested`, with the reason for each."""
        return {path.removeprefix(f"{self.leaf}/"): why for path, why in self.exit.rejected.items()}

    def judged(self) -> VerdictReport:
        return decide_verdict(self.job_dir / "harvest" / self.leaf, self.base)

    @property
    def verdict(self) -> Verdict:
        return self.judged().verdict


@dataclass(frozen=True)
class Running:
    """A job whose agent was started."""

    agent: "subprocess.Popen[bytes]"
    ran: Ran

    def cancel(self) -> None:
        (self.ran.job_dir / "cancel").touch()

    def end(self) -> Ran:
        """Wait for the job's end, which must have come about behind walls as strong as asked."""
        said, _ = self.agent.communicate(timeout=DEADLINE_S)
        assert self.agent.returncode == 0, said.decode(errors="replace")
        assert (self.ran.job_dir / "isolation.json").is_file(), self.ran.exit.message
        assert not self.ran.isolation["violations"]
        assert self.ran.exit.survivors == 0
        return self.ran


def start(spec: SandboxSpec, job_dir: Path, *, base: Path, secret: str | None = None) -> Running:
    """Start the agent on `spec`, as a launcher does; `secret` is in its environment."""
    job_dir.mkdir(parents=True)
    (job_dir / "job.json").write_bytes(encode_spec(spec))
    environment = {**os.environ, **({"ASSAY_TEST_SECRET": secret} if secret else {})}
    agent = subprocess.Popen(
        [sys.executable, "-m", "runner.agent", str(job_dir)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        cwd=SCRIPTS.parents[2],
    )
    return Running(agent=agent, ran=Ran(job_dir=job_dir, base=base))


def run_habit(habit: str, folder: Path, *, driver: str, secret: str | None = None, **changes: Any) -> Ran:
    """Run the script `habit` of `champions/` to its end; `changes` are those of its limits."""
    return start_habit(habit, folder, driver=driver, secret=secret, **changes).end()


def start_habit(
    habit: str, folder: Path, *, driver: str, secret: str | None = None, **changes: Any
) -> Running:
    """Start the script `habit` of `champions/`."""
    given = inputs(folder / "inputs")
    launch = contract_launch(order(), tree=champion(folder / "tree", habit), inputs=given)
    spec = spec_of(launch, driver=driver, granted=limits(**changes), job_id=folder.name)
    return start(spec, folder / "job", base=given.base_model, secret=secret)
