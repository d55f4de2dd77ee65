"""Which name an expression stands for, without running it.

Covered: imports under other names, plain assignments, getattr and __import__ with literals, globals()["…"].
Not covered: names that are put together while it runs; `python-exec` and `python-dynamic-import` tell those.
"""

import ast
from collections.abc import Mapping

_MAX_DEPTH = 16  # of an expression that is followed


def dotted(  # noqa: PLR0911  one way to spell a name per case
    node: ast.expr, names: Mapping[str, str], *, depth: int = 0
) -> str:
    """The full name that `node` stands for, e.g. "subprocess.run"; begins with "." where what is before is unknown.

    "" if it is no name.
    """
    if depth > _MAX_DEPTH:
        return ""
    match node:
        case ast.Name(id=name):
            return names.get(name, name).removeprefix("builtins.")
        case ast.Attribute(value=value, attr=attr):
            return _joined(dotted(value, names, depth=depth + 1), attr)
        case ast.Call(func=func, args=[ast.Constant(value=str(name)), *_]):
            called = dotted(func, names, depth=depth + 1)
            return name if called in {"__import__", "importlib.import_module"} else ""
        case ast.Call(func=func, args=[owner, ast.Constant(value=str(attr)), *_]):
            called = dotted(func, names, depth=depth + 1)
            return _joined(dotted(owner, names, depth=depth + 1), attr) if called == "getattr" else ""
        case ast.Subscript(value=value, slice=ast.Constant(value=str(key))):
            return _looked_up(value, key, names, depth=depth + 1)
        case _:
            return ""


def _joined(owner: str, attr: str) -> str:
    return f"{owner}.{attr}".removeprefix("builtins.").removeprefix("__builtins__.")


def _looked_up(value: ast.expr, key: str, names: Mapping[str, str], *, depth: int) -> str:
    """What globals()["exec"], vars(os)["system"] and sys.modules["os"] stand for."""
    match value:
        case ast.Call(func=ast.Name(id="globals" | "locals"), args=[]):
            return names.get(key, key)
        case ast.Call(func=ast.Name(id="vars"), args=[owner]):
            return _joined(dotted(owner, names, depth=depth), key)
        case ast.Attribute(value=owner, attr="__dict__"):
            return _joined(dotted(owner, names, depth=depth), key)
        case _:
            owner_name = dotted(value, names, depth=depth)
            return key if owner_name in {"sys.modules", "__builtins__"} else ""
