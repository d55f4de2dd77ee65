"""Real winners of the tournament, unmodified, behind a real sandbox, as far as a machine without a GPU goes.

Nothing of theirs is in this repository. ASSAY_TEST_WINNER names checkouts: `E3=/a/checkout,E2=/another`; one
may be named for several epochs. What their images would add and this machine lacks is stood in for, see
`docs/champion-behaviour.md`. Gradients.io (https://gradients.io).
"""

import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from runner.contract.epochs import ContractEpoch
from runner.contract.launch import contract_launch, entry_points
from runner.contract.order import ContractError, TrainingInputs, TrainingOrder
from runner.contract.tasks import (
    ChatTask,
    DpoTask,
    GrpoTask,
    ImageModel,
    ImageTask,
    InstructTask,
    RewardFunction,
    Task,
)
from runner.dockerfile import DockerfileError
from runner.spec import ExitReason
from runner.verdict import NoModelError, Verdict
from tests.runner.champion_runs import MIB, REPOSITORY, SCRIPTS, TASK_ID, Ran, limits, spec_of, start
from tests.runner.winners import PATH, picture, told, tree_of

VARIABLE = "ASSAY_TEST_WINNER"
MISSING = f"a real winner is not on this machine: set {VARIABLE} to a checkout"
pytestmark = [pytest.mark.sandbox, pytest.mark.training]

E1, E2, E3, E4 = ContractEpoch
ROOT = SCRIPTS.parents[2]
MODEL = "Qwen/Qwen2.5-0.5B"  # in winners' own tables, under its SHA-256
SDXL = "stabilityai/stable-diffusion-xl-base-1.0"
ROWS = 240  # winners hold 200 back themselves
TEXT_ROWS: Mapping[str, Mapping[str, Any]] = {
    "instruct": {"instruct": "say {n}", "output": "{n}"},
    "chat": {"conversations": [{"from": "user", "value": "say {n}"}, {"from": "assistant", "value": "{n}"}]},
    "dpo": {"prompt": "say {n}", "chosen": "{n}", "rejected": "no"},
    "grpo": {"prompt": "say {n}"},
}
REWARD = RewardFunction(
    source="def short(completions, **kwargs):\n    return [1.0 / len(text) for text in completions]\n",
    weight=1.0,
)
TASKS: Mapping[str, Task] = {
    "instruct": InstructTask(columns=("instruct", "output")),
    "chat": ChatTask(),
    "dpo": DpoTask(columns=("prompt", "chosen", "rejected")),
    "grpo": GrpoTask(columns=("prompt",), rewards=(REWARD,)),
}


def winner(epoch: ContractEpoch, script: str) -> Path:
    """The checkout named for `epoch` that has `script`."""
    for word in filter(None, os.environ.get(VARIABLE, "").split(",")):
        named, _, path = word.rpartition("=")
        if named in {"", str(epoch)} and (Path(path) / "scripts" / script).is_file():
            return Path(path)
    pytest.skip(f"{MISSING} (wanted: epoch {epoch} with scripts/{script})")


@pytest.fixture(scope="session")
def base_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real model of a million parameters with its tokenizer."""
    if VARIABLE not in os.environ:
        pytest.skip(MISSING)
    folder = tmp_path_factory.mktemp("base") / "model"
    command = [sys.executable, str(ROOT / "deploy/demo/make_base_model.py"), "--output", str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    return folder


def order(task: Task, *, epoch: ContractEpoch, model: str = MODEL) -> TrainingOrder:
    return TrainingOrder(
        epoch=epoch,
        task=task,
        task_id=TASK_ID,
        model=model,
        expected_repo_name=REPOSITORY,
        hours_to_complete=0.5,
        participant="5GhotkeyABCDEF",
    )


def filled(value: Any, n: int) -> Any:
    if isinstance(value, str):
        return value.format(n=n)
    if isinstance(value, list):
        return [filled(part, n) for part in value]
    return {name: filled(part, n) for name, part in value.items()}


def run(wanted: TrainingOrder, checkout: Path, folder: Path, given: TrainingInputs) -> Ran:
    tree = tree_of(checkout, folder / "tree", epoch=wanted.epoch, entries=entry_points(wanted))
    launch = contract_launch(wanted, tree=tree, inputs=given)
    granted = limits(
        memory_bytes=4096 * MIB,
        pids=1024,
        root_bytes=256 * MIB,
        root_inodes=20_000,
        output_bytes=128 * MIB,
        tmp_bytes=128 * MIB,
        log_bytes=4 * MIB,
        wall_clock_s=300.0,
    )
    spec = spec_of(launch, driver="bubblewrap", granted=granted, env={"PATH": PATH})
    return start(spec, folder / "job", base=given.base_model).end()


def run_text(name: str, checkout: Path, folder: Path, *, epoch: ContractEpoch, base: Path) -> Ran:
    rows = [filled(TEXT_ROWS[name], n) for n in range(ROWS)]
    (folder / "train.json").write_text(json.dumps(rows))
    given = TrainingInputs(base_model=base, dataset=folder / "train.json")
    return run(order(TASKS[name], epoch=epoch), checkout, folder, given)


# Text winners of E3 (and E4, by E4's own order): their own stack around transformers and TRL.


@pytest.mark.parametrize(
    ("epoch", "name", "script"),
    [
        (E3, "instruct", "train_instruct.py"),
        (E3, "chat", "train_instruct.py"),
        (E3, "dpo", "train_dpo.py"),
        (E3, "grpo", "train_grpo.py"),
        (E4, "instruct", "train_instruct.py"),
    ],
)
def test_a_text_winner_comes_to_its_launch_line_and_falls_back_to_noise(
    tmp_path: Path, base_model: Path, epoch: ContractEpoch, name: str, script: str
) -> None:
    checkout = winner(epoch, f"tokenize_{'instruct' if name == 'chat' else name}.py")
    ran = run_text(name, checkout, tmp_path, epoch=epoch, base=base_model)
    assert (ran.exit.reason, ran.exit.code) == (ExitReason.EXITED, 0), ran.log[-3000:]
    given = told(ran)
    (launch,) = given.launches
    assert script in launch
    options = dict(pairwise(launch))
    assert options["--bf16"] == options["--tf32"] == "True"
    assert "Using lr from lk" in ran.log or name == "grpo"  # the real id was found in the winner's own table
    (request,) = given.files.values()
    asked = json.loads(request)["train_request"]
    assert asked["model_path"] == f"/cache/models/{MODEL.replace('/', '--')}"
    assert asked["submission_dir"] == f"/app/checkpoints/{TASK_ID}/{REPOSITORY}"
    assert asked["hours_to_complete"] == 0.5
    assert ROWS - 200 in [count for count, _ in given.rows.values()]
    # Nothing was trained, so the winner does what winners do, for real: noise on the embeddings, exit 0.
    assert f"Training failed for task {TASK_ID}" in ran.log
    assert ran.verdict is Verdict.NOISE_FALLBACK, ran.judged()


# E2: axolotl's configuration around upstream's own scripts.


@pytest.mark.parametrize("name", ["instruct", "chat"])
def test_a_stock_text_champion_writes_axolotls_configuration(
    tmp_path: Path, base_model: Path, name: str
) -> None:
    ran = run_text(name, winner(E2, "text_trainer.py"), tmp_path, epoch=E2, base=base_model)
    assert (ran.exit.reason, ran.exit.code) == (ExitReason.EXITED, 0), ran.log[-3000:]
    given = told(ran)
    configuration = f"/workspace/axolotl/configs/{TASK_ID}.yml"
    assert given.launches == [["accelerate", "launch", "-m", "axolotl.cli.train", configuration]]
    assert f"output_dir: /app/checkpoints/{TASK_ID}/{REPOSITORY}" in given.files[configuration]
    assert f"base_model: /cache/models/{MODEL.replace('/', '--')}" in given.files[configuration]
    assert given.rows[f"/workspace/axolotl/data/{TASK_ID}_train_data.json"][0] == ROWS
    with pytest.raises(NoModelError):
        ran.judged()  # exit 0, and no model


@pytest.mark.parametrize("name", ["dpo", "grpo"])
def test_a_stock_text_champion_cannot_rewrite_its_data_in_the_read_only_cache(
    tmp_path: Path, base_model: Path, name: str
) -> None:
    ran = run_text(name, winner(E2, "text_trainer.py"), tmp_path, epoch=E2, base=base_model)
    assert (ran.exit.reason, ran.exit.code) == (ExitReason.EXITED, 1)
    assert re.search(
        rf"(Read-only file system|Permission denied): '/cache/datasets/{TASK_ID}_train_data", ran.log
    )


# Image winners: kohya's scripts, ai-toolkit.


def image_inputs(folder: Path, *, caption: str, pairs: int = 12) -> TrainingInputs:
    with zipfile.ZipFile(folder / "pairs.zip", "w") as archive:
        for n in range(pairs):
            archive.writestr(f"{n}.png", picture())
            archive.writestr(f"{n}.txt", f"{caption}, number {n}")
    (folder / "hf_cache").mkdir()
    (folder / "model.safetensors").write_bytes(b"\0" * 64)
    return TrainingInputs(
        base_model=folder / "model.safetensors", dataset=folder / "pairs.zip", hf_cache=folder / "hf_cache"
    )


@pytest.mark.parametrize(
    ("epoch", "caption", "template"),
    [
        (E2, "a red house", None),
        (E3, "a watercolor painting of a house", "style"),
        (E3, "a man in a red shirt", "person"),
    ],
)
def test_an_image_winner_prepares_pairs_and_configuration_up_to_its_launch_line(
    tmp_path: Path, epoch: ContractEpoch, caption: str, template: str | None
) -> None:
    checkout = winner(epoch, "image_trainer.py")
    wanted = order(ImageTask(model_type=ImageModel.SDXL), epoch=epoch, model=SDXL)
    ran = run(wanted, checkout, tmp_path, image_inputs(tmp_path, caption=caption))
    assert (ran.exit.reason, ran.exit.code) == (ExitReason.EXITED, 0), ran.log[-3000:]
    given = told(ran)
    (launch,) = given.launches
    assert launch[:2] == ["accelerate", "launch"]
    configuration = launch[launch.index("--config_file") + 1]
    assert configuration == f"/dataset/configs/{TASK_ID}.toml"
    text = given.files[configuration]
    name = SDXL.replace("/", "_")
    assert f'"/cache/models/{SDXL.replace("/", "--")}/{name}.safetensors"' in text
    assert f'output_dir = "/app/checkpoints/{TASK_ID}/{REPOSITORY}"' in text
    assert f'train_data_dir = "/dataset/images/{TASK_ID}/img"' in text
    assert len([path for path in given.images if path.endswith(".png")]) == 12
    repeats = 10 if epoch is E2 else 5
    assert {Path(path).parent.name for path in given.images} == {f"{repeats}_lora style"}
    if template is not None:
        assert ("Styles: []" in ran.log) is (template == "person")
        assert "Applying model-specific config for size 's'" in ran.log


@pytest.mark.parametrize("epoch", [E2, E3, E4])
def test_an_image_winner_configures_flux_of_the_base_images_own_scripts(
    tmp_path: Path, epoch: ContractEpoch
) -> None:
    checkout = winner(epoch, "image_trainer.py")
    wanted = order(ImageTask(model_type=ImageModel.FLUX), epoch=epoch, model="org/flux")
    ran = run(wanted, checkout, tmp_path, image_inputs(tmp_path, caption="a house"))
    assert (ran.exit.reason, ran.exit.code) == (ExitReason.EXITED, 0), ran.log[-3000:]
    given = told(ran)
    (launch,) = given.launches
    assert launch[:2] == ["accelerate", "launch"]
    assert "/app/sd-scripts/flux_train_network.py" in launch
    text = given.files[f"/dataset/configs/{TASK_ID}.toml"]
    assert '"/cache/models/org--flux/org_flux.safetensors"' in text
    assert {Path(path).parent.name for path in given.images} == {"1_lora style"}


@pytest.mark.parametrize("model_type", [ImageModel.Z_IMAGE, ImageModel.QWEN_IMAGE])
def test_a_toolkit_winner_writes_its_configuration(tmp_path: Path, model_type: ImageModel) -> None:
    checkout = winner(E3, "image_trainer.py")
    wanted = order(ImageTask(model_type=model_type, trigger_word="zyx"), epoch=E3, model="org/model")
    inputs = image_inputs(tmp_path, caption="a house")
    (tmp_path / "model").mkdir()
    inputs = TrainingInputs(base_model=tmp_path / "model", dataset=inputs.dataset, hf_cache=inputs.hf_cache)
    ran = run(wanted, checkout, tmp_path, inputs)
    assert (ran.exit.reason, ran.exit.code) == (ExitReason.EXITED, 0), ran.log[-3000:]
    given = told(ran)
    configuration = f"/dataset/configs/{TASK_ID}.yaml"
    assert given.launches == [["python", "/app/ai-toolkit/run.py", configuration]]
    text = given.files[configuration]
    for part in (
        "trigger_word: zyx",
        "name_or_path: /cache/models/org--model",
        f"training_folder: /app/checkpoints/{TASK_ID}/{REPOSITORY}",
        f"folder_path: /dataset/images/{TASK_ID}/img",
    ):
        assert part in text


# What is refused, and why.


@pytest.mark.parametrize("epoch", [E2, E3, E4])
@pytest.mark.parametrize("script", ["text_trainer.py", "image_trainer.py"])
def test_a_winner_as_it_is_published_needs_its_image(
    tmp_path: Path, epoch: ContractEpoch, script: str
) -> None:
    checkout = winner(epoch, script)
    is_text = script == "text_trainer.py"
    sdxl = ImageTask(model_type=ImageModel.FLUX)
    wanted = order(TASKS["instruct"] if is_text else sdxl, epoch=epoch)
    given = image_inputs(tmp_path, caption="x")
    if is_text:
        given = TrainingInputs(base_model=tmp_path, dataset=given.dataset)
    with pytest.raises(DockerfileError, match=r"image build|without options"):
        contract_launch(wanted, tree=checkout, inputs=given)


def test_a_winner_of_the_first_epoch_is_refused_with_the_reason(tmp_path: Path) -> None:
    checkout = winner(E1, "text_trainer.py")
    assert not (checkout / "LICENSE.md").exists()
    given = TrainingInputs(base_model=tmp_path, dataset=tmp_path)
    with pytest.raises(ContractError, match="carry no licence and need a writable cache"):
        contract_launch(order(TASKS["instruct"], epoch=E1), tree=checkout, inputs=given)
