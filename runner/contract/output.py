"""Where champions write: the output that is harvested, and their own root file system.

Source: the champion contract, section 5.5.
"""

from collections.abc import Mapping

from runner.contract.epochs import EntryPoint
from runner.contract.order import TrainingOrder
from runner.contract.tasks import ImageTask

OUTPUT_TARGET = "/app/checkpoints"
_ANYWHERE = ("/tmp", "~/.cache", "~/.triton")  # noqa: S108  the guest's own
_DIFFUSION = (*_ANYWHERE, "/dataset/configs", "/dataset/images", "/dataset/outputs")
# Where champions were seen to write outside the output, by image. `~` is the guest's home, `./` its working
# directory. A driver without a writable root must make these writable, or no champion runs.
WRITABLE_PATHS: Mapping[EntryPoint, tuple[str, ...]] = {
    EntryPoint.TEXT: (
        *_ANYWHERE,
        "/workspace/scripts/datasets",
        "/workspace/scripts/soutputs",
        "/workspace/axolotl",  # not its folders alone: stock scripts copy the train file into it
        "/workspace/input_data",
        "/workspace/data/trained_model",
    ),
    EntryPoint.IMAGE: (*_DIFFUSION, "./core/dataset/images"),
    EntryPoint.IMAGE_TOOLKIT: (*_DIFFUSION, "./core/dataset/images"),
}


def output_folders(order: TrainingOrder) -> tuple[str, ...]:
    """Folders that exist before the start, below the output.

    Not the leaf: champions remove and make it again, so it must be no mount point.
    """
    if isinstance(order.task, ImageTask):
        return (order.task_id,)
    return (order.task_id, _wandb(order))


def output_leaf(order: TrainingOrder) -> str:
    """Where the model appears, below the output."""
    return f"{order.task_id}/{order.expected_repo_name}"


def wandb_folder(order: TrainingOrder) -> str:
    """Where text champions keep what they would have told Weights & Biases."""
    return f"{OUTPUT_TARGET}/{_wandb(order)}"


def _wandb(order: TrainingOrder) -> str:
    return f"wandb_logs/{order.task_id}_{order.participant}"
