"""How secret a data set is stands in the signed log, and nobody makes it less secret: not by a row, not by importing
it again."""

import json
from pathlib import Path

import pytest
from sqlalchemy import text

from appliance.assembly import Appliance
from appliance.classification import classification_of
from appliance.domain import Classification
from appliance.errors import ConflictError, DatasetError
from appliance.imports import import_dataset
from appliance.store.artifacts import Artifact
from appliance.store.engine import reading
from audit.event import EventKind
from audit.store import events_of


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A data set of the smallest size."""
    file = tmp_path / "rows.jsonl"
    lines = ({"instruct": f"what is {n} + 1?", "output": str(n + 1)} for n in range(222))
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def classified(appliance: Appliance, dataset: Artifact) -> Classification:
    with reading(appliance.engine) as conn:
        return classification_of(conn, dataset)


def logged(appliance: Appliance, dataset: Artifact) -> list[tuple[str, object]]:
    with reading(appliance.engine) as conn:
        events = [entry.event for entry in events_of(conn, dataset.root_sha256)]
    assert {event.kind for event in events} == {EventKind.DATASET_IMPORTED}
    return [(event.actor, event.detail["classification"]) for event in events]


def tamper(appliance: Appliance, classification: str | None) -> None:
    value = "json_remove(facts, '$.classification')"
    if classification is not None:
        value = f"json_set(facts, '$.classification', '{classification}')"
    with appliance.engine.begin() as conn:
        conn.execute(text(f"UPDATE artifact SET facts = {value}"))


def test_what_nobody_classified_is_internal_and_logged_so(appliance: Appliance, rows: Path) -> None:
    taken = import_dataset(appliance, rows, actor="ada")
    assert classified(appliance, taken) is Classification.INTERNAL
    assert logged(appliance, taken) == [("ada", "internal")]


@pytest.mark.parametrize("wanted", Classification)
def test_a_classification_is_kept_and_logged(
    appliance: Appliance, rows: Path, wanted: Classification
) -> None:
    taken = import_dataset(appliance, rows, actor="ada", classified=wanted)
    assert taken.facts["classification"] == wanted
    assert classified(appliance, taken) is wanted
    assert logged(appliance, taken) == [("ada", wanted.value)]


def test_the_same_rows_again_without_a_word_change_nothing(appliance: Appliance, rows: Path) -> None:
    taken = import_dataset(appliance, rows, actor="ada", classified=Classification.RESTRICTED)
    assert import_dataset(appliance, rows, actor="bob") == taken
    assert import_dataset(appliance, rows, actor="bob", classified=Classification.RESTRICTED) == taken
    assert logged(appliance, taken) == [("ada", "restricted")]


def test_the_same_rows_again_may_become_stricter(appliance: Appliance, rows: Path) -> None:
    import_dataset(appliance, rows, actor="ada")
    taken = import_dataset(appliance, rows, actor="bob", classified=Classification.RESTRICTED)
    assert taken.facts["classification"] == "restricted"
    assert taken.facts["train_rows"] == 200
    assert logged(appliance, taken) == [("ada", "internal"), ("bob", "restricted")]


def test_the_same_rows_never_become_less_secret(appliance: Appliance, rows: Path) -> None:
    taken = import_dataset(appliance, rows, actor="ada", classified=Classification.CONFIDENTIAL)
    with pytest.raises(ConflictError, match="registered as confidential and cannot become public") as refused:
        import_dataset(appliance, rows, actor="bob", classified=Classification.PUBLIC)
    assert refused.value.wanted == "confidential or restricted"
    assert classified(appliance, taken) is Classification.CONFIDENTIAL


@pytest.mark.parametrize("written", ["public", None])
def test_a_changed_row_makes_nothing_less_secret(
    appliance: Appliance, rows: Path, written: str | None
) -> None:
    import_dataset(appliance, rows, actor="ada", classified=Classification.RESTRICTED)
    tamper(appliance, written)
    assert classified(appliance, import_dataset(appliance, rows, actor="ada")) is Classification.RESTRICTED


def test_a_word_that_is_no_classification_is_not_taken_for_one(appliance: Appliance, rows: Path) -> None:
    import_dataset(appliance, rows, actor="ada")
    tamper(appliance, "secret")
    with pytest.raises(DatasetError, match="'secret' is no classification"):
        classified(appliance, import_dataset(appliance, rows, actor="ada"))


def test_stricter_ones_come_later() -> None:
    assert [c.rank for c in Classification] == [0, 1, 2, 3]
    assert list(Classification)[-1] is Classification.RESTRICTED
