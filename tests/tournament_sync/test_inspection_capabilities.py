"""Which tasks a repository can do, in which epochs, and what it needs; from small repositories like real ones."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from tournament_sync.inspection.gather import inspect_here
from tournament_sync.inspection.report import Capability, InspectionReport, Severity, Support

REFERENCE = Path(__file__).parents[2] / "deploy" / "champions" / "reference"
TEXT = "dockerfiles/standalone-text-trainer.dockerfile"
IMAGE = "dockerfiles/standalone-image-trainer.dockerfile"
TOOLKIT = "dockerfiles/standalone-image-toolkit-trainer.dockerfile"
DOCKERFILE = """FROM base:1
WORKDIR /workspace/scripts
COPY scripts /workspace/scripts
RUN python -m venv /workspace/axo_py
ENTRYPOINT ["./entrypoint.sh"]
"""
SHELL = '#!/bin/bash\nredis-server --daemonize yes\npython -m text_trainer "$@"\n'
TASKS = ["InstructTextTask", "ChatTask", "DpoTask", "GrpoTask"]
TRAINER = """import argparse, os
from datetime import timedelta
import paths
from core.split import split

def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--task-id", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--dataset-type", required=True)
    parser.add_argument("--task-type", required=True, choices={choices})
    parser.add_argument("--file-format", choices=["csv", "s3"], default="s3")
    parser.add_argument("--hours-to-complete", type=float, required=True)
    parser.add_argument("--expected-repo-name")
    args = parser.parse_args()
    end = timedelta(hours=args.hours_to_complete - 3 / 60)
    os.makedirs(paths.OUT + "/" + args.task_id)
    os.makedirs(f"/workspace/scripts/soutputs/{{args.task_id}}")
    if args.task_type == TaskType.INSTRUCTTEXTTASK.value or args.task_type == TaskType.CHATTASK.value:
        cmd = f"/workspace/axo_py/bin/python tokenize_instruct.py {{args.model}}"
    elif args.task_type == "DpoTask":
        cmd = "python train_dpo.py"
"""
PATHS = 'OUT = "/app/checkpoints"\nDATA = ["/workspace/data/a"]\n'
SPLIT = "def split(rows, dev_size: int = 200):\n    return rows[dev_size:]\n"
IMAGE_TRAINER = """import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--task-id", required=True)
parser.add_argument("--model", required=True)
parser.add_argument("--dataset-zip", required=True)
parser.add_argument("--model-type", required=True, choices=["sdxl", "flux", "z-image"])
parser.add_argument("--expected-repo-name")
parser.add_argument("--trigger-word")
parser.add_argument("--hours-to-complete", type=float, required=True)
KNOWN = {"org/a": 1, "org/b": 2, "org/c": 3}
data = f"/cache/datasets/{task}_tourn.zip"
"""
CHAMPION = {
    TEXT: DOCKERFILE,
    "scripts/entrypoint.sh": SHELL,
    "scripts/text_trainer.py": TRAINER.format(choices=TASKS),
    "scripts/paths.py": PATHS,
    "scripts/core/__init__.py": "",
    "scripts/core/split.py": SPLIT,
    "scripts/tokenize_instruct.py": "",
    "scripts/train_dpo.py": "",
}
IMAGE_DOCKERFILE = """FROM base:1
COPY scripts /workspace/scripts
ENTRYPOINT ["python", "/workspace/scripts/image_trainer.py"]
"""
IMAGE_CHAMPION = {
    IMAGE: IMAGE_DOCKERFILE,
    TOOLKIT: IMAGE_DOCKERFILE,
    "scripts/image_trainer.py": IMAGE_TRAINER,
}


def inspect(tree: Path, files: Mapping[str, str | None]) -> InspectionReport:
    for path, text in files.items():
        if text is not None:
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_text(text)
    return inspect_here(tree, manifest_sha256="ab" * 32)


def row(report: InspectionReport, task: str) -> Capability:
    return next(each for each in report.capabilities if each.task_type == task)


def test_reference_champion_has_nothing_that_a_person_must_look_at() -> None:
    report = inspect_here(REFERENCE, manifest_sha256="ab" * 32)
    assert not [found for found in report.findings if found.severity.rank >= Severity.HIGH.rank]
    assert report.epochs == ("E4",)
    assert [each.task_type for each in report.capabilities if each.support is Support.YES] == [
        "InstructTextTask"
    ]
    assert row(report, "InstructTextTask").entrypoint == "scripts/text_trainer.py"


def test_reads_what_a_text_champion_can_do(tmp_path: Path) -> None:
    report = inspect(tmp_path, CHAMPION)
    able = [each.task_type for each in report.capabilities if each.support is Support.YES]
    assert able == TASKS
    chat = row(report, "ChatTask")
    assert (chat.dockerfile, chat.entrypoint) == (TEXT, "scripts/text_trainer.py")
    environment = row(report, "EnvTask")
    assert environment.support is Support.NO and "takes only InstructTextTask" in environment.reason
    assert row(report, "ImageTask (flux)").reason == "no Dockerfile serves it"


def test_reads_what_it_needs(tmp_path: Path) -> None:
    needs = inspect(tmp_path, CHAMPION).needs
    assert needs.redis
    assert needs.writable_paths == ("/workspace/scripts/soutputs",)
    assert (needs.minimum_rows, needs.minimum_minutes) == (201, 4)


def test_ops_folder_counts_before_the_older_one(tmp_path: Path) -> None:
    report = inspect(tmp_path, {**CHAMPION, f"ops/docker/{Path(TEXT).name}": DOCKERFILE})
    assert row(report, "ChatTask").dockerfile == "ops/docker/standalone-text-trainer.dockerfile"
    assert report.epochs == ("E4",)


@pytest.mark.parametrize(
    ("path", "text", "task", "reason"),
    [
        (
            TEXT,
            DOCKERFILE.replace("RUN", "# RUN"),
            "ChatTask",
            "the Dockerfile does not make /workspace/axo_py",
        ),
        ("scripts/train_dpo.py", None, "DpoTask", "train_dpo.py is started for it, and the tree lacks it"),
        (TEXT, DOCKERFILE + "COPY trainer /x\n", "ChatTask", "COPY takes trainer, which the tree lacks"),
        (
            "scripts/text_trainer.py",
            TRAINER.format(choices=TASKS).replace('"--dataset"', '"--data"'),
            "ChatTask",
            "its parser refuses --dataset",
        ),
        (
            "scripts/text_trainer.py",
            TRAINER.format(choices=TASKS).replace('["csv", "s3"]', '["csv"]'),
            "ChatTask",
            "--file-format does not take s3",
        ),
        (
            "scripts/text_trainer.py",
            TRAINER.format(choices=TASKS).replace(
                "    args =", '    parser.add_argument("--key", required=True)\n    args ='
            ),
            "ChatTask",
            "its parser wants --key, which the contract does not give",
        ),
    ],
)
def test_says_why_a_task_cannot_be_done(
    tmp_path: Path, path: str, text: str | None, task: str, reason: str
) -> None:
    found = row(inspect(tmp_path, {**CHAMPION, path: text}), task)
    assert found.support is Support.NO
    assert reason in found.reason


def test_other_tasks_stand_when_one_lacks_its_script(tmp_path: Path) -> None:
    report = inspect(tmp_path, {**CHAMPION, "scripts/train_dpo.py": None})
    assert row(report, "GrpoTask").support is Support.YES


@pytest.mark.parametrize("choices", ["[task.value for task in TaskType]", "ALL"])
def test_unread_choices_are_unknown_and_not_yes(tmp_path: Path, choices: str) -> None:
    report = inspect(tmp_path, {**CHAMPION, "scripts/text_trainer.py": TRAINER.format(choices=choices)})
    assert {row(report, task).support for task in TASKS} == {Support.UNKNOWN}
    assert "contract-no-parser" in {found.rule for found in report.findings}


def test_names_of_an_enumeration_are_read_as_tasks(tmp_path: Path) -> None:
    choices = "[TaskType.CHATTASK.value, TaskType.DPOTASK.value]"
    report = inspect(tmp_path, {**CHAMPION, "scripts/text_trainer.py": TRAINER.format(choices=choices)})
    able = [each.task_type for each in report.capabilities if each.support is Support.YES]
    assert able == ["ChatTask", "DpoTask"]


def test_unknown_entry_is_unknown_and_a_finding(tmp_path: Path) -> None:
    report = inspect(tmp_path, {**CHAMPION, "scripts/entrypoint.sh": "#!/bin/bash\n/opt/trainer\n"})
    assert row(report, "ChatTask").support is Support.UNKNOWN
    assert {"contract-no-parser", "contract-no-epoch"} <= {found.rule for found in report.findings}
    assert report.epochs == ()


def test_tree_without_dockerfile_of_the_contract_is_told(tmp_path: Path) -> None:
    report = inspect(tmp_path, {"Dockerfile": "FROM x\n"})
    assert "contract-no-dockerfile" in {found.rule for found in report.findings}
    assert {each.support for each in report.capabilities} == {Support.NO}


def test_entry_after_a_change_of_folder(tmp_path: Path) -> None:
    shell = '#!/bin/bash\ncd /workspace/scripts\nexec python ./text_trainer.py "$@"\n'
    dockerfile = DOCKERFILE.replace("WORKDIR /workspace/scripts", "WORKDIR /").replace(
        "./entry", "/workspace/scripts/entry"
    )
    report = inspect(tmp_path, {**CHAMPION, "scripts/entrypoint.sh": shell, TEXT: dockerfile})
    assert row(report, "ChatTask").entrypoint == "scripts/text_trainer.py"


def test_text_champion_in_the_older_folder_fits_three_epochs(tmp_path: Path) -> None:
    report = inspect(tmp_path, CHAMPION)
    assert report.epochs == ("E2", "E3", "E4")
    assert report.epoch_reason == "not E1: it writes to /app/checkpoints"


def test_recognises_the_first_epoch_without_licence(tmp_path: Path) -> None:
    files = {**CHAMPION, "scripts/paths.py": 'OUT = "/workspace/axolotl/outputs"\n'}
    report = inspect(tmp_path, files)
    assert report.epochs == ("E1",)
    assert report.epoch_reason == "no licence, as in E1; it writes to /workspace/axolotl/outputs, as in E1"
    assert "licence-missing" in {found.rule for found in report.findings}


def test_entry_scripts_own_path_counts_before_that_of_an_import(tmp_path: Path) -> None:
    trainer = TRAINER.format(choices=TASKS) + '\nOUTPUT = "/workspace/axolotl/outputs"\n'
    assert inspect(tmp_path, {**CHAMPION, "scripts/text_trainer.py": trainer}).epochs == ("E1",)


def test_output_that_cannot_be_read_fits_no_epoch(tmp_path: Path) -> None:
    report = inspect(tmp_path, {**CHAMPION, "scripts/paths.py": "OUT = read()\n"})
    assert report.epochs == () and "where it writes its result could not be read" in report.epoch_reason


@pytest.mark.parametrize(("key", "epochs"), [("environment_name", ("E3",)), ("environment_names", ("E4",))])
def test_environment_champion_fits_the_epoch_of_its_key(
    tmp_path: Path, key: str, epochs: tuple[str, ...]
) -> None:
    trainer = TRAINER.format(choices=[*TASKS, "EnvTask"]) + f"\nNAME = kind['{key}']\n"
    report = inspect(tmp_path, {**CHAMPION, "scripts/text_trainer.py": trainer})
    assert report.epochs == epochs
    assert row(report, "EnvTask").support is Support.YES


def test_reads_what_an_image_champion_can_do(tmp_path: Path) -> None:
    report = inspect(tmp_path, IMAGE_CHAMPION)
    able = {each.task_type: each.dockerfile for each in report.capabilities if each.support is Support.YES}
    assert able == {"ImageTask (sdxl)": IMAGE, "ImageTask (flux)": IMAGE, "ImageTask (z-image)": TOOLKIT}
    assert "perhaps only for the models in KNOWN (3)" in row(report, "ImageTask (sdxl)").reason
    assert report.epochs == ("E2", "E3", "E4")


def test_image_champion_that_takes_only_sdxl_does_not_fit_the_last_epoch(tmp_path: Path) -> None:
    trainer = IMAGE_TRAINER.replace('["sdxl", "flux", "z-image"]', '["sdxl"]')
    report = inspect(tmp_path, {**IMAGE_CHAMPION, "scripts/image_trainer.py": trainer})
    assert "E4" not in report.epochs and "not E4: it takes none of the types" in report.epoch_reason


def test_rows_that_are_computed_are_not_guessed(tmp_path: Path) -> None:
    split = SPLIT + "dev_size = min(1000, len(rows))\n"
    assert inspect(tmp_path, {**CHAMPION, "scripts/core/split.py": split}).needs.minimum_rows is None


@pytest.mark.parametrize(
    ("expression", "minutes"),
    [
        ("args.hours_to_complete - 3 / 60", 4),
        ("args.hours_to_complete * 60 - 12", 13),
        ("hours * 3600 - 900", 16),
        ("hours + 3", None),
        ("hours - spare", None),
        ("hours - 0 / 0", None),
        ("days - 3", None),
    ],
)
def test_reads_the_time_that_is_kept_back(tmp_path: Path, expression: str, minutes: int | None) -> None:
    trainer = TRAINER.format(choices=TASKS).replace("args.hours_to_complete - 3 / 60", expression)
    report = inspect(tmp_path, {**CHAMPION, "scripts/text_trainer.py": trainer})
    assert report.needs.minimum_minutes == minutes


def test_scripts_that_import_each_other_end(tmp_path: Path) -> None:
    files = {**CHAMPION, "scripts/paths.py": PATHS + "import text_trainer\nfrom . import paths\n"}
    assert inspect(tmp_path, files).epochs == ("E2", "E3", "E4")


def test_shells_that_start_each_other_end(tmp_path: Path) -> None:
    files = {**CHAMPION, "scripts/entrypoint.sh": "bash ./b.sh\n", "scripts/b.sh": "bash ./entrypoint.sh\n"}
    assert row(inspect(tmp_path, files), "ChatTask").support is Support.UNKNOWN


def test_code_in_a_shell_script_is_read_at_its_line(tmp_path: Path) -> None:
    report = inspect(tmp_path, {"a.sh": "#!/bin/bash\ntrue\npython -c 'exec(x)'\n"})
    assert ("python-exec", "a.sh", 3) in {(found.rule, found.file, found.line) for found in report.findings}


def test_tree_is_left_as_it_is(tmp_path: Path) -> None:
    shutil.copytree(REFERENCE, tmp_path / "tree")
    before = {path: path.stat() for path in (tmp_path / "tree").rglob("*")}
    inspect_here(tmp_path / "tree", manifest_sha256="ab" * 32)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "tree").rglob("*")} == {
        path: status.st_mtime_ns for path, status in before.items()
    }
