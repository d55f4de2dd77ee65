"""Reads what packages an image holds from its layers, without unpacking or running anything.

Covered: Debian packages by dpkg's status, Python packages by their metadata wherever they lie, as the layers
leave them on top of each other; links are never followed, nothing of a file is trusted to be well-formed.
Not covered: what was brought in otherwise (copied, cloned, downloaded) and what other package managers know.
"""

import posixpath
import re
from collections import ChainMap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import chain, islice

from tournament_sync.errors import BuildError
from tournament_sync.images.oci import OciArchive, unpacked
from tournament_sync.images.tar import Entry, Kind, TarReader

MAX_ENTRIES = 5_000_000  # of one layer
MAX_RECORDS = 100_000  # of packages, in one layer
MAX_STATUS_BYTES = 64 << 20
MAX_READ_BYTES = 256 << 20
_HEAD_BYTES = 8 << 10  # of a Python package's metadata: name and version come first
_MAX_TEXT = 300

_STATUS = "var/lib/dpkg/status"
_STATUS_FOLDER = "var/lib/dpkg/status.d/"  # of images made without dpkg inside
_RELEASES = ("usr/lib/os-release", "etc/os-release")
_PYTHON = re.compile(r"(?:^|/)([^/]+)\.(?:dist-info/METADATA|egg-info/PKG-INFO|egg-info)$")
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"  # OCI image specification, layer.md
_DEBIAN_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+", re.ASCII)
_PYTHON_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?", re.ASCII)
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+:~!_-]*", re.ASCII)


class PackageKind(StrEnum):
    """Who installed it; the type of its package URL."""

    DEBIAN = "deb"
    PYTHON = "pypi"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Package:
    """One package. `problem` says why name and version are only what could be made of it, "" if they are sure."""

    kind: PackageKind
    name: str
    version: str
    architecture: str = ""
    locations: tuple[str, ...]  # of what says so, in the image
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageContent:
    """The operating system's id and version, "" if it does not say, and every package, sorted."""

    system: str
    system_version: str
    packages: tuple[Package, ...]


def read_content(image: OciArchive) -> ImageContent:
    """What `image` holds. Raises BuildError for layers that no container could be made from."""
    files: _Files = {}
    for layer in image.layers:
        with unpacked(image, layer) as stream:
            files = _on_top(files, TarReader(stream, where=f"layer {layer.sha256}"))
    system = _release(files)
    packages = sorted(islice(chain(_debian(files), _python(files)), MAX_RECORDS + 1))
    if len(packages) > MAX_RECORDS:
        raise BuildError(f"more than {MAX_RECORDS} packages in the image")
    return ImageContent(
        system=_shown(system.get("ID", "")),
        system_version=_shown(system.get("VERSION_ID", "")),
        packages=tuple(_merged(packages)),
    )


# Name in the image → what was read of it, None where it is no file or too large.
_Files = dict[str, bytes | None]


def _on_top(below: _Files, layer: TarReader) -> _Files:
    """`below` with one more layer over it."""
    found: _Files = {}
    removed: set[str] = set()
    emptied: set[str] = set()
    size_bytes = sum(len(data or b"") for data in below.values())
    for count, entry in enumerate(layer):
        if count == MAX_ENTRIES or len(found) > MAX_RECORDS:
            raise BuildError(f"a layer has more than {MAX_ENTRIES} files or {MAX_RECORDS} packages")
        name = _path(entry.name)
        folder, _, last = name.rpartition("/")
        if last == _OPAQUE:
            emptied.add(folder)
        elif last.startswith(_WHITEOUT):
            removed.add(posixpath.join(folder, last.removeprefix(_WHITEOUT)))
        elif entry.kind is not Kind.FOLDER:
            removed.add(name)  # what was there, a folder with all below it included
            if _is_read(name):
                found[name] = _read(layer, entry, ChainMap(found, below))
                size_bytes += len(found[name] or b"")
                if size_bytes > MAX_READ_BYTES:
                    raise BuildError(f"its packages say more than {MAX_READ_BYTES} bytes about themselves")
    kept = {name: data for name, data in below.items() if not _is_gone(name, removed, emptied)}
    return kept | found


def _read(layer: TarReader, entry: Entry, others: Mapping[str, bytes | None]) -> bytes | None:
    match entry.kind:
        case Kind.HARD_LINK:
            return others.get(posixpath.normpath(f"/{entry.target}").lstrip("/"))
        case Kind.FILE if entry.name.endswith((_STATUS, "os-release")) or _STATUS_FOLDER in entry.name:
            return layer.content(limit=MAX_STATUS_BYTES)
        case Kind.FILE:
            return next(layer.chunks(), b"")[:_HEAD_BYTES]
    return None


def _path(name: str) -> str:
    """`name` as seen from the image's root, without a leading slash."""
    if "\0" in name or ".." in name.split("/"):
        raise BuildError(f"a layer holds {name[:200]!r}")
    return posixpath.normpath(f"/{name}").lstrip("/")


def _is_read(name: str) -> bool:
    return (
        name == _STATUS or name in _RELEASES or name.startswith(_STATUS_FOLDER) or bool(_PYTHON.search(name))
    )


def _is_gone(name: str, removed: set[str], emptied: set[str]) -> bool:
    folders = [name[:at] for at, character in enumerate(name) if character == "/"]
    return (
        name in removed or any(folder in removed or folder in emptied for folder in folders) or "" in emptied
    )


def _release(files: Mapping[str, bytes | None]) -> dict[str, str]:
    for name in _RELEASES:
        if data := files.get(name):
            lines = (line.partition("=") for line in data.decode(errors="replace").splitlines())
            return {key: value.strip("\"'") for key, _, value in lines}
    return {}


def _debian(files: Mapping[str, bytes | None]) -> Iterator[Package]:
    for name, data in files.items():
        if name != _STATUS and (not name.startswith(_STATUS_FOLDER) or name.endswith(".md5sums")):
            continue
        if data is None:
            yield _odd(
                PackageKind.DEBIAN, name.rpartition("/")[2], name, "its record is no file that can be read"
            )
            continue
        for stanza in re.split(rb"\n[ \t]*\n", data):
            fields = _fields(stanza)
            if not fields or fields.get("status", "ok installed").split()[-1:] != ["installed"]:
                continue  # removed packages keep a record
            yield _package(
                PackageKind.DEBIAN,
                fields.get("package", ""),
                fields.get("version", ""),
                location=name,
                architecture=fields.get("architecture", ""),
            )


def _python(files: Mapping[str, bytes | None]) -> Iterator[Package]:
    for name, data in files.items():
        if (parts := _PYTHON.search(name)) is None:
            continue
        fields = _fields(data) if data else {}
        if "name" not in fields or "version" not in fields:
            yield _odd(PackageKind.PYTHON, parts[1], name, "named by its folder: its metadata cannot be read")
            continue
        yield _package(PackageKind.PYTHON, fields["name"], fields["version"], location=name)


def _package(kind: PackageKind, name: str, version: str, *, location: str, architecture: str = "") -> Package:
    names = _DEBIAN_NAME if kind is PackageKind.DEBIAN else _PYTHON_NAME
    if not (names.fullmatch(name) and _VERSION.fullmatch(version) and len(name + version) <= _MAX_TEXT):
        return _odd(kind, name, location, f"name or version is none: {version}")
    if kind is PackageKind.PYTHON:
        name = re.sub(r"[-_.]+", "-", name).lower()  # PEP 503
    return Package(
        kind=kind,
        name=name,
        version=version,
        architecture=_shown(architecture),
        locations=(_shown(location),),
    )


def _odd(kind: PackageKind, name: str, location: str, problem: str) -> Package:
    return Package(
        kind=kind,
        name=_shown(name) or "?",
        version="",
        locations=(_shown(location),),
        problem=_shown(problem),
    )


def _merged(packages: list[Package]) -> Iterator[Package]:
    """One for all places that hold the same one."""
    places: dict[Package, list[str]] = {}
    for package in packages:
        places.setdefault(replace(package, locations=()), []).extend(package.locations)
    for package, locations in places.items():
        yield replace(package, locations=tuple(sorted(set(locations))))


def _fields(stanza: bytes) -> dict[str, str]:
    """The first header fields of a record in the form of mail headers, by lower-case name."""
    fields: dict[str, str] = {}
    for line in stanza.lstrip(b"\n").split(b"\n"):
        if not line.strip():
            break
        name, colon, value = line.partition(b":")
        if colon and not line[:1].isspace():
            fields.setdefault(name.decode(errors="replace").lower(), value.decode(errors="replace").strip())
    return fields


def _shown(text: str) -> str:
    """`text` of a stranger: printable, cut."""
    safe = text.encode(errors="backslashreplace").decode()
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in safe[:_MAX_TEXT])
