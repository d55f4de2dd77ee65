"""Data sets: what is taken, and each refusal with the sentence that explains it."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from appliance.datasets import MAX_FILE_BYTES, LintedDataset, lint_dataset, prepare_dataset, split_rows
from appliance.errors import DatasetError

# A public data set as people bring it; the tests make their own stand-in where it is absent.
GSM8K = Path(__file__).parents[3] / "shared/data/gsm8k/train.jsonl"


def rows(count: int) -> list[dict[str, object]]:
    return [{"instruct": f"Say {n}.", "input": f"loudly {n}", "output": f"{n}!"} for n in range(count)]


def jsonl(folder: Path, records: Sequence[object]) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def text_file(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def lint(folder: Path, record: object, *, mapping: Mapping[str, str] | None = None) -> LintedDataset:
    """Lint two good rows and `record` as row 3."""
    return lint_dataset(jsonl(folder, [*rows(2), record]), mapping=mapping)


def refusal(path: Path, *, mapping: Mapping[str, str] | None = None) -> str:
    with pytest.raises(DatasetError) as caught:
        lint_dataset(path, mapping=mapping)
    return str(caught.value)


# What is taken


def test_reads_json_lines_in_file_order(tmp_path: Path) -> None:
    linted = lint_dataset(jsonl(tmp_path, rows(3)))
    assert [row.output for row in linted.rows] == ["0!", "1!", "2!"]
    assert linted.warnings == ()


def test_reads_a_json_array(tmp_path: Path) -> None:
    linted = lint_dataset(text_file(tmp_path, "rows.json", json.dumps(rows(3))))
    assert linted.rows[1].input == "loudly 1"


def test_reads_csv_with_line_breaks_in_cells(tmp_path: Path) -> None:
    text = 'instruct,output\n"Say\none.","1, yes"\nSay two.,2\n'
    linted = lint_dataset(text_file(tmp_path, "rows.csv", text))
    assert [(row.instruct, row.output) for row in linted.rows] == [("Say\none.", "1, yes"), ("Say two.", "2")]


def test_takes_a_byte_order_mark(tmp_path: Path) -> None:
    assert (
        lint_dataset(text_file(tmp_path, "rows.csv", "\ufeffinstruct,output\na,b\n")).rows[0].instruct == "a"
    )


def test_line_separators_inside_text_do_not_end_a_row(tmp_path: Path) -> None:
    text = '{"instruct": "a\u2028b", "output": "c"}\n'
    assert lint_dataset(text_file(tmp_path, "rows.jsonl", text)).rows[0].instruct == "a\u2028b"


@pytest.mark.parametrize(
    ("theirs", "record"),
    [
        ({"question": "instruct", "answer": "output"}, {"question": "q", "answer": "a"}),
        ({"prompt": "instruct", "completion": "output"}, {"prompt": "q", "completion": "a"}),
        ({"instruction": "instruct"}, {"instruction": "q", "input": "i", "output": "a"}),
    ],
)
def test_knows_and_reports_common_column_names(
    tmp_path: Path, theirs: dict[str, str], record: dict[str, str]
) -> None:
    linted = lint_dataset(jsonl(tmp_path, [record]))
    assert linted.renamed == theirs
    assert (linted.rows[0].instruct, linted.rows[0].output) == ("q", "a")
    assert linted.rows[0].input == record.get("input", "")


def test_mapping_names_foreign_columns(tmp_path: Path) -> None:
    path = jsonl(tmp_path, [{"frage": "q", "antwort": "a", "input": "i"}])
    linted = lint_dataset(path, mapping={"frage": "instruct", "antwort": "output"})
    assert (linted.rows[0].instruct, linted.rows[0].input, linted.rows[0].output) == ("q", "i", "a")


def test_optional_cells_may_be_absent_or_null(tmp_path: Path) -> None:
    linted = lint(tmp_path, {"instruct": "q", "input": None, "output": "a"})
    assert linted.rows[2].input == ""


def test_an_input_that_only_later_rows_have_is_not_lost(tmp_path: Path) -> None:
    path = jsonl(tmp_path, [{"instruct": "q", "output": "a"}, {"instruct": "q", "input": "i", "output": "a"}])
    assert lint_dataset(path).rows[1].input == "i"


def test_warns_about_unused_columns(tmp_path: Path) -> None:
    linted = lint(tmp_path, {"instruct": "q", "output": "a", "id": 7})
    assert linted.warnings == ("column 'id' is not used (1 rows have it)",)


def test_warns_about_repeated_rows_however_they_are_spelled(tmp_path: Path) -> None:
    linted = lint(tmp_path, {"instruct": "  SAY 1.", "input": "loudly\n1", "output": "1!"})
    assert linted.warnings == ("1 rows repeat an earlier one; the first is row 3, equal to row 2",)


# What is refused: the file


def test_refuses_a_missing_file(tmp_path: Path) -> None:
    assert refusal(tmp_path / "rows.jsonl") == "rows.jsonl is not a file"


def test_refuses_other_kinds_of_file(tmp_path: Path) -> None:
    message = refusal(text_file(tmp_path, "rows.parquet", "x"))
    assert message == "file name ends in '.parquet'; wanted .jsonl, .json or .csv"


def test_refuses_a_file_above_the_cap(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.touch()
    os.truncate(path, MAX_FILE_BYTES + 1)  # a sparse file: no space is used
    assert refusal(path) == "the file has 2147483647 bytes; at most 2147483646 are taken"


@pytest.mark.parametrize("text", ["", "\n \n", "\ufeff"])
def test_refuses_an_empty_file(tmp_path: Path, text: str) -> None:
    assert refusal(text_file(tmp_path, "rows.jsonl", text)) == "the file is empty"


@pytest.mark.parametrize(("name", "text"), [("rows.json", "[]"), ("rows.csv", "instruct,output\n")])
def test_refuses_a_file_without_rows(tmp_path: Path, name: str, text: str) -> None:
    assert refusal(text_file(tmp_path, name, text)) == "the data set has no rows"


def test_names_the_byte_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"instruct": "gr\xfcn"}')
    assert refusal(path) == "the file is not UTF-8: byte 16 is 0xfc (invalid start byte)"


def test_names_the_line_that_is_not_json(tmp_path: Path) -> None:
    path = text_file(tmp_path, "rows.jsonl", json.dumps(rows(1)[0]) + "\n{nonsense\n")
    assert refusal(path).startswith("line 2 is not JSON: ")


def test_refuses_json_nested_without_end(tmp_path: Path) -> None:
    assert refusal(text_file(tmp_path, "rows.json", "[" * 100_000)).startswith("the file is not JSON: ")


def test_refuses_an_object_with_a_field_twice(tmp_path: Path) -> None:
    path = text_file(tmp_path, "rows.jsonl", '{"instruct": "a", "output": "b", "output": "c"}')
    assert refusal(path) == "line 1 is not JSON: a field occurs twice in one object"


def test_refuses_json_that_is_no_array(tmp_path: Path) -> None:
    assert refusal(text_file(tmp_path, "rows.json", "{}")) == (
        "the file holds an object; wanted an array of objects"
    )


@pytest.mark.parametrize(
    ("text", "kind"), [("7", "a number"), ("[]", "an array"), ('"a"', "text"), ("true", "true or false")]
)
def test_refuses_a_line_that_is_no_object(tmp_path: Path, text: str, kind: str) -> None:
    path = text_file(tmp_path, "rows.jsonl", text)
    assert refusal(path) == f"line 1 is {kind}; wanted an object with fields"


def test_refuses_csv_rows_of_another_width(tmp_path: Path) -> None:
    path = text_file(tmp_path, "rows.csv", "instruct,output\na,b\na,b,c\n")
    assert refusal(path) == "row 2 has 3 cells; the header has 2"


def test_refuses_csv_with_a_column_twice(tmp_path: Path) -> None:
    path = text_file(tmp_path, "rows.csv", "instruct,output,output\na,b,c\n")
    assert refusal(path) == "the header names a column twice: instruct, output, output"


def test_refuses_broken_csv(tmp_path: Path) -> None:
    path = text_file(tmp_path, "rows.csv", 'instruct,output\n"a"x,b\n')
    assert refusal(path).startswith("line 2 is not CSV: ")


# What is refused: columns and cells


def test_names_found_and_wanted_columns(tmp_path: Path) -> None:
    message = refusal(jsonl(tmp_path, [{"question": "q", "reply": "a"}]))
    assert message.startswith(
        "the columns are question, reply; wanted instruct and output or question and answer"
    )
    assert "A mapping can give other columns these names" in message


def test_refuses_a_mapping_to_columns_that_do_not_exist(tmp_path: Path) -> None:
    message = refusal(jsonl(tmp_path, rows(1)), mapping={"instruct": "question", "output": "output"})
    assert message == "the mapping names question; wanted instruct, input, output, system"


@pytest.mark.parametrize(
    "mapping", [{"instruct": "instruct"}, {"instruct": "output", "output": "output", "input": "instruct"}]
)
def test_refuses_a_mapping_that_is_not_one_to_one(tmp_path: Path, mapping: dict[str, str]) -> None:
    message = refusal(jsonl(tmp_path, rows(1)), mapping=mapping)
    assert message == "the mapping must name instruct and output, each once"


def test_refuses_a_mapping_from_absent_columns(tmp_path: Path) -> None:
    message = refusal(jsonl(tmp_path, rows(1)), mapping={"frage": "instruct", "output": "output"})
    assert message.startswith("the columns are input, instruct, output; wanted frage and output")


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"instruct": "q"}, "row 3 has no field 'output'"),
        ({"instruct": "q", "output": ""}, "row 3, field 'output' is empty"),
        ({"instruct": " \n", "output": "a"}, "row 3, field 'instruct' is empty"),
        ({"instruct": "q", "output": 7}, "row 3, field 'output': wanted text, found a number"),
        ({"instruct": "q", "output": 7.5}, "row 3, field 'output': wanted text, found a number"),
        ({"instruct": "q", "output": True}, "row 3, field 'output': wanted text, found true or false"),
        ({"instruct": "q", "output": None}, "row 3, field 'output': wanted text, found nothing (null)"),
        ({"instruct": "q", "output": ["a"]}, "row 3, field 'output': wanted text, found an array"),
        ({"instruct": {}, "output": "a"}, "row 3, field 'instruct': wanted text, found an object"),
        ({"instruct": "q", "output": "a", "input": 7}, "row 3, field 'input': wanted text, found a number"),
        ({"instruct": "\ud800", "output": "a"}, "row 3, field 'instruct': holds half a character"),
    ],
)
def test_names_row_and_field_at_fault(tmp_path: Path, record: dict[str, object], message: str) -> None:
    with pytest.raises(DatasetError) as caught:
        lint(tmp_path, record)
    assert str(caught.value).startswith(message)


# The split


def test_holds_out_a_tenth(tmp_path: Path) -> None:
    prepared = prepare_dataset(jsonl(tmp_path, rows(450)), tmp_path / "into")
    assert (prepared.train_rows, prepared.held_out_rows) == (405, 45)
    assert len(json.loads(prepared.train.read_bytes())) == 405
    assert len(json.loads(prepared.held_out.read_bytes())) == 45
    assert prepared.warnings == ()
    assert sorted(path.name for path in (tmp_path / "into").iterdir()) == ["held-out.json", "train.json"]


def test_holds_out_at_most_four_hundred_rows(tmp_path: Path) -> None:
    assert prepare_dataset(jsonl(tmp_path, rows(4100)), tmp_path / "into").held_out_rows == 400


def test_every_row_is_on_exactly_one_side(tmp_path: Path) -> None:
    prepared = prepare_dataset(jsonl(tmp_path, rows(300)), tmp_path / "into")
    both = json.loads(prepared.train.read_bytes()) + json.loads(prepared.held_out.read_bytes())
    assert sorted(row["output"] for row in both) == sorted(str(row["output"]) for row in rows(300))


def test_the_order_of_the_file_does_not_change_the_bytes(tmp_path: Path) -> None:
    first = prepare_dataset(jsonl(tmp_path, rows(300)), tmp_path / "first")
    second = prepare_dataset(jsonl(tmp_path, rows(300)[::-1]), tmp_path / "second")
    assert first.train.read_bytes() == second.train.read_bytes()
    assert first.held_out.read_bytes() == second.held_out.read_bytes()


def test_the_split_is_pinned(tmp_path: Path) -> None:
    # Another order would change the digest of every data set that was ever imported.
    prepared = prepare_dataset(jsonl(tmp_path, rows(300)), tmp_path / "into")
    assert prepared.held_out.read_text(encoding="utf-8").splitlines()[:2] == [
        "[",
        '{"input":"loudly 176","instruct":"Say 176.","output":"176!"},',
    ]


def test_no_prompt_is_on_both_sides(tmp_path: Path) -> None:
    twins = [
        {"instruct": f"say  {n}.", "input": f"LOUDLY {n}", "output": "another answer"} for n in range(250)
    ]
    split = split_rows(lint_dataset(jsonl(tmp_path, [*rows(400), *twins])).rows)
    asked = {" ".join(row.instruct.lower().split()) for row in split.train}
    assert len(split.held_out) == 65
    assert not asked & {row.instruct.lower() for row in split.held_out}


def test_system_prompts_travel_along(tmp_path: Path) -> None:
    prepared = prepare_dataset(
        jsonl(tmp_path, [row | {"system": "Be kind."} for row in rows(300)]), tmp_path / "into"
    )
    assert all(row["system"] == "Be kind." for row in json.loads(prepared.held_out.read_bytes()))


def test_says_how_many_rows_are_missing(tmp_path: Path) -> None:
    with pytest.raises(
        DatasetError, match="221 rows leave 199 for training after 22 are held out; training needs at "
    ):
        prepare_dataset(jsonl(tmp_path, rows(221)), tmp_path / "into")
    assert not (tmp_path / "into").exists()


def test_takes_just_enough_rows_and_warns(tmp_path: Path) -> None:
    prepared = prepare_dataset(jsonl(tmp_path, rows(222)), tmp_path / "into")
    assert prepared.train_rows == 200
    assert prepared.warnings[0].startswith("200 training rows are few")


def test_refuses_rows_that_all_ask_the_same(tmp_path: Path) -> None:
    same = [{"instruct": "Write a poem.", "output": f"poem {n}"} for n in range(300)]
    with pytest.raises(
        DatasetError, match="only 0 prompts occur just once; at least 20 such rows must be held out"
    ):
        prepare_dataset(jsonl(tmp_path, same), tmp_path / "into")


def test_takes_a_public_data_set_as_it_is_published(tmp_path: Path) -> None:
    path = GSM8K
    if not path.exists():
        stand_in = [
            {"question": f"What is {n} + 1?", "answer": f"{n} + 1 = {n + 1}\n#### {n + 1}"}
            for n in range(7473)
        ]
        path = jsonl(tmp_path, stand_in)
    prepared = prepare_dataset(path, tmp_path / "into")
    assert (prepared.train_rows, prepared.held_out_rows) == (7073, 400)
    assert prepared.renamed == {"question": "instruct", "answer": "output"}
