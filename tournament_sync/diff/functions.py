"""Functions and arguments of a Python file, from its syntax tree. Nothing is imported.

Only files that the inspection's own process has parsed come here: what hurts the parser, hurt that process.
"""

import ast
import hashlib
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from tournament_sync.diff.model import Change, FunctionChange, ValueChange
from tournament_sync.inspection.rules import shown

MAX_PYTHON_BYTES = 1 << 20
MAX_NESTING = 60  # of blocks that hold definitions
MODULE = "<module>"

_Value = TypeVar("_Value")
_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class UnreadablePythonError(Exception):
    """No syntax tree. Never leaves this package."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """What is compared of a function, a class or a module."""

    signature: str
    body_sha256: str


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
    """What became of each function, by name."""
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name), new.get(name)
        if before == after:
            continue
        yield FunctionChange(
            file=shown(file),
            name=shown(name),
            change=_change(before, after),
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


def _change(before: Function | None, after: Function | None) -> Change:
    if before is None:
        return Change.ADDED
    if after is None:
        return Change.REMOVED
    return Change.SIGNATURE if before.signature != after.signature else Change.BODY


def _facts(body: list[ast.stmt]) -> PythonFacts:
    """The facts of these statements, each named within the definitions around it."""
    functions: list[tuple[str, Function]] = []
    arguments: list[tuple[str, str]] = []
    values: list[tuple[str, str]] = []
    pending: list[tuple[str, int, ast.AST]] = [("", 0, node) for node in reversed(body)]
    while pending:
        prefix, depth, node = pending.pop()
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                functions.append((f"{prefix}{name}", _function(node)))
                prefix, depth = f"{prefix}{name}.", depth + 1
            case ast.Call(func=ast.Attribute(attr="add_argument"), args=[_, *_]):
                arguments.append(_argument(node))
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=value)
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
            ):
                values += _entries(f"{prefix}{name}", value)
            case _:
                pass
        if depth > MAX_NESTING:
            raise RecursionError(f"definitions nested deeper than {MAX_NESTING}")
        pending.extend((prefix, depth, child) for child in reversed(list(ast.iter_child_nodes(node))))
    rest = [node for node in body if not isinstance(node, _Definition)]
    if rest:
        functions.append((MODULE, Function(signature="", body_sha256=_sha256(_dumped(rest)))))
    return PythonFacts(
        functions=dict(_numbered(functions)),
        arguments=dict(_numbered(arguments)),
        values=dict(_numbered(values)),
    )


def _keyed(tree: ast.Module, data: bytes) -> list[tuple[bytes, ast.stmt]]:
    """The statements of a module, each with its source: equal source means equal statements."""
    # Columns count bytes of UTF-8, which other encodings are not.
    lines = data.removeprefix(b"\xef\xbb\xbf").splitlines() if _is_utf8(data) else None
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
    decorators = "".join(f"@{ast.unparse(item)} " for item in node.decorator_list)
    if isinstance(node, ast.ClassDef):
        parents = ", ".join(ast.unparse(item) for item in (*node.bases, *node.keywords))
        own = [item for item in node.body if not isinstance(item, _Definition)]
        return Function(
            signature=f"{decorators}class {node.name}({parents})", body_sha256=_sha256(_dumped(own))
        )
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    kind = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    return Function(
        signature=f"{decorators}{kind} {node.name}({ast.unparse(node.args)}){returns}",
        body_sha256=_sha256(_dumped(node.body)),
    )


def _dumped(body: list[ast.stmt]) -> str:
    return "\n".join(ast.dump(item) for item in body)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def _argument(node: ast.Call) -> tuple[str, str]:
    """`--name`, and what add_argument is told about it but for its help."""
    told = [f"{item.arg}={ast.unparse(item.value)}" for item in node.keywords if item.arg != "help"]
    return max((_text(name) for name in node.args), key=len), ", ".join(told)


def _text(node: ast.expr) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ast.unparse(node)


def _entries(name: str, value: ast.expr) -> Iterator[tuple[str, str]]:
    if _number(value):
        yield name, ast.unparse(value)
    if not isinstance(value, ast.Dict | ast.List | ast.Tuple | ast.Set):
        return
    pending: list[tuple[str, ast.expr]] = [(name, value)]
    while pending:
        path, node = pending.pop()
        match node:
            case ast.Dict(keys=keys, values=values):
                for key, item in zip(keys, values, strict=True):
                    pending.append((f"{path}.{_text(key)}" if key else f"{path}.**", item))
            case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Set(elts=items):
                pending.extend((f"{path}[{number}]", item) for number, item in enumerate(items))
            case _:
                yield path, ast.unparse(node)


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
