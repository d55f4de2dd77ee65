"""The contract as golden tables: what a champion is told must not move by a byte."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from runner.champion_contract import (
    ContractEpoch,
    ContractError,
    ContractLaunch,
    ContractOrder,
    champion_command,
    find_dockerfile,
)
from runner.contract.launch import no_image
from runner.dockerfile import DockerfileError

DOCKERFILE = """\
# syntax=docker/dockerfile:1
FROM some/image:tag
COPY scripts /workspace/scripts
WORKDIR /workspace/scripts
ENV QUIET="yes please"
ENTRYPOINT ["python", "-m", "text_trainer"]
CMD ["--help"]
"""
ORDER = ContractOrder(
    epoch=ContractEpoch.E4,
    task_id="run-1",
    task_type="InstructTextTask",
    model="Qwen/Qwen3-0.6B",
    expected_repo_name="tournament-x-run-1-assay",
    hours_to_complete=1,
    participant="assay",
    dataset_columns=("instruct", "output"),
)
GOLDEN_ARGUMENTS = [
    "--task-id", "run-1",
    "--model", "Qwen/Qwen3-0.6B",
    "--dataset", "https://dataset.invalid/run-1_train_data.json",
    "--dataset-type",
    '{"system_prompt": "", "system_format": "{system}", "field_system": null, '
    '"field_instruction": "instruct", "field_input": null, "field_output": "output", '
    '"format": null, "no_input_format": null, "field": null}',
    "--task-type", "InstructTextTask",
    "--file-format", "s3",
    "--expected-repo-name", "tournament-x-run-1-assay",
    "--hours-to-complete", "1.0",
]  # fmt: skip
WANDB = "/app/checkpoints/wandb_logs/run-1_assay"
GOLDEN_ENV = {
    "QUIET": "yes please",
    "WANDB_MODE": "offline",
    "WANDB_DIR": WANDB,
    "WANDB_CACHE_DIR": WANDB,
    "WANDB_ARTIFACT_DIR": WANDB,
    "WANDB_DATA_DIR": WANDB,
    "WANDB_CONFIG_DIR": WANDB,
    "TZ": "UTC",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "PYTHONUNBUFFERED": "1",
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "champion"
    (tree / "scripts").mkdir(parents=True)
    (tree / "scripts" / "text_trainer.py").write_text("pass\n")
    write_dockerfile(tree, DOCKERFILE)
    return tree


def write_dockerfile(tree: Path, text: str, folder: str = "dockerfiles") -> None:
    (tree / folder).mkdir(parents=True, exist_ok=True)
    (tree / folder / "standalone-text-trainer.dockerfile").write_text(text)


def launch(tree: Path, order: ContractOrder = ORDER) -> ContractLaunch:
    return champion_command(
        order,
        tree=tree,
        base_model=Path("/store/base"),
        train_file=Path("/store/train.json"),
        image_of=no_image,
    )


@pytest.mark.parametrize("epoch", [ContractEpoch.E2, ContractEpoch.E3, ContractEpoch.E4])
def test_arguments_are_upstreams_in_upstreams_order(tree: Path, epoch: ContractEpoch) -> None:
    argv = launch(tree, replace(ORDER, epoch=epoch)).argv
    assert list(argv) == ["python", "-m", "text_trainer", *GOLDEN_ARGUMENTS]


def test_environment_is_the_contracts_and_holds_no_secret(tree: Path) -> None:
    assert launch(tree).env == GOLDEN_ENV


@pytest.mark.parametrize(("hours", "told"), [(1, "1.0"), (0.25, "0.25"), (2.5, "2.5"), (1 / 3, str(1 / 3))])
def test_hours_are_told_as_python_tells_a_float(tree: Path, hours: float, told: str) -> None:
    assert launch(tree, replace(ORDER, hours_to_complete=hours)).argv[-1] == told


def test_columns_that_exist_are_named(tree: Path) -> None:
    order = replace(ORDER, dataset_columns=("instruct", "input", "output", "system"))
    argv = launch(tree, order).argv
    told = json.loads(argv[argv.index("--dataset-type") + 1])
    assert (told["field_input"], told["field_system"]) == ("input", "system")


def test_inputs_appear_where_champions_look(tree: Path) -> None:
    mounts = {m.target: m.source for m in launch(tree).mounts}
    assert mounts == {
        "/workspace/scripts": str(tree / "scripts"),
        "/cache/models/Qwen--Qwen3-0.6B": "/store/base",
        "/cache/datasets/run-1_train_data.json": "/store/train.json",
    }


def test_the_output_leaf_is_left_for_the_champion_to_make(tree: Path) -> None:
    made = launch(tree)
    assert made.output_target == "/app/checkpoints"
    assert made.output_leaf == "run-1/tournament-x-run-1-assay"
    assert made.output_folders == ("run-1", "wandb_logs/run-1_assay")
    assert made.cwd == "/workspace/scripts"


def test_newest_epoch_prefers_the_newer_folder(tree: Path) -> None:
    write_dockerfile(tree, DOCKERFILE, folder="ops/docker")
    name = "standalone-text-trainer.dockerfile"
    assert find_dockerfile(tree, epoch=ContractEpoch.E4) == f"ops/docker/{name}"
    assert find_dockerfile(tree, epoch=ContractEpoch.E3) == f"dockerfiles/{name}"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epoch": ContractEpoch.E1}, "E1: its champions carry no licence"),
        ({"task_type": "DpoTask"}, "task type DpoTask is not run here"),
        ({"task_id": "../x"}, "task id '../x' is not a plain name"),
        ({"expected_repo_name": "a/b"}, "repository name 'a/b'"),
        ({"participant": ""}, "participant ''"),
        ({"model": "../../etc"}, "is no hub id"),
        ({"model": "a/b/c"}, "is no hub id"),
        ({"hours_to_complete": 0.0}, "wanted a positive number"),
        ({"hours_to_complete": float("nan")}, "wanted a positive number"),
        ({"dataset_columns": ("instruct",)}, "dataset columns"),
        ({"dataset_columns": ("instruct", "output", "extra")}, "dataset columns"),
    ],
)
def test_refuses_an_order_outside_the_contract(tree: Path, change: dict[str, object], message: str) -> None:
    with pytest.raises(ContractError, match=message):
        launch(tree, replace(ORDER, **change))  # type: ignore[arg-type]  # wrong on purpose


def test_refuses_a_champion_without_a_dockerfile(tree: Path) -> None:
    (tree / "dockerfiles" / "standalone-text-trainer.dockerfile").unlink()
    with pytest.raises(ContractError, match="looked in ops/docker, dockerfiles"):
        launch(tree)


def test_refuses_a_linked_dockerfile(tree: Path) -> None:
    file = tree / "dockerfiles" / "standalone-text-trainer.dockerfile"
    file.rename(tree / "real")
    file.symlink_to(tree / "real")
    with pytest.raises(ContractError, match="leads through a link"):
        launch(tree)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("RUN pip install x", "needs an image build: make one with .assay champions build.*dockerfile:4"),
        ("ADD scripts /x", "ADD needs an image build"),
        ("USER root", "USER needs an image build"),
        ("FROM other", "several build stages"),
        ("COPY ../x /x", "not a plain path inside the champion"),
        ("COPY /etc /x", "not a plain path inside the champion"),
        ("COPY scripts/* /x/", "not a plain path inside the champion"),
        ("COPY nothing /x", "'nothing' is not in the champion"),
        ("COPY link /x", "leads through a link"),
        ("COPY --from=other a /x", "COPY with options or a list needs an image build"),
        ("COPY a", "COPY with options or a list"),
        ("COPY scripts scripts /x", "target folder ending in /"),
        ("COPY scripts dockerfiles /x/", "needs an image build"),
        ("COPY scripts /", "would hide a part of the sandbox"),
        ("COPY scripts /usr/lib/x", "would hide a part of the sandbox"),
        ("COPY scripts /app", "would hide a part of the sandbox"),
        ("COPY scripts /workspace", "overlaps the one to"),
        ("COPY scripts ../../usr", "not a plain path"),
        ("WORKDIR /nowhere", "holds nothing that is copied"),
        ("WORKDIR missing", "holds nothing that is copied"),
        ("WORKDIR ../x", "not a plain path"),
        ("ENV A", "NAME=VALUE only"),
        ("ENV A=$B", "variables and here-documents"),
        ("ENV LD_PRELOAD=/x", "ENV LD_PRELOAD is the sandbox's"),
        ("ENV PATH=/x", "ENV PATH is the sandbox's"),
        *(
            (f"ENV FINE=1 {name}=x", f"ENV {name} is the sandbox's to set: .*:4")
            for name in (
                *("SHELLOPTS", "BASHOPTS", "PS0", "PS4", "PROMPT_COMMAND", "BASH_ENV", "BASH_XTRACEFD"),
                *("ENV", "IFS", "CDPATH", "PYTHONHOME", "PYTHONINSPECT", "PYTHONSTARTUP", "PYTHONBREAKPOINT"),
            )
        ),
        ('ENV A="open', "No closing quotation"),
        ("ENTRYPOINT python train.py", "exec form only"),
        ("ENTRYPOINT []", "needs a list of words"),
        ("# escape=`", "another escape character"),
    ],
)
def test_refuses_a_dockerfile_line(tree: Path, line: str, message: str) -> None:
    (tree / "link").symlink_to("/etc")
    head = "FROM some/image\nCOPY scripts /workspace/scripts\nWORKDIR /workspace/scripts\n"
    write_dockerfile(tree, f"{head}{line}\n" + ("" if "ENTRYPOINT" in line else 'ENTRYPOINT ["python"]\n'))
    with pytest.raises(DockerfileError, match=message):
        launch(tree)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('FROM x\nCOPY scripts /workspace\nCMD ["python"]\n', "no ENTRYPOINT"),
        ('COPY scripts /workspace\nENTRYPOINT ["python"]\n', "no FROM"),
        ("\xff", "is not UTF-8"),
    ],
)
def test_refuses_a_dockerfile_that_starts_nothing(tree: Path, text: str, message: str) -> None:
    write_dockerfile(tree, "")
    (tree / "dockerfiles" / "standalone-text-trainer.dockerfile").write_bytes(text.encode("latin-1"))
    with pytest.raises(DockerfileError, match=message):
        launch(tree)


def test_copies_files_as_docker_does(tree: Path) -> None:
    (tree / "a.txt").touch()
    (tree / "b.txt").touch()
    write_dockerfile(
        tree,
        "FROM x\nRUN true\nWORKDIR /workspace\nCOPY a.txt \\\n  b.txt data/\nCOPY a.txt renamed\n"
        'COPY scripts ./scripts/\nENTRYPOINT ["./go"]\n',
    )
    made = launch(tree)
    assert {m.target: Path(m.source).name for m in made.mounts[:-2]} == {
        "/workspace/data/a.txt": "a.txt",
        "/workspace/data/b.txt": "b.txt",
        "/workspace/renamed": "a.txt",
        "/workspace/scripts": "scripts",
    }
    assert made.cwd == "/workspace"


def test_reference_champion_starts_under_the_newest_epoch() -> None:
    reference = Path(__file__).parents[2] / "deploy" / "champions" / "reference"
    assert launch(reference).argv[:3] == ("python", "-m", "text_trainer")
