"""What the appliance orders today: instruct text training by a champion of any epoch that is run.

Other task types are in runner.contract; they are refused here until they can be ordered.

Source: the Gradients champion contract. Gradients.io (https://gradients.io).
"""

from dataclasses import dataclass
from pathlib import Path

from runner.contract.epochs import ContractEpoch, EntryPoint
from runner.contract.launch import ContractLaunch, ImageOf, contract_launch
from runner.contract.launch import find_dockerfile as find_any
from runner.contract.order import ContractError, TrainingInputs, TrainingOrder, is_model_id
from runner.contract.tasks import InstructTask, TaskType

__all__ = [
    "ContractEpoch",
    "ContractError",
    "ContractLaunch",
    "ContractOrder",
    "ImageOf",
    "champion_command",
    "find_dockerfile",
    "is_model_id",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractOrder:
    """What upstream would have told the champion."""

    epoch: ContractEpoch
    task_id: str
    task_type: str
    model: str  # the hub id, which champions look up in their own tables
    expected_repo_name: str
    hours_to_complete: float
    participant: str  # stands where upstream has the hotkey
    dataset_columns: tuple[str, ...]  # of INSTRUCT_COLUMNS, those the train file has


def champion_command(
    order: ContractOrder, *, tree: Path, base_model: Path, train_file: Path, image_of: ImageOf
) -> ContractLaunch:
    """How to start the champion in `tree` for this order. Touches nothing; reads the Dockerfile.

    `image_of` knows the images that were built of its Dockerfiles. Raises as `contract_launch`.
    """
    if order.task_type != TaskType.INSTRUCT:
        raise ContractError(f"task type {order.task_type} is not run here yet; {TaskType.INSTRUCT} is")
    return contract_launch(
        TrainingOrder(
            epoch=order.epoch,
            task=InstructTask(columns=order.dataset_columns),
            task_id=order.task_id,
            model=order.model,
            expected_repo_name=order.expected_repo_name,
            hours_to_complete=order.hours_to_complete,
            participant=order.participant,
        ),
        tree=tree,
        inputs=TrainingInputs(base_model=base_model, dataset=train_file),
        image_of=image_of,
    )


def find_dockerfile(tree: Path, *, epoch: ContractEpoch) -> str:
    """The champion's text Dockerfile, relative to `tree`. Raises ContractError if there is none."""
    return find_any(tree, epoch=epoch, entries=(EntryPoint.TEXT,)).name
