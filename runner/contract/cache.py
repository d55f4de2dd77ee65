"""Where champions look for their inputs: this job's files, and no others, below a read-only /cache.

Source: the champion contract, sections 5.4, 5.5 and 13.
"""

from collections.abc import Iterator, Mapping

from runner.contract.arguments import dataset_file
from runner.contract.epochs import HF_CACHE
from runner.contract.order import TrainingInputs, TrainingOrder
from runner.contract.tasks import ImageModel, ImageTask
from runner.spec import Mount

CACHE = "/cache"
REQUESTED_DATASETS = f"{CACHE}/miner_datasets"
SAFETENSORS = ".safetensors"
MAX_WHOLE_MODEL_BYTES = 6 << 30  # of one file; upstream's downloader
# Image models of which upstream fetches one file alone when it is larger than that.
SINGLE_FILE_MODELS = frozenset({ImageModel.SDXL, ImageModel.FLUX})
# What image champions find in HF_CACHE, in the layout of the hub's cache …
TOKENIZERS = (
    "openai/clip-vit-large-patch14",
    "laion/CLIP-ViT-bigG-14-laion2B-39B-b160k",
    "google/t5-v1_1-xxl",
)
# … and directly in it.
ADAPTERS: Mapping[ImageModel, str] = {
    ImageModel.Z_IMAGE: "zimage_turbo_training_adapter_v2.safetensors",
    ImageModel.QWEN_IMAGE: "qwen_image_torchao_uint3.safetensors",
}


def cache_mounts(order: TrainingOrder, *, inputs: TrainingInputs) -> tuple[Mount, ...]:
    """The job's inputs at the contract's places."""
    return tuple(_mounts(order, inputs))


def single_file(model_type: ImageModel, *, size_bytes: Mapping[str, int]) -> str | None:
    """The one file of a model folder that upstream would fetch; None for the whole folder.

    `size_bytes` are the files directly in the folder. The champion finds it as the model's only file.
    """
    large = {
        name: size
        for name, size in size_bytes.items()
        if name.endswith(SAFETENSORS) and size > MAX_WHOLE_MODEL_BYTES
    }
    if model_type not in SINGLE_FILE_MODELS or not large:
        return None
    return max(large, key=lambda name: large[name])  # the first of equals, as upstream


def statistics_target(order: TrainingOrder) -> str:
    """Where the baseline statistics are; upstream leaves the participant out for image tasks."""
    if isinstance(order.task, ImageTask):
        return f"{CACHE}/baseline_stats_{order.task_id}.json"
    return f"{CACHE}/baseline_stats_{order.task_id}_{order.participant[:8]}.json"


def hub_folder(hub_id: str) -> str:
    """The folder of a dataset or model in the cache."""
    return hub_id.replace("/", "--")


def _mounts(order: TrainingOrder, inputs: TrainingInputs) -> Iterator[Mount]:
    yield Mount(source=str(inputs.base_model), target=_model_target(order, inputs))
    yield Mount(source=str(inputs.dataset), target=f"{CACHE}/datasets/{dataset_file(order)}")
    if inputs.baseline_statistics is not None:
        yield Mount(source=str(inputs.baseline_statistics), target=statistics_target(order))
    if inputs.hf_cache is not None:
        yield Mount(source=str(inputs.hf_cache), target=HF_CACHE)
    for hub_id, folder in inputs.requested_datasets.items():
        yield Mount(source=str(folder), target=f"{REQUESTED_DATASETS}/{hub_folder(hub_id)}")


def _model_target(order: TrainingOrder, inputs: TrainingInputs) -> str:
    folder = f"{CACHE}/models/{hub_folder(order.model)}"
    if inputs.base_model.suffix == SAFETENSORS:
        return f"{folder}/{order.model.replace('/', '_')}{SAFETENSORS}"
    return folder
