"""Which orders are outside the contract of their epoch, told before anything is started."""

import json
import math
import re

from runner.contract.arguments import arguments
from runner.contract.cache import SAFETENSORS, SINGLE_FILE_MODELS, hub_folder
from runner.contract.epochs import EPOCHS, ContractEpoch, EpochFacts
from runner.contract.order import ContractError, TrainingInputs, TrainingOrder, is_model_id
from runner.contract.tasks import (
    DPO_COLUMNS,
    ENVIRONMENTS,
    GRPO_COLUMNS,
    INSTRUCT_COLUMNS,
    ChatTask,
    DpoTask,
    EnvironmentTask,
    GrpoTask,
    ImageTask,
    InstructTask,
    Task,
)

MAX_REWARDS = 5
MAX_REQUESTED_DATASETS = 2
MAX_ARGUMENT_BYTES = (128 << 10) - 1  # Linux, MAX_ARG_STRLEN less the closing zero
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,159}")
_TRIGGER_WORD = re.compile(r"[^\W_][\w .,'+-]{0,99}")


def check(order: TrainingOrder, *, inputs: TrainingInputs) -> None:
    """Raise ContractError for an order that upstream could not have given to a champion of this epoch."""
    if order.epoch is ContractEpoch.E1:
        raise ContractError(
            "epoch E1: its champions carry no licence and need a writable cache; not run here"
        )
    facts = EPOCHS[order.epoch]
    if order.task.type not in facts.task_types:
        raise ContractError(f"epoch {order.epoch} has no {order.task.type}")
    _check_names(order)
    _check_task(order.task, facts, epoch=order.epoch)
    _check_inputs(order, inputs, facts)
    for argument in arguments(order):
        if len(argument.encode()) > MAX_ARGUMENT_BYTES:
            raise ContractError(f"an argument of over {MAX_ARGUMENT_BYTES} bytes: {argument[:60]!r}…")


def _check_names(order: TrainingOrder) -> None:
    for what, name in (
        ("task id", order.task_id),
        ("repository name", order.expected_repo_name),
        ("participant", order.participant),
    ):
        if not _NAME.fullmatch(name):
            raise ContractError(f"{what} {name!r} is not a plain name")
    if not is_model_id(order.model):
        raise ContractError(f"model {order.model!r} is no hub id")
    if not math.isfinite(order.hours_to_complete) or order.hours_to_complete <= 0:
        raise ContractError(f"{order.hours_to_complete} hours: wanted a positive number")


def _check_task(task: Task, facts: EpochFacts, *, epoch: ContractEpoch) -> None:
    match task:
        case InstructTask():
            _check_columns(task.columns, needed={"instruct", "output"}, known=INSTRUCT_COLUMNS)
            _check_kl(task, facts, epoch=epoch)
        case ChatTask():
            _check_chat(task)
        case DpoTask():
            _check_columns(task.columns, needed={"prompt", "chosen", "rejected"}, known=DPO_COLUMNS)
        case GrpoTask():
            _check_columns(task.columns, needed={"prompt"}, known=GRPO_COLUMNS)
            _check_rewards(task)
        case EnvironmentTask():
            _check_environments(task, facts, epoch=epoch)
        case ImageTask():
            _check_image(task, facts, epoch=epoch)


def _check_columns(columns: tuple[str, ...], *, needed: set[str], known: tuple[str, ...]) -> None:
    if not needed <= set(columns) <= set(known):
        raise ContractError(
            f"dataset columns {list(columns)}: wanted some of {known}, at least {sorted(needed)}"
        )


def _check_kl(task: InstructTask, facts: EpochFacts, *, epoch: ContractEpoch) -> None:
    if task.kl is None:
        return
    if not facts.has_kl:
        raise ContractError(f"epoch {epoch} has no penalty on the divergence from the base model")
    if task.kl.coefficient is not None and not _is_weight(task.kl.coefficient):
        raise ContractError(f"coefficient {task.kl.coefficient}: wanted a number, zero or more")


def _check_chat(task: ChatTask) -> None:
    if not all(
        (task.template, task.role_field, task.content_field, task.user_reference, task.assistant_reference)
    ):
        raise ContractError("a chat task needs a name for template, role, content, user and assistant")
    if task.user_reference == task.assistant_reference:
        raise ContractError(f"user and assistant are both called {task.user_reference!r}")
    if task.role_field == task.content_field:
        raise ContractError(f"role and content are both in {task.role_field!r}")


def _check_rewards(task: GrpoTask) -> None:
    if not 1 <= len(task.rewards) <= MAX_REWARDS:
        raise ContractError(f"{len(task.rewards)} reward functions: wanted 1 to {MAX_REWARDS}")
    for number, reward in enumerate(task.rewards, start=1):
        if not reward.source.strip():
            raise ContractError(f"reward function {number} has no source")
        if not _is_weight(reward.weight):
            raise ContractError(f"reward function {number} weighs {reward.weight}: wanted zero or more")


def _check_environments(task: EnvironmentTask, facts: EpochFacts, *, epoch: ContractEpoch) -> None:
    named = task.environments
    if not named or len(set(named)) != len(named) or not set(named) <= set(ENVIRONMENTS):
        raise ContractError(f"environments {list(named)}: wanted some of {ENVIRONMENTS}, each once")
    if facts.environment_key == "environment_name" and len(named) > 1:
        raise ContractError(f"epoch {epoch} has one environment a task; {len(named)} are named")


def _check_image(task: ImageTask, facts: EpochFacts, *, epoch: ContractEpoch) -> None:
    if task.model_type not in facts.image_entries:
        known = ", ".join(facts.image_entries)
        raise ContractError(f"epoch {epoch} has no image model {task.model_type}; it has {known}")
    if task.trigger_word is None:
        return
    if not facts.has_trigger_word:
        raise ContractError(f"epoch {epoch} has no trigger word; its champions exit at the argument")
    # A leading dash would be read as an option.
    if not _TRIGGER_WORD.fullmatch(task.trigger_word):
        raise ContractError(f"trigger word {task.trigger_word!r} is not a plain word")


def _check_inputs(order: TrainingOrder, inputs: TrainingInputs, facts: EpochFacts) -> None:
    image = order.task if isinstance(order.task, ImageTask) else None
    if inputs.base_model.suffix == SAFETENSORS and (
        image is None or image.model_type not in SINGLE_FILE_MODELS
    ):
        raise ContractError(f"the base model is one file; {order.task.type} of this kind takes a folder")
    if inputs.baseline_statistics is not None and not facts.has_baseline_statistics:
        raise ContractError(f"epoch {order.epoch} has no baseline statistics")
    if image is not None and inputs.hf_cache is None:
        raise ContractError("an image task needs the cache of tokenizers; none is given")
    if image is None and inputs.hf_cache is not None:
        raise ContractError(f"{order.task.type} is shown no cache of tokenizers")
    if inputs.requested_datasets:
        _check_requested(order, inputs, is_known=facts.has_requested_datasets and image is None)


def _check_requested(order: TrainingOrder, inputs: TrainingInputs, *, is_known: bool) -> None:
    names = list(inputs.requested_datasets)
    if not is_known:
        raise ContractError(f"{order.task.type} of epoch {order.epoch} has no requested datasets")
    if len(names) > MAX_REQUESTED_DATASETS or not all(is_model_id(name) for name in names):
        raise ContractError(
            f"requested datasets {json.dumps(names)}: wanted hub ids, {MAX_REQUESTED_DATASETS} at most"
        )
    if len({hub_folder(name) for name in names}) != len(names):
        raise ContractError(f"requested datasets {json.dumps(names)} have the same folder")


def _is_weight(number: float) -> bool:
    return math.isfinite(number) and number >= 0
