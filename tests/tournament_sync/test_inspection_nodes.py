"""Nodes of a syntax tree by type: none is left out, however deep, and order where rules depend on it."""

import ast
import sys
from collections import Counter
from pathlib import Path

import pytest

from tournament_sync.inspection.python_nodes import latest_first, nodes_by_type, nodes_of

EVERYTHING = """
from __future__ import annotations
import a.b as c, d
from .e import f as g
@h(1)
class I(j, metaclass=k):
    l: m = n
    o: p
    async def q(self, r, /, s: t = u, *v: w, x=y, **z) -> aa:
        async with ab as ac, ad: pass
        async for ae in af: break
        else: continue
        return [ag async for ah in ai if aj if ak]
def al(am=lambda an, *ao, ap=aq, **ar: as_):
    global at
    def au():
        nonlocal av
    yield aw
    yield
    yield from ax
    del ay[az], ba.bb
    assert bc, bd
    raise be from bf
for bg, *bh in bi:
    pass
else:
    bj += bk
while (bl := bm):
    pass
else:
    bn = bo = bp
if bq: pass
elif br: pass
else: bs
with bt as bu: pass
try: pass
except bv as bw: pass
except (bx, by): pass
else: bz
finally: ca
try: pass
except* cb: pass
match cc:
    case cd.ce | 1 | None: pass
    case [cf, *cg] if ch: pass
    case {"a": ci, **cj}: pass
    case ck(cl, cm=cn) as co: pass
    case _: pass
cp = {**cq, cr: cs}, {ct, *cu}, [cv], (cw,), cx[cy:cz:da, db], dc if dd else de
df = f"{dg!r:>{dh}} x" "y" if 0 else not di and dj or dk < dl <= dm is not dn
do = {dp: dq for dr in ds}, {dt for du in dv}, (dw for dx in dy), await_, -dz @ ~ea
eb(ec, *ed, ee=ef, **eg).eh
"""
UNSEEN = (ast.expr_context, ast.boolop, ast.operator, ast.unaryop, ast.cmpop)


def counted(tree: ast.AST) -> Counter[type]:
    return Counter(type(node) for node in ast.walk(tree) if not isinstance(node, UNSEEN))


def found(tree: ast.Module) -> Counter[type]:
    nodes = nodes_by_type(tree)
    return Counter({kind: len(each) for kind, each in nodes.items() if issubclass(kind, ast.AST)})


def test_finds_every_node_of_every_kind() -> None:
    tree = ast.parse(EVERYTHING)
    assert len(counted(tree)) > 65
    assert found(tree) == counted(tree)


@pytest.mark.parametrize("module", [ast, pytest, sys.modules[__name__]])
def test_finds_as_many_nodes_as_a_walk_of_real_files(module: object) -> None:
    tree = ast.parse(Path(str(vars(module)["__file__"])).read_bytes())
    assert found(tree) == counted(tree)


def test_each_node_stands_under_its_own_type_and_once() -> None:
    nodes = nodes_by_type(ast.parse(EVERYTHING))
    every = [node for kind, each in nodes.items() if issubclass(kind, ast.AST) for node in each]
    assert all(type(node) is kind for kind, each in nodes.items() for node in each)
    assert len({id(node) for node in every}) == len(every)
    assert nodes_of(nodes, ast.Global)[0].names == ["at"]
    assert nodes_of(nodes, ast.Expression) == []


def test_a_field_that_is_empty_at_first_is_read_later() -> None:
    # What a type's fields hold is learned from its first node: here without a value, then with one.
    tree = ast.parse("def f():\n return\n return g(1)\ndef h() -> i: pass\n")
    names = {node.id for node in nodes_of(nodes_by_type(tree), ast.Name)}
    assert names == {"g", "i"}


def test_goes_as_deep_as_the_parser_does() -> None:
    tree = ast.parse("x = " + "-" * 1500 + "1")
    assert len(nodes_of(nodes_by_type(tree), ast.UnaryOp)) == 1500


def test_latest_comes_first_and_what_is_around_before_what_is_inside() -> None:
    tree = ast.parse("for a in x:\n for b in y:\n  pass\nfor c in z: pass\nif d:\n for e in w: pass\n")
    loops = latest_first(nodes_of(nodes_by_type(tree), ast.For))
    assert [loop.target.id for loop in loops if isinstance(loop.target, ast.Name)] == ["e", "c", "a", "b"]
    branches = latest_first(nodes_of(nodes_by_type(ast.parse("if a: 1\nelif b: 2\nelif c: 3\n")), ast.If))
    assert [ast.unparse(branch.test) for branch in branches] == ["a", "b", "c"]
