"""What text an expression spells, as far as that is known before it runs."""

import ast
import re

from tournament_sync.inspection.python_syntax import Module

_MAX_DEPTH = 16  # of an expression that is followed
_MAX_PARTS = 400  # of one text: names that stand for each other must not multiply
_MAX_TEXT_CHARS = 4000
_PATHS = frozenset({"str", "pathlib.Path", "os.path.abspath", "os.fspath", "os.path.normpath"})


def text_of(node: ast.expr, module: Module) -> str:
    """What `node` spells, with `{name}` for each part that is not known before it runs."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):  # as most do
        return node.value[:_MAX_TEXT_CHARS]
    return _Speller(module).spell(node, 0)


class _Speller:
    def __init__(self, module: Module) -> None:
        self._module, self._parts_left = module, _MAX_PARTS

    def spell(self, node: ast.expr, depth: int) -> str:
        self._parts_left -= 1
        if self._parts_left < 0 or depth > _MAX_DEPTH:
            return "{}"
        return self._spell(node, depth + 1)[:_MAX_TEXT_CHARS]

    def _spell(self, node: ast.expr, depth: int) -> str:  # noqa: PLR0911  one way to spell a text per case
        match node:
            case ast.Constant(value=str(text)):
                return text
            case ast.Constant(value=bytes(raw)):
                return raw.decode(errors="replace")
            case ast.JoinedStr(values=parts):
                return "".join(self.spell(part, depth) for part in parts)
            case ast.FormattedValue(value=value):
                return self.spell(value, depth)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return self.spell(left, depth) + self.spell(right, depth)
            case ast.BinOp(left=left, op=ast.Div(), right=right):  # pathlib
                return f"{self.spell(left, depth).rstrip('/')}/{self.spell(right, depth)}"
            case ast.BinOp(left=left, op=ast.Mod()):
                return re.sub(r"%[-#0 +]?\d*(?:\.\d+)?[srdfxi]", "{}", self.spell(left, depth))
            case ast.Name(id=name):
                values = self._module.values.get(name, ())
                return self.spell(values[0], depth) if len(values) == 1 else f"{{{name}}}"
            case ast.Attribute(attr=attr):
                return "python" if self._module.name(node) == "sys.executable" else f"{{{attr}}}"
            case ast.Call():
                return self._spell_call(node, depth)
            case _:
                return "{}"

    def _spell_call(self, node: ast.Call, depth: int) -> str:
        name = self._module.name(node.func)
        match node:
            case ast.Call(args=[first]) if name in _PATHS:
                return self.spell(first, depth)
            case ast.Call(args=[_, *_] as args) if name in {"os.path.join", "pathlib.Path"}:
                parts = [self.spell(part, depth) for part in args]
                absolute = max((i for i, part in enumerate(parts) if part.startswith("/")), default=0)
                return "/".join(part.rstrip("/") for part in parts[absolute:])
            case ast.Call(func=ast.Attribute(value=value, attr="format")):
                return self.spell(value, depth)
            case ast.Call(
                func=ast.Attribute(value=glue, attr="join"),
                args=[ast.List(elts=parts) | ast.Tuple(elts=parts)],
            ):
                return self.spell(glue, depth).join(self.spell(part, depth) for part in parts)
            case _:
                return "{}"
