"""Runs the scripts of deploy/ bare: as children of the test, in a fake root, without walls."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

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
    "PYTHONDONTWRITEBYTECODE": "1",  # a champion's tree is hashed: nothing may be left in it
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
