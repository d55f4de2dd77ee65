"""The shipped scripts run bare, as children: base model, data set and trained adapter are made once."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from appliance.datasets import prepare_dataset

DEPLOY = Path(__file__).parents[2] / "deploy"
SCRIPTS = DEPLOY / "champions/reference/scripts"
TASK, MODEL, REPOSITORY = "6f1d0c1e", "assay/tiny", "tournament-test"
DATASET_TYPE = {
    "system_prompt": "",
    "system_format": "{system}",
    "field_system": None,
    "field_instruction": "instruct",
    "field_input": "input",
    "field_output": "output",
    "format": None,
    "no_input_format": None,
    "field": None,
}
CHILD_ENV = {
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "PYTHONHASHSEED": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "WANDB_MODE": "disabled",
    "TRL_EXPERIMENTAL_SILENCE": "1",
}


def child_env(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    return kept | CHILD_ENV | dict(extra or {})


def run_script(path: Path, *arguments: str | Path, timeout_s: int = 120) -> subprocess.CompletedProcess[str]:
    """A script of deploy/ as its own process."""
    return subprocess.run(
        [sys.executable, str(path), *map(str, arguments)],
        env=child_env(),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def champion_arguments(*, hours: float) -> list[str]:
    """The contract's arguments in the contract's order."""
    return [
        *("--task-id", TASK, "--model", MODEL, "--dataset", "https://data.example.test/rows.json"),
        *(
            "--dataset-type",
            json.dumps(DATASET_TYPE),
            "--task-type",
            "InstructTextTask",
            "--file-format",
            "s3",
        ),
        *("--expected-repo-name", REPOSITORY, "--hours-to-complete", str(hours)),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bare:
    """A fake root with /cache and /app/checkpoints, in which a champion runs without walls."""

    root: Path

    @property
    def output(self) -> Path:
        return self.root / "app/checkpoints" / TASK / REPOSITORY

    def start(self, arguments: list[str], *, scripts: Path = SCRIPTS) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "text_trainer", *arguments],
            cwd=scripts,
            env=child_env({"CHAMPION_ROOT": str(self.root)}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def make_bare(root: Path, *, model: Path | None, train: Path | None) -> Bare:
    for folder in ("cache/models", "cache/datasets", f"app/checkpoints/{TASK}"):
        (root / folder).mkdir(parents=True)
    if model is not None:
        (root / "cache/models" / MODEL.replace("/", "--")).symlink_to(model)
    if train is not None:
        (root / "cache/datasets" / f"{TASK}_train_data.json").symlink_to(train)
    return Bare(root=root)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    output: Path
    log: str
    seconds: float


@pytest.fixture(scope="session")
def base_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "model"
    done = run_script(DEPLOY / "demo/make_base_model.py", "--output", folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def demo_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with train.json and held-out.json."""
    folder = tmp_path_factory.mktemp("data")
    done = run_script(DEPLOY / "demo/make_dataset.py", "--output", folder / "rows.jsonl")
    assert done.returncode == 0, done.stderr
    prepare_dataset(folder / "rows.jsonl", folder / "prepared")
    return folder / "prepared"


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, base_model: Path, demo_data: Path) -> Trained:
    """What the reference champion makes of the demo within nine minutes."""
    bare = make_bare(tmp_path_factory.mktemp("run"), model=base_model, train=demo_data / "train.json")
    began = time.monotonic()
    child = bare.start(champion_arguments(hours=0.15))
    log, _ = child.communicate(timeout=500)
    assert child.returncode == 0, log
    return Trained(output=bare.output, log=log, seconds=time.monotonic() - began)
