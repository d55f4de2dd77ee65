"""What a Python file says about the tournament's contract: arguments, task types, reserved time, held-back rows."""

import ast
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter

from tournament_sync.inspection.python_nodes import latest_first
from tournament_sync.inspection.python_syntax import Module
from tournament_sync.inspection.python_text import text_of

_TASKS = {
    "InstructTextTask": "InstructTextTask",
    "INSTRUCTTEXTTASK": "InstructTextTask",
    "ChatTask": "ChatTask",
    "CHATTASK": "ChatTask",
    "DpoTask": "DpoTask",
    "DPOTASK": "DpoTask",
    "GrpoTask": "GrpoTask",
    "GRPOTASK": "GrpoTask",
    "EnvTask": "EnvTask",
    "ENVTASK": "EnvTask",
    "ENVIRONMENTTASK": "EnvTask",
    "ImageTask": "ImageTask",
    "IMAGETASK": "ImageTask",
}
_TASK_WORD = re.compile(rb"T(?:ask|ASK)")  # is in all of them, and much faster to look for than each
_SCRIPT = re.compile(r"(?:^|[\s=])((?:[\w./-]+/)?[\w-]+\.py)(?=\s|$)")
_INTERPRETER = re.compile(r"(?:^|\s)(/[\w./-]+/bin/python[\d.]*)(?=\s|$)")
_HELD_BACK = re.compile(
    r"(?i)_*(?:n_|num_)?(?:dev|val|valid|validation|eval|holdout)_(?:size|rows|samples|count|num|examples)"
)
_MAX_HELD_BACK = 100_000
_MAX_RESERVED_MINUTES = 24 * 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """One that a parser takes. `choices` is None if there are none, or if they are not written there."""

    names: tuple[str, ...]
    is_required: bool
    choices: tuple[str, ...] | None
    has_unread_choices: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """What is mentioned only where the task is one of `tasks`: scripts that are started, and interpreters."""

    tasks: frozenset[str]
    scripts: frozenset[str]
    interpreters: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractFacts:
    """`takes_unknown`: arguments that are not listed are no error."""

    arguments: tuple[Argument, ...]
    takes_unknown: bool
    branches: tuple[Branch, ...]
    reserved_minutes: int | None
    held_back_rows: int | None


def read_contract(module: Module) -> ContractFacts:
    """See ContractFacts."""
    return ContractFacts(
        arguments=tuple(_arguments(module)),
        takes_unknown=any(name.endswith(".parse_known_args") for name in module.calls),
        branches=tuple(_branches(module)),
        reserved_minutes=max(_reserved_minutes(module), default=None),
        held_back_rows=max(_held_back(module), default=None),
    )


def _arguments(module: Module) -> Iterator[Argument]:
    named = [calls for name, calls in module.calls.items() if name.rpartition(".")[2] == "add_argument"]
    for call in latest_first(call for calls in named for call in calls):
        if not isinstance(call.func, ast.Attribute):
            continue
        names = tuple(text_of(name, module) for name in call.args)
        given = {keyword.arg: keyword.value for keyword in call.keywords}
        choices = _choices(given["choices"], module) if "choices" in given else None
        is_positional = bool(names) and not names[0].startswith("-")
        yield Argument(
            names=names,
            is_required=is_positional or _is_true(given.get("required")),
            choices=choices,
            has_unread_choices="choices" in given and choices is None,
        )


def _choices(node: ast.expr, module: Module) -> tuple[str, ...] | None:
    if isinstance(node, ast.Name) and len(values := module.values.get(node.id, ())) == 1:
        node = values[0]
    match node:
        case ast.List(elts=parts) | ast.Tuple(elts=parts) | ast.Set(elts=parts):
            known = tuple(_task_of(part, module) or text_of(part, module) for part in parts)
            return None if any("{" in choice for choice in known) else known
        case _:
            return None


def _task_of(node: ast.expr, module: Module) -> str:
    """The task that TaskType.CHATTASK.value and the like stand for."""
    for part in reversed(module.name(node).split(".")):
        if part in _TASKS:
            return _TASKS[part]
    return ""


def _is_true(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is True


def _branches(module: Module) -> Iterator[Branch]:
    if not _TASK_WORD.search(module.source):
        return
    for branch in latest_first(module.of(ast.If)):
        tasks = frozenset(_tasks_in(branch.test, module))
        if not tasks:
            continue
        texts = [text for statement in branch.body for text in _texts_in(statement, module)]
        yield Branch(tasks=tasks, scripts=scripts_in(texts), interpreters=interpreters_in(texts))


def scripts_in(texts: list[str]) -> frozenset[str]:
    """Python scripts that command lines among `texts` start."""
    return frozenset(name for text in texts if " " in text for name in _SCRIPT.findall(text))


def interpreters_in(texts: list[str]) -> frozenset[str]:
    """Absolute paths of Python interpreters that command lines among `texts` start."""
    return frozenset(path for text in texts for path in _INTERPRETER.findall(text))


def _tasks_in(test: ast.expr, module: Module) -> Iterator[str]:
    for node in ast.walk(test):
        if isinstance(node, ast.NotEq | ast.NotIn | ast.Not):
            return
    for node in ast.walk(test):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in _TASKS:
            yield _TASKS[node.value]
        elif isinstance(node, ast.Attribute) and node.attr in _TASKS:
            yield _TASKS[node.attr]


def _texts_in(statement: ast.stmt, module: Module) -> Iterator[str]:
    for node in ast.walk(statement):
        if isinstance(node, ast.JoinedStr) or (
            isinstance(node, ast.Constant) and isinstance(node.value, str)
        ):
            yield text_of(node, module)


def _reserved_minutes(module: Module) -> Iterator[int]:
    """Minutes that are taken off the hours that are given, as in `hours=args.hours_to_complete - 3 / 60`."""
    for node in module.of(ast.BinOp):
        if not isinstance(node.op, ast.Sub):
            continue
        scale = _hours_scale(node.left)
        taken = _number(node.right)
        if scale and taken is not None and 0 < (minutes := taken / scale * 60) <= _MAX_RESERVED_MINUTES:
            yield math.ceil(round(minutes, 6))


def _hours_scale(node: ast.expr) -> float | None:
    """Units per hour of an amount of time that is the given hours; None if it is something else."""
    match node:
        case ast.Attribute(attr=name) | ast.Name(id=name) if "hours" in name:
            return 1
        case ast.BinOp(left=left, op=ast.Mult(), right=right) if (scale := _hours_scale(left)) is not None:
            factor = _number(right)
            return None if factor is None else scale * factor
        case _:
            return None


def _number(node: ast.expr, *, depth: int = 0) -> float | None:
    match node:
        case ast.Constant(value=int() | float() as value) if abs(value) < 1e9:
            return float(value)
        case ast.BinOp(left=left, op=ast.Div() | ast.Mult() as operator, right=right) if depth < 8:
            first, second = _number(left, depth=depth + 1), _number(right, depth=depth + 1)
            if first is None or second is None or (isinstance(operator, ast.Div) and not second):
                return None
            return first / second if isinstance(operator, ast.Div) else first * second
        case _:
            return None


def _held_back(module: Module) -> Iterator[int]:
    """Rows that are split off before training, where a constant says how many."""
    arg = attrgetter("arg")
    names = {*module.values, *map(arg, module.of(ast.keyword)), *map(arg, module.of(ast.arg))}
    if not any(name and _HELD_BACK.fullmatch(name) for name in names):
        return
    given: list[tuple[str, ast.expr | None]] = [
        (name, value) for name, values in module.values.items() for value in values
    ]
    given += [(keyword.arg or "", keyword.value) for keyword in module.of(ast.keyword)]
    for arguments in module.of(ast.arguments):
        named = (*arguments.posonlyargs, *arguments.args)
        defaults = arguments.defaults
        given += [
            (arg.arg, value) for arg, value in zip(named[len(named) - len(defaults) :], defaults, strict=True)
        ]
        given += [
            (arg.arg, value) for arg, value in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        ]
    computed = {name for name, value in given if value is not None and not isinstance(value, ast.Constant)}
    for name, value in given:
        if not _HELD_BACK.fullmatch(name) or name in computed or not isinstance(value, ast.Constant):
            continue
        if (
            isinstance(value.value, int)
            and not isinstance(value.value, bool)
            and 1 < value.value <= _MAX_HELD_BACK
        ):
            yield value.value
