"""The Dockerfiles of a tree: what they build from, fetch, copy and start. Nothing is built or fetched.

Covered: every file that is named like a Dockerfile, the contract's first; files of requirements that they install.
Not covered: what base images bring along, and what programs that are started while building do.
"""

import posixpath
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from tournament_sync.inspection.dockerfile_stages import Copy, StageFacts, read_stages
from tournament_sync.inspection.report import BaseImage, Download, Finding, Phase
from tournament_sync.inspection.rules import finding
from tournament_sync.inspection.shell_downloads import requirement_fetch
from tournament_sync.inspection.tree import read_tree

MAX_DOCKERFILES = 200
MAX_REQUIREMENTS = 2000  # lines of one file
# Order of the contract: for each name the first that exists wins (gradients-contract.md, 5.2).
CONTRACT_FOLDERS = ("ops/docker", "dockerfiles")
CONTRACT_NAMES = (
    "standalone-text-trainer.dockerfile",
    "standalone-image-trainer.dockerfile",
    "standalone-image-toolkit-trainer.dockerfile",
)
_NAME = re.compile(
    r"(?:docker|container)file(?:\..*)?|.*\.(?:docker|container)file", re.IGNORECASE | re.DOTALL
)
_PATTERN = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerfileFacts:
    """What the Dockerfiles of a tree would do. Mappings are by the path of the Dockerfile.

    `entrypoints` are the arguments that an image starts with, of ENTRYPOINT, or of CMD where there is none;
    `entry_files` the file of the tree among them, "" if there is none or it was not found;
    `workdirs` the folder in which it starts.
    """

    base_images: tuple[BaseImage, ...]
    downloads: tuple[Download, ...]
    findings: tuple[Finding, ...]
    entrypoints: Mapping[str, tuple[str, ...]]
    entry_files: Mapping[str, str]
    workdirs: Mapping[str, str]
    copies: tuple[Copy, ...]
    needs_redis: bool


def is_dockerfile(path: str) -> bool:
    """Whether a file at `path` is read as a Dockerfile."""
    return _NAME.fullmatch(path.rpartition("/")[2]) is not None


def read_dockerfiles(tree: Path) -> DockerfileFacts:
    """The facts of every Dockerfile in `tree`. Raises TooManyEntriesError, OSError as `read_tree` does."""
    files, names = {}, set()
    for file in read_tree(tree):
        if not file.is_regular:
            continue
        names.add(file.path)
        if is_dockerfile(file.path) or file.suffix == ".txt":
            files[file.path] = file.data
    return dockerfile_facts(files, names=names)


def dockerfile_facts(files: Mapping[str, bytes], *, names: Collection[str]) -> DockerfileFacts:
    """The facts of the Dockerfiles among `files`, which may hold others that they name.

    `names` are the paths of all files of the tree.
    """
    paths = sorted((path for path in files if is_dockerfile(path)), key=_contract_order)
    known = _with_folders(names)
    all_stages = [read_stages(path, files[path]) for path in paths[:MAX_DOCKERFILES]]
    findings = [
        finding("docker-unparsable", file=path, line=0, found=f"more than {MAX_DOCKERFILES} Dockerfiles")
        for path in paths[MAX_DOCKERFILES:][:1]
    ]
    downloads: list[Download] = []
    for stages in all_stages:
        findings += [*stages.findings, *_missing_sources(stages, known), *_contract_findings(stages, known)]
        downloads += [*stages.downloads, *_requirements(stages, files)]
    return DockerfileFacts(
        base_images=tuple(image for stages in all_stages for image in stages.base_images),
        downloads=tuple(dict.fromkeys(downloads)),
        findings=tuple(dict.fromkeys(findings)),
        entrypoints=MappingProxyType({s.dockerfile: s.entrypoint or s.command for s in all_stages}),
        entry_files=MappingProxyType({s.dockerfile: _entry_file(s, known) for s in all_stages}),
        workdirs=MappingProxyType({s.dockerfile: s.workdir for s in all_stages}),
        copies=tuple(copy for stages in all_stages for copy in stages.copies),
        needs_redis=any(shell.needs_redis for stages in all_stages for shell in stages.shells),
    )


def path_in_tree(path: str, copies: Collection[Copy], *, names: Collection[str], workdir: str = "/") -> str:
    """The file of the tree that is at `path` in the image, "" if none was copied there; later copies win."""
    wanted = posixpath.normpath(posixpath.join(workdir, path))
    for copy in reversed(list(copies)):
        for source in copy.sources:
            for candidate in _candidates(
                wanted, source, copy, is_folder=source == "" or f"{source}/" in names
            ):
                if candidate in names:
                    return candidate
    return ""


def _candidates(wanted: str, source: str, copy: Copy, *, is_folder: bool) -> Iterator[str]:
    below = posixpath.relpath(wanted, copy.target)
    if is_folder:
        # The content of a folder is copied, not the folder.
        if not below.startswith(".."):
            yield posixpath.normpath(posixpath.join(source, below))
    elif wanted == copy.target:
        yield source
    elif below == posixpath.basename(source) or (_PATTERN.search(source) and "/" not in below):
        yield posixpath.join(posixpath.dirname(source), below)


def _contract_order(path: str) -> tuple[int, str]:
    folder = posixpath.dirname(path)
    return (CONTRACT_FOLDERS.index(folder) if folder in CONTRACT_FOLDERS else len(CONTRACT_FOLDERS), path)


def _with_folders(names: Collection[str]) -> frozenset[str]:
    """`names`, and each of their folders with a "/" at its end."""
    folders: set[str] = set()
    for name in names:
        folder = posixpath.dirname(name)
        while folder and f"{folder}/" not in folders:
            folders.add(f"{folder}/")
            folder = posixpath.dirname(folder)
    return frozenset(names) | folders


def _missing_sources(stages: StageFacts, known: Collection[str]) -> Iterator[Finding]:
    for copy in stages.copies:
        for source in copy.sources:
            if not _exists(source, known):
                yield finding("docker-missing-source", file=copy.dockerfile, line=copy.line, found=source)


def _exists(source: str, known: Collection[str]) -> bool:
    if source.startswith(".."):
        return False
    if not _PATTERN.search(source):
        return source == "" or source in known or f"{source}/" in known
    return any(_matches(name.rstrip("/"), source) for name in known)


def _matches(name: str, pattern: str) -> bool:
    # Like Go's filepath.Match: no wildcard crosses a "/". Sets in brackets are taken for any character, so that
    # no regular expression of a stranger is run.
    parts, wanted = name.split("/"), pattern.split("/")
    if len(parts) != len(wanted):
        return False
    return all(_part_matches(part, want) for part, want in zip(parts, wanted, strict=True))


def _part_matches(part: str, pattern: str) -> bool:
    pieces = re.split(r"\*+", re.sub(r"\[[^\]]*\]", "?", pattern))
    if len(pieces) == 1:
        return len(part) == len(pattern) and _same(part, pieces[0])
    position = len(pieces[0])
    if not _same(part[:position], pieces[0]):
        return False
    for piece in pieces[1:-1]:
        starts = range(position, len(part) - len(piece) + 1)
        start = next((at for at in starts if _same(part[at : at + len(piece)], piece)), None)
        if start is None:
            return False
        position = start + len(piece)
    last = pieces[-1]
    return len(part) - position >= len(last) and _same(part[len(part) - len(last) :], last)


def _same(text: str, pattern: str) -> bool:
    return len(text) == len(pattern) and all(
        want in {char, "?"} for char, want in zip(text, pattern, strict=True)
    )


def _contract_findings(stages: StageFacts, known: Collection[str]) -> Iterator[Finding]:
    folder, name = posixpath.split(stages.dockerfile)
    if folder not in CONTRACT_FOLDERS or name not in CONTRACT_NAMES:
        return
    if not stages.entrypoint and not any(found.rule == "docker-unparsable" for found in stages.findings):
        found = " ".join(stages.command) or "neither ENTRYPOINT nor CMD"
        yield finding("docker-no-entrypoint", file=stages.dockerfile, line=0, found=found)
    first = f"{CONTRACT_FOLDERS[0]}/{name}"
    if folder != CONTRACT_FOLDERS[0] and first in known:
        yield finding("docker-shadowed", file=stages.dockerfile, line=0, found=f"{first} is used instead")


def _entry_file(stages: StageFacts, known: Collection[str]) -> str:
    argv = stages.entrypoint or stages.command
    for number, word in enumerate(argv):
        path = word
        if argv[number - 1 : number] == ("-m",):
            path = f"{word.replace('.', '/')}.py"
        if found := path_in_tree(path, stages.copies, names=known, workdir=stages.workdir):
            return found
    return ""


def _requirements(stages: StageFacts, files: Mapping[str, bytes]) -> Iterator[Download]:
    """What the files of requirements ask for that the Dockerfile installs and the tree has."""
    known = _with_folders(files)
    done: set[str] = set()
    for download in stages.downloads:
        if download.tool != "pip" or not download.target.startswith("-r "):
            continue
        wanted = download.target.removeprefix("-r ")
        path = path_in_tree(wanted, stages.copies, names=known, workdir=stages.workdir)
        if path and path not in done:
            done.add(path)
            yield from _listed(path, files[path])


def _listed(path: str, data: bytes) -> Iterator[Download]:
    lines = data.decode(errors="replace").split("\n")[:MAX_REQUIREMENTS]
    for number, line in enumerate(lines, 1):
        text = re.split(r"(?:^|\s)#", line, maxsplit=1)[0].strip().rstrip("\\").strip()
        if text.startswith("-") or len(text) > 1000:
            continue
        if (fetch := requirement_fetch(text)) is not None:
            yield Download(
                phase=Phase.BUILD,
                file=path,
                line=number,
                tool="pip",
                target=fetch.target,
                pinned=fetch.pinned,
            )
