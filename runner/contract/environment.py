"""The variables a champion is given: upstream's, without what upstream should not have given, under our own.

What is covered: upstream hands image champions of E4 a token that may write to its hub account; no champion
here gets one, and one that its Dockerfile brings is dropped. What is not covered: tokens under other names in
a champion's own image, which are its author's. Source: the champion contract, sections 5.4 and 13.
"""

from collections.abc import Mapping

from runner.contract.cache import REQUESTED_DATASETS, hub_folder, statistics_target
from runner.contract.epochs import EPOCHS
from runner.contract.order import TrainingInputs, TrainingOrder
from runner.contract.output import wandb_folder
from runner.contract.tasks import ImageTask, InstructTask

SECRETS = frozenset({
    "HUGGINGFACE_TOKEN", "HUGGINGFACE_USERNAME", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_TOKEN",
    "WANDB_API_KEY",
})  # fmt: skip
_WANDB_FOLDERS = ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_ARTIFACT_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR")
# Ours, beside the contract's: champions mix local time with UTC, libraries must not try the network, idle
# threads must not spin, and a killed champion's last words should be in the log.
_OURS = {
    "WANDB_MODE": "offline",  # of upstream for text only
    "TZ": "UTC",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "PYTHONUNBUFFERED": "1",
}


def environment(order: TrainingOrder, *, inputs: TrainingInputs, image: Mapping[str, str]) -> dict[str, str]:
    """The variables of the champion's `image` under the contract's under ours, without SECRETS."""
    told = {**image, **_contract(order), **_optional(order, inputs), **_OURS}
    return {name: value for name, value in told.items() if name not in SECRETS}


def _contract(order: TrainingOrder) -> Mapping[str, str]:
    if isinstance(order.task, ImageTask):
        return EPOCHS[order.epoch].image_variables
    return dict.fromkeys(_WANDB_FOLDERS, wandb_folder(order))


def _optional(order: TrainingOrder, inputs: TrainingInputs) -> dict[str, str]:
    told = {}
    if inputs.baseline_statistics is not None:
        told["BASELINE_STATS_PATH"] = statistics_target(order)
    if inputs.requested_datasets:
        told["MINER_DATASETS_DIR"] = REQUESTED_DATASETS
        told["MINER_DATASETS"] = ",".join(hub_folder(name) for name in inputs.requested_datasets)
    if isinstance(order.task, InstructTask) and order.task.kl is not None:
        told["USE_KL"] = "1"
        if order.task.kl.coefficient is not None:
            told["KL_COEF"] = str(float(order.task.kl.coefficient))
    return told
