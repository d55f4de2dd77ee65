"""How a champion of each contract epoch is started, so that it notices no difference to the tournament.

Arguments, their order, paths and environment are upstream's; secrets that upstream hands out are not. What
is covered: text tasks of type InstructTextTask, epochs E2 to E4. What is not covered: other task types, E1
(no licence), champions that write outside /tmp and /app/checkpoints, champions that need an image build.

Source: the Gradients champion contract. Gradients.io (https://gradients.io).
"""

import json
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from runner.dockerfile import read_dockerfile
from runner.errors import RunnerError
from runner.spec import Mount

OUTPUT_TARGET = "/app/checkpoints"
TEXT_DOCKERFILE = "standalone-text-trainer.dockerfile"
INSTRUCT = "InstructTextTask"
# Columns of a prepared dataset, under the names that champions hard-code.
INSTRUCT_COLUMNS = ("instruct", "input", "output", "system")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,159}")
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?")
_WANDB_FOLDERS = ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_ARTIFACT_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR")
# Ours, beside the contract's: champions mix local time with UTC, libraries must not try the network, idle
# threads must not spin, and a killed champion's last words should be in the log.
_OURS = {
    "TZ": "UTC",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "PYTHONUNBUFFERED": "1",
}


class ContractError(RunnerError):
    """This champion or order cannot be run under its contract; the message says why."""


class ContractEpoch(StrEnum):
    """The contract a champion was written for."""

    E1 = "E1"
    E2 = "E2"
    E3 = "E3"
    E4 = "E4"


# Folders in which upstream looks for the Dockerfile, first hit wins. All else is equal from E2 on for text.
DOCKERFILE_FOLDERS: Mapping[ContractEpoch, tuple[str, ...]] = {
    ContractEpoch.E2: ("dockerfiles",),
    ContractEpoch.E3: ("dockerfiles",),
    ContractEpoch.E4: ("ops/docker", "dockerfiles"),
}


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractLaunch:
    """What the sandbox must start and show. The model appears at `output_leaf`, below the output."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str
    mounts: tuple[Mount, ...]
    output_target: str
    output_folders: tuple[str, ...]
    output_leaf: str


def champion_command(
    order: ContractOrder, *, tree: Path, base_model: Path, train_file: Path
) -> ContractLaunch:
    """How to start the champion in `tree` for this order. Touches nothing; reads the Dockerfile.

    Raises ContractError for an order outside the contract, DockerfileError for a champion that needs an
    image build.
    """
    _check(order)
    dockerfile = read_dockerfile(tree, find_dockerfile(tree, epoch=order.epoch))
    wandb = f"wandb_logs/{order.task_id}_{order.participant}"
    return ContractLaunch(
        argv=(*dockerfile.entrypoint, *_arguments(order)),
        env=_environment(dockerfile.env, wandb_dir=f"{OUTPUT_TARGET}/{wandb}"),
        cwd=dockerfile.workdir,
        mounts=(
            *(Mount(source=str(tree / c.source), target=c.target) for c in dockerfile.copies),
            Mount(source=str(base_model), target=f"/cache/models/{order.model.replace('/', '--')}"),
            Mount(source=str(train_file), target=f"/cache/datasets/{order.task_id}_train_data.json"),
        ),
        output_target=OUTPUT_TARGET,
        # Not the leaf: champions remove and make it again, so it must be no mount point.
        output_folders=(order.task_id, wandb),
        output_leaf=f"{order.task_id}/{order.expected_repo_name}",
    )


def find_dockerfile(tree: Path, *, epoch: ContractEpoch) -> str:
    """The champion's text Dockerfile, relative to `tree`. Raises ContractError if there is none."""
    folders = DOCKERFILE_FOLDERS.get(epoch, ())
    for folder in folders:
        name = f"{folder}/{TEXT_DOCKERFILE}"
        steps = [tree / folder.split("/")[0], tree / folder, tree / name]
        if any(step.is_symlink() for step in steps):
            raise ContractError(f"{name} leads through a link")
        if (tree / name).is_file():
            return name
    raise ContractError(f"no {TEXT_DOCKERFILE}; looked in {', '.join(folders) or 'no folder'}")


def is_model_id(text: str) -> bool:
    """Whether `text` can be told to a champion as a model: `organisation/model` or `model`."""
    return _MODEL.fullmatch(text) is not None


def instruct_dataset_type(columns: Collection[str]) -> dict[str, str | None]:
    """Upstream's InstructTextDatasetType with every key, in upstream's order, nulls included."""
    told = {name: name if name in columns else None for name in INSTRUCT_COLUMNS}
    return {
        "system_prompt": "",
        "system_format": "{system}",
        "field_system": told["system"],
        "field_instruction": told["instruct"],
        "field_input": told["input"],
        "field_output": told["output"],
        "format": None,
        "no_input_format": None,
        "field": None,
    }


def _arguments(order: ContractOrder) -> tuple[str, ...]:
    """Exactly upstream's, in upstream's order: champions exit with 2 at an argument they do not know."""
    # Upstream's address cannot be reached by the champion either; it reads the cached file.
    address = f"https://dataset.invalid/{order.task_id}_train_data.json"  # RFC 2606
    return (
        "--task-id", order.task_id,
        "--model", order.model,
        "--dataset", address,
        "--dataset-type", json.dumps(instruct_dataset_type(order.dataset_columns)),
        "--task-type", order.task_type,
        "--file-format", "s3",
        "--expected-repo-name", order.expected_repo_name,
        "--hours-to-complete", str(float(order.hours_to_complete)),
    )  # fmt: skip


def _environment(image: Mapping[str, str], *, wandb_dir: str) -> dict[str, str]:
    """The image's ENV under the contract's variables under ours. Upstream's tokens are never set."""
    return {**image, "WANDB_MODE": "offline", **dict.fromkeys(_WANDB_FOLDERS, wandb_dir), **_OURS}


def _check(order: ContractOrder) -> None:
    if order.epoch is ContractEpoch.E1:
        raise ContractError(
            "epoch E1: its champions carry no licence and need a writable cache; not run here"
        )
    if order.task_type != INSTRUCT:
        raise ContractError(f"task type {order.task_type} is not run here yet; {INSTRUCT} is")
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
    if not {"instruct", "output"} <= set(order.dataset_columns) <= set(INSTRUCT_COLUMNS):
        raise ContractError(
            f"dataset columns {list(order.dataset_columns)}: wanted some of {INSTRUCT_COLUMNS}"
        )
