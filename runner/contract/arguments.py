"""What a champion reads on its command line: upstream's arguments, in upstream's order, and no others.

Champions exit with 2 at an argument that they do not know. Source: the champion contract, sections 5.3 and 6.
"""

import json
from collections.abc import Collection, Sequence
from typing import Any

from runner.contract.epochs import EPOCHS, ContractEpoch
from runner.contract.order import TrainingOrder
from runner.contract.tasks import (
    CHAT_COLUMN,
    ChatTask,
    DpoTask,
    EnvironmentTask,
    GrpoTask,
    ImageTask,
    InstructTask,
    RewardFunction,
    TextTask,
)


def arguments(order: TrainingOrder) -> tuple[str, ...]:
    """What follows the entry point. The order must have passed contract.check."""
    address = _address(order)
    match order.task:
        case ImageTask(model_type=model_type, trigger_word=trigger_word):
            told = ["--dataset-zip", address, "--model-type", str(model_type)]
            last = ["--trigger-word", trigger_word] if trigger_word is not None else []
        case task:
            kind = json.dumps(dataset_type(task, epoch=order.epoch))
            told = ["--dataset", address, "--dataset-type", kind, "--task-type", str(task.type)]
            told += ["--file-format", "s3"]
            last = []
    return (
        "--task-id", order.task_id,
        "--model", order.model,
        *told,
        "--expected-repo-name", order.expected_repo_name,
        # At E2 upstream told whole hours, rounded down ("0" for half an hour); its champions read a float.
        "--hours-to-complete", str(float(order.hours_to_complete)),
        *last,
    )  # fmt: skip


def dataset_type(task: TextTask, *, epoch: ContractEpoch) -> dict[str, Any]:
    """Upstream's description of the dataset with every key, in upstream's order, nulls included."""
    match task:
        case InstructTask(columns=columns):
            return instruct_dataset_type(columns)
        case ChatTask():
            return {
                "chat_template": task.template,
                "chat_column": CHAT_COLUMN,
                "chat_role_field": task.role_field,
                "chat_content_field": task.content_field,
                "chat_user_reference": task.user_reference,
                "chat_assistant_reference": task.assistant_reference,
            }
        case DpoTask(columns=columns):
            return _dpo_dataset_type(columns)
        case GrpoTask(columns=columns, rewards=rewards):
            return {
                "field_prompt": "prompt",
                "reward_functions": [_reward(reward) for reward in rewards],
                "extra_column": "extra_data" if "extra_data" in columns else None,
            }
        case EnvironmentTask(environments=environments):
            return _environment_dataset_type(environments, key=EPOCHS[epoch].environment_key)


def instruct_dataset_type(columns: Collection[str]) -> dict[str, str | None]:
    """Upstream's InstructTextDatasetType with every key, in upstream's order, nulls included."""
    return {
        "system_prompt": "",
        "system_format": "{system}",
        "field_system": "system" if "system" in columns else None,
        "field_instruction": "instruct" if "instruct" in columns else None,
        "field_input": "input" if "input" in columns else None,
        "field_output": "output" if "output" in columns else None,
        "format": None,
        "no_input_format": None,
        "field": None,
    }


def _dpo_dataset_type(columns: Collection[str]) -> dict[str, str | None]:
    return {
        "field_prompt": "prompt",
        "field_system": "system" if "system" in columns else None,
        "field_chosen": "chosen",
        "field_rejected": "rejected",
        "prompt_format": "{prompt}",
        "chosen_format": "{chosen}",
        "rejected_format": "{rejected}",
    }


def _reward(reward: RewardFunction) -> dict[str, Any]:
    return {
        "reward_id": reward.reward_id,
        "reward_func": reward.source,
        "reward_weight": float(reward.weight),
        "func_hash": reward.func_hash,
        "is_generic": reward.is_generic,
        "is_manual": reward.is_manual,
    }


def _environment_dataset_type(environments: Sequence[str], *, key: str) -> dict[str, Any]:
    return {key: environments[0] if key == "environment_name" else list(environments)}


def _address(order: TrainingOrder) -> str:
    # Upstream's address cannot be reached by the champion either; it reads the cached file.
    return f"https://dataset.invalid/{dataset_file(order)}"  # RFC 2606


def dataset_file(order: TrainingOrder) -> str:
    """The name under which champions look for the job's data."""
    if isinstance(order.task, ImageTask):
        return f"{order.task_id}_tourn.zip"
    return f"{order.task_id}_train_data.json"
