"""The programs that a Python file would start, as command lines that the shell parser can read."""

import ast
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from tournament_sync.inspection.python_syntax import Module
from tournament_sync.inspection.python_text import text_of
from tournament_sync.inspection.report import Finding

MAX_COMMANDS = 500  # of a file; a table of commands is read as far as that

_STARTS = re.compile(
    r"subprocess\.(?:run|Popen|call|check_call|check_output|getoutput|getstatusoutput)|os\.(?:system|popen)"
    r"|os\.(?:exec|spawn|posix_spawn)\w*|pty\.spawn|asyncio\.create_subprocess_(?:exec|shell)"
)
_SHELLS = re.compile(r"os\.(?:system|popen)|subprocess\.get\w*output|asyncio\.create_subprocess_shell")
_SEPARATE_WORDS = re.compile(r"os\.(?:exec|spawn|posix_spawn)\w*|asyncio\.create_subprocess_exec")
_INSTALLS = re.compile(
    r"(?:^|[\s;&|/'\"])(?:pip[\d.]*|uv|conda|mamba|poetry)['\"]?(?:\s+[-\w='\"]+){0,4}?\s+['\"]?(?:install|add|sync)\b"
    r"|(?:^|[\s;&|])(?:apt|apt-get|yum|apk|npm)\s+(?:-\S+\s+)*(?:install|add)\b"
)
_FETCHES = re.compile(
    r"(?:^|[\s;&|])(?:curl|wget|git\s+(?:clone|pull|fetch)|huggingface-cli\s+download|hf\s+download)\s"
)
# A text that is a command although it is not handed to a call that is known to start one.
_COMMAND_LIKE = re.compile(
    r"\s*(?:sudo\s+)?(?:(?:python[\d.]*|\{\w*\})\s+-m\s+)?(?:pip[\d.]*\s+(?:un)?install|uv\s+pip|conda\s+install|curl\s"
    r"|wget\s|git\s+clone|apt(?:-get)?\s+(?:-y\s+)?install|huggingface-cli\s+download|(?:ba)?sh\s+-c\b"
    r"|(?:/\S+/)?python[\d.]*\s+\S+\.py\b|torchrun\s|accelerate\s+launch|deepspeed\s)"
)
_NOISE = re.compile(r"(?:add|inject)_(?:random|gaussian)_noise\w*(?:\.py)?")
_TALKS = re.compile(r"print|(?:.*\.)?(?:warn|warning|info|error|debug|exception|critical|add_argument|log)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command line; `{…}` stands for a part that is not known before it runs."""

    text: str
    line: int


def commands_of(module: Module) -> list[Command]:
    """The command lines in `module`, by line: those of calls that start programs, and texts that read like one."""
    started = {command for name in module.calls for command in _started(name, module)}
    lines = {command.line for command in started}
    like = {
        id(text): Command(text=spelled, line=text.lineno)
        for text in (*module.texts, *module.of(ast.JoinedStr))
        if not _is_bytes(text)
        and _COMMAND_LIKE.match(spelled := text_of(text, module))
        and text.lineno not in lines
    }
    if like:
        talk = _talk(module)
        started |= {command for key, command in like.items() if key not in talk}
    return sorted(started, key=lambda command: (command.line, command.text))[:MAX_COMMANDS]


def find_programs(module: Module, commands: list[Command]) -> Iterator[Finding]:
    """Findings of `python-shell`, `-runtime-install`, `-download` and `-noise`."""
    for name, calls in module.calls.items():
        if _SHELLS.fullmatch(name):
            yield from (module.finding("python-shell", call) for call in calls)
        elif _STARTS.fullmatch(name):
            yield from (module.finding("python-shell", call) for call in calls if _has_shell(call))
        elif name in {"pip.main", "pip._internal.main", "pip._internal.cli.main.main"}:
            yield from (module.finding("python-runtime-install", call) for call in calls)
    for command in commands:
        place = ast.Pass(lineno=command.line, end_lineno=command.line, col_offset=0)
        if _INSTALLS.search(command.text):
            yield module.finding("python-runtime-install", place)
        elif _FETCHES.search(command.text):
            yield module.finding("python-download", place)
        if _NOISE.search(command.text):
            yield module.finding("python-noise", place)
    for function in module.of(ast.FunctionDef):
        if _NOISE.fullmatch(function.name):
            yield module.finding("python-noise", function)


def _started(name: str, module: Module) -> Iterator[Command]:
    if not _STARTS.fullmatch(name):
        return
    for call in module.calls[name]:
        named = [given.value for given in call.keywords if given.arg in {"args", "cmd", "command"}]
        arguments = [*call.args, *named]
        if not arguments:
            continue
        if _SEPARATE_WORDS.fullmatch(name):
            words = [part for argument in arguments for part in _words(argument, module)]
            yield Command(text=shlex.join(words), line=call.lineno)
        else:
            yield Command(text=_command_line(arguments[0], module), line=call.lineno)


def _command_line(node: ast.expr, module: Module) -> str:
    values = module.values.get(node.id, ()) if isinstance(node, ast.Name) else ()
    if len(values) == 1:
        return _command_line(values[0], module)
    if isinstance(node, ast.List | ast.Tuple):
        return shlex.join(_words(node, module))
    return text_of(node, module)


def _words(node: ast.expr, module: Module) -> list[str]:
    if isinstance(node, ast.List | ast.Tuple):
        return [text_of(item, module) for item in node.elts]
    return [text_of(node, module)]


def _has_shell(call: ast.Call) -> bool:
    return any(
        given.arg == "shell" and not (isinstance(given.value, ast.Constant) and not given.value.value)
        for given in call.keywords
    )


def _is_bytes(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, bytes)


def _talk(module: Module) -> set[int]:
    """Texts that are only said: docstrings, messages, help, and the parts of a longer text."""
    said: list[ast.AST] = [statement.value for statement in module.of(ast.Expr)]
    said += [error.exc for error in module.of(ast.Raise) if error.exc is not None]
    for call in (call for name, calls in module.calls.items() if _TALKS.fullmatch(name) for call in calls):
        said += [*call.args, *(given.value for given in call.keywords)]
    silent = {
        id(statement.value) for statement in module.of(ast.Expr) if isinstance(statement.value, ast.Call)
    }
    found = set()
    for node in said:
        if id(node) not in silent:
            found |= {id(part) for part in ast.walk(node)}
    for joined in module.of(ast.JoinedStr):
        found |= {id(part) for part in joined.values}
    return found
