"""A champion in its own image: started as Docker would, with nothing of the runtime environment mixed in."""

import json
from pathlib import Path
from typing import Any

import pytest

from runner.contract.arguments import arguments
from runner.contract.cache import cache_mounts
from runner.contract.environment import SECRETS, environment
from runner.contract.epochs import ContractEpoch, EntryPoint
from runner.contract.launch import ContractLaunch, contract_launch, no_image
from runner.contract.order import ContractError
from runner.contract.tasks import ImageModel, Task
from runner.dockerfile import DockerfileError
from runner.images.config import parse_config
from runner.images.unpack import ImageFacts, UnpackedImage
from runner.spec import Access, Image
from tests.runner.contract_orders import IMAGE_INPUTS, INSTRUCT, TEXT_INPUTS, champion, image, order
from tests.runner.image_layers import config_of

E1, E2, E3, E4 = ContractEpoch
MANIFEST = "5" * 64
TREE = Path("/images") / MANIFEST / "tree"


def built(**run: Any) -> UnpackedImage:
    """An image that says this about being started."""
    facts = ImageFacts(
        manifest_sha256=MANIFEST,
        config_sha256="6" * 64,
        tree_sha256="7" * 64,
        entries=1,
        size_bytes=1,
        skipped=0,
        unpacked_at="2026-11-21T02:00:00Z",
    )
    return UnpackedImage(tree=TREE, facts=facts, config=parse_config(config_of([b""], **run)))


def launch(tmp_path: Path, task: Task = INSTRUCT, *, epoch: ContractEpoch = E4, **run: Any) -> ContractLaunch:
    """A launch in such an image; the Dockerfile needs a build, as every real one does."""
    tree = champion(tmp_path)
    for entry in EntryPoint:
        with (tree / "dockerfiles" / entry.dockerfile).open("a") as dockerfile:
            dockerfile.write("RUN pip install axolotl\n")
    given = IMAGE_INPUTS if task is not INSTRUCT else TEXT_INPUTS
    return contract_launch(order(task, epoch), tree=tree, inputs=given, image_of=lambda name: built(**run))


@pytest.mark.parametrize("epoch", [E2, E3, E4])
def test_arguments_follow_the_entry_point_and_replace_the_command(
    tmp_path: Path, epoch: ContractEpoch
) -> None:
    made = launch(
        tmp_path, epoch=epoch, Entrypoint=["/workspace/scripts/entrypoint.sh", "-x"], Cmd=["--help"]
    )
    wanted = ("/workspace/scripts/entrypoint.sh", "-x", *arguments(order(INSTRUCT, epoch)))
    assert made.argv == wanted


def test_a_shell_entry_point_is_given_arguments_as_docker_does(tmp_path: Path) -> None:
    argv = launch(tmp_path, Entrypoint=["/bin/sh", "-c", "python train.py"]).argv
    assert argv[:4] == ("/bin/sh", "-c", "python train.py", "--task-id")


def test_root_and_working_folder_are_the_images(tmp_path: Path) -> None:
    made = launch(tmp_path, WorkingDir="/workspace/scripts")
    assert made.image == Image(tree=str(TREE), manifest_sha256=MANIFEST)
    assert made.cwd == "/workspace/scripts"
    assert launch(tmp_path).cwd == "/"


def test_inputs_are_mounted_and_code_is_not(tmp_path: Path) -> None:
    made = launch(tmp_path)
    assert made.mounts == cache_mounts(order(INSTRUCT), inputs=TEXT_INPUTS)
    assert all(mount.access is Access.READ for mount in made.mounts)
    assert made.output_target == "/app/checkpoints"


def test_environment_is_the_images_under_the_contracts_under_ours(tmp_path: Path) -> None:
    own = ["PATH=/opt/conda/bin:/bin", "LD_LIBRARY_PATH=/usr/local/cuda/lib64", "WANDB_MODE=online", "TZ=CET"]
    told = launch(tmp_path, Env=own).env
    given = dict(word.split("=", 1) for word in own)
    assert told == environment(order(INSTRUCT), inputs=TEXT_INPUTS, image=given)
    assert (told["PATH"], told["LD_LIBRARY_PATH"]) == ("/opt/conda/bin:/bin", "/usr/local/cuda/lib64")
    assert (told["WANDB_MODE"], told["TZ"]) == ("offline", "UTC")


def test_secrets_that_an_image_brings_are_dropped(tmp_path: Path) -> None:
    told = launch(tmp_path, Env=[f"{name}=hf_x" for name in sorted(SECRETS)]).env
    assert not SECRETS & set(told)
    assert "hf_x" not in json.dumps(dict(told))


@pytest.mark.parametrize(
    ("task", "epoch", "wanted"),
    [
        (INSTRUCT, E4, "dockerfiles/standalone-text-trainer.dockerfile"),
        (image(ImageModel.SDXL), E3, "dockerfiles/standalone-image-trainer.dockerfile"),
        (image(ImageModel.KREA2), E4, "dockerfiles/standalone-image-toolkit-trainer.dockerfile"),
    ],
)
def test_the_image_asked_for_is_of_the_dockerfile_that_upstream_would_build(
    tmp_path: Path, task: Task, epoch: ContractEpoch, wanted: str
) -> None:
    asked = []

    def image_of(name: str) -> UnpackedImage:
        asked.append(name)
        return built()

    given = TEXT_INPUTS if task is INSTRUCT else IMAGE_INPUTS
    contract_launch(order(task, epoch), tree=champion(tmp_path), inputs=given, image_of=image_of)
    assert asked == [wanted]


def test_without_an_image_code_may_be_changed_and_stays_as_it_is(tmp_path: Path) -> None:
    made = contract_launch(order(INSTRUCT), tree=champion(tmp_path), inputs=TEXT_INPUTS, image_of=no_image)
    assert [mount.access for mount in made.mounts] == [Access.COPY, Access.READ, Access.READ]
    assert made.image is None


def test_without_an_image_a_dockerfile_that_needs_one_is_refused(tmp_path: Path) -> None:
    launch(tmp_path)
    with pytest.raises(DockerfileError, match="needs an image build"):
        contract_launch(order(INSTRUCT), tree=tmp_path, inputs=TEXT_INPUTS)


def test_the_first_epoch_is_refused_whatever_image_there_is(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="epoch E1: its champions carry no licence"):
        launch(tmp_path, epoch=E1)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ({"User": "1000:1000"}, r"dockerfiles/standalone-text-trainer.dockerfile starts as user '1000:1000'"),
        ({"Entrypoint": None, "Cmd": ["python"]}, "has no entry point for the contract's arguments"),
        ({"Entrypoint": []}, "has no entry point for the contract's arguments"),
    ],
)
def test_an_image_that_the_contract_does_not_fit_is_refused(
    tmp_path: Path, run: dict[str, Any], message: str
) -> None:
    with pytest.raises(ContractError, match=message):
        launch(tmp_path, **run)
