"""Orders and inputs for each epoch and kind of task, and a champion's tree that could take them."""

from pathlib import Path

from runner.contract.epochs import ContractEpoch, EntryPoint
from runner.contract.order import TrainingInputs, TrainingOrder
from runner.contract.tasks import (
    ChatTask,
    DpoTask,
    EnvironmentTask,
    GrpoTask,
    ImageModel,
    ImageTask,
    InstructTask,
    KlPenalty,
    RewardFunction,
    Task,
)

REWARD = RewardFunction(
    source="def reward(completions, **kwargs):\n    return [1.0 for _ in completions]\n",
    weight=1,
    reward_id="r-1",
    is_manual=True,
)
INSTRUCT = InstructTask(columns=("instruct", "output", "input"))
CHAT = ChatTask()
DPO = DpoTask(columns=("chosen", "rejected", "prompt"))
GRPO = GrpoTask(columns=("prompt",), rewards=(REWARD,))
ONE_ENVIRONMENT = EnvironmentTask(environments=("liars_dice",))
TWO_ENVIRONMENTS = EnvironmentTask(environments=("liars_dice", "gin_rummy"))
KL = InstructTask(columns=("instruct", "output", "input"), kl=KlPenalty(coefficient=0.1))
STORE = Path("/store")
TEXT_INPUTS = TrainingInputs(base_model=STORE / "model", dataset=STORE / "data")
IMAGE_INPUTS = TrainingInputs(base_model=STORE / "model", dataset=STORE / "data", hf_cache=STORE / "hf_cache")
ALL_TEXT_INPUTS = TrainingInputs(
    base_model=STORE / "model",
    dataset=STORE / "data",
    baseline_statistics=STORE / "statistics",
    requested_datasets={"org/extra": STORE / "requested"},
)
ALL_IMAGE_INPUTS = TrainingInputs(
    base_model=STORE / "model.safetensors",
    dataset=STORE / "data",
    baseline_statistics=STORE / "statistics",
    hf_cache=STORE / "hf_cache",
)
DOCKERFILE = """\
FROM some/image:tag
COPY scripts /workspace/scripts
WORKDIR /workspace/scripts
ENTRYPOINT ["python", "-m", "trainer"]
"""


def order(task: Task, epoch: ContractEpoch = ContractEpoch.E4) -> TrainingOrder:
    """The order of all golden cases."""
    return TrainingOrder(
        epoch=epoch,
        task=task,
        task_id="5f2d",
        model="Qwen/Qwen3-0.6B",
        expected_repo_name="tournament-x-5f2d-5GhotkeyA",
        hours_to_complete=2,
        participant="5GhotkeyABCDEF",
    )


def image(model_type: ImageModel, trigger_word: str | None = None) -> ImageTask:
    """An image task in one line."""
    return ImageTask(model_type=model_type, trigger_word=trigger_word)


def champion(
    folder: Path, *, entries: tuple[EntryPoint, ...] = tuple(EntryPoint), where: str = "dockerfiles"
) -> Path:
    """A champion's tree with a Dockerfile for each of `entries`; each starts a module named after it."""
    (folder / "scripts").mkdir(parents=True, exist_ok=True)
    (folder / where).mkdir(parents=True, exist_ok=True)
    for entry in entries:
        text = DOCKERFILE.replace("trainer", f"{entry}_of_{where.replace('/', '_')}")
        (folder / where / entry.dockerfile).write_text(text)
    return folder
