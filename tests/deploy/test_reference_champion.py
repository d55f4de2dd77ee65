"""The reference champion keeps the tournament's contract: arguments, paths, time, signals, result."""

import json
import re
import signal
import time
from pathlib import Path

import pytest

from tests.deploy.bare import DATASET_TYPE, DEPLOY, MODEL, Bare, Trained, champion_arguments, make_bare
from tournament_sync.licence import read_licence

CHAMPION = DEPLOY / "champions/reference"
DOCKERFILE = CHAMPION / "ops/docker/standalone-text-trainer.dockerfile"


@pytest.fixture
def bare(tmp_path: Path, base_model: Path, demo_data: Path) -> Bare:
    return make_bare(tmp_path / "root", model=base_model, train=demo_data / "train.json")


# The repository


def test_carries_the_tournaments_licence_and_notice() -> None:
    # LicenceError unless both are the tournament's, line by line.
    assert read_licence(CHAMPION)


def test_container_file_only_copies_scripts() -> None:
    lines = [line for line in DOCKERFILE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    assert [line.split()[0] for line in lines] == ["FROM", "COPY", "WORKDIR", "ENTRYPOINT"]
    assert lines[1:3] == ["COPY scripts /workspace/scripts", "WORKDIR /workspace/scripts"]
    assert json.loads(lines[3].removeprefix("ENTRYPOINT ")) == ["python", "-m", "text_trainer"]


# Arguments; these end before a library is imported


def ended(bare: Bare, arguments: list[str]) -> tuple[int, str]:
    child = bare.start(arguments)
    log, _ = child.communicate(timeout=60)
    return child.returncode, log


@pytest.mark.parametrize("extra", [["--max-steps", "1"], ["surplus"]])
def test_an_unknown_argument_ends_with_code_2(tmp_path: Path, extra: list[str]) -> None:
    code, log = ended(
        make_bare(tmp_path / "root", model=None, train=None), [*champion_arguments(hours=1), *extra]
    )
    assert code == 2
    assert f"unrecognized arguments: {' '.join(extra)}" in log


def test_a_shortened_argument_ends_with_code_2(tmp_path: Path) -> None:
    arguments = champion_arguments(hours=1)
    arguments[0] = "--task"
    code, log = ended(make_bare(tmp_path / "root", model=None, train=None), arguments)
    assert code == 2
    assert "the following arguments are required: --task-id" in log


def test_another_kind_of_task_ends_with_code_2(tmp_path: Path) -> None:
    arguments = ["DpoTask" if word == "InstructTextTask" else word for word in champion_arguments(hours=1)]
    code, log = ended(make_bare(tmp_path / "root", model=None, train=None), arguments)
    assert code == 2
    assert "invalid choice: 'DpoTask'" in log


# The result


@pytest.mark.training
def test_leaves_an_adapter_and_no_pickle(trained: Trained) -> None:
    assert sorted(path.name for path in trained.output.iterdir()) == [
        *("README.md", "adapter_config.json", "adapter_model.safetensors", "loss.txt"),
        *("tokenizer.json", "tokenizer_config.json"),
    ]
    assert [path.name for path in trained.output.parent.iterdir()] == [trained.output.name]


@pytest.mark.training
def test_the_adapter_names_the_base_model_and_not_a_folder(trained: Trained) -> None:
    config = json.loads((trained.output / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["base_model_name_or_path"] == MODEL
    assert config["target_modules"] == sorted(config["target_modules"])


@pytest.mark.training
def test_loss_file_has_step_and_loss(trained: Trained) -> None:
    step, loss = (trained.output / "loss.txt").read_text(encoding="utf-8").split(",")
    assert int(step) > 0
    assert 0 < float(loss) < 1


@pytest.mark.training
def test_tells_its_start_before_and_its_progress_while_it_trains(trained: Trained) -> None:
    lines = trained.log.splitlines()
    assert lines[0] == "reference champion: started"
    steps = [line for line in lines if line.startswith("step=")]
    assert len(steps) > 50
    assert all(re.fullmatch(r"step=\d+ total=\d+ loss=\d+\.\d+ seconds_left=\d+", line) for line in steps)


@pytest.mark.training
def test_training_on_the_demo_takes_no_longer_than_promised(trained: Trained) -> None:
    assert trained.seconds < 120  # 30 s on two idle cores


@pytest.mark.training
def test_equal_inputs_give_equal_tensors_and_time_is_kept(bare: Bare, tmp_path: Path) -> None:
    # Time is up before the first epoch ends, so both stop by the clock; only the steps both took can agree.
    budget_s = 20
    began = time.monotonic()
    code, log = ended(bare, champion_arguments(hours=budget_s / 3600))
    assert code == 0, log
    assert time.monotonic() - began < budget_s + 2
    assert re.fullmatch(r"\d+,(no_eval|\d\.\d+)", (bare.output / "loss.txt").read_text(encoding="utf-8"))
    other = make_bare(
        tmp_path / "other",
        model=bare.root / "cache/models" / MODEL.replace("/", "--"),
        train=next((bare.root / "cache/datasets").iterdir()),
    )
    _, again = ended(other, champion_arguments(hours=budget_s / 3600))
    losses, losses_again = (
        re.findall(r"^step=\d+ total=\d+ loss=\S+", each, re.MULTILINE) for each in (log, again)
    )
    both = min(len(losses), len(losses_again))
    assert both > 0
    assert losses[:both] == losses_again[:both]


@pytest.mark.training
def test_saves_what_there_is_when_asked_to_end(bare: Bare) -> None:
    child = bare.start(champion_arguments(hours=1))
    assert child.stdout is not None
    for line in child.stdout:
        if line.startswith("step=3 "):
            child.send_signal(signal.SIGTERM)
            break
    rest = child.stdout.read()
    assert child.wait(timeout=20) == 0, rest
    assert (bare.output / "adapter_model.safetensors").exists()
    assert (bare.output / "loss.txt").read_text(encoding="utf-8").endswith(",no_eval")


def test_ends_at_once_when_asked_before_training(tmp_path: Path) -> None:
    bare = make_bare(tmp_path / "root", model=None, train=None)
    child = bare.start(champion_arguments(hours=1))
    assert child.stdout is not None
    child.stdout.readline()
    child.send_signal(signal.SIGTERM)
    assert child.wait(timeout=20) in {143, -signal.SIGTERM}  # the latter before its handler is set
    assert not bare.output.exists()


# The prompt


@pytest.mark.parametrize(
    ("change", "row", "prompt"),
    [
        ({}, {"instruct": "Add.", "input": "1 2"}, "Add. 1 2"),
        ({}, {"instruct": "Add."}, "Add."),
        ({"format": "Q: {instruction}\n{input}\nA: "}, {"instruct": "a", "input": "b"}, "Q: a\nb\nA: "),
        ({"no_input_format": "Q: {instruction}"}, {"instruct": "a", "input": ""}, "Q: a"),
        ({"system_prompt": "Be kind.", "system_format": "[{system}] "}, {"instruct": "a"}, "[Be kind.] a"),
        ({"system_prompt": "x", "field_system": "system"}, {"instruct": "a", "system": "y "}, "y a"),
    ],
)
def test_follows_the_tournaments_prompt_rules(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, str], row: dict[str, str], prompt: str
) -> None:
    monkeypatch.syspath_prepend(CHAMPION / "scripts")
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    import instruct

    assert instruct.prompt_of(row, instruct.parse_format(json.dumps(DATASET_TYPE | change))) == prompt
