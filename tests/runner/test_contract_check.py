"""Each order that upstream could not have given is refused, with the reason."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runner.contract.check import MAX_ARGUMENT_BYTES, check
from runner.contract.epochs import EPOCHS, ContractEpoch
from runner.contract.order import ContractError, TrainingInputs
from runner.contract.tasks import (
    ChatTask,
    DpoTask,
    EnvironmentTask,
    GrpoTask,
    ImageModel,
    InstructTask,
    KlPenalty,
    Task,
)
from tests.runner.contract_orders import (
    ALL_IMAGE_INPUTS,
    CHAT,
    DPO,
    GRPO,
    IMAGE_INPUTS,
    INSTRUCT,
    ONE_ENVIRONMENT,
    REWARD,
    STORE,
    TEXT_INPUTS,
    TWO_ENVIRONMENTS,
    image,
    order,
)

E1, E2, E3, E4 = ContractEpoch
COLUMNS = ("instruct", "output")


def kl(coefficient: float | None) -> InstructTask:
    return InstructTask(columns=COLUMNS, kl=KlPenalty(coefficient=coefficient))


def requested(*names: str) -> TrainingInputs:
    return replace(TEXT_INPUTS, requested_datasets={name: Path("/store/x") for name in names})


@pytest.mark.parametrize("task", [INSTRUCT, CHAT, DPO, GRPO, ONE_ENVIRONMENT, image(ImageModel.SDXL)])
def test_refuses_the_first_epoch_with_its_reason(task: Task) -> None:
    with pytest.raises(ContractError, match="E1: its champions carry no licence and need a writable cache"):
        check(order(task, E1), inputs=TEXT_INPUTS)


def test_every_other_epoch_is_in_the_table() -> None:
    assert set(EPOCHS) == set(ContractEpoch) - {E1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task_id": "../x"}, "task id '../x' is not a plain name"),
        ({"task_id": "-x"}, "task id '-x' is not a plain name"),
        ({"expected_repo_name": "a/b"}, "repository name 'a/b'"),
        ({"participant": ""}, "participant ''"),
        ({"model": "../../etc"}, "is no hub id"),
        ({"model": "a/b/c"}, "is no hub id"),
        ({"hours_to_complete": 0.0}, "wanted a positive number"),
        ({"hours_to_complete": -1.0}, "wanted a positive number"),
        ({"hours_to_complete": float("inf")}, "wanted a positive number"),
    ],
)
def test_refuses_names_and_times(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ContractError, match=message):
        check(replace(order(INSTRUCT), **change), inputs=TEXT_INPUTS)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (InstructTask(columns=("instruct",)), r"dataset columns \['instruct'\]: .* at least"),
        (InstructTask(columns=(*COLUMNS, "extra")), "dataset columns"),
        (DpoTask(columns=("prompt", "chosen")), r"at least \['chosen', 'prompt', 'rejected'\]"),
        (DpoTask(columns=("prompt", "chosen", "rejected", "input")), "dataset columns"),
        (GrpoTask(columns=("extra_data",), rewards=(REWARD,)), r"at least \['prompt'\]"),
        (GrpoTask(columns=("prompt", "system"), rewards=(REWARD,)), "dataset columns"),
        (GrpoTask(columns=("prompt",), rewards=()), "0 reward functions: wanted 1 to 5"),
        (GrpoTask(columns=("prompt",), rewards=(REWARD,) * 6), "6 reward functions"),
        (
            GrpoTask(columns=("prompt",), rewards=(REWARD, replace(REWARD, source=" \n"))),
            "function 2 has no source",
        ),
        (GrpoTask(columns=("prompt",), rewards=(replace(REWARD, weight=-0.1),)), "weighs -0.1"),
        (GrpoTask(columns=("prompt",), rewards=(replace(REWARD, weight=float("nan")),)), "weighs nan"),
        (kl(-0.1), "coefficient -0.1: wanted a number, zero or more"),
        (kl(float("inf")), "coefficient inf"),
        (ChatTask(template=""), "needs a name for template"),
        (ChatTask(assistant_reference=""), "needs a name for template"),
        (ChatTask(user_reference="a", assistant_reference="a"), "user and assistant are both called 'a'"),
        (ChatTask(role_field="a", content_field="a"), "role and content are both in 'a'"),
        (EnvironmentTask(environments=()), r"environments \[\]: wanted some of"),
        (EnvironmentTask(environments=("chess",)), r"environments \['chess'\]"),
        (EnvironmentTask(environments=("clobber", "clobber")), "each once"),
    ],
)
def test_refuses_a_text_task(task: Task, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        check(order(task), inputs=TEXT_INPUTS)


@pytest.mark.parametrize(
    ("epoch", "task", "message"),
    [
        (E2, ONE_ENVIRONMENT, "epoch E2 has no EnvTask"),
        (E3, TWO_ENVIRONMENTS, "epoch E3 has one environment a task; 2 are named"),
        (E2, kl(None), "epoch E2 has no penalty on the divergence"),
        (E3, kl(0.1), "epoch E3 has no penalty on the divergence"),
        (E2, image(ImageModel.Z_IMAGE), "epoch E2 has no image model z-image; it has sdxl, flux"),
        (E2, image(ImageModel.QWEN_IMAGE), "epoch E2 has no image model qwen-image"),
        (E2, image(ImageModel.KREA2), "epoch E2 has no image model krea2"),
        (E3, image(ImageModel.IDEOGRAM4), "epoch E3 has no image model ideogram4"),
        (E3, image(ImageModel.KREA2), "epoch E3 has no image model krea2"),
        (E4, image(ImageModel.SDXL), "epoch E4 has no image model sdxl; it has flux, z-image, qwen-image"),
        (E2, image(ImageModel.SDXL, "lora"), "epoch E2 has no trigger word"),
    ],
)
def test_refuses_what_an_epoch_does_not_have(epoch: ContractEpoch, task: Task, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        check(order(task, epoch), inputs=TEXT_INPUTS)


@pytest.mark.parametrize("word", ["", "--model", "-x", " a", "a\nb", "a\0", "a" * 101, "$(x)", "\ud800"])
def test_refuses_a_trigger_word_that_could_be_an_option(word: str) -> None:
    with pytest.raises(ContractError, match="is not a plain word"):
        check(order(image(ImageModel.FLUX, word)), inputs=IMAGE_INPUTS)


@pytest.mark.parametrize("word", ["sks dog", "TOK", "żółw", "a-b's"])
def test_takes_trigger_words_that_people_use(word: str) -> None:
    check(order(image(ImageModel.FLUX, word)), inputs=IMAGE_INPUTS)


@pytest.mark.parametrize(
    ("epoch", "task", "inputs", "message"),
    [
        (E4, image(ImageModel.FLUX), TEXT_INPUTS, "an image task needs the cache of tokenizers"),
        (E4, INSTRUCT, IMAGE_INPUTS, "InstructTextTask is shown no cache of tokenizers"),
        (E4, image(ImageModel.KREA2), ALL_IMAGE_INPUTS, "the base model is one file"),
        (E4, CHAT, replace(TEXT_INPUTS, base_model=STORE / "x.safetensors"), "the base model is one file"),
        (E2, DPO, replace(TEXT_INPUTS, baseline_statistics=STORE / "x"), "E2 has no baseline statistics"),
        (
            E2,
            image(ImageModel.SDXL),
            replace(IMAGE_INPUTS, baseline_statistics=STORE / "x"),
            "epoch E2 has no baseline statistics",
        ),
        (E2, INSTRUCT, requested("a/b"), "InstructTextTask of epoch E2 has no requested datasets"),
        (
            E4,
            image(ImageModel.FLUX),
            replace(IMAGE_INPUTS, requested_datasets={"a/b": STORE}),
            "ImageTask of epoch E4 has no requested datasets",
        ),
        (E4, INSTRUCT, requested("a/b", "c/d", "e/f"), "wanted hub ids, 2 at most"),
        (E4, INSTRUCT, requested("../x"), "wanted hub ids"),
        (E4, INSTRUCT, requested("a,b"), "wanted hub ids"),
        (E4, INSTRUCT, requested("a/b--c", "a--b/c"), "have the same folder"),
    ],
)
def test_refuses_inputs_that_the_task_would_not_be_shown(
    epoch: ContractEpoch, task: Task, inputs: TrainingInputs, message: str
) -> None:
    with pytest.raises(ContractError, match=message):
        check(order(task, epoch), inputs=inputs)


def test_refuses_rewards_that_no_command_line_can_hold() -> None:
    fits = replace(REWARD, source="#" * (MAX_ARGUMENT_BYTES - 500))
    check(order(GrpoTask(columns=("prompt",), rewards=(fits,))), inputs=TEXT_INPUTS)
    with pytest.raises(ContractError, match="an argument of over 131071 bytes"):
        check(order(GrpoTask(columns=("prompt",), rewards=(fits, fits))), inputs=TEXT_INPUTS)


def test_takes_what_is_optional_when_it_is_left_out() -> None:
    check(order(kl(None)), inputs=TEXT_INPUTS)
    check(order(DpoTask(columns=("prompt", "chosen", "rejected", "system"))), inputs=TEXT_INPUTS)
    check(order(GrpoTask(columns=("prompt", "extra_data"), rewards=(REWARD,))), inputs=TEXT_INPUTS)
    check(order(EnvironmentTask(environments=("swe_infinite",))), inputs=TEXT_INPUTS)
