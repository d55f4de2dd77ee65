"""Which of a champion's Dockerfiles is taken, and what the sandbox is told beside arguments and mounts."""

from pathlib import Path, PurePosixPath

import pytest

from runner.contract.cache import ADAPTERS, TOKENIZERS, single_file
from runner.contract.environment import SECRETS
from runner.contract.epochs import HF_CACHE, ContractEpoch, EntryPoint
from runner.contract.launch import contract_launch, find_dockerfile
from runner.contract.order import ContractError, TrainingInputs
from runner.contract.output import WRITABLE_PATHS
from runner.contract.resources import upstream_resources
from runner.contract.tasks import ImageModel, ImageTask, Task
from runner.dockerfile import DockerfileError
from tests.runner.contract_orders import (
    IMAGE_INPUTS,
    INSTRUCT,
    ONE_ENVIRONMENT,
    TEXT_INPUTS,
    champion,
    image,
    order,
)

E1, E2, E3, E4 = ContractEpoch
TEXT, IMAGE, IMAGE_TOOLKIT = EntryPoint
FLUX = image(ImageModel.FLUX)
GIB = 1 << 30


def inputs_of(task: Task) -> TrainingInputs:
    return IMAGE_INPUTS if isinstance(task, ImageTask) else TEXT_INPUTS


@pytest.mark.parametrize(
    ("entry", "name"),
    [
        (TEXT, "standalone-text-trainer.dockerfile"),
        (IMAGE, "standalone-image-trainer.dockerfile"),
        (IMAGE_TOOLKIT, "standalone-image-toolkit-trainer.dockerfile"),
    ],
)
def test_dockerfiles_have_upstreams_names(entry: EntryPoint, name: str) -> None:
    assert entry.dockerfile == name


@pytest.mark.parametrize(("epoch", "folder"), [(E2, "dockerfiles"), (E3, "dockerfiles"), (E4, "ops/docker")])
def test_folders_are_searched_in_the_epochs_order(tmp_path: Path, epoch: ContractEpoch, folder: str) -> None:
    tree = champion(champion(tmp_path), where="ops/docker")
    assert find_dockerfile(tree, epoch=epoch, entries=(TEXT,)).name == f"{folder}/{TEXT.dockerfile}"


def test_newest_epoch_falls_back_to_the_older_folder(tmp_path: Path) -> None:
    tree = champion(tmp_path)
    assert find_dockerfile(tree, epoch=E4, entries=(TEXT,)).name == f"dockerfiles/{TEXT.dockerfile}"


def test_older_epochs_never_look_into_the_newer_folder(tmp_path: Path) -> None:
    tree = champion(tmp_path, where="ops/docker")
    with pytest.raises(ContractError, match=r"no standalone-text-trainer.dockerfile; looked in dockerfiles"):
        contract_launch(order(INSTRUCT, E3), tree=tree, inputs=TEXT_INPUTS)


def test_first_epoch_has_no_folder_to_look_in(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="looked in no folder"):
        find_dockerfile(champion(tmp_path), epoch=E1, entries=(TEXT,))


def test_flux_of_the_newest_epoch_takes_the_toolkit_when_that_is_all_there_is(tmp_path: Path) -> None:
    tree = champion(tmp_path, entries=(TEXT, IMAGE_TOOLKIT))
    assert contract_launch(order(FLUX, E4), tree=tree, inputs=IMAGE_INPUTS).entry is IMAGE_TOOLKIT
    with pytest.raises(ContractError, match=r"no standalone-image-trainer.dockerfile; looked"):
        contract_launch(order(FLUX, E3), tree=tree, inputs=IMAGE_INPUTS)


@pytest.mark.parametrize(
    ("task", "missing"),
    [
        (INSTRUCT, "standalone-text-trainer"),
        (FLUX, "standalone-image-trainer.dockerfile or standalone-image-toolkit-trainer"),
        (image(ImageModel.KREA2), "standalone-image-toolkit-trainer"),
    ],
)
def test_refuses_a_champion_of_another_kind(tmp_path: Path, task: Task, missing: str) -> None:
    tree = champion(tmp_path, entries=())
    with pytest.raises(ContractError, match=f"no {missing}"):
        contract_launch(order(task), tree=tree, inputs=inputs_of(task))


def test_refuses_a_dockerfile_behind_a_link(tmp_path: Path) -> None:
    tree = champion(tmp_path / "tree")
    (tree / "dockerfiles").rename(tmp_path / "elsewhere")
    (tree / "dockerfiles").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ContractError, match="leads through a link"):
        contract_launch(order(FLUX, E3), tree=tree, inputs=IMAGE_INPUTS)


def test_refuses_an_image_champion_that_must_be_built(tmp_path: Path) -> None:
    tree = champion(tmp_path)
    with (tree / "dockerfiles" / IMAGE.dockerfile).open("a") as file:
        file.write("RUN pip install x\n")
    with pytest.raises(
        DockerfileError, match=r"needs an image build: .*standalone-image-trainer.dockerfile:5"
    ):
        contract_launch(order(FLUX, E3), tree=tree, inputs=IMAGE_INPUTS)


def test_environment_tasks_are_refused_before_the_champion_is_looked_at(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"needs environment servers beside the champion \(sidecars\)"):
        contract_launch(order(ONE_ENVIRONMENT), tree=tmp_path / "nothing", inputs=TEXT_INPUTS)


def test_a_token_in_the_champions_own_image_is_dropped(tmp_path: Path) -> None:
    tree = champion(tmp_path)
    lines = "".join(f"ENV {name}=hf_x\n" for name in sorted(SECRETS)) + "ENV FINE=1 WANDB_MODE=online\n"
    with (tree / "dockerfiles" / IMAGE.dockerfile).open("a") as file:
        file.write(lines)
    told = contract_launch(order(FLUX, E4), tree=tree, inputs=IMAGE_INPUTS).env
    assert not SECRETS & set(told)
    assert {"HUGGINGFACE_TOKEN", "HUGGINGFACE_USERNAME"} <= SECRETS
    assert (told["FINE"], told["WANDB_MODE"]) == ("1", "offline")


@pytest.mark.parametrize(
    ("entry", "paths"),
    [
        (
            TEXT,
            """/workspace/scripts/datasets /workspace/scripts/soutputs /workspace/axolotl/data
            /workspace/axolotl/data_prepared /workspace/axolotl/configs /workspace/axolotl/outputs
            /workspace/axolotl/src /workspace/input_data /workspace/data/trained_model /tmp ~/.cache
            ~/.triton""",
        ),
        (IMAGE, "/dataset/configs /dataset/images /dataset/outputs ./core/dataset/images /tmp ~/.cache"),
        (IMAGE_TOOLKIT, "/dataset/configs /dataset/images /dataset/outputs ./core/dataset/images /tmp"),
    ],
)
def test_paths_that_champions_were_seen_to_write_are_listed(entry: EntryPoint, paths: str) -> None:
    listed = [PurePosixPath(path) for path in WRITABLE_PATHS[entry]]
    for path in paths.split():
        assert any(PurePosixPath(path).is_relative_to(above) for above in listed), path


def test_writable_paths_hold_no_input_and_no_output() -> None:
    for paths in WRITABLE_PATHS.values():
        assert not [path for path in paths if path.startswith(("/cache", "/app/checkpoints", "/usr", "/etc"))]
        assert all(path.startswith(("/", "~/", "./")) and ".." not in path for path in paths)


@pytest.mark.parametrize(("task", "entry"), [(INSTRUCT, TEXT), (FLUX, IMAGE)])
def test_launch_names_the_paths_of_its_image(tmp_path: Path, task: Task, entry: EntryPoint) -> None:
    made = contract_launch(order(task), tree=champion(tmp_path), inputs=inputs_of(task))
    assert (made.entry, made.writable_paths) == (entry, WRITABLE_PATHS[entry])


@pytest.mark.parametrize(
    ("gpus", "memory_gib", "cpus", "shm_gib"),
    [(1, 110, 24, 8), (2, 220, 48, 8), (3, 330, 72, 8), (4, 440, 96, 16), (8, 880, 192, 16)],
)
def test_resources_are_upstreams(gpus: int, memory_gib: int, cpus: int, shm_gib: int) -> None:
    made = upstream_resources(gpus=gpus)
    assert made.memory_bytes == memory_gib * GIB
    assert made.cpu_millis == cpus * 1000
    assert made.shm_bytes == shm_gib * GIB


@pytest.mark.parametrize("gpus", [0, -1])
def test_no_resources_without_a_gpu(gpus: int) -> None:
    with pytest.raises(ValueError, match="at least one"):
        upstream_resources(gpus=gpus)


@pytest.mark.parametrize(
    ("model_type", "sizes", "taken"),
    [
        (ImageModel.SDXL, {"a.safetensors": 6 * GIB + 1, "b.safetensors": 1}, "a.safetensors"),
        (ImageModel.FLUX, {"a.safetensors": 7 * GIB, "b.safetensors": 8 * GIB}, "b.safetensors"),
        (ImageModel.FLUX, {"a.safetensors": 7 * GIB, "b.safetensors": 7 * GIB}, "a.safetensors"),
        (ImageModel.FLUX, {"a.safetensors": 6 * GIB}, None),
        (ImageModel.FLUX, {"a.bin": 9 * GIB}, None),
        (ImageModel.FLUX, {}, None),
        (ImageModel.KREA2, {"a.safetensors": 9 * GIB}, None),
        (ImageModel.Z_IMAGE, {"a.safetensors": 9 * GIB}, None),
    ],
)
def test_one_large_file_stands_for_the_model(
    model_type: ImageModel, sizes: dict[str, int], taken: str | None
) -> None:
    assert single_file(model_type, size_bytes=sizes) == taken


def test_cache_of_image_champions_is_described() -> None:
    assert HF_CACHE == "/cache/hf_cache"
    assert "openai/clip-vit-large-patch14" in TOKENIZERS
    assert len(TOKENIZERS) == 3
    assert ADAPTERS == {
        ImageModel.Z_IMAGE: "zimage_turbo_training_adapter_v2.safetensors",
        ImageModel.QWEN_IMAGE: "qwen_image_torchao_uint3.safetensors",
    }
