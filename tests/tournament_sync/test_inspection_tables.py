"""Tables of models and hyper-parameters, in Python, JSON, YAML and TOML."""

import json

import pytest

from tournament_sync.inspection.python_code import read_python
from tournament_sync.inspection.report import Table
from tournament_sync.inspection.tables import MAX_JSON_BYTES, MAX_TEXT_BYTES, tables_in_data

MODELS = {"org/one": {"lr": 1e-4}, "org/two": {"lr": 2e-4}, "org/three": {"lr": 3e-4}}
SETTINGS = {"learning_rate": 0.1, "batch_size": 8, "num_epochs": 3, "name": "x"}


def in_python(source: str) -> tuple[Table, ...]:
    return read_python(source.encode(), file="a.py").tables


def in_data(content: object) -> list[Table]:
    return list(tables_in_data(json.dumps(content).encode(), file="a.json"))


def test_finds_table_of_models_in_a_function() -> None:
    (table,) = in_python(f"def f():\n    network_config = {MODELS!r}\n")
    assert (table.name, table.entries, table.is_model_table) == ("network_config", 3, True)


def test_finds_table_by_digests_below_a_key() -> None:
    (table,) = in_data({"default": {}, "data": {f"{n:064x}": {"lr": n} for n in range(5)}})
    assert (table.name, table.entries, table.is_model_table) == ("data", 5, True)


def test_finds_hyper_parameters_of_a_whole_file() -> None:
    (table,) = in_data(SETTINGS)
    assert (table.file, table.name, table.entries, table.is_model_table) == ("a.json", "", 4, False)


def test_finds_hyper_parameters_by_size() -> None:
    (table,) = in_python(f"INSTRUCT = {{'0_1_b': {SETTINGS!r}, '1_2_b': {SETTINGS!r}}}\n")
    assert (table.name, table.entries, table.is_model_table) == ("INSTRUCT", 2, False)


def test_finds_list_of_models() -> None:
    (table,) = in_python("NO_FLASH = ['org/a', 'org/b', 'org/c']\n")
    assert table.is_model_table and table.entries == 3


@pytest.mark.parametrize(
    ("content", "entries"),
    [({"lr": 1, "epochs": 2, "seed": 3}, 3), (["a/b", "c/d", "e/f"], 3), ([1, 2, "a/b", "c/d", "e/f"], 5)],
)
def test_the_smallest_tables_are_found(content: object, entries: int) -> None:
    (found,) = tables_in_data(json.dumps(content).encode(), file="a.json")
    assert found.entries == entries


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("a.yml", "learning_rate: 0.1\nbatch_size: 8\nnum_epochs: 3\n"),
        ("a.toml", "learning_rate = 0.1\nbatch_size = 8\nnum_epochs = 3\n"),
    ],
)
def test_reads_yaml_and_toml(file: str, text: str) -> None:
    (table,) = tables_in_data(text.encode(), file=file)
    assert table.entries == 3


@pytest.mark.parametrize(
    "content",
    [
        {"text/plain": 1, "image/png": 2, "audio/wav": 3},
        {"scripts/a.py": 1, "scripts/b.py": 2, "docs/c.md": 3},
        {"org/one": 1, "b": 2, "c": 3, "d": 4},
        {"a": 1, "b": 2, "c": 3},
        [{"instruct": "x"}, {"instruct": "y"}, {"instruct": "z"}],
        {"lr": "x", "alpha": "y", "rank": "z"},
        "org/one",
    ],
)
def test_takes_no_other_data_for_a_table(content: object) -> None:
    assert not in_data(content)


def test_digest_ignores_order_and_spacing_but_no_value() -> None:
    one = in_python("T = {'org/a': 1, 'org/b': 2, 'org/c': 3}\n")[0].sha256
    other = in_python("T = {\n 'org/c': 3, 'org/b': 2,\n 'org/a': 1}\n")[0].sha256
    changed = in_python("T = {'org/a': 1, 'org/b': 2, 'org/c': 4}\n")[0].sha256
    assert one == other == in_data({"org/b": 2, "org/a": 1, "org/c": 3})[0].sha256
    assert one != changed


def test_digest_sees_a_changed_expression() -> None:
    first, second = (
        in_python(f"T = {{'org/a': {x}, 'org/b': 1, 'org/c': 2}}\n")[0] for x in ("f(1)", "f(2)")
    )
    assert first.sha256 != second.sha256


def test_tells_tables_of_one_name_apart() -> None:
    source = "T = ['org/a', 'org/b', 'org/c']\nT = ['org/d', 'org/e', 'org/f']\n"
    assert sorted(table.name for table in in_python(source)) == ["T#1", "T#2"]


@pytest.mark.parametrize(
    ("file", "data"),
    [
        ("a.json", b"{" * 100_000),
        ("a.json", b'{"org/a": 1'),
        ("a.json", b"[" + b"9" * 5000 + b"]"),
        ("a.json", b" " * (MAX_JSON_BYTES + 1)),
        ("a.yaml", b"a: &a [x]\nb: *a\n"),
        ("a.yaml", b"!!python/object/apply:os.system [true]\n"),
        ("a.yaml", b"[" * 20_000),
        ("a.yaml", b"a: " + b"x" * MAX_TEXT_BYTES),
        ("a.toml", b"a = [" * 3000),
        ("a.toml", b"\xff"),
        ("a.txt", b"{}"),
    ],
)
def test_hostile_documents_are_no_tables(file: str, data: bytes) -> None:
    assert not list(tables_in_data(data, file=file))


def test_reads_numbers_and_keys_that_json_has_not() -> None:
    source = f"T = {{'org/a': 0x{'f' * 5000}, 'org/b': float('nan'), 'org/c': -1, 3: 1, None: 2}}\n"
    (table,) = in_python(source)
    assert table.entries == 5
