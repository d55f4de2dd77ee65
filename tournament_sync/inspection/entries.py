"""From a Dockerfile of the contract to the Python script that gets the arguments, and to what that reaches."""

import posixpath
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from tournament_sync.inspection.dockerfiles import DockerfileFacts, path_in_tree
from tournament_sync.inspection.python_code import PythonFacts
from tournament_sync.inspection.python_contract import scripts_in
from tournament_sync.inspection.report import Phase
from tournament_sync.inspection.shell import ShellCommand, read_shell

_MAX_SCRIPTS = 4  # shell scripts that start each other


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """`script` is the Python file that parses the arguments, "" if it was not found; `shells` lead to it."""

    script: str
    shells: tuple[str, ...]
    needs_redis: bool


def find_entry(
    dockerfile: str, docker: DockerfileFacts, *, shells: Mapping[str, bytes], paths: Collection[str]
) -> Entry:
    """What the image of `dockerfile` starts. `shells` are the shell scripts of the tree, `paths` all its files."""
    copies = [copy for copy in docker.copies if copy.dockerfile == dockerfile]
    known = with_folders(paths)
    workdir = docker.workdirs.get(dockerfile, "/")
    current, passed, needs_redis = docker.entry_files.get(dockerfile, ""), [], False
    for _ in range(_MAX_SCRIPTS):
        if current not in shells:
            break
        passed.append(current)
        text = shells[current].decode(errors="replace")
        facts = read_shell(text, file=current, first_line=1, phase=Phase.RUN)
        needs_redis = needs_redis or facts.needs_redis
        current = next(
            (
                found
                for path, folder in _started(facts.commands, workdir)
                if (found := path_in_tree(path, copies, names=known, workdir=folder)) and found != current
            ),
            "",
        )
    is_script = current != "" and current not in shells
    return Entry(script=current if is_script else "", shells=tuple(passed), needs_redis=needs_redis)


def with_folders(paths: Collection[str]) -> frozenset[str]:
    """`paths`, and each of their folders with a "/" at its end, as `path_in_tree` wants them."""
    folders = set()
    for path in paths:
        folder = posixpath.dirname(path)
        while folder and f"{folder}/" not in folders:
            folders.add(f"{folder}/")
            folder = posixpath.dirname(folder)
    return frozenset(paths) | folders


def _started(commands: Collection[ShellCommand], workdir: str) -> Iterator[tuple[str, str]]:
    """(path, folder in which it is looked for) of scripts that `commands` start; those with "$@" first."""
    found = []
    for command in commands:
        words = [word.text for word in command.words]
        if command.name == "cd" and len(words) == 2 and command.words[1].is_literal:
            workdir = posixpath.join(workdir, words[1])
        gets_arguments = any(word in {"$@", "$*", "${@}"} for word in words)
        for before, word in zip(["", *words], words, strict=False):
            path = f"{word.replace('.', '/')}.py" if before == "-m" else word
            if path.endswith((".py", ".sh")):
                found.append((not gets_arguments, path, workdir))
    return ((path, folder) for _, path, folder in sorted(found, key=lambda each: each[0]))


def reached(entry: str, python: Mapping[str, PythonFacts]) -> frozenset[str]:
    """The Python files that `entry` imports or starts, itself included, and what those do in turn."""
    folder = posixpath.dirname(entry)
    roots = [folder, posixpath.dirname(folder), ""]
    done: set[str] = set()
    pending = [entry] if entry in python else []
    while pending:
        path = pending.pop()
        if path in done:
            continue
        done.add(path)
        facts = python[path]
        for candidate in (*_modules(facts, roots), *_scripts(facts, roots)):
            if candidate in python and candidate not in done:
                pending.append(candidate)
    return frozenset(done)


def _modules(facts: PythonFacts, roots: list[str]) -> Iterator[str]:
    here = posixpath.dirname(facts.file)
    for name in facts.imports:
        dots = len(name) - len(name.lstrip("."))
        base = here
        for _ in range(dots - 1):
            base = posixpath.dirname(base)
        path = name.lstrip(".").replace(".", "/")
        for root in [base] if dots else [here, *roots]:
            stem = posixpath.join(root, path) if path else root
            yield f"{stem}.py"
            yield posixpath.join(stem, "__init__.py")


def _scripts(facts: PythonFacts, roots: list[str]) -> Iterator[str]:
    texts = [command.text for command in facts.commands]
    started = set(scripts_in(texts))
    if facts.contract is not None:
        started |= {script for branch in facts.contract.branches for script in branch.scripts}
    here = posixpath.dirname(facts.file)
    for script in started:
        name = re.sub(r"^/(?:workspace|app)/", "", script)
        for root in (here, *roots):
            yield posixpath.normpath(posixpath.join(root, name))
