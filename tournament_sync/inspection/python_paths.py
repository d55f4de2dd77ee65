"""Where a Python file writes, as far as it says so in fixed paths."""

import ast
from collections.abc import Iterator

from tournament_sync.inspection.python_nodes import latest_first
from tournament_sync.inspection.python_syntax import Module
from tournament_sync.inspection.python_text import text_of

_FIRST_IS_FOLDER = frozenset({"os.makedirs", "os.mkdir", "os.mkfifo"})
_FIRST_IS_FILE = frozenset({"os.truncate", "os.remove"})
_SECOND_IS_PLACE = frozenset(
    {
        "shutil.copy",
        "shutil.copy2",
        "shutil.copyfile",
        "shutil.copytree",
        "shutil.move",
        "os.rename",
        "os.replace",
    }
    | {"os.symlink", "os.link", "torch.save", "urllib.request.urlretrieve"}
)
_OPENERS = frozenset({"open", "io.open", "codecs.open", "gzip.open"})
_METHODS_ON_FOLDER = frozenset({"mkdir"})
_METHODS_ON_FILE = frozenset({"write_text", "write_bytes", "touch", "symlink_to", "hardlink_to"})
_SAVERS = frozenset({"save_pretrained", "save_model", "save_file"})
# The last words of all of these, by which calls that cannot write are told at once.
_WRITERS = frozenset(
    name.rpartition(".")[2]
    for names in (_FIRST_IS_FOLDER, _FIRST_IS_FILE, _SECOND_IS_PLACE, _OPENERS)
    for name in names
).union(_METHODS_ON_FOLDER, _METHODS_ON_FILE, _SAVERS)


def find_writes(module: Module) -> Iterator[tuple[ast.Call, str]]:
    """(call, folder) for each call that writes; the folder as `text_of` spells it, cut where it is unknown.

    It begins with / or, for a constant of another file, with `{NAME}`.
    """
    loops = _loops(module)
    writers = [(name, calls) for name, calls in module.calls.items() if name.rpartition(".")[2] in _WRITERS]
    for name, call in ((name, call) for name, calls in writers for call in calls):
        for node, is_folder in _places(call, name):
            if isinstance(node, ast.Name) and node.id not in module.values:
                node = loops.get(node.id, node)  # noqa: PLW2901  what the name runs over stands for it
            text = text_of(node, module)
            if text.startswith(("/", "{")) and (folder := _folder(text, is_folder=is_folder)):
                yield call, folder


def path_constants(module: Module) -> dict[str, tuple[str, ...]]:
    """Names of the module that stand for absolute paths, or for tables of them."""
    found = {}
    for name, values in module.values.items():
        if len(values) != 1:
            continue
        match values[0]:
            case ast.Dict(values=parts) | ast.List(elts=parts) | ast.Tuple(elts=parts):
                pass
            case value:
                parts = [value]
        if parts and all(text_of(part, module).startswith("/") for part in parts):
            found[name] = tuple(text_of(part, module) for part in parts)
    return found


def _places(call: ast.Call, name: str) -> Iterator[tuple[ast.expr, bool]]:
    """(what names the place, whether that is a folder) for a call that writes."""
    method = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    if name in _OPENERS and call.args and _is_for_writing(call):
        yield call.args[0], False
    elif name in _FIRST_IS_FOLDER | _FIRST_IS_FILE and call.args:
        yield call.args[0], name in _FIRST_IS_FOLDER
    elif name in _SECOND_IS_PLACE and len(call.args) > 1:
        yield call.args[1], name == "shutil.copytree"
    elif method in _SAVERS and call.args:
        yield call.args[0], method != "save_file"
    elif method in _METHODS_ON_FOLDER | _METHODS_ON_FILE and isinstance(call.func, ast.Attribute):
        yield call.func.value, method in _METHODS_ON_FOLDER
    elif method == "open" and isinstance(call.func, ast.Attribute) and _is_for_writing(call, at=0):
        yield call.func.value, False


def _is_for_writing(call: ast.Call, *, at: int = 1) -> bool:
    given = [keyword.value for keyword in call.keywords if keyword.arg == "mode"]
    modes = [*call.args[at : at + 1], *given]
    return any(
        isinstance(mode, ast.Constant) and isinstance(mode.value, str) and set(mode.value) & set("wax+")
        for mode in modes
    )


def _loops(module: Module) -> dict[str, ast.expr]:
    """What the variables of loops run over: FOLDERS in `for folder in FOLDERS.values()`."""
    found: dict[str, ast.expr] = {}
    for loop in latest_first(module.of(ast.For)):
        match loop:
            case ast.For(
                target=ast.Name(id=name), iter=ast.Call(func=ast.Attribute(value=owner, attr="values"))
            ):
                found[name] = owner
            case ast.For(target=ast.Name(id=name), iter=over):
                found[name] = over
    return found


def _folder(text: str, *, is_folder: bool) -> str:
    """The longest folder at the beginning of `text` that is known."""
    start = text.index("}") + 1 if text.startswith("{") and "}" in text else 0
    known, unknown, _ = text[start:].partition("{")
    if unknown or not is_folder:
        known = known.rpartition("/")[0]
    return (text[:start] + known).rstrip("/")
