"""Where a Python file goes around the plain names: builtins by a detour, code in files called something else."""

import ast
import re
from collections.abc import Iterator

from tournament_sync.inspection.python_syntax import Module
from tournament_sync.inspection.report import Finding

_BUILTINS = frozenset({"__builtins__", "__import__"})
_RUNNERS = re.compile(
    r"(?:c?[pP]rofile|pdb|bdb|trace)\.(?:run|runctx|runeval|runcall)|timeit\.(?:timeit|repeat|Timer)"
    r"|code\.(?:interact|InteractiveInterpreter|InteractiveConsole)|doctest\.\w+|trace\.Trace"
)
_FILE_RUNNERS = re.compile(r"runpy\.run_path|os\.(?:exec|spawn)\w+|os\.posix_spawnp?|subprocess\.\w+")
_LOADERS = re.compile(
    r"importlib\.machinery\.\w+Loader|importlib\.util\.spec_from_file_location|imp\.load_\w+"
)
_NATIVE = re.compile(
    r"cffi\.FFI|(?:.*\.)?dlopen|numpy\.ctypeslib\.load_library|ctypes\.(?:C|PY|WIN)FUNCTYPE|llvmlite\..*"
)
# What no interpreter or loader is given in earnest.
_NO_PROGRAM = re.compile(
    r".\.(?:txt|md|rst|cfg|conf|ini|log|dat|data|bin|json|ya?ml|toml|csv|png|jpe?g|safetensors|lock)$",
    re.IGNORECASE,
)
_INTERPRETER = re.compile(r"(?:^|/)(?:python[\d.]*|pypy\d*|sh|bash|dash|zsh|perl|ruby|node)$")
_EXECUTABLE_MEMORY = 4  # PROT_EXEC


def find_detours(module: Module) -> Iterator[Finding]:
    """Findings of `python-builtins`, `python-odd-script`, `python-native` and `python-exec`."""
    for name, calls in module.calls.items():
        if _NATIVE.fullmatch(name):
            yield from (module.finding("python-native", call) for call in calls)
        elif _RUNNERS.fullmatch(name):
            yield from (module.finding("python-exec", call) for call in calls if _is_made_up(call))
        elif _FILE_RUNNERS.fullmatch(name):
            yield from (module.finding("python-odd-script", call) for call in calls if _runs_no_program(call))
        elif _LOADERS.fullmatch(name):
            yield from (module.finding("python-odd-script", call) for call in calls if _loads_no_module(call))
        elif name == "mmap.mmap":
            yield from (module.finding("python-native", call) for call in calls if _is_executable(call))
        elif name == "vars":
            of_builtins = [call for call in calls if call.args and module.name(call.args[0]) == "builtins"]
            yield from (module.finding("python-builtins", call) for call in of_builtins)
    yield from _reached(module)


def _reached(module: Module) -> Iterator[Finding]:
    for name in module.of(ast.Name):
        if name.id == "__builtins__" and isinstance(name.ctx, ast.Load):
            yield module.finding("python-builtins", name)
    for attribute in module.of(ast.Attribute):
        if attribute.attr == "__dict__" and module.name(attribute.value) == "builtins":
            yield module.finding("python-builtins", attribute)
    for subscript in module.of(ast.Subscript):
        place, key = subscript.value, subscript.slice
        is_entry = isinstance(place, ast.Attribute) and place.attr == "__builtins__"
        if is_entry or (isinstance(key, ast.Constant) and key.value in _BUILTINS):
            yield module.finding("python-builtins", subscript)


def _is_made_up(call: ast.Call) -> bool:
    """Whether the code that it is given is not written there."""
    given = [
        *call.args[:2],
        *(keyword.value for keyword in call.keywords if keyword.arg in {"stmt", "setup"}),
    ]
    return any(not isinstance(argument, ast.Constant | ast.Lambda | ast.Name) for argument in given)


def _runs_no_program(call: ast.Call) -> bool:
    """Whether a file is named as the program, or as what an interpreter reads, whose name says otherwise."""
    words = [
        item
        for argument in call.args[:3]
        for item in (argument.elts[:2] if isinstance(argument, ast.List | ast.Tuple) else [argument])
    ]
    if not words:
        return False
    texts = [word.value for word in words if isinstance(word, ast.Constant) and isinstance(word.value, str)]
    starts_with_file = isinstance(words[0], ast.Constant) and bool(texts) and _NO_PROGRAM.search(texts[0])
    is_interpreter = not isinstance(words[0], ast.Constant) or _INTERPRETER.search(str(words[0].value))
    return bool(starts_with_file) or (
        bool(is_interpreter) and any(_NO_PROGRAM.search(text) for text in texts[:2])
    )


def _loads_no_module(call: ast.Call) -> bool:
    texts = [word.value for word in call.args[1:2] if isinstance(word, ast.Constant)]
    return any(isinstance(text, str) and _NO_PROGRAM.search(text) is not None for text in texts)


def _is_executable(call: ast.Call) -> bool:
    for keyword in call.keywords:
        if keyword.arg == "prot":
            value = keyword.value
            if isinstance(value, ast.Constant) and isinstance(value.value, int):
                return bool(value.value & _EXECUTABLE_MEMORY)
            return "PROT_EXEC" in ast.dump(value)
    return False
