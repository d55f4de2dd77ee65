"""The contract as a table: what each epoch tells and shows for each task must not move by a byte.

`contract_golden.json` was typed from the reference; no code of ours wrote it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runner.contract.arguments import arguments
from runner.contract.cache import cache_mounts
from runner.contract.check import check
from runner.contract.environment import environment
from runner.contract.epochs import EPOCHS, ContractEpoch, EntryPoint
from runner.contract.launch import contract_launch
from runner.contract.order import ContractError, TrainingInputs, TrainingOrder
from runner.contract.output import output_folders, output_leaf
from runner.contract.tasks import EnvironmentTask, ImageModel, ImageTask, Task, TaskType
from runner.spec import Access, Mount
from tests.runner.contract_orders import (
    ALL_IMAGE_INPUTS,
    ALL_TEXT_INPUTS,
    CHAT,
    DPO,
    GRPO,
    IMAGE_INPUTS,
    INSTRUCT,
    KL,
    ONE_ENVIRONMENT,
    TEXT_INPUTS,
    TWO_ENVIRONMENTS,
    champion,
    image,
    order,
)

E2, E3, E4 = ContractEpoch.E2, ContractEpoch.E3, ContractEpoch.E4
GOLDEN: list[dict[str, Any]] = json.loads(Path(__file__).with_name("contract_golden.json").read_bytes())


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is ordered in a golden case."""

    order: TrainingOrder
    inputs: TrainingInputs


def text(task: Task, epoch: ContractEpoch, inputs: TrainingInputs = TEXT_INPUTS) -> Case:
    return Case(order=order(task, epoch), inputs=inputs)


def picture(
    model_type: ImageModel,
    epoch: ContractEpoch,
    word: str | None = None,
    inputs: TrainingInputs = IMAGE_INPUTS,
) -> Case:
    return Case(order=order(image(model_type, word), epoch), inputs=inputs)


ORDERED: Mapping[str, Case] = {
    **{f"{epoch} InstructTextTask": text(INSTRUCT, epoch) for epoch in (E2, E3, E4)},
    **{f"{epoch} ChatTask": text(CHAT, epoch) for epoch in (E2, E3, E4)},
    **{f"{epoch} DpoTask": text(DPO, epoch) for epoch in (E2, E3, E4)},
    **{f"{epoch} GrpoTask": text(GRPO, epoch) for epoch in (E2, E3, E4)},
    "E3 EnvTask": text(ONE_ENVIRONMENT, E3),
    "E4 EnvTask": text(TWO_ENVIRONMENTS, E4),
    "E2 ImageTask sdxl": picture(ImageModel.SDXL, E2),
    "E2 ImageTask flux": picture(ImageModel.FLUX, E2),
    "E3 ImageTask sdxl": picture(ImageModel.SDXL, E3, "lora"),
    "E3 ImageTask flux": picture(ImageModel.FLUX, E3, "lora"),
    "E3 ImageTask z-image": picture(ImageModel.Z_IMAGE, E3, "lora"),
    "E3 ImageTask qwen-image": picture(ImageModel.QWEN_IMAGE, E3, "lora"),
    "E4 ImageTask flux": picture(ImageModel.FLUX, E4),
    "E4 ImageTask z-image": picture(ImageModel.Z_IMAGE, E4),
    "E4 ImageTask qwen-image": picture(ImageModel.QWEN_IMAGE, E4),
    "E4 ImageTask ideogram4": picture(ImageModel.IDEOGRAM4, E4),
    "E4 ImageTask krea2": picture(ImageModel.KREA2, E4),
    "E3 InstructTextTask with statistics and requested datasets": text(INSTRUCT, E3, ALL_TEXT_INPUTS),
    "E4 InstructTextTask with everything optional": text(KL, E4, ALL_TEXT_INPUTS),
    **{
        f"{epoch} ImageTask flux as one file, with everything optional": picture(
            ImageModel.FLUX, epoch, "lora", ALL_IMAGE_INPUTS
        )
        for epoch in (E3, E4)
    },
}
golden = pytest.mark.parametrize("wanted", GOLDEN, ids=[case["case"] for case in GOLDEN])


def flat(pairs: list[list[str]]) -> tuple[str, ...]:
    return tuple(word for pair in pairs for word in pair)


def mounts(pairs: list[list[str]]) -> tuple[Mount, ...]:
    return tuple(Mount(source=source, target=target) for source, target in pairs)


def test_golden_cases_are_all_ordered() -> None:
    assert sorted(ORDERED) == sorted(case["case"] for case in GOLDEN)


def test_golden_cases_cover_each_task_and_image_model_of_each_epoch() -> None:
    """Whoever adds a type to an epoch must write down what its champions are told."""
    covered = {
        (case.order.epoch, case.order.task.type, getattr(case.order.task, "model_type", None))
        for case in ORDERED.values()
    }
    assert covered == {
        (epoch, task, model)
        for epoch, facts in EPOCHS.items()
        for task in facts.task_types
        for model in (facts.image_entries if task is TaskType.IMAGE else [None])
    }


@golden
def test_command_is_upstreams_to_the_byte(wanted: dict[str, Any]) -> None:
    case = ORDERED[wanted["case"]]
    check(case.order, inputs=case.inputs)
    assert arguments(case.order) == flat(wanted["command"])


@golden
def test_environment_is_the_contracts_and_ours(wanted: dict[str, Any]) -> None:
    case = ORDERED[wanted["case"]]
    assert environment(case.order, inputs=case.inputs, image={}) == wanted["environment"]


@golden
def test_inputs_appear_where_champions_look(wanted: dict[str, Any]) -> None:
    case = ORDERED[wanted["case"]]
    assert cache_mounts(case.order, inputs=case.inputs) == mounts(wanted["mounts"])


@golden
def test_output_is_where_champions_write(wanted: dict[str, Any]) -> None:
    case = ORDERED[wanted["case"]]
    assert list(output_folders(case.order)) == wanted["output_folders"]
    assert output_leaf(case.order) == wanted["output_leaf"]


@golden
def test_launch_holds_the_golden_values_together(wanted: dict[str, Any], tmp_path: Path) -> None:
    case = ORDERED[wanted["case"]]
    tree = champion(champion(tmp_path), where="ops/docker")
    if isinstance(case.order.task, EnvironmentTask):
        with pytest.raises(ContractError, match=r"EnvTask needs environment servers .* no policy allows"):
            contract_launch(case.order, tree=tree, inputs=case.inputs)
        return
    made = contract_launch(case.order, tree=tree, inputs=case.inputs)
    # The entry point says which Dockerfile it was read from.
    folder, name = wanted["dockerfile"].rsplit("/", 1)
    kind = name.removeprefix("standalone-").removesuffix("-trainer.dockerfile")
    assert made.argv[:3] == ("python", "-m", f"{kind}_of_{folder.replace('/', '_')}")
    assert made.argv[3:] == flat(wanted["command"])
    assert made.env == wanted["environment"]
    code = Mount(source=str(tree / "scripts"), target="/workspace/scripts", access=Access.COPY)
    assert made.mounts == (code, *mounts(wanted["mounts"]))
    assert made.output_target == "/app/checkpoints"
    assert list(made.output_folders) == wanted["output_folders"]
    assert made.output_leaf == wanted["output_leaf"]
    assert made.cwd == "/workspace/scripts"
    assert made.entry is EntryPoint(kind)
    assert made.image is None


@pytest.mark.parametrize("wanted", [c for c in GOLDEN if "Image" in c["case"]], ids=lambda c: str(c["case"]))
def test_trigger_word_is_last_and_only_when_given(wanted: dict[str, Any]) -> None:
    task = ORDERED[wanted["case"]].order.task
    assert isinstance(task, ImageTask)
    words = arguments(ORDERED[wanted["case"]].order)
    assert ("--trigger-word" in words) == (task.trigger_word is not None)
    if task.trigger_word is not None:
        assert words[-2:] == ("--trigger-word", task.trigger_word)
