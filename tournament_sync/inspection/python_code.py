"""Everything that the inspection wants to know of one Python file, from one parse of it."""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tournament_sync.inspection.python_commands import Command, commands_of, find_programs
from tournament_sync.inspection.python_contract import ContractFacts, read_contract
from tournament_sync.inspection.python_detours import find_detours
from tournament_sync.inspection.python_exec import find_hidden_code, find_opaque_literals
from tournament_sync.inspection.python_fetches import find_credentials, find_fetches, find_trust
from tournament_sync.inspection.python_paths import find_writes, path_constants
from tournament_sync.inspection.python_syntax import Module, parse_module
from tournament_sync.inspection.report import Download, Finding, Table
from tournament_sync.inspection.tables import tables_in_python

OUTPUT_FOLDER = "/app/checkpoints"
# Words of the contract that tell epochs apart, wherever a text mentions them.
CONTRACT_WORDS = (
    "app/checkpoints",
    "workspace/axolotl/outputs",
    "_tourn.zip",
    "environment_names",
    "environment_name",
    "BASELINE_STATS_PATH",
    "ENVIRONMENT_SERVER_URLS",
    "MINER_DATASETS",
    "USE_KL",
    "KL_COEF",
)
_MAX_WORD_CHARS = 500  # of a text that a word of the contract is looked for in; longer ones are prose


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """A folder that is written to; it begins with `{NAME}` for a constant of another file."""

    folder: str
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonFacts:
    """One file. `contract` is None if it could not be parsed; then a finding says why."""

    file: str
    findings: tuple[Finding, ...]
    downloads: tuple[Download, ...] = ()
    commands: tuple[Command, ...] = ()
    tables: tuple[Table, ...] = ()
    writes: tuple[Write, ...] = ()
    constants: Mapping[str, tuple[str, ...]]  # absolute paths by name
    imports: frozenset[str]  # dotted, as far as a file of the tree could be meant
    words: frozenset[str]  # of CONTRACT_WORDS
    contract: ContractFacts | None
    needs_redis: bool


def read_python(data: bytes, *, file: str) -> PythonFacts:
    """What `data` says. Whatever is wrong with it becomes a finding."""
    module = parse_module(data, file=file)
    if isinstance(module, Finding):
        return PythonFacts(
            file=file,
            findings=(module,),
            constants={},
            imports=frozenset(),
            words=frozenset(),
            contract=None,
            needs_redis=False,
        )
    commands = commands_of(module)
    fetched = list(find_fetches(module))
    writes = list(find_writes(module))
    imports = _imports(module)
    said = [item for item in fetched if isinstance(item, Finding)]
    return PythonFacts(
        file=file,
        findings=(*said, *_findings(module, commands), *_fixed_places(module, writes)),
        downloads=tuple(item for item in fetched if isinstance(item, Download)),
        commands=tuple(commands),
        tables=tuple(tables_in_python(module)),
        writes=tuple(Write(folder=folder, line=call.lineno) for call, folder in writes),
        constants=path_constants(module),
        imports=imports,
        words=_words(module),
        contract=read_contract(module),
        needs_redis="redis" in imports,
    )


def _findings(module: Module, commands: list[Command]) -> Iterator[Finding]:
    yield from find_hidden_code(module)
    yield from find_detours(module)
    yield from find_opaque_literals(module)
    yield from find_trust(module)
    yield from find_credentials(module)
    yield from find_programs(module, commands)
    yield from _redis(module)


def _fixed_places(module: Module, writes: list[tuple[ast.Call, str]]) -> Iterator[Finding]:
    for call, folder in writes:
        if folder.startswith("/") and not is_output(folder):
            yield module.finding("python-absolute-write", call)


def is_output(folder: str) -> bool:
    """Whether `folder` is where the contract wants the result, which is writable anyway."""
    return folder == OUTPUT_FOLDER or folder.startswith(f"{OUTPUT_FOLDER}/")


def _imports(module: Module) -> frozenset[str]:
    found = set()
    for node in module.of(ast.Import):
        found |= {alias.name for alias in node.names}
    for origin in module.of(ast.ImportFrom):
        base = "." * origin.level + (origin.module or "")
        # `from package import name` may mean a module or something in one.
        found |= {
            base,
            *(
                f"{base.rstrip('.')}.{alias.name}" if origin.module else f"{base}{alias.name}"
                for alias in origin.names
            ),
        }
    return frozenset(found)


def _redis(module: Module) -> list[Finding]:
    imports = [node for node in module.of(ast.Import) if any(alias.name == "redis" for alias in node.names)]
    origins = [node for node in module.of(ast.ImportFrom) if (node.module or "").partition(".")[0] == "redis"]
    return [module.finding("python-redis", node) for node in (*imports, *origins)]


def _words(module: Module) -> frozenset[str]:
    texts = {text.value for text in module.texts if isinstance(text.value, str)}
    together = "\n".join(text for text in texts if len(text) <= _MAX_WORD_CHARS)
    return frozenset(word for word in CONTRACT_WORDS if word in together)
