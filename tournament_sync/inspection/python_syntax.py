"""A Python file as the nodes that the rules look at; parsed, never compiled or run."""

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tournament_sync.inspection.python_names import dotted
from tournament_sync.inspection.report import Finding
from tournament_sync.inspection.rules import finding

_ENCODING = re.compile(
    rb"\A(?:\xef\xbb\xbf)?(?:[^\n]*\n)??[ \t\f]*#[^\n]*?coding[:=][ \t]*([-\w.]+)"
)  # PEP 263
# Under these, text runs as it reads. Others (utf-7, unicode_escape) let a comment be a line of code.
_PLAIN_ENCODINGS = frozenset(
    {b"utf-8", b"utf8", b"utf_8", b"ascii", b"us-ascii", b"latin-1", b"latin1", b"iso-8859-1", b"iso-8859-15"}
)
_REFUSALS = (
    ("Missing parentheses in call to", "python-2"),
    ("multiple exception types must be parenthesized", "python-2"),
    ("too many nested", "python-unreadable"),
    ("too many statically nested", "python-unreadable"),
)
_NOT_NODES = frozenset({"ctx", "op", "ops", "kind", "type_comment", "type_ignores", "type_params"})
_MAX_SHOWN_LINES = 3
_MAX_MEANINGS = 8  # of a name that is assigned again and again
_BUILTINS = frozenset({"exec", "eval", "__import__", "getattr", "globals", "vars", "open"})
_SENSITIVE = frozenset(
    {
        "exec",
        "eval",
        "os",
        "posix",
        "subprocess",
        "pty",
        "ctypes",
        "pickle",
        "marshal",
        "importlib",
        "socket",
        "requests",
    }
    | {
        "urllib",
        "httpx",
        "base64",
        "zlib",
        "binascii",
        "codecs",
        "builtins",
        "__builtins__",
        "shutil",
        "pathlib",
    }
)

_Node = TypeVar("_Node", bound=ast.AST)


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """`nodes` by their type; `names` says what a local name stands for, `values` what is assigned to it."""

    file: str
    source: bytes
    lines: list[bytes]
    nodes: Mapping[type[ast.AST], list[ast.AST]]
    names: Mapping[str, str]
    values: Mapping[str, Sequence[ast.expr]]
    calls: Sequence[tuple[ast.Call, str]]  # with the name of what is called

    def of(self, wanted: type[_Node]) -> Iterator[_Node]:
        """The nodes of that type, in no order."""
        return (node for node in self.nodes.get(wanted, ()) if isinstance(node, wanted))

    def name(self, node: ast.expr) -> str:
        """See `dotted`."""
        return dotted(node, self.names)

    def shown(self, node: ast.AST) -> str:
        """The source of `node`, at most a few lines of it."""
        first = getattr(node, "lineno", 1)
        last = min(getattr(node, "end_lineno", None) or first, first + _MAX_SHOWN_LINES - 1)
        lines = self.lines[first - 1 : last]
        return " ".join(line.strip().decode(errors="replace") for line in lines)

    def finding(self, rule: str, node: ast.AST) -> Finding:
        """A finding of `rule` that shows the source of `node`."""
        return finding(rule, file=self.file, line=getattr(node, "lineno", 0), found=self.shown(node))


def parse_module(data: bytes, *, file: str) -> Module | Finding:
    """`data` as a module, or the finding that says why not. Lets MemoryError and RecursionError become findings."""
    if (unreadable := _unreadable(data)) is not None:
        return finding("python-unreadable", file=file, line=0, found=unreadable)
    try:
        tree = ast.parse(data)
    except SyntaxError as error:
        rule = next(
            (rule for words, rule in _REFUSALS if str(error.msg).startswith(words)), "python-unparsable"
        )
        return finding(rule, file=file, line=max(error.lineno or 0, 0), found=str(error.msg))
    except (ValueError, MemoryError, RecursionError) as error:  # nested deeper than the parser goes
        return finding("python-unreadable", file=file, line=0, found=f"{type(error).__name__}: {error}")
    nodes = _by_type(tree)
    names = _imported(nodes)
    values = _assigned(nodes)
    for name, assigned in values.items():
        if name not in names and name not in _BUILTINS and (known := _meaning(assigned, names)):
            names[name] = known
    calls = [
        (node, dotted(node.func, names)) for node in nodes.get(ast.Call, ()) if isinstance(node, ast.Call)
    ]
    return Module(
        file=file, source=data, lines=data.splitlines(), nodes=nodes, names=names, values=values, calls=calls
    )


def _unreadable(data: bytes) -> str | None:
    """Why the bytes are no Python source of a usual encoding, None if they are."""
    if b"\x00" in data:
        return "NUL in the source"
    declared = _ENCODING.match(data)
    name = b"utf-8" if declared is None else declared[1].lower()
    if name not in _PLAIN_ENCODINGS:
        return f"declares the encoding {name.decode(errors='replace')}"
    if name.startswith(b"utf"):
        try:
            data.decode()
        except UnicodeDecodeError as error:
            return f"not UTF-8 at byte {error.start}"
    return None


def _meaning(assigned: list[ast.expr], names: Mapping[str, str]) -> str:
    """What a name that is assigned several times may stand for: the worst of it."""
    known = [name for value in assigned[:_MAX_MEANINGS] if (name := dotted(value, names))]
    for name in known:
        if name.partition(".")[0] in _SENSITIVE:
            return name
    return known[0] if len(assigned) == 1 and known else ""


def _by_type(tree: ast.Module) -> dict[type[ast.AST], list[ast.AST]]:
    # Without recursion: how deep a champion nests must not decide whether it is read.
    nodes: dict[type[ast.AST], list[ast.AST]] = {}
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        node_type = type(node)
        nodes.setdefault(node_type, []).append(node)
        for field in _FIELDS.get(node_type) or _fields(node_type):
            value = getattr(node, field)
            if isinstance(value, list):
                pending.extend(item for item in value if isinstance(item, ast.AST))
            elif isinstance(value, ast.AST):
                pending.append(value)
    return nodes


# Fields that hold nodes; for types that are not listed, all fields but those of _NOT_NODES are looked at.
_FIELDS: dict[type[ast.AST], tuple[str, ...]] = {
    ast.Constant: (),
    ast.Name: (),
    ast.Attribute: ("value",),
    ast.keyword: ("value",),
    ast.alias: (),
    ast.arg: ("annotation",),
}


def _fields(node_type: type[ast.AST]) -> tuple[str, ...]:
    if node_type not in _FIELDS:
        _FIELDS[node_type] = tuple(field for field in node_type._fields if field not in _NOT_NODES)
    return _FIELDS[node_type]


def _imported(nodes: Mapping[type[ast.AST], list[ast.AST]]) -> dict[str, str]:
    names: dict[str, str] = {}
    for node in (*nodes.get(ast.Import, ()), *nodes.get(ast.ImportFrom, ())):
        match node:
            case ast.Import(names=aliases):
                for alias in aliases:
                    top = alias.name.partition(".")[0]
                    _import(names, alias.asname or top, alias.name if alias.asname else top)
            case ast.ImportFrom(names=aliases, module=origin, level=0):
                for alias in aliases:
                    _import(names, alias.asname or alias.name, f"{origin}.{alias.name}")
    return names


def _import(names: dict[str, str], name: str, meaning: str) -> None:
    # A harmless import elsewhere in the file must not cover what a name otherwise stands for.
    if name not in _BUILTINS and names.get(name, "").partition(".")[0] not in _SENSITIVE:
        names[name] = meaning


def _assigned(nodes: Mapping[type[ast.AST], list[ast.AST]]) -> dict[str, list[ast.expr]]:
    values: dict[str, list[ast.expr]] = {}
    for node in (*nodes.get(ast.Assign, ()), *nodes.get(ast.AnnAssign, ()), *nodes.get(ast.NamedExpr, ())):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                values.setdefault(name, []).append(value)
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                values.setdefault(name, []).append(value)
            case ast.NamedExpr(target=ast.Name(id=name), value=value):
                values.setdefault(name, []).append(value)
    return values
