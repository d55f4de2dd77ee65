"""The sandboxed jobs of a run: training by the champion's contract, evaluation by our own script."""

from dataclasses import dataclass, replace
from functools import partial

from appliance.datasets import HELD_OUT_FILE, TRAIN_FILE
from appliance.domain import Run
from appliance.isolation_policy import demand_of, driver_of, evaluation_driver_of
from appliance.pinned_images import pinned_image
from appliance.ports import Ports
from appliance.store import artifacts
from appliance.store.artifacts import Artifact
from appliance.store.champions import ChampionRow
from runner.champion_contract import ContractEpoch, ContractOrder, champion_command
from runner.contract.resources import SHM_BYTES
from runner.spec import Limits, Mount, Profile, SandboxSpec

MIN_WALL_CLOCK_S = 1
EVALUATION_OUTPUT = "/out"
EVALUATOR_FILE, EVALUATOR_TARGET = "evaluate.py", "/in/evaluate.py"
# The evaluation is ours and short; what it reads is a stranger's, so it has walls and limits of its own.
EVALUATION_LIMITS = Limits(wall_clock_s=1800.0, output_bytes=64 << 20, output_inodes=64, log_bytes=1 << 20)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobIds:
    """Names of a run's jobs; a job is found again by its name."""

    train: str
    evaluate: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingLaunch:
    """What to start, and where below the output the model will be."""

    spec: SandboxSpec
    output_leaf: str


def job_ids(run: Run) -> JobIds:
    """The names of `run`'s jobs."""
    return JobIds(train=run.id, evaluate=f"{run.id}-evaluate")


def training_launch(run: Run, *, champion: ChampionRow, base: Artifact, ports: Ports) -> TrainingLaunch:
    """The champion's job, in the image that its release pins, or in the shipped environment if it pins none.

    Raises ContractError or DockerfileError for a champion that cannot be run here, ArtifactError for an image
    that is pinned and not here.
    """
    order = run.order
    with ports.engine.connect() as connection:
        dataset = artifacts.get(connection, order.dataset)
    launch = champion_command(
        ContractOrder(
            epoch=ContractEpoch(champion.contract_epoch),
            task_id=run.id,
            task_type=order.task_type,
            model=base.name,
            expected_repo_name=f"assay-{run.id}",
            hours_to_complete=order.hours_to_complete,
            participant="assay",
            dataset_columns=tuple(dataset.facts["columns"]),
        ),
        tree=ports.store.path(order.champion),
        base_model=ports.store.path(order.base_model),
        train_file=ports.store.path(order.dataset) / TRAIN_FILE,
        image_of=partial(pinned_image, ports.home, champion),
    )
    # Source: the tournament's trainer gives whole seconds, at least one, from the start of the container.
    wall_clock_s = float(max(MIN_WALL_CLOCK_S, int(order.hours_to_complete * 3600)))
    spec = SandboxSpec(
        job_id=job_ids(run).train,
        argv=launch.argv,
        env=launch.env,
        cwd=launch.cwd,
        mounts=launch.mounts,
        output_target=launch.output_target,
        output_folders=launch.output_folders,
        limits=replace(
            ports.limits, wall_clock_s=wall_clock_s, shm_bytes=min(SHM_BYTES, ports.limits.shm_bytes)
        ),
        runtime=ports.runtime if launch.image is None else None,
        image=launch.image,
        profile=Profile.CHAMPION,
        driver=driver_of(run),
        demand=demand_of(run),
        declared_outputs=(launch.output_leaf,),
    )
    return TrainingLaunch(spec=spec, output_leaf=launch.output_leaf)


def evaluation_spec(run: Run, *, ports: Ports) -> SandboxSpec:
    """The evaluator's job: base model and trained model on the held-out rows."""
    assert run.model is not None  # a harvested run has one
    return SandboxSpec(
        job_id=job_ids(run).evaluate,
        argv=(
            "python",
            "-I",
            EVALUATOR_TARGET,
            "--base-model",
            "/in/base-model",
            "--tuned",
            "/in/tuned",
            "--held-out",
            "/in/held-out.json",
            "--output",
            EVALUATION_OUTPUT,
        ),
        env={
            "PATH": "/opt/venv/bin:/usr/bin:/bin",
            "HOME": "/tmp",  # noqa: S108 - the guest's own
            "TZ": "UTC",
            "HF_HUB_OFFLINE": "1",
            "OMP_WAIT_POLICY": "PASSIVE",
            "PYTHONUNBUFFERED": "1",
        },
        cwd="/tmp",  # noqa: S108 - the guest's own
        mounts=(
            Mount(source=str(ports.store.path(ports.evaluator) / EVALUATOR_FILE), target=EVALUATOR_TARGET),
            Mount(source=str(ports.store.path(run.order.base_model)), target="/in/base-model"),
            Mount(source=str(ports.store.path(run.model)), target="/in/tuned"),
            Mount(
                source=str(ports.store.path(run.order.dataset) / HELD_OUT_FILE), target="/in/held-out.json"
            ),
        ),
        output_target=EVALUATION_OUTPUT,
        limits=replace(EVALUATION_LIMITS, memory_bytes=ports.limits.memory_bytes),
        runtime=ports.runtime,
        driver=evaluation_driver_of(run),
        demand=demand_of(run),
        declared_outputs=("losses.json",),
    )
