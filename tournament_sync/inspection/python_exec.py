"""Where a Python file runs or loads what cannot be read in it: made-up code, pickles, native libraries, hooks."""

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from operator import attrgetter

from tournament_sync.inspection.python_syntax import Module, parse_module
from tournament_sync.inspection.report import Finding
from tournament_sync.inspection.rules import finding

_MAX_NESTING = 3  # of literals with code in literals with code
_MAX_NODES = 5000  # of an argument that is searched for decoders

_EXEC = frozenset({"exec", "eval", "compile", "types.FunctionType", "types.CodeType"})
_IMPORT = re.compile(
    r"__import__|importlib\.import_module|importlib\.util\.spec_from_file_location|importlib\.machinery\.\w+Loader"
    r"|runpy\.run_(?:path|module)|imp\.load_\w+"
)
_DECODE = re.compile(
    r"base64\.\w*(?:decode\w*)|binascii\.(?:unhexlify|a2b_\w+)|(?:bytes|bytearray)\.fromhex|codecs\.decode"
    r"|(?:zlib|gzip|bz2|lzma)\.decompress|chr"
)
_FETCH = re.compile(r"requests\.\w+|urllib\.request\.\w+|httpx\.\w+|urllib3\.\w+|socket\.\w+|aiohttp\.\w+")
_OWNERS = frozenset({"builtins", "__builtins__", "os", "subprocess", "importlib", "posix"})
_UNPICKLE = re.compile(
    r"(?:c?[pP]ickle|_pickle|dill|cloudpickle|joblib|jsonpickle)\.(?:loads?|Unpickler|decode)"
    r"|pandas\.read_pickle|shelve\.open|yaml\.(?:unsafe_load|full_load)"
)
_NATIVE = re.compile(
    r"ctypes\.(?:CDLL|PyDLL|WinDLL|OleDLL)|ctypes\.(?:cdll|pydll|windll)\.LoadLibrary|(?:.*\.)?ffi\.dlopen"
    r"|torch\.ops\.load_library|torch\.utils\.cpp_extension\.load(?:_inline)?"
)
_HOOK = re.compile(
    r"sys\.(?:settrace|setprofile|addaudithook)|threading\.(?:settrace|setprofile)"
    r"|sys\.(?:meta_path|path_hooks)\.(?:append|insert)"
)
_HOOKED = re.compile(r"builtins\.\w+|__builtins__\.\w+|sys\.(?:meta_path|path_hooks|modules)")


def find_hidden_code(module: Module, *, nesting: int = 0) -> Iterator[Finding]:
    """Findings of `python-exec`, `-obfuscated`, `-remote-exec`, `-dynamic-import`, `-pickle`, `-native`, `-hook`."""
    own = _own_functions(module)
    for name, calls in module.calls.items():
        if name in own:
            continue
        if name in _EXEC:
            yield from (found for call in calls for found in _executed(call, module, nesting))
        elif _IMPORT.fullmatch(name):
            yield from (found for call in calls for found in _imported(call, module))
        elif name == "getattr":
            yield from (module.finding("python-exec", call) for call in calls if _reaches(call, module))
        else:
            yield from (module.finding(rule, call) for rule, call in _loads(name, calls))
    yield from _passed_on(module, own)
    yield from _hooked(module)


def _executed(call: ast.Call, module: Module, nesting: int) -> Iterator[Finding]:
    match call.args:
        case [ast.Constant(value=str(code)), *_] if nesting < _MAX_NESTING:
            inner = parse_module(code.encode(errors="replace"), file=module.file)
            if isinstance(inner, Module):
                found = find_hidden_code(inner, nesting=nesting + 1)
                yield from (replace(each, line=call.lineno) for each in found)
                if inner.calls:
                    yield module.finding("python-exec", call)  # other rules do not look inside
                return
        case []:
            return
    names = set(_names_inside(call.args, module))
    if any(_FETCH.fullmatch(name) for name in names):
        yield module.finding("python-remote-exec", call)
    elif any(_DECODE.fullmatch(name) for name in names) or {"marshal.loads", "marshal.load"} & names:
        yield module.finding("python-obfuscated", call)
    else:
        yield module.finding("python-exec", call)


def _imported(call: ast.Call, module: Module) -> Iterator[Finding]:
    if not call.args or isinstance(call.args[0], ast.Constant):
        return
    is_decoded = any(_DECODE.fullmatch(name) for name in _names_inside(call.args[:1], module))
    yield module.finding("python-obfuscated" if is_decoded else "python-dynamic-import", call)


def _loads(name: str, calls: Sequence[ast.Call]) -> Iterator[tuple[str, ast.Call]]:
    """The calls that load what cannot be read, each with the rule that it breaks."""
    if name in {"marshal.loads", "marshal.load"}:
        yield from (("python-marshal", call) for call in calls)
    elif _NATIVE.fullmatch(name):
        yield from (("python-libc" if _is_of_none(call) else "python-native", call) for call in calls)
    elif _HOOK.fullmatch(name):
        yield from (("python-hook", call) for call in calls)
    elif _UNPICKLE.fullmatch(name):
        yield from (("python-pickle", call) for call in calls)
    elif name == "torch.load":
        yield from (("python-pickle", call) for call in calls if not _is_true(call, "weights_only"))
    elif name == "numpy.load":
        yield from (("python-pickle", call) for call in calls if _is_true(call, "allow_pickle"))


def _is_of_none(call: ast.Call) -> bool:
    return bool(call.args) and isinstance(call.args[0], ast.Constant) and call.args[0].value is None


def _is_true(call: ast.Call, keyword: str) -> bool:
    return any(
        given.arg == keyword and isinstance(given.value, ast.Constant) and given.value.value is True
        for given in call.keywords
    )


def _reaches(call: ast.Call, module: Module) -> bool:
    """Whether getattr takes a name that is not written there from a module that starts programs."""
    match call.args:
        case [owner, ast.Constant(), *_]:
            return False
        case [owner, _, *_]:
            return module.name(owner) in _OWNERS
        case _:
            return False


def _own_functions(module: Module) -> set[str]:
    """Builtins' names that the file gives to functions of its own for good: training code likes to define `eval`."""
    if module.of(ast.Delete):
        return set()
    top = [statement for root in module.of(ast.Module) for statement in root.body]
    return {
        each.name for each in top if isinstance(each, ast.FunctionDef) and each.name in {"eval", "compile"}
    }


def _passed_on(module: Module, own: set[str]) -> Iterator[Finding]:
    # map(eval, …), run = exec: no call by that name is left to see.
    builtins = {"exec", "eval", "__import__"} - own
    names = module.of(ast.Name)
    if builtins.isdisjoint(map(attrgetter("id"), names)):
        return
    called = {id(call.func) for call in module.of(ast.Call)}
    for name in names:
        if name.id in builtins and id(name) not in called and isinstance(name.ctx, ast.Load):
            yield module.finding("python-exec", name)


def _hooked(module: Module) -> Iterator[Finding]:
    for assign in module.of(ast.Assign):
        for target in assign.targets:
            place = target.value if isinstance(target, ast.Subscript) else target
            if not isinstance(place, ast.Attribute):
                continue
            # `builtins.` is cut off a name, so its owner is asked.
            owner = module.name(place.value)
            if owner in {"builtins", "__builtins__"} or _HOOKED.fullmatch(module.name(place)):
                yield module.finding("python-hook", assign)


def _names_inside(nodes: list[ast.expr], module: Module) -> Iterator[str]:
    """Names of all calls inside `nodes`, and inside what was assigned to the names in them."""
    pending: list[ast.AST] = list(nodes)
    followed = set()
    for _ in range(_MAX_NODES):
        if not pending:
            return
        node = pending.pop()
        if isinstance(node, ast.Call):
            yield module.name(node.func)
        elif isinstance(node, ast.Name) and node.id not in followed:
            followed.add(node.id)
            pending.extend(module.values.get(node.id, ()))
        pending.extend(ast.iter_child_nodes(node))


def find_opaque_literals(module: Module) -> Iterator[Finding]:
    """Findings of `python-opaque-literal`: long constants that look random, and long lists of bytes."""
    for constant in module.texts:
        value = constant.value
        if isinstance(value, str | bytes) and len(value) >= _MIN_OPAQUE_CHARS and is_opaque(value):
            size = len(value)
            yield finding(
                "python-opaque-literal",
                file=module.file,
                line=constant.lineno,
                found=f"{size} characters of random-looking text",
            )


_MIN_OPAQUE_CHARS = 400
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\ue000-\uf8ff]")
_ENCODED = re.compile(r"[A-Za-z0-9+/=_-]+")


def is_opaque(value: str | bytes) -> bool:
    """Whether a literal is long and looks encoded or encrypted; prose, paths and templates do not."""
    if len(value) < _MIN_OPAQUE_CHARS:
        return False
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    if len(_UNPRINTABLE.findall(text)) > len(text) // 5:
        return True
    compact = "".join(text.split())
    if len(compact) < _MIN_OPAQUE_CHARS or not _ENCODED.fullmatch(compact):
        return False
    digits = sum(char.isdigit() for char in compact)
    upper = sum(char.isupper() for char in compact)
    is_base64 = digits > len(compact) // 50 and upper > len(compact) // 8
    is_hex = re.fullmatch("[0-9a-fA-F]+", compact) is not None
    return (is_base64 or is_hex) and len(set(compact)) >= 12
