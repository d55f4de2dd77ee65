"""The difference between two champions, as values with one JSON form."""

from dataclasses import dataclass
from enum import StrEnum

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from attestation import canonical
from attestation.errors import MalformedError
from tournament_sync.errors import ReportError
from tournament_sync.inspection.report import Finding

DIFF_VERSION = 1  # counts meanings
MAX_DIFF_BYTES = 32 << 20

_STRICT = ConfigDict(extra="forbid", strict=True)


class Change(StrEnum):
    """What happened to a file or a function."""

    ADDED = "added"
    REMOVED = "removed"
    RENAMED = "renamed"  # the same content under another name
    CONTENT = "content"
    MODE = "mode"  # only whether it may be executed
    SIGNATURE = "signature"  # of a function; its body may have changed too
    BODY = "body"


@with_config(_STRICT)
@dataclass(frozen=True, slots=True, kw_only=True)
class FileChange:
    """One file. `old_path` is its former name if it was renamed, else "". What is absent on one side is None."""

    path: str
    old_path: str
    change: Change
    old_sha256: str | None
    new_sha256: str | None
    old_is_executable: bool | None
    new_is_executable: bool | None


@with_config(_STRICT)
@dataclass(frozen=True, slots=True, kw_only=True)
class TextDiff:
    """The changed lines of a text file in unified form, without its two header lines."""

    path: str
    lines: tuple[str, ...]
    is_cut: bool


@with_config(_STRICT)
@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionChange:
    """A function by its qualified name; "<module>" is what a file does besides defining. Signatures "" if absent."""

    file: str
    name: str
    change: Change
    old_signature: str
    new_signature: str


@with_config(_STRICT)
@dataclass(frozen=True, slots=True, kw_only=True)
class ValueChange:
    """Something named that had one value and has another; None where it is absent. `file` may be ""."""

    file: str
    name: str
    old: str | None
    new: str | None


@with_config(_STRICT)
@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """A part that could not be compared, and why; "" for all of it."""

    file: str
    why: str


@with_config(_STRICT)
@dataclass(frozen=True, slots=True, kw_only=True)
class ChampionDiff:
    """Everything that changed from one champion to another; all words of theirs are cut and escaped.

    `cut` names the lists that are longer than a diff may hold. Only what is in no `unread` and no `cut` is known
    to be equal where nothing is listed.
    """

    version: int
    attribution: str  # what every screen that shows it must say
    old_manifest_sha256: str
    new_manifest_sha256: str
    files: tuple[FileChange, ...]
    texts: tuple[TextDiff, ...]
    functions: tuple[FunctionChange, ...]
    tables: tuple[ValueChange, ...]
    arguments: tuple[ValueChange, ...]
    dependencies: tuple[ValueChange, ...]
    base_images: tuple[ValueChange, ...]
    capabilities: tuple[ValueChange, ...]
    needs: tuple[ValueChange, ...]
    licences: tuple[ValueChange, ...]
    findings_new: tuple[Finding, ...]
    findings_gone: tuple[Finding, ...]
    findings_same: int
    unread: tuple[Unread, ...]
    cut: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        """Whether nothing changed and everything was compared."""
        listed = (self.files, self.texts, self.functions, self.tables, self.arguments, self.dependencies)
        facts = (self.base_images, self.capabilities, self.needs, self.licences)
        return not any((*listed, *facts, self.findings_new, self.findings_gone, self.unread, self.cut))


_ADAPTER = TypeAdapter(ChampionDiff)


def encode_diff(diff: ChampionDiff) -> bytes:
    """`diff` as canonical JSON."""
    return canonical.encode(_ADAPTER.dump_python(diff, mode="json"))


def parse_diff(data: bytes) -> ChampionDiff:
    """The diff that `encode_diff` wrote. Raises ReportError for anything else."""
    try:
        raw = canonical.decode(data, max_bytes=MAX_DIFF_BYTES)
        diff = _ADAPTER.validate_json(data)
    except (MalformedError, ValidationError) as error:
        raise ReportError(f"not a diff of champions: {error}") from error
    if canonical.encode(raw) != data or diff.version != DIFF_VERSION:
        raise ReportError(f"not a diff of champions of version {DIFF_VERSION} in its one written form")
    return diff
