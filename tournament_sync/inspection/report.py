"""The inspection report: what a champion is and would do, as values with one JSON form.

Champions are training repositories of Gradients.io's tournament (https://gradients.io).
"""

from dataclasses import dataclass
from enum import StrEnum

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from attestation import canonical
from attestation.errors import MalformedError
from tournament_sync.errors import ReportError

REPORT_VERSION = 1  # counts meanings: of rules, severities and fields
MAX_REPORT_BYTES = 16 << 20
MAX_FINDINGS = 5000  # what is over is told by one more finding, `too-many-findings`
MAX_FOUND_CHARS = 300  # of the champion's own text in a finding; control characters escaped

_STRICT = ConfigDict(extra="forbid", strict=True)


class Severity(StrEnum):
    """How bad a finding is for whoever runs the champion; in rising order."""

    INFO = "info"  # worth knowing
    LOW = "low"  # unusual, harmless inside the walls
    MEDIUM = "medium"  # will fail or differ without a network, or was not pinned
    HIGH = "high"  # a person must have looked at it
    CRITICAL = "critical"  # hides what it does, or could not be read: default policy refuses

    @property
    def rank(self) -> int:
        return list(Severity).index(self)


class Support(StrEnum):
    """Whether a champion can do a task."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


@with_config(_STRICT)
@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that a reader should know. `file` is "" for the whole tree, `line` 0 for the whole file."""

    rule: str  # lower-case with dashes, e.g. "python-exec"; listed in docs/findings.md
    severity: Severity
    file: str
    line: int
    found: str  # the champion's words, cut and escaped
    why: str  # why it matters; our words


@with_config(_STRICT)
@dataclass(frozen=True, slots=True, kw_only=True)
class LicenceText:
    """A licence or notice file. `recognised` names it, "" if its text is none that is known."""

    file: str
    normalised_sha256: str
    recognised: str


@with_config(_STRICT)
@dataclass(frozen=True, slots=True, kw_only=True)
class LicenceFacts:
    """`licence` and `notice` are those of the whole repository, None if absent or another text."""

    licence: LicenceText | None
    notice: LicenceText | None
    vendored: tuple[LicenceText, ...]
    attribution: str  # what every screen that shows the champion must say


@with_config(_STRICT)
@dataclass(frozen=True, slots=True, kw_only=True)
class Capability:
    """One row of the matrix: a task type of the tournament's contract, and what serves it."""

    task_type: str
    support: Support
    dockerfile: str  # "" if none serves it
    entrypoint: str  # script in the tree, "" if unknown
    reason: str


@with_config(_STRICT)
@dataclass(frozen=True, slots=True, kw_only=True)
class BaseImage:
    """A FROM or COPY --from of a Dockerfile. `digest` is "sha256:…", "" if the reference has none."""

    dockerfile: str
    line: int
    reference: str
    digest: str


class Phase(StrEnum):
    """When something happens."""

    BUILD = "build"
    RUN = "run"


@with_config(_STRICT)
@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """Something that is fetched. `tool` is pip, apt, git, curl, hub, …"""

    phase: Phase
    file: str
    line: int
    tool: str
    target: str
    pinned: bool  # names one content: a digest, a full commit id, an exact version


@with_config(_STRICT)
@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What must be there for it to run; None and empty where nothing was found."""

    redis: bool
    writable_paths: tuple[str, ...]  # absolute, in the container, outside its declared output
    minimum_rows: int | None
    minimum_minutes: int | None


@with_config(_STRICT)
@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of hyper-parameters or model names. `sha256` is of its canonical content."""

    file: str
    name: str  # the variable, "" for a whole file
    entries: int
    sha256: str
    is_model_table: bool  # keyed by model ids or their digests: unknown models behave otherwise


@with_config(_STRICT)
@dataclass(frozen=True, slots=True, kw_only=True)
class FileCounts:
    """Sizes of the tree by what the files are."""

    files: int
    size_bytes: int
    python: int
    shell: int
    binaries: int
    weights: int


@with_config(_STRICT)
@dataclass(frozen=True, slots=True, kw_only=True)
class InspectionReport:
    """Everything that was found in one tree. The same tree and version give the same bytes."""

    version: int
    manifest_sha256: str
    licence: LicenceFacts
    epochs: tuple[str, ...]  # contract epochs that it fits, E1…E4; empty if none
    epoch_reason: str
    capabilities: tuple[Capability, ...]
    base_images: tuple[BaseImage, ...]
    downloads: tuple[Download, ...]
    needs: Needs
    tables: tuple[Table, ...]
    files: FileCounts
    findings: tuple[Finding, ...]  # worst first, then file, line, rule

    def count(self, severity: Severity) -> int:
        """How many findings are exactly that bad."""
        return sum(finding.severity is severity for finding in self.findings)


_ADAPTER = TypeAdapter(InspectionReport)


def encode_report(report: InspectionReport) -> bytes:
    """`report` as canonical JSON; its SHA-256 is the report's digest."""
    return canonical.encode(_ADAPTER.dump_python(report, mode="json"))


def parse_report(data: bytes) -> InspectionReport:
    """The report that `encode_report` wrote. Raises ReportError for anything else."""
    try:
        raw = canonical.decode(data, max_bytes=MAX_REPORT_BYTES)
        report = _ADAPTER.validate_json(data)
    except (MalformedError, ValidationError) as error:
        raise ReportError(f"not an inspection report: {error}") from error
    if canonical.encode(raw) != data or report.version != REPORT_VERSION:
        raise ReportError(f"not an inspection report of version {REPORT_VERSION} in its one written form")
    return report


def sorted_findings(findings: list[Finding]) -> tuple[Finding, ...]:
    """In the report's order: worst first, then by file, line and rule."""
    return tuple(sorted(findings, key=lambda f: (-f.severity.rank, f.file, f.line, f.rule, f.found)))
