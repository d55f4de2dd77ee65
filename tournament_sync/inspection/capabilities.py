"""Which tasks of the contract a repository can do: a Dockerfile that serves the task, an entry script, its parser.

Covered: arguments, choices, files and interpreters that are missing. Not covered: whether training succeeds.
"""

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tournament_sync.inspection.dockerfiles import CONTRACT_FOLDERS, CONTRACT_NAMES
from tournament_sync.inspection.python_code import PythonFacts
from tournament_sync.inspection.python_contract import Argument
from tournament_sync.inspection.report import Capability, Support, Table

TEXT_TASKS = ("InstructTextTask", "ChatTask", "DpoTask", "GrpoTask", "EnvTask")
IMAGE_TYPES = ("sdxl", "flux", "z-image", "qwen-image", "ideogram4", "krea2")
_TEXT_FILE, _IMAGE_FILE, _TOOLKIT_FILE = CONTRACT_NAMES
_SENT = {
    "text": "--task-id --model --dataset --dataset-type --task-type --file-format --expected-repo-name "
    "--hours-to-complete",
    "image": "--task-id --model --dataset-zip --model-type --expected-repo-name --hours-to-complete",
}
_ALSO_SENT = frozenset({"--trigger-word"})  # for some image tasks only


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A Dockerfile of the contract and what it starts. `entry` is a path in the tree, "" if that is unknown.

    `creates` is the text of its build steps; `missing` are sources of COPY that the tree lacks.
    """

    dockerfile: str
    entry: str
    creates: str
    missing: tuple[str, ...]


def contract_dockerfiles(paths: frozenset[str]) -> dict[str, str]:
    """By name, the Dockerfile that upstream would build, for each of the three names that the tree has."""
    found = {}
    for name in CONTRACT_NAMES:
        candidates = (f"{folder}/{name}" for folder in CONTRACT_FOLDERS)
        if (path := next((path for path in candidates if path in paths), None)) is not None:
            found[name] = path
    return found


def read_capabilities(
    served: Mapping[str, Served],
    python: Mapping[str, PythonFacts],
    *,
    paths: frozenset[str],
    tables: Sequence[Table],
) -> tuple[Capability, ...]:
    """The matrix: one row for each text task and each type of image task. `served` is by Dockerfile name."""
    rows = [
        _row(task, served.get(_TEXT_FILE), python, kind="text", option="--task-type", value=task, paths=paths)
        for task in TEXT_TASKS
    ]
    for image_type in IMAGE_TYPES:
        title = f"ImageTask ({image_type})"
        names = (_IMAGE_FILE, _TOOLKIT_FILE) if image_type in {"sdxl", "flux"} else (_TOOLKIT_FILE,)
        by = next((served[name] for name in names if name in served), None)
        row = _row(title, by, python, kind="image", option="--model-type", value=image_type, paths=paths)
        rows.append(_with_tables(row, image_type, tables))
    return tuple(rows)


def _row(
    title: str,
    served: Served | None,
    python: Mapping[str, PythonFacts],
    *,
    kind: str,
    option: str,
    value: str,
    paths: frozenset[str],
) -> Capability:
    if served is None:
        return Capability(
            task_type=title,
            support=Support.NO,
            dockerfile="",
            entrypoint="",
            reason="no Dockerfile serves it",
        )
    support, reason = _judged(
        served, python.get(served.entry), kind=kind, option=option, value=value, paths=paths
    )
    return Capability(
        task_type=title,
        support=support,
        dockerfile=served.dockerfile,
        entrypoint=served.entry,
        reason=reason,
    )


def _judged(  # noqa: PLR0911  one reason per step, the first that holds
    served: Served, entry: PythonFacts | None, *, kind: str, option: str, value: str, paths: frozenset[str]
) -> tuple[Support, str]:
    if served.missing:
        return Support.NO, f"the build fails: COPY takes {', '.join(served.missing)}, which the tree lacks"
    if not served.entry:
        return Support.UNKNOWN, "its entry point leads to no script in the tree"
    if entry is None or entry.contract is None or not entry.contract.arguments:
        return Support.UNKNOWN, "which arguments its entry script takes could not be read"
    contract = entry.contract
    if (refusal := _refused(contract.arguments, kind=kind, is_open=contract.takes_unknown)) is not None:
        return Support.NO, refusal
    chosen = _argument(contract.arguments, option)
    if chosen is not None and chosen.choices is not None and value not in chosen.choices:
        return Support.NO, f"{option} takes only {', '.join(chosen.choices)}"
    if (lack := _lacking(entry, served, value, paths=paths)) is not None:
        return Support.NO, lack
    if chosen is None or chosen.choices is None:
        return Support.UNKNOWN, f"the parser takes any {option}; what it does with {value} could not be read"
    return Support.YES, f"{option} takes {value}"


def _refused(arguments: Sequence[Argument], *, kind: str, is_open: bool) -> str | None:
    """Why the parser would end the run at once, None if it would not."""
    sent = _SENT[kind].split()
    known = {name for argument in arguments for name in argument.names}
    if (refused := [name for name in sent if name not in known]) and not is_open:
        return f"its parser refuses {', '.join(refused)}"
    wanted = [
        argument.names[0]
        for argument in arguments
        if argument.is_required and argument.names and not set(argument.names) & {*sent, *_ALSO_SENT}
    ]
    if wanted:
        return f"its parser wants {', '.join(sorted(wanted))}, which the contract does not give"
    formats = _argument(arguments, "--file-format")
    if kind == "text" and formats is not None and formats.choices is not None and "s3" not in formats.choices:
        return "--file-format does not take s3"
    return None


def _lacking(entry: PythonFacts, served: Served, value: str, *, paths: frozenset[str]) -> str | None:
    """What the branch for this task needs and the image lacks, None if nothing."""
    assert entry.contract is not None  # asked before
    folder = posixpath.dirname(served.entry)
    for branch in entry.contract.branches:
        if value not in branch.tasks:
            continue
        for interpreter in sorted(branch.interpreters):
            environment = posixpath.dirname(posixpath.dirname(interpreter))
            if environment not in {"/usr", "/usr/local", ""} and environment not in served.creates:
                return f"{interpreter} is started for it, and the Dockerfile does not make {environment}"
        for script in sorted(branch.scripts):
            if not script.startswith("/") and not _is_in(paths, folder, script):
                return f"{script} is started for it, and the tree lacks it"
    return None


def _is_in(paths: frozenset[str], folder: str, script: str) -> bool:
    here = posixpath.normpath(posixpath.join(folder, script))
    return here in paths or any(path.endswith(f"/{posixpath.basename(script)}") for path in paths)


def _argument(arguments: Sequence[Argument], name: str) -> Argument | None:
    return next((argument for argument in arguments if name in argument.names), None)


def _with_tables(row: Capability, image_type: str, tables: Sequence[Table]) -> Capability:
    """SDXL champions look the model up in a table of their entry script and fail for any other."""
    own = [t for t in tables if t.is_model_table and t.file == row.entrypoint and t.name]
    if row.support is not Support.YES or image_type != "sdxl" or not own:
        return row
    names = ", ".join(f"{table.name} ({table.entries})" for table in own)
    return Capability(
        task_type=row.task_type,
        support=row.support,
        dockerfile=row.dockerfile,
        entrypoint=row.entrypoint,
        reason=f"{row.reason}; perhaps only for the models in {names}",
    )
