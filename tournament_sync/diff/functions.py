"""Functions and arguments of a Python file, from its syntax tree. Nothing is imported.

Only files that the inspection's own process has parsed come here: what hurts the parser, hurt that process.
"""

import ast
import math
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TypeVar

from tournament_sync.diff.model import Change, FunctionChange, ValueChange
from tournament_sync.diff.sameness import is_same
from tournament_sync.inspection.python_nodes import nodes_by_type, nodes_of
from tournament_sync.inspection.rules import shown

MAX_PYTHON_BYTES = 1 << 20
MAX_NESTING = 60  # of blocks that hold definitions
MAX_NAME_CHARS = 1000  # of a dotted name: each entry below a long one would carry it
MAX_LINE_BYTES = 64 << 10
MODULE = "<module>"

_Value = TypeVar("_Value")
_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
_BLOCK_NAMES = frozenset({"body", "cases", "finalbody", "handlers", "orelse"})
_BLOCK_KINDS: tuple[type[ast.AST], ...] = (*ast.stmt.__subclasses__(), ast.ExceptHandler, ast.match_case)
# The fields that hold statements, by type: definitions and assignments are nowhere else.
_BLOCKS = {
    kind: blocks
    for kind in _BLOCK_KINDS
    if (blocks := tuple(name for name in kind._fields if name in _BLOCK_NAMES))
}
_TELLING = frozenset({*_BLOCKS, ast.Assign, ast.AnnAssign})


class UnreadablePythonError(Exception):
    """No syntax tree. Never leaves this package."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """What is compared of a function, a class or a module; `definition` is None for a module."""

    definition: _Definition | None
    body: Sequence[ast.stmt]

    @property
    def signature(self) -> str:
        """What stands before the body, on one line. Raises UnreadablePythonError if it cannot be written out."""
        try:
            return "" if self.definition is None else _signature(self.definition)
        except (ValueError, RecursionError) as error:  # too many digits, nested too deep
            raise UnreadablePythonError(f"{type(error).__name__}: {error}") from error

    @property
    def head(self) -> Sequence[object]:
        """What the signature is made of."""
        node = self.definition
        if node is None:
            return []
        if isinstance(node, ast.ClassDef):
            return [node.decorator_list, node.bases, node.keywords]
        return [node.decorator_list, node.args, node.returns, type(node)]


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonFacts:
    """Functions by qualified name, arguments by name, constants and literals by dotted name."""

    functions: Mapping[str, Function]
    arguments: Mapping[str, str]
    values: Mapping[str, str]


def read_python(old: bytes, new: bytes) -> tuple[PythonFacts, PythonFacts]:
    """The facts of two versions of a file, without the statements that both have. Raises UnreadablePythonError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of strange literals; the inspection tells them
            before, after = ast.parse(old), ast.parse(new)
        ours, theirs = _keyed(before, old), _keyed(after, new)
        common = Counter(key for key, _ in ours) & Counter(key for key, _ in theirs)
        return _facts(_left(ours, common)), _facts(_left(theirs, common))
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise UnreadablePythonError(f"{type(error).__name__}: {error}") from error


def function_changes(
    file: str, old: Mapping[str, Function], new: Mapping[str, Function]
) -> Iterator[FunctionChange]:
    """What became of each function, by name. Raises UnreadablePythonError, see Function.signature."""
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name), new.get(name)
        if (change := _change(before, after)) is None:
            continue
        yield FunctionChange(
            file=shown(file),
            name=shown(name),
            change=change,
            old_signature="" if before is None else shown(before.signature),
            new_signature="" if after is None else shown(after.signature),
        )


def value_changes(file: str, old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[ValueChange]:
    """What became of each named value, by name."""
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name), new.get(name)
        if before != after:
            yield ValueChange(
                file=shown(file),
                name=shown(name),
                old=None if before is None else shown(before),
                new=None if after is None else shown(after),
            )


def _change(before: Function | None, after: Function | None) -> Change | None:
    if before is None:
        return Change.ADDED
    if after is None:
        return Change.REMOVED
    if not is_same(before.head, after.head):
        return Change.SIGNATURE
    return None if is_same(before.body, after.body) else Change.BODY


def _facts(body: list[ast.stmt]) -> PythonFacts:
    """The facts of these statements, each named within the definitions around it."""
    functions: list[tuple[str, Function]] = []
    values: list[tuple[str, str]] = []
    pending: list[tuple[str, int, ast.AST]] = [("", 0, node) for node in reversed(body)]
    while pending:
        prefix, depth, node = pending.pop()
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                functions.append((f"{prefix}{name}", _function(node)))
                prefix, depth = f"{prefix}{name}.", depth + 1
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=value)
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
            ):
                values += _entries(f"{prefix}{name}", value)
            case _:
                pass
        if depth > MAX_NESTING:
            raise RecursionError(f"definitions nested deeper than {MAX_NESTING}")
        for block in reversed(_BLOCKS.get(type(node), ())):
            inner = [child for child in getattr(node, block) if type(child) in _TELLING]
            pending.extend((prefix, depth, child) for child in reversed(inner))
    rest = [node for node in body if not isinstance(node, _Definition)]
    if rest:
        functions.append((MODULE, Function(definition=None, body=rest)))
    return PythonFacts(
        functions=dict(_numbered(functions)),
        arguments=dict(_numbered(_arguments(body))),
        values=dict(_numbered(values)),
    )


def _keyed(tree: ast.Module, data: bytes) -> list[tuple[bytes, ast.stmt]]:
    """The statements of a module, each with its source: equal source means equal statements."""
    # Columns count bytes of UTF-8, which other encodings are not.
    lines = data.removeprefix(b"\xef\xbb\xbf").splitlines() if _is_utf8(data) else None
    if lines is not None and any(len(line) > MAX_LINE_BYTES for line in lines):
        lines = None  # each statement of a long line would be cut out of all of it
    return [(_source(node, lines), node) for node in tree.body]


def _source(node: ast.stmt, lines: list[bytes] | None) -> bytes:
    if lines is None or node.end_lineno is None or node.end_col_offset is None:
        return ast.dump(node).encode(errors="surrogatepass")
    # A decorator stands before its function, at the start of a line as the function does.
    first = min([node.lineno, *(item.lineno for item in getattr(node, "decorator_list", []))])
    parts = lines[first - 1 : node.end_lineno]
    parts[-1] = parts[-1][: node.end_col_offset]
    parts[0] = parts[0][node.col_offset :]
    return b"\n".join(parts)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _left(keyed: list[tuple[bytes, ast.stmt]], common: Counter[bytes]) -> list[ast.stmt]:
    unused = Counter(common)
    left = []
    for key, node in keyed:
        unused[key] -= 1
        if unused[key] < 0:
            left.append(node)
    return left


def _numbered(pairs: Iterable[tuple[str, _Value]]) -> Iterator[tuple[str, _Value]]:
    """The same name again is another thing: `f`, `f#2`."""
    times: Counter[str] = Counter()
    for name, value in pairs:
        times[name] += 1
        yield (name if times[name] == 1 else f"{name}#{times[name]}"), value


def _function(node: _Definition) -> Function:
    if not isinstance(node, ast.ClassDef):
        return Function(definition=node, body=node.body)
    # The definitions in a class are compared one by one.
    return Function(definition=node, body=[item for item in node.body if not isinstance(item, _Definition)])


def _signature(node: _Definition) -> str:
    decorators = "".join(f"@{ast.unparse(item)} " for item in node.decorator_list)
    if isinstance(node, ast.ClassDef):
        parents = ", ".join(ast.unparse(item) for item in (*node.bases, *node.keywords))
        return f"{decorators}class {node.name}({parents})"
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    kind = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    return f"{decorators}{kind} {node.name}({ast.unparse(node.args)}){returns}"


def _arguments(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    """`--name`, and what add_argument is told about it but for its help."""
    calls = nodes_of(nodes_by_type(ast.Module(body=body, type_ignores=[])), ast.Call)
    for node in sorted(calls, key=attrgetter("lineno", "col_offset")):
        if isinstance(node.func, ast.Attribute) and node.func.attr == "add_argument" and node.args:
            told = [f"{item.arg}={ast.unparse(item.value)}" for item in node.keywords if item.arg != "help"]
            yield max((_text(name) for name in node.args), key=len), ", ".join(told)


def _text(node: ast.expr) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ast.unparse(node)


def _entries(name: str, value: ast.expr) -> Iterator[tuple[str, str]]:
    if _number(value):
        yield name, _unparsed(value)
    if not isinstance(value, ast.Dict | ast.List | ast.Tuple | ast.Set):
        return
    pending: list[tuple[str, ast.expr]] = [(name, value)]
    while pending:
        path, node = pending.pop()
        if len(path) > MAX_NAME_CHARS:
            raise ValueError(f"a name of more than {MAX_NAME_CHARS} characters")
        match node:
            case ast.Dict(keys=keys, values=values):
                for key, item in zip(keys, values, strict=True):
                    pending.append((f"{path}.{_text(key)}" if key else f"{path}.**", item))
            case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Set(elts=items):
                pending.extend((f"{path}[{number}]", item) for number, item in enumerate(items))
            case _:
                yield path, _unparsed(node)


def _unparsed(node: ast.expr) -> str:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return repr(node.value)  # what unparse says, a hundred times as fast
    if isinstance(node, ast.Constant) and type(node.value) is float and math.isfinite(node.value):
        return repr(node.value)
    return ast.unparse(node)


def _number(node: ast.expr) -> bool:
    match node:
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            return _number(operand)
        case ast.Constant(value=bool()):
            return False
        case ast.Constant(value=int() | float()):
            return True
        case _:
            return False
