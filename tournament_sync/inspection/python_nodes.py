"""The nodes of a syntax tree by their type, gathered without a step of Python for each of them."""

import ast
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from operator import attrgetter
from typing import TypeVar, cast

# Fields that hold no node, or none that a rule asks for.
_NOT_NODES = frozenset(
    {
        "arg",
        "asname",
        "attr",
        "conversion",
        "ctx",
        "id",
        "is_async",
        "kind",
        "kwd_attrs",
        "level",
        "module",
        "name",
    }
    | {"op", "ops", "rest", "simple", "tag", "type_comment", "type_ignores", "type_params"}
)

Nodes = Mapping[type, list[ast.AST]]

_Node = TypeVar("_Node", bound=ast.AST)
_Located = TypeVar("_Located", bound=ast.stmt | ast.expr)
# How to get at the fields of one node, and at those of many.
_Fields = tuple[tuple[Callable[[ast.AST], ast.AST], ...], tuple[Callable[[ast.AST], list[ast.AST]], ...]]


def nodes_by_type(tree: ast.Module) -> Nodes:
    """All nodes of `tree`; those around others come before them, else in no order.

    Level by level, and within a level all nodes of a type at once: maps and chains then do the work, four times as
    fast as a loop. Without recursion: how deep a champion nests must not decide whether it is read.
    """
    nodes: defaultdict[type, list[ast.AST]] = defaultdict(list)
    level: list[ast.AST] = [tree]
    while level:
        groups: defaultdict[type, list[ast.AST]] = defaultdict(list)
        for node in level:
            groups[node.__class__].append(node)
        level = []
        for kind, group in groups.items():
            one, many = _FIELDS.get(kind) or _fields(group[0])
            nodes[kind] += group
            for get_one in one:
                level += map(get_one, group)
            for get_many in many:
                level += chain.from_iterable(map(get_many, group))
    return nodes


def nodes_of(nodes: Nodes, wanted: type[_Node]) -> list[_Node]:
    """Those of exactly that type."""
    return cast("list[_Node]", nodes.get(wanted, []))  # that is how they are sorted; asking each takes long


def latest_first(nodes: Iterable[_Located]) -> list[_Located]:
    """From the end of the source to its start; those around others come before them."""
    return sorted(nodes, key=attrgetter("end_lineno", "end_col_offset"), reverse=True)


_FIELDS: dict[type, _Fields] = {ast.Constant: ((), ())}  # its value may be of any type


def _fields(node: object) -> _Fields:
    """How to get at what is in `node`, and in all of its type: a field that may hold a list always does.

    None, which stands for an absent node, and the names that some fields hold instead of nodes have nothing in them.
    """
    names = [name for name in getattr(node, "_fields", ()) if name not in _NOT_NODES]
    many = [name for name in names if isinstance(getattr(node, name), list)]
    one = [name for name in names if name not in many]
    found = tuple(map(attrgetter, one)), tuple(map(attrgetter, many))
    _FIELDS[type(node)] = found
    return found
