"""Made once for all end-to-end tests: a tiny base model and two sets of complaints."""

from pathlib import Path

import pytest

from tests.deploy.bare import DEPLOY, run_script


@pytest.fixture(scope="session")
def base_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "model"
    done = run_script(DEPLOY / "demo/make_base_model.py", "--output", folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def complaints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows enough to learn something in seconds."""
    return make_rows(tmp_path_factory.mktemp("rows") / "complaints.jsonl", count=400, seed=1)


@pytest.fixture(scope="session")
def few_complaints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Other rows, as few as are taken."""
    return make_rows(tmp_path_factory.mktemp("rows") / "few.jsonl", count=250, seed=2)


def make_rows(file: Path, *, count: int, seed: int) -> Path:
    done = run_script(DEPLOY / "demo/make_dataset.py", "--output", file, "--seed", str(seed))
    assert done.returncode == 0, done.stderr
    rows = file.read_text(encoding="utf-8").splitlines(keepends=True)
    file.write_text("".join(rows[:count]), encoding="utf-8")
    return file
