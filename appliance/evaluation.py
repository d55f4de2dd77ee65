"""The evaluation's numbers: from the evaluator's losses to metrics that anybody can recompute."""

from dataclasses import asdict, dataclass
from pathlib import Path

from appliance.errors import EvaluationError
from attestation.canonical import decode, encode
from attestation.digest import sha256_hex
from attestation.errors import AttestationError
from attestation.paired import paired_interval

MAX_LOSSES_BYTES = 8 << 20
MAX_LOSS_MICRONATS = 10**9
RESAMPLES = 10_000
CONFIDENCE_PERMILLE = 950
METRIC = "mean cross-entropy of completion tokens per held-out row"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """Held-out loss before and after training. Losses are integers in micronats (10⁻⁶ nat)."""

    metric: str
    rows: int
    losses_sha256: str
    mean_before: int
    mean_after: int
    mean_difference: int
    low: int
    high: int
    confidence_permille: int
    resamples: int


def read_metrics(losses_file: Path, *, held_out_rows: int) -> tuple[Metrics, bytes]:
    """Metrics and the verbatim losses that the evaluator wrote: `{"after":[int],"before":[int]}`.

    Raises EvaluationError if the file is not that, or does not cover every held-out row.
    """
    try:
        size = losses_file.stat().st_size
        if size > MAX_LOSSES_BYTES:
            raise EvaluationError(f"losses.json has {size} bytes, at most {MAX_LOSSES_BYTES} are read")
        data = losses_file.read_bytes()
        losses = decode(data, max_bytes=MAX_LOSSES_BYTES)
    except FileNotFoundError as error:
        raise EvaluationError("the evaluator ended without writing losses.json") from error
    except (OSError, AttestationError) as error:
        raise EvaluationError(f"losses.json is unreadable: {error}") from error
    if not isinstance(losses, dict) or set(losses) != {"after", "before"} or encode(losses) != data:
        raise EvaluationError("losses.json: wanted canonical JSON with exactly the keys after and before")
    for name, column in losses.items():
        _check_column(name, column, held_out_rows)
    interval = paired_interval(
        losses["before"], losses["after"], resamples=RESAMPLES, confidence_permille=CONFIDENCE_PERMILLE
    )
    return (
        Metrics(
            metric=METRIC,
            rows=interval.rows,
            losses_sha256=sha256_hex(data),
            mean_before=interval.mean_before,
            mean_after=interval.mean_after,
            mean_difference=interval.mean_difference,
            low=interval.low,
            high=interval.high,
            confidence_permille=CONFIDENCE_PERMILLE,
            resamples=RESAMPLES,
        ),
        data,
    )


def encode_metrics(metrics: Metrics) -> str:
    """Canonical JSON; `parse_metrics` gives the same value back."""
    return encode(asdict(metrics)).decode()


def parse_metrics(text: str) -> Metrics:
    """The metrics that `encode_metrics` wrote."""
    return Metrics(**decode(text.encode(), max_bytes=1 << 16))


def _check_column(name: str, column: object, held_out_rows: int) -> None:
    if not isinstance(column, list) or len(column) != held_out_rows:
        found = len(column) if isinstance(column, list) else type(column).__name__
        raise EvaluationError(f"losses.json: {name} has {found} rows, the held-out part has {held_out_rows}")
    for row, loss in enumerate(column):
        if type(loss) is not int or not 0 <= loss <= MAX_LOSS_MICRONATS:
            raise EvaluationError(
                f"losses.json: {name}[{row}] is {loss!r}, wanted 0…{MAX_LOSS_MICRONATS} micronats"
            )
