"""Functions, arguments, values and table entries that differ; and sources that try to hurt who reads them."""

import pytest

from tournament_sync.diff.functions import (
    UnreadablePythonError,
    function_changes,
    read_python,
    value_changes,
)
from tournament_sync.diff.model import Change
from tournament_sync.diff.tables import MAX_ENTRIES, MAX_TEXT_BYTES, UnreadableTableError, read_entries


def functions(old: str, new: str) -> list[tuple[str, Change]]:
    before, after = read_python(old.encode(), new.encode())
    return [(each.name, each.change) for each in function_changes("a.py", before.functions, after.functions)]


def values(old: str, new: str) -> list[tuple[str, str | None, str | None]]:
    before, after = read_python(old.encode(), new.encode())
    return [(each.name, each.old, each.new) for each in value_changes("a.py", before.values, after.values)]


def arguments(old: str, new: str) -> list[tuple[str, str | None, str | None]]:
    before, after = read_python(old.encode(), new.encode())
    return [(e.name, e.old, e.new) for e in value_changes("a.py", before.arguments, after.arguments)]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("", "def f(): pass", [("f", Change.ADDED)]),
        ("def f(): pass", "", [("f", Change.REMOVED)]),
        ("def f(): pass", "def f(): return", [("f", Change.BODY)]),
        ("def f(a): pass", "def f(a=1): pass", [("f", Change.SIGNATURE)]),
        ("def f(): pass", "async def f(): pass", [("f", Change.SIGNATURE)]),
        ("def f(): pass", "@d\ndef f(): pass", [("f", Change.SIGNATURE)]),
        ("@d\ndef f(): pass", "@e\ndef f(): pass", [("f", Change.SIGNATURE)]),
        ("def f(): pass", "def f() -> int: pass", [("f", Change.SIGNATURE)]),
        ("class A: pass", "class A(B): pass", [("A", Change.SIGNATURE)]),
        (
            "class A:\n x = 1\n def f(self): pass",
            "class A:\n x = 2\n def f(self): pass",
            [("A", Change.BODY)],
        ),
        ("class A:\n def f(self): pass", "class A:\n def f(self): return", [("A.f", Change.BODY)]),
        (
            "def f():\n def g(): pass",
            "def f():\n def g(): return",
            [("f", Change.BODY), ("f.g", Change.BODY)],
        ),
        ("if x:\n def f(): pass", "if x:\n def f(): return", [("<module>", Change.BODY), ("f", Change.BODY)]),
        ("run(1)", "run(2)", [("<module>", Change.BODY)]),
        ("def f(): pass\ndef f(): 1", "def f(): pass\ndef f(): 2", [("f", Change.BODY)]),
        ("def f(): 1\ndef f(): 2", "def f(): 3\ndef f(): 4", [("f", Change.BODY), ("f#2", Change.BODY)]),
        ("x = 'é'; def_ = 1\ndef f(): pass", "x = 'ü'; def_ = 1\ndef f(): pass", [("<module>", Change.BODY)]),
    ],
)
def test_tells_what_became_of_functions(old: str, new: str, expected: list[tuple[str, Change]]) -> None:
    assert functions(old, new) == expected


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("def f(a, b): return a", "# why\ndef f(a,\n      b):\n    return a  # here"),
        ("x = 1", "\n\n\nx = 1"),
        ("def f(): return 'a'", 'def f(): return "a"'),
        ("def f(): pass\ndef g(): pass", "def g(): pass\ndef f(): pass"),
    ],
)
def test_form_comments_and_places_change_nothing(old: str, new: str) -> None:
    assert functions(old, new) == []


def test_the_same_text_with_another_meaning_is_told() -> None:
    # The last line of both reads the same; in the second it ends a string.
    assert functions('x = 1\ny = """\n"""; f(1)', 'x = 1\ny = """\n"""; f(2)') == [("<module>", Change.BODY)]
    assert functions("x = 1; y = 2", "x = 3; y = 2") == [("<module>", Change.BODY)]


def test_signatures_are_shown_and_cut() -> None:
    before, after = read_python(b"def f(a): pass", b"@d\nasync def f(a, *, b: int = 1) -> str: pass")
    (change,) = function_changes("a.py", before.functions, after.functions)
    assert (change.old_signature, change.new_signature) == (
        "def f(a)",
        "@d async def f(a, *, b: int=1) -> str",
    )
    before, after = read_python(b"", f"def f(a='{'x' * 500}\\u202e'): pass".encode())
    (change,) = function_changes("a.py", before.functions, after.functions)
    assert len(change.new_signature) == 300 and change.new_signature.endswith("…")


def test_sources_in_another_encoding_are_compared_by_meaning() -> None:
    source = "# coding: latin-1\nx = 'é'; y = 1\ndef f(): pass\n"
    before, after = read_python(source.encode("latin-1"), source.replace("y = 1", "y = 2").encode("latin-1"))
    assert [each.name for each in value_changes("a", before.values, after.values)] == ["y"]
    assert "f" not in before.functions


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("LR = 1e-4", "LR = 2e-4", [("LR", "0.0001", "0.0002")]),
        ("LR: float = -1", "LR: float = +1", [("LR", "-1", "+1")]),
        ("T = {'a': {'lr': 1}}", "T = {'a': {'lr': 2}, **x}", [("T.**", None, "x"), ("T.a.lr", "1", "2")]),
        ("T = [1, 2]", "T = (1, 3, y * 2)", [("T[1]", "2", "3"), ("T[2]", None, "y * 2")]),
        ("def f():\n lr = 1", "def f():\n lr = 2", [("f.lr", "1", "2")]),
        ("x = 'a'; y = True; z = g()", "x = 'b'; y = False; z = h()", []),
        ("T = {1: 1, K: 2}", "T = {1: 3, K: 4}", [("T.1", "1", "3"), ("T.K", "2", "4")]),
        ("lr = 1\nlr = 2", "lr = 3\nlr = 4", [("lr", "1", "3"), ("lr#2", "2", "4")]),
    ],
)
def test_tells_named_numbers_and_entries(
    old: str, new: str, expected: list[tuple[str, str | None, str | None]]
) -> None:
    assert values(old, new) == expected


def test_tells_arguments_by_their_long_name() -> None:
    old = "p.add_argument('-l', '--lr', type=float, default=1)\np.add_argument('--gone')\np.add_argument()"
    new = "p.add_argument('-l', '--lr', type=float, default=2, help='x')\np.add_argument(NAME)\nadd_argument('x')"
    assert arguments(old, new) == [
        ("--gone", "", None),
        ("--lr", "type=float, default=1", "type=float, default=2"),
        ("NAME", None, ""),
    ]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = (", "SyntaxError"),
        ("x = 1\0", "null bytes"),
        ("x = " + "(" * 1000, "SyntaxError"),
        ("x = " + "not " * 5000 + "1", "Error"),
        ("x = " + "a." * 20_000 + "b", "Error"),
        ("x = " + "+".join("a" * 1 for _ in range(20_000)), "Error"),
        ("# coding: no-such\n", "SyntaxError"),
    ],
)
def test_sources_without_a_syntax_tree_are_refused(source: str, message: str) -> None:
    with pytest.raises(UnreadablePythonError, match=message):
        read_python(b"x = 1", source.encode())


def test_definitions_nested_too_deep_are_refused() -> None:
    source = "".join(" " * n + "def f():\n" for n in range(70)) + " " * 70 + "pass"
    with pytest.raises(UnreadablePythonError, match="definitions nested deeper than 60"):
        read_python(b"", source.encode())


def test_a_body_that_is_nested_deep_is_compared() -> None:
    deep = "def f():\n    return " + "-" * 1500
    assert functions(f"{deep}1", f"{deep}1  # the same") == []
    assert functions(f"{deep}1", f"{deep}2") == [("f", Change.BODY)]


def test_definitions_are_found_in_every_block() -> None:
    blocks = """
if a:
    def f1(): 1
elif b:
    def f2(): 1
else:
    def f3(): 1
try:
    def f4(): 1
except A:
    def f5(): 1
else:
    def f6(): 1
finally:
    def f7(): 1
for a in b:
    def f8(): 1
else:
    def f9(): 1
while a:
    class C: x = 1
with a:
    def g1(): 1
match a:
    case 1:
        async def g2(): 1
"""
    found = functions(blocks, blocks.replace("1", "2"))
    names = {"f1", "f2", "f3", "f4", "f5", "f6", "f7", "f8", "f9", "C", "g1", "g2"}
    assert {name for name, _ in found} >= names - {"f1", "f2", "g1", "g2"}
    changed = functions(blocks, blocks.replace(": 1", ": 3").replace("x = 1", "x = 3"))
    assert {name for name, _ in changed} == names | {"<module>"}


def test_arguments_are_found_wherever_they_are_added_and_in_order() -> None:
    old = "if x:\n p.add_argument('--a').b(q.add_argument('--c', default=1))\np.add_argument('--a', type=x)"
    assert arguments(old, "") == [("--a", "", None), ("--a#2", "type=x", None), ("--c", "default=1", None)]


def test_numbers_are_written_as_python_writes_them() -> None:
    old = "a = 0x10\nb = 1e999\nc = 1_0.50\nd = 2j\ne = -0x10"
    assert values(old, "") == [
        ("a", "16", None),
        ("b", "1e309", None),
        ("c", "10.5", None),
        ("e", "-16", None),
    ]


def test_strange_literals_print_no_warnings(recwarn: pytest.WarningsRecorder) -> None:
    read_python(b"x = '\\d'", b"x = '\\e' is 1")
    assert list(recwarn) == []


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.json", '{"a": {"b": [1, 2.50, 1e-4]}, "c": "x", "d": null, "e": true, "f": {}}',
         {"a.b[0]": "1", "a.b[1]": "2.50", "a.b[2]": "1e-4", "c": '"x"', "d": "null", "e": "true", "f": "{}"}),
        ("a.yaml", "a: {b: 1}\nc: [x]\n", {"a.b": "1", "c[0]": '"x"'}),
        ("a.toml", "a = 1.50\n[b]\nc = 'x'\nd = 2026-01-01\n", {"a": "1.50", "b.c": '"x"', "b.d": "2026-01-01"}),
        ("a.json", "3", {"": "3"}),
        ("a.yaml", "", {"": "null"}),
    ],
)  # fmt: skip
def test_entries_are_named_flat_and_numbers_stay_as_written(
    name: str, text: str, expected: dict[str, str]
) -> None:
    assert read_entries(text.encode(), file=name) == expected


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.json", b"{", "JSONDecodeError"),
        ("a.json", b"[" * 100_000, "RecursionError"),
        ("a.json", b"\xff", "UnicodeDecodeError"),
        ("a.json", b"[" + b"1," * MAX_ENTRIES + b"1]", f"more than {MAX_ENTRIES} entries"),
        ("a.json", b" " * ((4 << 20) + 1), "over the limit"),
        ("a.toml", b"a", "TOMLDecodeError"),
        ("a.yaml", b"a: [", "ParserError"),
        ("a.yaml", b"a: !!python/object/apply:os.system ['true']", "ConstructorError"),
        ("a.yml", b"a: &b 1", "anchors"),
        ("a.yml", b"[" * 5000, "nested deeper"),
        ("a.yaml", b"a" * (MAX_TEXT_BYTES + 1), "over the limit"),
    ],
)
def test_documents_that_cannot_be_read_are_refused(name: str, data: bytes, message: str) -> None:
    with pytest.raises(UnreadableTableError, match=message):
        read_entries(data, file=name)
