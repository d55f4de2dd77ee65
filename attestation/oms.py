"""A folder as a value: its files' digests, and that list as an OpenSSF Model Signing (OMS) v1.0 statement.

Laws: `parse_oms(oms_statement(name, m))` equals `m` without sizes; equal roots mean the same contents in the
same order. A root does not cover names, as OMS defines it: the same contents under other names in the same
order have the same root. To know that two folders are equal, compare their files.
"""

import hashlib
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from attestation.digest import parse_sha256_hex
from attestation.errors import MalformedError, VerificationError
from attestation.statement import Statement, Subject

OMS_SIGNATURE = "https://model_signing/signature/v1.0"
MAX_FILES = 100_000
MAX_NAME_BYTES = 1024
MAX_PART_BYTES = 255  # NAME_MAX of common file systems


@dataclass(frozen=True, slots=True, kw_only=True)
class FileDigest:
    """One file. `size_bytes` is None where the source does not tell it (OMS does not)."""

    name: str
    sha256: str
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Every file of a folder, sorted by name (code points), names safe on every platform.

    Raises MalformedError when made of anything else; an empty folder has no manifest.
    """

    files: tuple[FileDigest, ...]

    def __post_init__(self) -> None:
        names = [file.name for file in self.files]
        if not names:
            raise MalformedError("a manifest needs at least one file")
        if len(names) > MAX_FILES:
            raise MalformedError(f"{len(names)} files are over the limit of {MAX_FILES}")
        if names != sorted(names):
            raise MalformedError("files are not sorted by name")
        check_file_names(names)
        for file in self.files:
            parse_sha256_hex(file.sha256)

    @property
    def root_sha256(self) -> str:
        """SHA-256 over the concatenated raw digests, in name order (OMS v1.0)."""
        return hashlib.sha256(b"".join(bytes.fromhex(file.sha256) for file in self.files)).hexdigest()

    @property
    def size_bytes(self) -> int:
        """Total size, files of unknown size counted as 0."""
        return sum(file.size_bytes or 0 for file in self.files)

    def file(self, name: str) -> FileDigest | None:
        """The file of that name, if there is one."""
        return next((file for file in self.files if file.name == name), None)


def oms_statement(name: str, manifest: Manifest, *, ignore_paths: Iterable[str] = ()) -> Statement:
    """`manifest` as an OMS v1.0 statement about `name`. Sizes are ours and are left out."""
    return Statement(
        subjects=(Subject(name=name, sha256=manifest.root_sha256),),
        predicate_type=OMS_SIGNATURE,
        predicate={
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": sorted(ignore_paths),
            },
            "resources": [
                {"name": file.name, "algorithm": "sha256", "digest": file.sha256} for file in manifest.files
            ],
        },
    )


def parse_oms(statement: Statement) -> Manifest:
    """The manifest in an OMS statement, its root compared with the subject.

    Raises MalformedError, VerificationError when subject and resources disagree.
    """
    if statement.predicate_type != OMS_SIGNATURE:
        raise MalformedError(f"predicate type is not {OMS_SIGNATURE}")
    _check_serialization(statement.predicate.get("serialization"))
    resources = statement.predicate.get("resources")
    if not isinstance(resources, list):
        raise MalformedError("OMS statement lacks resources")
    manifest = Manifest(files=tuple(_resource(resource) for resource in resources))
    if len(statement.subjects) != 1:
        raise MalformedError(f"OMS wants exactly one subject, found {len(statement.subjects)}")
    if statement.subjects[0].sha256 != manifest.root_sha256:
        raise VerificationError(
            f"subject is {statement.subjects[0].sha256}, but the listed files give {manifest.root_sha256}"
        )
    return manifest


def check_file_names(names: Iterable[str]) -> None:
    """Raise MalformedError unless all names are safe and no two meet on any file system."""
    kinds: dict[str, tuple[str, bool]] = {}  # folded path → as written, and whether it is a file
    for name in names:
        check_file_name(name)
        parts = name.split("/")
        for length in range(1, len(parts) + 1):
            written, is_file = "/".join(parts[:length]), length == len(parts)
            folded = _folded(written)
            if folded not in kinds:
                kinds[folded] = (written, is_file)
            elif kinds[folded][0] != written:
                raise MalformedError(
                    f"{written!r} and {kinds[folded][0]!r} differ only in case or Unicode form"
                )
            elif is_file or kinds[folded][1]:
                raise MalformedError(f"{written!r} is listed twice, or as both a file and a folder")


def check_file_name(name: str) -> None:
    """Raise MalformedError unless `name` is a relative path that every platform reads alike."""
    if problem := _name_problem(name):
        raise MalformedError(f"unsafe file name {name[:120]!r}: {problem}")


def _name_problem(name: str) -> str | None:
    parts = name.split("/")
    problems = {
        "invisible or control character": any(_is_invisible(char) for char in name),
        f"longer than {MAX_NAME_BYTES} bytes": len(name) > MAX_NAME_BYTES
        or len(name.encode(errors="replace")) > MAX_NAME_BYTES,
        "backslash": "\\" in name,
        "not in Unicode form NFC": not unicodedata.is_normalized("NFC", name),
        "not a normalised relative path": any(part in {"", ".", ".."} for part in parts),
        "part starts with '-'": any(part.startswith("-") for part in parts),
        f"part longer than {MAX_PART_BYTES} bytes": any(
            len(part.encode(errors="replace")) > MAX_PART_BYTES for part in parts
        ),
    }
    return next((problem for problem, holds in problems.items() if holds), None)


def _is_invisible(char: str) -> bool:
    # Categories C*, Zl and Zp: control, unassigned, surrogate, line-breaking. Never part of a plain name.
    category = unicodedata.category(char)
    return category[0] == "C" or category in {"Zl", "Zp"}


def _folded(name: str) -> str:
    # NFKC after case folding, so that ligatures and full-width letters meet their plain forms too.
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def _check_serialization(raw: object) -> None:
    if not isinstance(raw, dict):
        raise MalformedError("OMS statement lacks its serialization")
    wanted = {"method": "files", "hash_type": "sha256", "allow_symlinks": False}
    for field, value in wanted.items():
        if raw.get(field) != value:
            raise MalformedError(f"OMS serialization: {field} is not {value!r}")
    ignored = raw.get("ignore_paths")
    if not isinstance(ignored, list) or not all(isinstance(path, str) for path in ignored):
        raise MalformedError("OMS serialization: ignore_paths is not a list of paths")


def _resource(raw: object) -> FileDigest:
    if not isinstance(raw, dict) or not isinstance(raw.get("name"), str):
        raise MalformedError("OMS resource lacks a name")
    if raw.get("algorithm") != "sha256":
        raise MalformedError(f"OMS resource {raw['name'][:120]!r}: algorithm is not sha256")
    return FileDigest(name=raw["name"], sha256=parse_sha256_hex(raw.get("digest")))
