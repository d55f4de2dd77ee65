"""A champion's Dockerfile, read strictly for what can be had without building an image.

Champions start here in the shipped runtime environment. Understood are FROM (one stage; its image is not
used), COPY of plain paths, WORKDIR, ENV, ENTRYPOINT in exec form, CMD (replaced by the contract's arguments,
as upstream does). Of RUN lines only `RUN true` passes. Everything else needs an image build and is refused with
file and line: build it with `assay champions build` and pin it in the release.
"""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from runner.errors import RunnerError

MAX_DOCKERFILE_BYTES = 256 << 10
IMAGE_BUILD = "needs an image build: make one with `assay champions build` and pin it in the release"
# Mounts of the sandbox itself and places that hold the system; a COPY into or over them is refused.
RESERVED = (
    "/opt/python", "/opt/venv", "/cache", "/app/checkpoints", "/proc", "/sys", "/dev", "/usr", "/etc",
    "/bin", "/sbin", "/lib", "/lib64", "/run", "/var", "/tmp",  # noqa: S108  the guest's own
)  # fmt: skip
# The sandbox sets these; or they would run code in our own first process, before the walls are measured;
# or they make a shell or an interpreter read other code, or the same words otherwise, than the entry point says.
_OURS = re.compile(
    r"PATH|HOME|VIRTUAL_ENV|LD_.*|GLIBC_TUNABLES|GCONV_PATH"
    r"|ENV|IFS|CDPATH|PS\d|PROMPT_COMMAND|SHELLOPTS|BASHOPTS|BASH_.*"
    r"|PYTHON(HOME|INSPECT|STARTUP|BREAKPOINT|PLATLIBDIR|EXECUTABLE)"
)
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class DockerfileError(RunnerError):
    """The Dockerfile asks for what is not done here; the message has file, line and reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """One COPY: `source` relative to the tree, `target` absolute in the sandbox."""

    source: str
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dockerfile:
    """What a Dockerfile says about starting the champion."""

    entrypoint: tuple[str, ...]
    workdir: str
    env: Mapping[str, str]
    copies: tuple[Copy, ...]


@dataclass(slots=True)
class _Reader:
    """The state that later lines build on."""

    tree: Path
    stages: int
    workdir: PurePosixPath
    entrypoint: tuple[str, ...]
    env: dict[str, str]
    copies: list[Copy]


def read_dockerfile(tree: Path, name: str) -> Dockerfile:
    """The Dockerfile `name` of the champion's `tree`. Raises DockerfileError for anything not understood."""
    path = tree / name
    if path.stat().st_size > MAX_DOCKERFILE_BYTES:
        raise DockerfileError(f"{name}: over {MAX_DOCKERFILE_BYTES} bytes")
    reader = _Reader(tree, 0, PurePosixPath("/"), (), {}, [])
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DockerfileError(f"{name}: is not UTF-8") from error
    for number, line in _logical_lines(text):
        try:
            _read_line(reader, line)
        except ValueError as error:
            raise DockerfileError(f"{error}: {name}:{number}") from error
    if not reader.stages:
        raise DockerfileError(f"no FROM: {name}")
    if not reader.entrypoint:
        raise DockerfileError(f"no ENTRYPOINT, so the contract's arguments would have no program: {name}")
    workdir = str(reader.workdir)
    if not any(_holds(c, workdir, tree) for c in reader.copies):
        raise DockerfileError(f"WORKDIR {workdir} holds nothing that is copied: {name}")
    return Dockerfile(
        entrypoint=reader.entrypoint,
        workdir=workdir,
        env=reader.env,
        copies=tuple(reader.copies),
    )


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """(number of its first line, instruction) with continuations joined and comments dropped."""
    joined, start = "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        if line.lstrip().startswith("#"):
            if re.match(r"#\s*escape\s*=", line.lstrip(), re.IGNORECASE):
                raise DockerfileError(f"line {number}: another escape character is not understood")
            continue
        if not joined:
            if not line.strip():
                continue
            start = number
        if line.rstrip().endswith("\\"):
            joined += line.rstrip()[:-1] + " "
            continue
        yield start, " ".join((joined + line).split())
        joined = ""
    if joined:
        yield start, " ".join(joined.split())


def _read_line(reader: _Reader, line: str) -> None:
    instruction, _, rest = line.partition(" ")
    if instruction.upper() in ("COPY", "WORKDIR", "ENV", "ENTRYPOINT") and ("$" in rest or "<<" in rest):
        raise ValueError(f"variables and here-documents are not understood in {instruction}")
    match instruction.upper():
        case "FROM":
            reader.stages += 1
            if reader.stages > 1:
                raise ValueError(f"several build stages: {IMAGE_BUILD}")
        case "COPY":
            reader.copies.extend(_copies(reader, rest))
        case "WORKDIR":
            reader.workdir = _inside(reader.workdir, rest.strip('"'))
        case "ENV":
            reader.env.update(_env(rest))
        case "ENTRYPOINT":
            reader.entrypoint = _exec_form(rest)
        case "CMD":
            pass  # upstream starts the container with its own command, which replaces it
        case "RUN" if rest == "true":
            pass
        case "RUN":
            raise ValueError(IMAGE_BUILD)
        case _:
            raise ValueError(f"{instruction} {IMAGE_BUILD}")


def _copies(reader: _Reader, rest: str) -> Iterator[Copy]:
    words = _words(rest)
    if len(words) < 2 or any(w.startswith("-") or w.startswith("[") for w in words):
        raise ValueError(f"COPY with options or a list {IMAGE_BUILD}")
    *sources, target = words
    if len(sources) > 1 and not target.endswith("/"):
        raise ValueError("COPY of several sources needs a target folder ending in /")
    for source in sources:
        found = _in_tree(reader.tree, source)
        place = _inside(reader.workdir, target)
        if found.is_file() and (target.endswith("/") or len(sources) > 1):
            place = place / found.name
        if found.is_dir() and len(sources) > 1:
            raise ValueError("COPY of several folders into one needs an image build")
        _check_target(str(place), reader.copies)
        yield Copy(source=source, target=str(place))


def _check_target(target: str, others: list[Copy]) -> None:
    if target == "/" or any(_overlap(target, reserved) for reserved in RESERVED):
        raise ValueError(f"COPY to {target} would hide a part of the sandbox")
    for other in others:
        if _overlap(target, other.target):
            raise ValueError(
                f"COPY to {target} overlaps the one to {other.target}; merging needs an image build"
            )


def _holds(copy: Copy, workdir: str, tree: Path) -> bool:
    """Whether `workdir` will be there: it is in what is copied, or above it."""
    place = PurePosixPath(workdir)
    if place.is_relative_to(copy.target):
        return (tree / copy.source / place.relative_to(copy.target)).is_dir()
    return PurePosixPath(copy.target).is_relative_to(place)


def _overlap(one: str, other: str) -> bool:
    a, b = PurePosixPath(one), PurePosixPath(other)
    return a.is_relative_to(b) or b.is_relative_to(a)


def _in_tree(tree: Path, source: str) -> Path:
    """The path below `tree`, refused if it could lead out of it."""
    parts = PurePosixPath(source).parts
    if source.startswith("/") or ".." in parts or any(c in source for c in "*?[\\"):
        raise ValueError(f"{source!r} is not a plain path inside the champion")
    found = tree
    for part in parts:
        found = found / part
        if found.is_symlink():
            raise ValueError(f"{source!r} leads through a link")
    if not found.exists():
        raise ValueError(f"{source!r} is not in the champion")
    return found


def _inside(workdir: PurePosixPath, path: str) -> PurePosixPath:
    joined = workdir / path
    if not path or ".." in joined.parts:
        raise ValueError(f"{path!r} is not a plain path")
    return joined


def _env(rest: str) -> dict[str, str]:
    made = {}
    for word in _words(rest):
        name, equals, value = word.partition("=")
        if not equals or not _ENV_NAME.fullmatch(name):
            raise ValueError("ENV is understood as NAME=VALUE only")
        if _OURS.fullmatch(name):
            raise ValueError(f"ENV {name} is the sandbox's to set")
        made[name] = value
    return made


def _exec_form(rest: str) -> tuple[str, ...]:
    try:
        words = json.loads(rest)
    except ValueError as error:
        raise ValueError('ENTRYPOINT is understood in exec form only: ["program", "argument"]') from error
    if not isinstance(words, list) or not words or not all(isinstance(w, str) and w for w in words):
        raise ValueError("ENTRYPOINT needs a list of words")
    return tuple(words)


def _words(rest: str) -> list[str]:
    return shlex.split(rest)  # its ValueError (an open quote) is told with file and line
