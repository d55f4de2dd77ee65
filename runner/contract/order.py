"""What upstream would have told a champion, and which files it would have shown it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from runner.contract.epochs import ContractEpoch
from runner.contract.tasks import Task
from runner.errors import RunnerError

_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?")


class ContractError(RunnerError):
    """This champion or order cannot be run under its contract; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingOrder:
    """What upstream would have told the champion."""

    epoch: ContractEpoch
    task: Task
    task_id: str
    model: str  # the hub id, which champions look up in their own tables; never upstream's salted hash
    expected_repo_name: str
    hours_to_complete: float
    participant: str  # stands where upstream has the hotkey


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingInputs:
    """The files of one job. Paths on the host; nothing here is opened."""

    base_model: Path  # a folder; for some image models one .safetensors file (contract.cache)
    dataset: Path  # text: the train file; image: the archive
    baseline_statistics: Path | None = None
    hf_cache: Path | None = None  # tokenizers and adapters of image models
    # Datasets that the champion's author asked for in the tournament, by hub id.
    requested_datasets: Mapping[str, Path] = field(default_factory=dict)


def is_model_id(text: str) -> bool:
    """Whether `text` can be told to a champion as a model: `organisation/model` or `model`."""
    return _MODEL.fullmatch(text) is not None
