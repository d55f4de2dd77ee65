"""What changed from one epoch of the tournament's contract to the next, as a table.

Source: the Gradients champion contract, sections 1 and 5. Gradients.io (https://gradients.io).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from runner.contract.tasks import ImageModel, TaskType


class ContractEpoch(StrEnum):
    """The contract a champion was written for."""

    E1 = "E1"
    E2 = "E2"
    E3 = "E3"
    E4 = "E4"


class EntryPoint(StrEnum):
    """Which of a champion's images does a task; each has a Dockerfile of its own."""

    TEXT = "text"
    IMAGE = "image"
    IMAGE_TOOLKIT = "image-toolkit"

    @property
    def dockerfile(self) -> str:
        """The file name that upstream looks for."""
        return f"standalone-{self}-trainer.dockerfile"


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochFacts:
    """What a champion of one epoch is given, and what it has never been given."""

    # Folders in which upstream looks for a Dockerfile, first hit wins.
    dockerfile_folders: tuple[str, ...]
    task_types: frozenset[TaskType]
    # Where an image model is trained, in the order of looking; all text goes to EntryPoint.TEXT.
    image_entries: Mapping[ImageModel, tuple[EntryPoint, ...]]
    environment_key: str  # of the dataset type of environment tasks
    has_trigger_word: bool
    has_baseline_statistics: bool
    has_requested_datasets: bool
    has_kl: bool
    image_variables: Mapping[str, str]


HF_CACHE = "/cache/hf_cache"
_TEXT = frozenset({TaskType.INSTRUCT, TaskType.CHAT, TaskType.DPO, TaskType.GRPO, TaskType.IMAGE})
_KOHYA, _TOOLKIT = (EntryPoint.IMAGE,), (EntryPoint.IMAGE_TOOLKIT,)

EPOCHS: Mapping[ContractEpoch, EpochFacts] = {
    ContractEpoch.E2: EpochFacts(
        dockerfile_folders=("dockerfiles",),
        task_types=_TEXT,
        image_entries={ImageModel.SDXL: _KOHYA, ImageModel.FLUX: _KOHYA},
        environment_key="",
        has_trigger_word=False,
        has_baseline_statistics=False,
        has_requested_datasets=False,
        has_kl=False,
        image_variables={"TRANSFORMERS_CACHE": HF_CACHE},
    ),
    ContractEpoch.E3: EpochFacts(
        dockerfile_folders=("dockerfiles",),
        task_types=_TEXT | {TaskType.ENVIRONMENT},
        image_entries={
            ImageModel.SDXL: _KOHYA,
            ImageModel.FLUX: _KOHYA,
            ImageModel.Z_IMAGE: _TOOLKIT,
            ImageModel.QWEN_IMAGE: _TOOLKIT,
        },
        environment_key="environment_name",
        has_trigger_word=True,
        has_baseline_statistics=True,
        has_requested_datasets=True,
        has_kl=False,
        image_variables={"TRANSFORMERS_CACHE": HF_CACHE},
    ),
    ContractEpoch.E4: EpochFacts(
        dockerfile_folders=("ops/docker", "dockerfiles"),
        task_types=_TEXT | {TaskType.ENVIRONMENT},
        image_entries={
            # Upstream's trainer sends flux to the kohya file, its later documentation to the toolkit's.
            ImageModel.FLUX: _KOHYA + _TOOLKIT,
            ImageModel.Z_IMAGE: _TOOLKIT,
            ImageModel.QWEN_IMAGE: _TOOLKIT,
            ImageModel.IDEOGRAM4: _TOOLKIT,
            ImageModel.KREA2: _TOOLKIT,
        },
        environment_key="environment_names",
        has_trigger_word=True,
        has_baseline_statistics=True,
        has_requested_datasets=True,
        has_kl=True,
        image_variables={"TRANSFORMERS_CACHE": HF_CACHE, "HF_HOME": HF_CACHE},
    ),
}
