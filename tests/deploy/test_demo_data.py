"""The demo's rows: made up, repeatable, and with a rule to learn."""

import json
from pathlib import Path

from tests.deploy.bare import DEPLOY, run_script

SCRIPT = DEPLOY / "demo/make_dataset.py"


def made(path: Path, *arguments: str) -> list[dict[str, str]]:
    done = run_script(SCRIPT, "--output", path, *arguments)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_makes_distinct_instruct_rows(tmp_path: Path) -> None:
    rows = made(tmp_path / "rows.jsonl")
    assert len(rows) >= 600
    assert {tuple(row) for row in rows} == {("instruct", "input", "output")}
    assert len({row["input"] for row in rows}) == len(rows)


def test_the_same_seed_gives_the_same_rows(tmp_path: Path) -> None:
    assert made(tmp_path / "a.jsonl") == made(tmp_path / "b.jsonl")


def test_another_seed_gives_other_rows(tmp_path: Path) -> None:
    assert made(tmp_path / "a.jsonl", "--seed", "2") != made(tmp_path / "b.jsonl", "--seed", "3")


def test_fraud_is_always_urgent_and_other_teams_are_not(tmp_path: Path) -> None:
    answers = {row["output"] for row in made(tmp_path / "rows.jsonl")}
    assert "Team: fraud. Priority: normal." not in answers
    assert len(answers) == 9


def test_refuses_fewer_rows_than_the_demo_needs(tmp_path: Path) -> None:
    done = run_script(SCRIPT, "--output", tmp_path / "rows.jsonl", "--rows", "599")
    assert done.returncode == 2
    assert "--rows is 599; the demo needs at least 600" in done.stderr
