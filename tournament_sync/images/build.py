"""Builds a champion's image once, on a connected host that does nothing else, and pins what came out.

Covered: base images by digest, the tree is only read, the same build call as upstream's (context is the
repository's root, no build arguments, no cache), a time limit, a log that stays, an inventory.
Not covered: what a Dockerfile's commands do on the way. They run as podman runs them, with the network that the
operator gives; a build is not reproducible, which is why there is only one.
"""

import os
import resource
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from attestation.digest import sha256_hex
from attestation.errors import AttestationError
from attestation.files import read_file
from attestation.oms import check_file_names
from tournament_sync.champion import ImagePin
from tournament_sync.errors import BuildError
from tournament_sync.images.bases import (
    ResolvedBase,
    pin_bases,
    read_bases,
    read_instructions,
    resolve_base,
)
from tournament_sync.images.content import read_content
from tournament_sync.images.inventory import encode_inventory
from tournament_sync.images.oci import open_archive
from tournament_sync.images.tools import ImageTools, ask, run_logged
from tournament_sync.inspection.dockerfile_syntax import MAX_DOCKERFILE_BYTES

_FOLDERS = ("ops/docker", "dockerfiles")  # in the order in which upstream looks
_NAMES = ("standalone-text-trainer", "standalone-image-trainer", "standalone-image-toolkit-trainer")
_MAX_OPEN_FILES = 65_536  # compilers need thousands; no limit may be raised where podman runs confined


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltImage:
    """An image as files: an OCI archive, its inventory, and beside them Dockerfile and log of the build."""

    pin: ImagePin
    archive: Path
    inventory: Path
    bases: tuple[ResolvedBase, ...]


def find_dockerfiles(tree: Path) -> tuple[str, ...]:
    """The Dockerfiles of the contract that upstream would build from, one a name."""
    found = []
    for name in _NAMES:
        places = [f"{folder}/{name}.dockerfile" for folder in _FOLDERS]
        found += [place for place in places if (tree / place).is_file()][:1]
    return tuple(found)


def build_image(tree: Path, dockerfile: str, *, into: Path, tools: ImageTools) -> BuiltImage:
    """Build `dockerfile` of `tree` and write what came out into the folder `into`, the archive last.

    1. Each base image gets a digest. 2. Built once. 3. Exported, and verified as a reader will. 4. Its
    content listed. Raises BuildError; log and Dockerfile stay in `into`.
    """
    text = _read(tree, dockerfile)
    if into.resolve().is_relative_to(tree.resolve()):
        raise BuildError(f"{into} is inside the tree that is built, which must stay as it is")
    # 1.
    bases = tuple(resolve_base(base, tools=tools) for base in read_bases(text, dockerfile=dockerfile))
    pinned = pin_bases(text, bases, dockerfile=dockerfile)
    try:
        return _build(tree, dockerfile, pinned=pinned, bases=bases, into=into, tools=tools)
    except OSError as error:
        raise BuildError(f"{dockerfile}: {error.filename or into}: {error.strerror}") from error


def _build(
    tree: Path,
    dockerfile: str,
    *,
    pinned: str,
    bases: tuple[ResolvedBase, ...],
    into: Path,
    tools: ImageTools,
) -> BuiltImage:
    stem = PurePosixPath(dockerfile).name.removesuffix(".dockerfile")
    archive, inventory = into / f"{stem}.oci.tar", into / f"{stem}.cdx.json"
    into.mkdir(parents=True, exist_ok=True)
    written = into / f"{stem}.dockerfile"
    written.write_text(pinned)
    with tempfile.TemporaryDirectory(prefix=".build-", dir=into) as work:
        # 2.
        identity, exported = Path(work) / "id", Path(work) / "archive"
        arguments = _arguments(tree, written, identity=identity, tools=tools)
        with _leaving_nothing(tools):
            run_logged(tools, *arguments, log=into / f"{stem}.log", doing=f"{dockerfile}: build")
        # 3.
        _export(identity.read_text().strip().removeprefix("sha256:"), exported, tools=tools, doing=dockerfile)
        image = open_archive(exported)
        # 4.
        listed = encode_inventory(
            image,
            read_content(image),
            dockerfile=dockerfile,
            bases=bases,
            instructions=read_instructions(pinned, dockerfile=dockerfile),
        )
        _keep(listed, inventory, work=Path(work))
        _flush(exported)
        exported.rename(archive)
    return BuiltImage(
        pin=ImagePin(
            dockerfile=dockerfile,
            manifest=image.manifest_sha256,
            archive=image.archive_sha256,
            inventory=sha256_hex(listed),
        ),
        archive=archive,
        inventory=inventory,
        bases=bases,
    )


def _read(tree: Path, dockerfile: str) -> str:
    try:
        check_file_names([dockerfile])
        return read_file(tree / dockerfile, limit=MAX_DOCKERFILE_BYTES).decode()
    except (AttestationError, UnicodeDecodeError) as error:
        raise BuildError(f"{dockerfile}: cannot be read: {error}") from error


def _arguments(tree: Path, dockerfile: Path, *, identity: Path, tools: ImageTools) -> Iterator[str]:
    open_files = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], _MAX_OPEN_FILES)
    # Upstream's builder knows this one file only; podman would prefer another of its own.
    ignored = tree / ".dockerignore"
    yield from ("build", "--no-cache", "--layers=false", "--pull=never", "--format", "oci")
    # One time for all, so that the digest follows from the content. Bytecode that a command of the
    # Dockerfile compiled is stale by it: Python compiles again in each container.
    yield from ("--timestamp", "0")
    yield from ("--network", tools.build_network.value, "--ulimit", f"nofile={open_files}:{open_files}")
    yield from ("--ignorefile", str(ignored if ignored.is_file() else os.devnull))
    yield from ("--file", str(dockerfile), "--iidfile", str(identity), str(tree))


@contextmanager
def _leaving_nothing(tools: ImageTools) -> Iterator[None]:
    """Remove the container of a build that failed, which may have many gigabytes."""
    before = _containers(tools)
    try:
        yield
    except BuildError:
        for container in sorted(_containers(tools) - before):
            ask(tools, "rm", "--force", container, doing="cleaning up after a failed build")
        raise


def _containers(tools: ImageTools) -> set[str]:
    return set(ask(tools, "ps", "--all", "--external", "--quiet", "--no-trunc", doing="containers").split())


def _export(identity: str, archive: Path, *, tools: ImageTools, doing: str) -> None:
    """Write the image to `archive`, by its id, so that the archive has no name in it, and remove it here."""
    ask(tools, "save", "--quiet", "--format", "oci-archive", "--output", str(archive), identity, doing=doing)
    tags = ask(tools, "image", "inspect", "--format", "{{len .RepoTags}}", identity, doing=doing)
    if tags == "0":  # otherwise somebody loaded the same image here
        ask(tools, "rmi", identity, doing=doing)


def _keep(data: bytes, at: Path, *, work: Path) -> None:
    beside = work / "inventory"
    beside.write_bytes(data)
    _flush(beside)
    beside.rename(at)


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
