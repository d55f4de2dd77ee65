"""An evidence folder as a value, and the signed list of its files."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from attestation import canonical
from attestation.digest import parse_sha256_hex, sha256_hex
from attestation.errors import MalformedError, VerificationError
from attestation.oms import FileDigest, Manifest

MANIFEST = "MANIFEST.json"
MANIFEST_BUNDLE = "MANIFEST.sigstore.json"
CLAIMS = "claims.jsonl"
CHECKPOINT = "checkpoint"
LOSSES = "evaluation/losses.json"
LOG = "run/stdout.log"
SCHEMA = "assay.evidence/v1"
MAX_MANIFEST_BYTES = 32 << 20
MAX_MANIFEST_BUNDLE_BYTES = 64 << 10  # it signs one digest
_HASHED_ONLY = ("model/", "run/")  # may be huge; their digests are all that claims speak of


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """Every file of an evidence folder by digest and size, and the content of those that are read.

    `contents` holds what `is_read` says. Digests and contents come from one reading of each file.
    """

    files: Manifest
    contents: Mapping[str, bytes]

    def content(self, name: str) -> bytes:
        """The bytes of a file. Raises VerificationError if the pack has no such file.

        Raises MalformedError for a manifest signature over its limit, before anything parses it.
        """
        if name not in self.contents:
            raise VerificationError("missing from the pack", file=name)
        content = self.contents[name]
        if name == MANIFEST_BUNDLE and len(content) > MAX_MANIFEST_BUNDLE_BYTES:
            raise MalformedError(
                f"{len(content)} bytes are over the limit of {MAX_MANIFEST_BUNDLE_BYTES}", file=name
            )
        return content

    def below(self, folder: str) -> dict[str, bytes]:
        """The contents below a folder, names relative to it."""
        prefix = f"{folder}/"
        return {
            name.removeprefix(prefix): content
            for name, content in self.contents.items()
            if name.startswith(prefix)
        }

    def digests_below(self, folder: str) -> dict[str, str]:
        """The digests below a folder, names relative to it."""
        prefix = f"{folder}/"
        return {
            file.name.removeprefix(prefix): file.sha256
            for file in self.files.files
            if file.name.startswith(prefix)
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceManifest:
    """What MANIFEST.json says: the run, and every file but the manifest and its signature."""

    run_id: str
    files: Manifest


def is_read(name: str) -> bool:
    """Whether a file's content, not only its digest, belongs into a `Pack`."""
    return not name.startswith(_HASHED_ONLY)


def pack_of(files: Mapping[str, bytes]) -> Pack:
    """A pack made of files in memory. Raises MalformedError for unsafe names."""
    return Pack(
        files=manifest_of(files),
        contents={name: content for name, content in files.items() if is_read(name)},
    )


def manifest_of(files: Mapping[str, bytes]) -> Manifest:
    """The manifest of files in memory. Raises MalformedError for unsafe names."""
    return Manifest(
        files=tuple(
            FileDigest(name=name, sha256=sha256_hex(files[name]), size_bytes=len(files[name]))
            for name in sorted(files)
        )
    )


def encode_manifest(manifest: EvidenceManifest) -> bytes:
    """The bytes of MANIFEST.json. All sizes must be known."""
    listed = [
        {"name": file.name, "sha256": file.sha256, "size": file.size_bytes} for file in manifest.files.files
    ]
    return canonical.encode({"files": listed, "runId": manifest.run_id, "schema": SCHEMA})


def parse_manifest(data: bytes) -> EvidenceManifest:
    """The manifest in `data`. Raises MalformedError for anything `encode_manifest` cannot write."""
    raw = canonical.decode(data, max_bytes=MAX_MANIFEST_BYTES)
    if canonical.encode(raw) != data:
        raise MalformedError("not canonical JSON")
    if not isinstance(raw, dict) or raw.keys() != {"files", "runId", "schema"} or raw["schema"] != SCHEMA:
        raise MalformedError(f"not of schema {SCHEMA}")
    if not isinstance(raw["runId"], str) or not isinstance(raw["files"], list):
        raise MalformedError("run id or files are of the wrong type")
    files = Manifest(files=tuple(_listed_file(file) for file in raw["files"]))
    return EvidenceManifest(run_id=raw["runId"], files=files)


def compare_files(pack: Pack, manifest: EvidenceManifest) -> None:
    """Raise VerificationError, naming the file, unless the pack holds what the manifest lists, no more."""
    found = {file.name: file for file in pack.files.files if file.name not in {MANIFEST, MANIFEST_BUNDLE}}
    listed = {file.name: file for file in manifest.files.files}
    for name, wanted in listed.items():
        if name not in found:
            raise VerificationError("listed in the manifest, but missing", file=name)
        if found[name] != wanted:
            raise VerificationError(
                f"manifest says {wanted.sha256} ({wanted.size_bytes} bytes), "
                f"found {found[name].sha256} ({found[name].size_bytes} bytes)",
                file=name,
            )
    if extra := sorted(found.keys() - listed.keys()):
        raise VerificationError("not listed in the manifest", file=extra[0])


# Any: JSON whose fields are checked here.
def _listed_file(raw: Any) -> FileDigest:
    if not isinstance(raw, dict) or raw.keys() != {"name", "sha256", "size"}:
        raise MalformedError("a listed file has other fields than name, sha256, size")
    if not isinstance(raw["name"], str):
        raise MalformedError("a listed file's name is not a text")
    if not isinstance(raw["size"], int) or isinstance(raw["size"], bool) or raw["size"] < 0:
        raise MalformedError(f"size of {raw['name'][:120]!r} is not a count of bytes")
    return FileDigest(name=raw["name"], sha256=parse_sha256_hex(raw["sha256"]), size_bytes=raw["size"])
