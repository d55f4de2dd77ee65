"""Tables that decide how a champion trains: keyed by models, or full of hyper-parameters.

A table has one canonical form whatever its order and spacing, so its SHA-256 tells whether two champions differ.
"""

import ast
import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence

import yaml  # type: ignore[import-untyped]  # its stubs are a package of their own

from attestation.digest import sha256_hex
from tournament_sync.inspection.python_syntax import Module
from tournament_sync.inspection.report import Table
from tournament_sync.inspection.rules import shown

MAX_JSON_BYTES = 1 << 20  # what is longer is data to train on, not a table
MAX_TEXT_BYTES = 32 << 10  # of YAML and TOML, which are read slowly; a configuration of axolotl has 2 KB
_MAX_DEPTH = 5  # of a document that is searched
_MAX_LITERAL_DEPTH = 20
_MAX_SAME_NAME = 8  # tables that one file calls by one name
_MAX_BITS = 256  # of an integer that is written in decimal
_MIN_ENTRIES = 3

_MODEL = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}|[0-9a-f]{64}")
_NOT_MODEL = re.compile(
    r"(?i).*\.(?:py|txt|json|jsonl|png|jpe?g|md|sh|toml|ya?ml|csv)|(?:text|application|image|audio|video)/.*"
)
_HYPER = re.compile(
    r"(?i)(?:.*_)?(?:lr|learning_?rate|batch(?:_?size)?|epochs?|steps?|warmup(?:_\w+)?|weight_decay|decay|alpha|beta\d?"
    r"|gamma|dropout|rank|r|dim|optim(?:izer)?|scheduler|momentum|clip|seq_?len|sequence_len|max_length|seed"
    r"|noise_offset|ratio|temperature|gpu_count|lora_\w+|use_lora)(?:_.*)?"
)
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the fast one where there is one


def tables_in_python(module: Module) -> Iterator[Table]:
    """Tables among the literals that have a name."""
    for name, values in module.values.items():
        for number, value in enumerate(values[:_MAX_SAME_NAME], 1):
            if isinstance(value, ast.Dict | ast.List | ast.Set | ast.Tuple):
                title = name if len(values) == 1 else f"{name}#{number}"
                yield from _tables(_literal(value, 0), file=module.file, name=title, depth=0)


def tables_in_data(data: bytes, *, file: str) -> Iterator[Table]:
    """Tables in a JSON, YAML or TOML file; none if it is not one of these, or too long to be a table."""
    yield from _tables(_document(data, file), file=file, name="", depth=0)


def _document(data: bytes, file: str) -> object:
    try:
        if file.endswith(".json") and len(data) <= MAX_JSON_BYTES:
            # Entries are keyed or named by texts: without any, data of numbers alone need not be parsed.
            return json.loads(data) if data.count(b'"') >= 2 * _MIN_ENTRIES else None
        if file.endswith(".toml") and len(data) <= MAX_TEXT_BYTES:
            return tomllib.loads(data.decode())
        # Anchors are left out: a few of them make a document of gigabytes.
        if file.endswith((".yaml", ".yml")) and len(data) <= MAX_TEXT_BYTES and b"&" not in data:
            return yaml.load(data, Loader=_Loader)  # noqa: S506  it is a safe loader
    except (ValueError, RecursionError, yaml.YAMLError):
        return None  # no table; nothing else is said about it either
    return None


def _tables(content: object, *, file: str, name: str, depth: int) -> Iterator[Table]:
    if isinstance(content, Mapping):
        is_model_table = _names_models([key for key in content if isinstance(key, str)], of=len(content))
        if is_model_table or _is_hyper(content) or any(_is_hyper(value) for value in content.values()):
            yield _table(content, file=file, name=name, is_model_table=is_model_table)
        elif depth < _MAX_DEPTH:
            for key, value in content.items():
                inner = f"{name}.{key}" if name else str(key)
                yield from _tables(value, file=file, name=inner, depth=depth + 1)
    elif isinstance(content, list) and _names_models(
        [item for item in content if isinstance(item, str)], of=len(content)
    ):
        yield _table(content, file=file, name=name, is_model_table=True)


def _names_models(words: list[str], *, of: int) -> bool:
    """Whether most of `of` entries are named like models or their digests."""
    named = sum(bool(_MODEL.fullmatch(word)) and not _NOT_MODEL.fullmatch(word) for word in words)
    return named >= _MIN_ENTRIES and named * 10 >= of * 6


def _is_hyper(content: object) -> bool:
    if not isinstance(content, Mapping):
        return False
    values = [value for key, value in content.items() if isinstance(key, str) and _HYPER.fullmatch(key)]
    numbers = sum(isinstance(value, int | float) for value in values)
    return len(values) >= _MIN_ENTRIES and numbers >= 2


def _table(
    content: Mapping[object, object] | Sequence[object], *, file: str, name: str, is_model_table: bool
) -> Table:
    canonical = json.dumps(_canonical(content, 0), sort_keys=True, separators=(",", ":"))
    return Table(
        file=file,
        name=shown(name),
        entries=len(content),
        sha256=sha256_hex(canonical.encode()),
        is_model_table=is_model_table,
    )


def _canonical(value: object, depth: int) -> object:
    """`value` with text as keys and no number that JSON or Python would not write out."""
    if depth > _MAX_LITERAL_DEPTH:
        return "…"
    match value:
        case bool() | None | float() | str():
            return value
        case int():
            return value if value.bit_length() <= _MAX_BITS else hex(value)
        case Mapping():
            return {_key(key): _canonical(item, depth + 1) for key, item in value.items()}
        case list() | tuple():
            return [_canonical(item, depth + 1) for item in value]
        case _:  # a date of YAML or TOML
            return f"{type(value).__name__} {value}"


def _key(key: object) -> str:
    return key if isinstance(key, str) else f"{type(key).__name__} {_canonical(key, _MAX_LITERAL_DEPTH)}"


def _literal(node: ast.expr | None, depth: int) -> object:  # noqa: PLR0911  one kind of literal per case
    """The value that `node` spells; for what is no literal, its source in a text of its own."""
    if depth > _MAX_LITERAL_DEPTH:
        return "…"
    match node:
        case ast.Constant(value=str() | int() | float() | None as value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case ast.Dict(keys=keys, values=values):
            pairs = zip(keys, values, strict=True)
            return {_literal_key(key, depth): _literal(value, depth + 1) for key, value in pairs}
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            return [_literal(part, depth + 1) for part in parts]
        case ast.Set(elts=parts):
            return sorted((_literal(part, depth + 1) for part in parts), key=repr)
        case None:
            return None
        case _:
            return _source(node)


def _literal_key(node: ast.expr | None, depth: int) -> object:
    if node is None:
        return "**"
    key = _literal(node, depth + 1)
    return key if isinstance(key, str | int | float | None) else repr(key)


def _source(node: ast.expr) -> str:
    try:
        return f"={ast.unparse(node)}"
    except RecursionError:
        return "=…"
