"""Builds a champion's image once, on a connected host that does nothing else, and pins what came out.

Covered: base images by digest, the same build call as upstream's (context is the repository's root, no build
arguments, no cache), a time limit, a log that stays, an inventory. podman sees a copy of the tree, which is
compared with the tree before and after; no instruction that reaches out of the build's container is taken, and
the container has few rights.
Not covered: what a Dockerfile's commands do inside it. They have the network that the operator gives, the host's
own with its loopback if nothing else is said, and no user namespace where root builds: podman 4.3.1 gives them
none in which every base image works. A build is not reproducible, which is why there is only one.
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
from tournament_sync.images.bases import ResolvedBase, pin_bases, read_bases, resolve_base
from tournament_sync.images.content import read_content
from tournament_sync.images.context import Context, copy_context
from tournament_sync.images.instructions import check_stays_local, read_instructions
from tournament_sync.images.inventory import encode_inventory
from tournament_sync.images.oci import OciArchive, open_archive
from tournament_sync.images.tools import BuildNetwork, ImageTools, ask, create_file, run_logged
from tournament_sync.images.version import check_podman
from tournament_sync.inspection.dockerfile_syntax import MAX_DOCKERFILE_BYTES

_FOLDERS = ("ops/docker", "dockerfiles")  # in the order in which upstream looks
_NAMES = ("standalone-text-trainer", "standalone-image-trainer", "standalone-image-toolkit-trainer")
# What package managers need to unpack as root; not the rest of podman's usual ones.
_CAPABILITIES = "CAP_CHOWN,CAP_DAC_OVERRIDE,CAP_FOWNER,CAP_FSETID,CAP_KILL,CAP_SETGID,CAP_SETUID"
_MAX_OPEN_FILES = 65_536  # compilers need thousands; no limit may be raised where podman runs confined


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltImage:
    """An image as files: an OCI archive, its inventory, and beside them Dockerfile and log of the build."""

    pin: ImagePin
    archive: Path
    inventory: Path
    bases: tuple[ResolvedBase, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Files:
    """What lies in the folder of the images for one of them; `base` is its path without a suffix."""

    base: Path

    @property
    def archive(self) -> Path:
        return self._with(".oci.tar")

    @property
    def inventory(self) -> Path:
        return self._with(".cdx.json")

    @property
    def dockerfile(self) -> Path:
        return self._with(".dockerfile")

    @property
    def log(self) -> Path:
        return self._with(".log")

    def _with(self, suffix: str) -> Path:
        return self.base.with_name(self.base.name + suffix)


def find_dockerfiles(tree: Path) -> tuple[str, ...]:
    """The Dockerfiles of the contract that upstream would build from, one a name."""
    found = []
    for name in _NAMES:
        places = [f"{folder}/{name}.dockerfile" for folder in _FOLDERS]
        found += [place for place in places if (tree / place).is_file()][:1]
    return tuple(found)


def image_stem(dockerfile: str) -> str:
    """What the files of its image are called, before their suffixes. Two Dockerfiles may share one."""
    return PurePosixPath(dockerfile).name.removesuffix(".dockerfile")


def build_image(tree: Path, dockerfile: str, *, into: Path, tools: ImageTools) -> BuiltImage:
    """Build `dockerfile` of `tree` and write what came out into the folder `into`, the archive last.

    1. Each base image gets a digest. 2. Built once, from a copy that must be the same afterwards. 3. Exported,
    and verified as a reader will. 4. Its content listed. Replaces no earlier image. Raises BuildError; log
    and Dockerfile stay in `into`, which needs a file system with hard links.
    """
    data = _read(tree, dockerfile)
    if into.resolve().is_relative_to(tree.resolve()):
        raise BuildError(f"{into} is inside the tree that is built, which must stay as it is")
    files = _Files(base=into / image_stem(dockerfile))
    for there in (files.archive, files.inventory):
        if os.path.lexists(there):
            raise BuildError(f"{dockerfile}: {there} is there already; an earlier image is not replaced")
    # 1.
    text = _text(data, dockerfile)
    bases = _bases(text, dockerfile, tools=tools)
    pinned = pin_bases(text, bases, dockerfile=dockerfile)
    try:
        into.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".build-", dir=into) as work:  # others cannot open it
            context = copy_context(tree, into=Path(work) / "tree", doing=f"{dockerfile}: build")
            if (copied := context.manifest.file(dockerfile)) is None or copied.sha256 != sha256_hex(data):
                raise BuildError(f"{dockerfile}: changed while it was read")
            return _build(context, dockerfile, pinned=pinned, bases=bases, files=files, tools=tools)
    except OSError as error:
        raise BuildError(f"{dockerfile}: {error.filename or into}: {error.strerror}") from error


def _bases(text: str, dockerfile: str, *, tools: ImageTools) -> tuple[ResolvedBase, ...]:
    found = read_bases(text, dockerfile=dockerfile)
    if tools.build_network is BuildNetwork.NONE:
        check_stays_local(read_instructions(text, dockerfile=dockerfile), dockerfile=dockerfile)
    return tuple(resolve_base(base, tools=tools) for base in found)


def _build(
    context: Context,
    dockerfile: str,
    *,
    pinned: str,
    bases: tuple[ResolvedBase, ...],
    files: _Files,
    tools: ImageTools,
) -> BuiltImage:
    # 2. and 3.
    image = _run(context, dockerfile, pinned=pinned, files=files, tools=tools)
    # 4.
    listed = encode_inventory(
        image,
        read_content(image),
        dockerfile=dockerfile,
        bases=bases,
        instructions=read_instructions(pinned, dockerfile=dockerfile),
    )
    _place(listed, files.inventory, work=context.copy.parent)
    _flush(image.path)
    os.link(image.path, files.archive)  # a rename would replace what came there meanwhile
    return BuiltImage(
        pin=ImagePin(
            dockerfile=dockerfile,
            manifest=image.manifest_sha256,
            archive=image.archive_sha256,
            inventory=sha256_hex(listed),
        ),
        archive=files.archive,
        inventory=files.inventory,
        bases=bases,
    )


def _run(context: Context, dockerfile: str, *, pinned: str, files: _Files, tools: ImageTools) -> OciArchive:
    """The image that podman built, in a folder that only this process can open."""
    work, doing = context.copy.parent, f"{dockerfile}: build"
    check_podman(tools)
    # Of an earlier build that failed.
    for old in (files.dockerfile, files.log):
        old.unlink(missing_ok=True)
    _place(pinned.encode(), files.dockerfile, work=work)
    read, identity, exported = work / "dockerfile", work / "id", work / "archive"
    read.write_text(pinned)
    with _leaving_nothing(tools):
        arguments = _arguments(context.copy, read, identity=identity, tools=tools)
        run_logged(tools, *arguments, log=files.log, doing=doing)
    image = identity.read_text().strip().removeprefix("sha256:")
    try:
        context.check(doing=doing)
        _save(image, exported, tools=tools, doing=dockerfile)
    finally:
        _forget(image, tools=tools, doing=dockerfile)
    return open_archive(exported)


def _read(tree: Path, dockerfile: str) -> bytes:
    try:
        check_file_names([dockerfile])
        return read_file(tree / dockerfile, limit=MAX_DOCKERFILE_BYTES)
    except AttestationError as error:
        told = error.message.removeprefix("cannot be read: ")
        raise BuildError(f"{dockerfile}: cannot be read: {told}") from error


def _text(data: bytes, dockerfile: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise BuildError(f"{dockerfile}: cannot be read: {error}") from error


def _arguments(tree: Path, dockerfile: Path, *, identity: Path, tools: ImageTools) -> Iterator[str]:
    open_files = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], _MAX_OPEN_FILES)
    # Upstream's builder knows this one file only; podman would prefer another of its own.
    ignored = tree / ".dockerignore"
    yield from ("build", "--no-cache", "--layers=false", "--pull=never", "--format", "oci")
    # One time for all, so that the digest follows from the content. Bytecode that a command of the
    # Dockerfile compiled is stale by it: Python compiles again in each container.
    yield from ("--timestamp", "0")
    # Stages one after the other: versions before 5.3.2 can be raced out of (CVE-2024-11218).
    yield from ("--jobs", "1", "--isolation", "oci" if os.geteuid() == 0 else "rootless")
    yield from ("--cap-drop", "all", "--cap-add", _CAPABILITIES)
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


def _save(identity: str, archive: Path, *, tools: ImageTools, doing: str) -> None:
    """Write the image to `archive`, by its id, so that the archive has no name in it."""
    ask(tools, "save", "--quiet", "--format", "oci-archive", "--output", str(archive), identity, doing=doing)


def _forget(identity: str, *, tools: ImageTools, doing: str) -> None:
    """Remove the image from podman's storage."""
    tags = ask(tools, "image", "inspect", "--format", "{{len .RepoTags}}", identity, doing=doing)
    if tags == "0":  # otherwise somebody loaded the same image here
        ask(tools, "rmi", identity, doing=doing)


def _place(data: bytes, at: Path, *, work: Path) -> None:
    """Write a file as a whole, where there is nothing and no link yet."""
    beside = work / at.name
    with create_file(beside) as file:
        file.write(data)
    _flush(beside)
    os.link(beside, at)
    beside.unlink()


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
