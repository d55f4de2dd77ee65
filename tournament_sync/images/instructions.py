"""Reads a Dockerfile for a build, takes only what stays inside the build's container, and writes it out plainly.

Covered: mounts, networks and rights that an instruction asks for, frontends, triggers, remote sources, and
everything that two builders may read in two ways. What is not known to be harmless is refused, by file and line,
because podman versions that are in use follow a stage's links out to the host (CVE-2024-1753 and its kin).
Not covered: what a command does inside its container.
"""

import re
from collections.abc import Iterable

from tournament_sync.errors import BuildError
from tournament_sync.inspection.dockerfile_syntax import (
    DockerfileSyntax,
    Instruction,
    UnreadableDockerfileError,
    parse_dockerfile,
)

_FLAGS = {
    "ADD": frozenset({"--checksum", "--chmod", "--chown"}),
    "COPY": frozenset({"--chmod", "--chown", "--from", "--link"}),
    "FROM": frozenset({"--platform"}),
    "HEALTHCHECK": frozenset({"--interval", "--retries", "--start-interval", "--start-period", "--timeout"}),
}
_WHY = {
    "--mount": "mounts reach files outside of the image, with some versions of podman all of the host's",
    "--network": "what a build may reach is the operator's choice",
    "--security": "what a build may do is the operator's choice",
    "--device": "a build gets no devices",
}
# No quotes and no escapes: builders cut flags in different places at these.
_FLAG = re.compile(r"(--[a-z-]+)(?:=[A-Za-z0-9._:/@=+,${}-]+)?", re.ASCII)
# A superset of BuildKit's; what is a here-document to one builder is a command to another.
_HEREDOC = re.compile(r"(?:^|\s)\d*<<-?[^<\s]")
_WITH_HEREDOCS = frozenset({"ADD", "COPY", "RUN"})
_REMOTE = re.compile(r"[:$]|\.git\b")


def read_instructions(text: str, *, dockerfile: str) -> tuple[Instruction, ...]:
    """Every instruction of a Dockerfile. Raises BuildError for one that may not be built, or not be understood."""
    try:
        read = parse_dockerfile(text.encode())
    except UnreadableDockerfileError as error:
        raise BuildError(f"{dockerfile}: cannot be read: {error}") from error
    _check_directives(read, text, dockerfile)
    if read.oddities:
        odd = read.oddities[0]
        raise BuildError(
            f"{dockerfile}:{odd.line}: builders read this in more than one way: {odd.found[:200]!r}"
        )
    for one in read.instructions:
        _check(one, f"{dockerfile}:{one.line}")
    return read.instructions


def check_stays_local(instructions: Iterable[Instruction], *, dockerfile: str) -> None:
    """Raise BuildError if podman itself, which is in no container, may fetch for one of `instructions`."""
    for one in instructions:
        if one.name == "ADD" and _REMOTE.search(one.value):
            raise BuildError(
                f"{dockerfile}:{one.line}: ADD {one.value[:200]!r} may fetch, and this build has no network"
            )


def write_instructions(instructions: tuple[Instruction, ...], *, dockerfile: str) -> str:
    """`instructions` each on the one line where it began, without comments, directives and continued lines.

    So podman gets what was read here and not what it would read itself. Raises BuildError if that cannot be
    written so that it is read as the same again.
    """
    lines = [""] * instructions[-1].line
    for one in instructions:
        lines[one.line - 1] = " ".join([one.name, *one.flags, one.value])
    text = "".join(f"{line}\n" for line in lines)
    again = read_instructions(text, dockerfile=dockerfile)
    if [_told(one) for one in again] != [_told(one) for one in instructions]:
        raise BuildError(f"{dockerfile}: cannot be written so that every builder reads the same")
    return text


def _check_directives(read: DockerfileSyntax, text: str, dockerfile: str) -> None:
    """Directives choose who reads the rest, and how."""
    lines = text.lower().split("\n")
    for name, value, usual in (("syntax", read.frontend, ""), ("escape", read.escape, "\\")):
        if value != usual:
            line = next(number for number, line in enumerate(lines, 1) if name in line)
            raise BuildError(
                f"{dockerfile}:{line}: directive {name}={value[:200]!r} is refused: it changes who reads the"
                " rest, and how"
            )


def _check(one: Instruction, where: str) -> None:
    if one.name == "ONBUILD":
        raise BuildError(f"{where}: ONBUILD is refused: what it triggers is nowhere checked")
    for flag in one.flags:
        parts = _FLAG.fullmatch(flag)
        if parts is None or parts[1] not in _FLAGS.get(one.name, ()):
            why = _WHY.get(flag.partition("=")[0], "no flag of this kind is known to be harmless")
            raise BuildError(f"{where}: {one.name} {flag[:200]!r} is refused: {why}")
    if one.value.startswith("--"):
        raise BuildError(f"{where}: {one.name} {one.value[:200]!r} is refused: a flag that cannot be read")
    if one.name in _WITH_HEREDOCS and (found := _HEREDOC.search(one.value)):
        raise BuildError(
            f"{where}: builders read this in more than one way: {one.value[found.start() :][:200]!r}"
        )


def _told(one: Instruction) -> tuple[str, tuple[str, ...], str, int]:
    return one.name, one.flags, one.value, one.line
