"""Finds the images that a Dockerfile starts from, resolves them to digests and writes the Dockerfile anew with those.

Covered: FROM and COPY --from, with defaults of ARG; whatever cannot be said exactly is refused by file and
line, and so is a base image with triggers. The rewritten text is read again and must name digests only.
Not covered: what is in a base image; its packages are in the inventory.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from tournament_sync.errors import BuildError
from tournament_sync.images.instructions import read_instructions, write_instructions
from tournament_sync.images.tools import ImageTools, ask
from tournament_sync.images.triggers import check_triggers
from tournament_sync.inspection.dockerfile_syntax import Instruction
from tournament_sync.inspection.dockerfile_words import split_pairs, split_words
from tournament_sync.inspection.report import BaseImage

_MAX_BASES = 100
_LOCAL = "localhost/"
# The grammar of the distribution project's package `reference`, without the upper bounds that podman checks.
_PART = r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?:[A-Za-z0-9][A-Za-z0-9.-]*(?::[0-9]+)?/)?{_PART}(?:/{_PART})*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@(sha256:[0-9a-f]{64}))?",
    re.ASCII,
)
_MAX_REFERENCE = 400
# containers-transports(5): to podman these are places on this machine, whatever follows them.
_TRANSPORT = re.compile(
    r"(?:containers-storage|dir|docker|docker-archive|docker-daemon|oci|oci-archive|sif|tarball):"
)
_FROM_FLAG = "--from="
# BuildKit's, for names in lower case: a stage that is named like a place would be one to some builders.
_STAGE = re.compile(r"[a-z][a-z0-9_.-]*", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedBase:
    """A base image and what it was when it was built from. `pinned` is its name with its digest."""

    dockerfile: str
    line: int
    reference: str
    pinned: str

    @property
    def sha256(self) -> str:
        return self.pinned.rpartition("@sha256:")[2]


def read_bases(text: str, *, dockerfile: str) -> tuple[BaseImage, ...]:
    """The images that `text` starts from or copies from, in its order. Raises BuildError."""
    found = tuple(base for _, base in _bases(read_instructions(text, dockerfile=dockerfile), dockerfile))
    if len(found) > _MAX_BASES:
        raise BuildError(f"{dockerfile}: {len(found)} base images are over the limit of {_MAX_BASES}")
    return found


def resolve_base(base: BaseImage, *, tools: ImageTools) -> ResolvedBase:
    """`base` in local storage, with its digest; pulled, unless its name says that it is local.

    Raises BuildError with Dockerfile and line.
    """
    where = f"{base.dockerfile}:{base.line}: base image {base.reference}"
    if base.reference.startswith(_LOCAL):
        image = base.reference
    else:
        image = ask(tools, "pull", "--quiet", base.reference, doing=where).rpartition("\n")[2]
    inspected = ask(tools, "image", "inspect", image, doing=where)
    try:
        (facts,) = json.loads(inspected)
        identity, digest = str(facts["Id"]), base.digest or str(facts["Digest"])
        known = [str(name) for name in facts["RepoDigests"]]
    except (ValueError, KeyError, TypeError) as error:
        raise BuildError(f"{where}: podman described it without its digests") from error
    pinned = next((name for name in sorted(known) if name.endswith(f"@{digest}")), None)
    if pinned is None:
        raise BuildError(f"{where}: has no digest {digest} in local storage")
    check_triggers(identity, tools=tools, doing=where)
    return ResolvedBase(dockerfile=base.dockerfile, line=base.line, reference=base.reference, pinned=pinned)


def pin_bases(text: str, resolved: tuple[ResolvedBase, ...], *, dockerfile: str) -> str:
    """`text` with each base image named by its digest, each instruction on its one line. Raises BuildError."""
    by_line = {base.line: base.pinned for base in resolved}
    pinned = write_instructions(
        tuple(
            _pinned(one, by_line[one.line]) if one.line in by_line else one
            for one in read_instructions(text, dockerfile=dockerfile)
        ),
        dockerfile=dockerfile,
    )
    found = [base.reference for base in read_bases(pinned, dockerfile=dockerfile)]
    if found != [base.pinned for base in resolved]:
        raise BuildError(f"{dockerfile}: cannot be written with digests: {found[:5]}")
    return pinned


def _bases(instructions: tuple[Instruction, ...], dockerfile: str) -> Iterator[tuple[Instruction, BaseImage]]:
    arguments: dict[str, str] = {}
    stages: list[str] = []
    for one in instructions:
        where = f"{dockerfile}:{one.line}"
        reference = None
        match one.name:
            case "ARG" if not stages:
                arguments |= {name: word.text for name, word in split_pairs(one.value, arguments)}
            case "FROM":
                reference, stage = _from(one.value, arguments, where)
                if (reference and reference.lower() in stages) or reference == "scratch":
                    reference = None
                stages.append(stage.lower())
            case "COPY":
                # The stage itself is none that it could copy from: builders would look for an image.
                reference = _copied_from(one, stages[:-1], where)
        if reference is not None:
            yield one, _base(reference, dockerfile=dockerfile, line=one.line)


def _from(value: str, arguments: dict[str, str], where: str) -> tuple[str, str]:
    """Image and name of the stage."""
    words = split_words(value, arguments)
    if any(word.unset for word in words):
        raise BuildError(f"{where}: FROM {value[:200]!r} needs an argument that has no value")
    match [word.text for word in words]:
        case [image]:
            return image, ""
        case [image, keyword, stage] if keyword.lower() == "as" and _STAGE.fullmatch(stage.lower()):
            return image, stage
    raise BuildError(f"{where}: FROM {value[:200]!r} cannot be read")


def _copied_from(one: Instruction, stages: list[str], where: str) -> str | None:
    """The image that a COPY copies from, None if it is none."""
    flags = [flag for flag in one.flags if flag.startswith("--from")]
    if not flags:
        return None
    if len(flags) > 1:
        raise BuildError(f"{where}: copies from more than one place")
    source = flags[0].removeprefix(_FROM_FLAG)
    is_number = source.isascii() and source.isdecimal() and int(source) < len(stages)
    return None if is_number or (source and source.lower() in stages) else source


def _base(reference: str, *, dockerfile: str, line: int) -> BaseImage:
    parts = _REFERENCE.fullmatch(reference[: _MAX_REFERENCE + 1])
    if parts is None or len(reference) > _MAX_REFERENCE or _TRANSPORT.match(reference):
        raise BuildError(f"{dockerfile}:{line}: {reference[:200]!r} does not name a base image")
    return BaseImage(dockerfile=dockerfile, line=line, reference=reference, digest=parts[1] or "")


def _pinned(one: Instruction, pinned: str) -> Instruction:
    if one.name == "FROM":
        _, *stage = one.value.split(None, 1)
        return replace(one, value=" ".join([pinned, *stage]))
    others = [flag for flag in one.flags if not flag.startswith(_FROM_FLAG)]
    return replace(one, flags=(f"{_FROM_FLAG}{pinned}", *others))
