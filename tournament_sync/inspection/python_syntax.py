"""A Python file as the nodes that the rules look at; parsed, never compiled or run."""

import ast
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from tournament_sync.inspection.python_names import dotted
from tournament_sync.inspection.python_nodes import Nodes, latest_first, nodes_by_type, nodes_of
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


@dataclass(frozen=True, kw_only=True)  # without slots, for what is cached
class Module:
    """`nodes` by their type; `names` says what a local name stands for, `values` what is assigned to it.

    Rules ask about a name once, not once for each call of it.
    """

    file: str
    source: bytes
    nodes: Nodes
    names: Mapping[str, str]
    values: Mapping[str, Sequence[ast.expr]]
    calls: Mapping[str, Sequence[ast.Call]]  # by the name of what is called
    texts: Sequence[ast.Constant]  # literals of str and of bytes

    def of(self, wanted: type[_Node]) -> Sequence[_Node]:
        """The nodes of that type, in no order."""
        return nodes_of(self.nodes, wanted)

    def name(self, node: ast.expr) -> str:
        """See `dotted`."""
        return dotted(node, self.names)

    def shown(self, node: ast.AST) -> str:
        """The source of `node`, at most a few lines of it."""
        first = getattr(node, "lineno", 1)
        last = min(getattr(node, "end_lineno", None) or first, first + _MAX_SHOWN_LINES - 1)
        lines = self._lines[first - 1 : last]
        return " ".join(line.strip().decode(errors="replace") for line in lines)

    def finding(self, rule: str, node: ast.AST) -> Finding:
        """A finding of `rule` that shows the source of `node`."""
        return finding(rule, file=self.file, line=getattr(node, "lineno", 0), found=self.shown(node))

    @cached_property
    def _lines(self) -> list[bytes]:
        return self.source.splitlines()  # few files have a finding that shows some


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
    nodes = nodes_by_type(tree)
    names = _imported(nodes)
    values = _assigned(nodes)
    for name, assigned in values.items():
        if name not in names and name not in _BUILTINS and (known := _meaning(assigned, names)):
            names[name] = known
    return Module(
        file=file,
        source=data,
        nodes=nodes,
        names=names,
        values=values,
        calls=_calls(nodes, names),
        texts=[node for node in nodes_of(nodes, ast.Constant) if isinstance(node.value, str | bytes)],
    )


def _unreadable(data: bytes) -> str | None:
    """Why the bytes are no Python source of a usual encoding, None if they are."""
    if b"\x00" in data:
        return "NUL in the source"
    declared = _ENCODING.match(data)
    name = b"utf-8" if declared is None else declared[1].lower()
    if name not in _PLAIN_ENCODINGS:
        return f"declares the encoding {name.decode(errors='replace')}"
    if name.startswith(b"utf") and not data.isascii():
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


def _imported(nodes: Nodes) -> dict[str, str]:
    names: dict[str, str] = {}
    for node in latest_first(nodes_of(nodes, ast.Import)):
        for alias in node.names:
            top = alias.name.partition(".")[0]
            _import(names, alias.asname or top, alias.name if alias.asname else top)
    for origin in latest_first(nodes_of(nodes, ast.ImportFrom)):
        if not origin.level:
            for alias in origin.names:
                _import(names, alias.asname or alias.name, f"{origin.module}.{alias.name}")
    return names


def _import(names: dict[str, str], name: str, meaning: str) -> None:
    # A harmless import elsewhere in the file must not cover what a name otherwise stands for.
    if name not in _BUILTINS and names.get(name, "").partition(".")[0] not in _SENSITIVE:
        names[name] = meaning


def _assigned(nodes: Nodes) -> dict[str, list[ast.expr]]:
    values: defaultdict[str, list[ast.expr]] = defaultdict(list)
    for assign in latest_first(nodes_of(nodes, ast.Assign)):
        target = assign.targets[0]
        if isinstance(target, ast.Name) and len(assign.targets) == 1:
            values[target.id].append(assign.value)
    for annotated in latest_first(nodes_of(nodes, ast.AnnAssign)):
        if isinstance(annotated.target, ast.Name) and annotated.value is not None:
            values[annotated.target.id].append(annotated.value)
    for named in latest_first(nodes_of(nodes, ast.NamedExpr)):
        values[named.target.id].append(named.value)
    return dict(values)


def _calls(nodes: Nodes, names: Mapping[str, str]) -> dict[str, list[ast.Call]]:
    calls: defaultdict[str, list[ast.Call]] = defaultdict(list)
    for call in nodes_of(nodes, ast.Call):
        calls[dotted(call.func, names)].append(call)
    return dict(calls)
