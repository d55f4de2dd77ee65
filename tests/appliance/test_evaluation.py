"""The evaluator's output is a stranger's file: it counts only if it covers every held-out row."""

from pathlib import Path

import pytest

from appliance.errors import EvaluationError
from appliance.evaluation import encode_metrics, parse_metrics, read_metrics


def write(folder: Path, text: str) -> Path:
    file = folder / "losses.json"
    file.write_text(text)
    return file


def test_metrics_are_means_in_micronats(tmp_path: Path) -> None:
    file = write(tmp_path, '{"after":[1000000,3000000],"before":[2000000,5000000]}')
    metrics, losses = read_metrics(file, held_out_rows=2)
    assert (metrics.mean_before, metrics.mean_after, metrics.mean_difference) == (3500000, 2000000, -1500000)
    assert metrics.low <= metrics.mean_difference <= metrics.high
    assert losses == file.read_bytes()


def test_metrics_round_trip(tmp_path: Path) -> None:
    metrics, _ = read_metrics(write(tmp_path, '{"after":[1,2],"before":[3,4]}'), held_out_rows=2)
    assert parse_metrics(encode_metrics(metrics)) == metrics


def test_refuses_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="without writing"):
        read_metrics(tmp_path / "losses.json", held_out_rows=2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "unreadable"),
        ('{"after":[1,2],"before":[1,2.5]}', "unreadable"),
        ('{"after":[1,2],"after":[1,2],"before":[1,2]}', "unreadable"),
        ('{"after":[1,2]}', "exactly the keys"),
        ('{"after":[1,2],"before":[1,2],"extra":1}', "exactly the keys"),
        ('{"after": [1,2],"before":[1,2]}', "exactly the keys"),
        ('{"after":[1],"before":[1,2]}', "after has 1 rows, the held-out part has 2"),
        ('{"after":[1,2],"before":{}}', "before has dict rows"),
        ('{"after":[1,-2],"before":[1,2]}', r"after\[1\] is -2"),
        ('{"after":[1,true],"before":[1,2]}', r"after\[1\] is True"),
        ('{"after":[1,2000000000],"before":[1,2]}', r"after\[1\]"),
    ],
)
def test_refuses_anything_else_with_the_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        read_metrics(write(tmp_path, text), held_out_rows=2)


def test_refuses_a_file_beyond_the_cap(tmp_path: Path) -> None:
    file = tmp_path / "losses.json"
    with file.open("wb") as out:
        out.truncate((8 << 20) + 1)
    with pytest.raises(EvaluationError, match="at most"):
        read_metrics(file, held_out_rows=2)
