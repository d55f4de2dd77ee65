"""Two syntax trees are the same if only their places and their layout differ."""

import ast

import pytest

from tournament_sync.diff.sameness import is_same


def same(old: str, new: str) -> bool:
    forth = is_same(ast.parse(old).body, ast.parse(new).body)
    assert is_same(ast.parse(new).body, ast.parse(old).body) is forth
    return forth


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("", "# nothing\n"),
        ("f(1, a=2)", "\n\nf(\n    1,\n    a = 2,\n)"),
        ("x = 'a' 'b'", 'x = "ab"'),
        ("x = 16", "x = 0x10"),
        ("if a: b\nelse:\n if c: d", "if a:\n    b\nelif c:\n    d"),
        ("f'{a}{b!r}'", 'f"{a}{b!r}"'),
        ("x = 1e999", "x = 1e400"),
    ],
)
def test_layout_changes_nothing(old: str, new: str) -> None:
    assert same(old, new)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("x = 1", "x = 2"),
        ("x = 1", "x = 1.0"),
        ("x = 1", "x = True"),
        ("x = 0.0", "x = -0.0"),
        ("x = 'a'", "x = b'a'"),
        ("x = None", "x = 0"),
        ("x = [1]", "x = (1,)"),
        ("x = [1]", "x = [1, 1]"),
        ("x = a", "del a"),
        ("x = a + b", "x = a - b"),
        ("x < y", "x <= y"),
        ("f(*a)", "f(**a)"),
        ("f(a=1)", "f(b=1)"),
        ("def f(a): pass", "def f(a, /): pass"),
        ("def f(a=1): pass", "def f(*, a=1): pass"),
        ("import a", "import a as b"),
        ("from . import a", "from .. import a"),
        ("global a", "global b"),
        ("return_ = 1; x", "return_ = 1"),
        ("f'{a}'", "f'{a!r}'"),
        ("async def f(): pass", "def f(): pass"),
    ],
)
def test_every_field_counts(old: str, new: str) -> None:
    assert not same(old, new)


def test_compares_as_deep_as_the_parser_goes() -> None:
    deep = "x = " + "-" * 1500
    assert same(deep + "1", deep + "1")
    assert not same(deep + "1", deep + "2")
