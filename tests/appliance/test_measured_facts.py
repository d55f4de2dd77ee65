"""Whatever a fact is, its reader gets what it asked for or None, and people get a text."""

import pytest

from appliance.measured_facts import (
    MAX_SHOWN_CHARS,
    NOT_TOLD,
    amount,
    fact,
    hexadecimal,
    integers,
    is_positive,
    items,
    listed,
    map_rows,
    shown,
)


def test_a_fact_stands_where_it_stands_or_nowhere() -> None:
    facts = {"a": {"b": 1}, "c": [1]}
    assert fact(facts, "a", "b") == 1
    assert (
        fact(facts, "a", "x")
        is fact(facts, "c", "b")
        is fact(None, "a")
        is fact(facts, "a", "b", "c")
        is None
    )


@pytest.mark.parametrize("odd", [None, "1", 1, {}, [True], [1.0], ["1"], [None], []])
def test_what_is_no_list_of_integers_is_none(odd: object) -> None:
    assert integers(odd) is None
    assert map_rows(odd) is None
    assert map_rows([[0, 7, 1], odd]) is None


def test_lists_of_integers_are_read() -> None:
    assert integers([0, 2]) == [0, 2]
    assert integers([], may_be_empty=True) == []
    assert map_rows([[0, 7, 1]]) == [[0, 7, 1]]
    assert map_rows([[0, 7]]) is None


@pytest.mark.parametrize(
    ("text", "number"), [("001f", 31), ("", None), ("x", None), (None, None), ([], None)]
)
def test_a_set_of_capabilities_is_a_number_or_nothing(text: object, number: int | None) -> None:
    assert hexadecimal(text) == number


def test_parts_of_what_has_none_are_none() -> None:
    assert (items({"a": 1}), items([1]), items(None)) == ([("a", 1)], [], [])
    assert (listed([1]), listed({"a": 1}), listed("ab")) == ([1], [], [])


@pytest.mark.parametrize(
    ("value", "answer"), [(1, True), (0, False), (-1, False), (True, False), ("1", False)]
)
def test_only_integers_above_0_are_positive(value: object, answer: bool) -> None:
    assert is_positive(value) is answer


def test_bytes_are_told_in_gib_too() -> None:
    assert amount("memory_bytes", 1 << 30) == "1073741824 (1.00 GiB)"
    assert amount("pids", 64) == "64"
    assert amount("memory_bytes", None) == NOT_TOLD


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, NOT_TOLD),
        (True, "yes"),
        (False, "no"),
        (0, "0"),
        ("", "nothing"),
        ([], "none"),
        ({}, "none"),
        ([1, None], "1, not told"),
        ({"b": [True], "a": 1}, "a 1, b yes"),
        ("a\x1b[2J\n", "a\\x1b[2J\\n"),
        ({"\u202e": 1}, "\\u202e 1"),
        ("x" * 999, "x" * MAX_SHOWN_CHARS + "…"),
    ],
)
def test_a_fact_as_text(value: object, text: str) -> None:
    assert shown(value) == text
