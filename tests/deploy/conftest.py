"""Made once for all tests: the demo's base model, its data set, and what the reference champion makes of them."""

import time
from pathlib import Path

import pytest

from appliance.datasets import prepare_dataset
from tests.deploy.bare import DEPLOY, Trained, champion_arguments, make_bare, run_script


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
