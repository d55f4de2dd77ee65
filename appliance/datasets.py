"""A customer's rows: checked, given the tournament's column names, and split so that no question leaks.

Nothing here needs a training library. A data set is refused as a whole, with one sentence that names the row.
"""

import csv
import hashlib
import io
import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from appliance.errors import DatasetError

MAX_FILE_BYTES = 2_147_483_646  # tournament: the largest data file
MIN_TRAIN_ROWS = 200
MIN_ROWS = 222  # the smallest number that leaves 200 for training
MIN_HELD_OUT_ROWS = 20
HELD_OUT_DIVISOR = 10  # tournament: a tenth is held out,
MAX_HELD_OUT_ROWS = 400  # but no more rows than this
COMFORTABLE_TRAIN_ROWS = 400  # some champions keep 200 rows for themselves
SPLIT_SEED = 42  # tournament

REQUIRED = ("instruct", "output")
COLUMNS = ("instruct", "input", "output", "system")
# Column names that are understood without being told; the renaming is reported.
KNOWN_NAMES: tuple[Mapping[str, str], ...] = (
    {"instruct": "instruct", "output": "output"},
    {"question": "instruct", "answer": "output"},
    {"prompt": "instruct", "completion": "output"},
    {"instruction": "instruct", "output": "output"},
)
TRAIN_FILE, HELD_OUT_FILE = "train.json", "held-out.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One example under the tournament's column names. `input` and `system` may be empty."""

    instruct: str
    input: str
    output: str
    system: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LintedDataset:
    """Rows in file order, which columns were renamed (theirs → ours), and what a person should know."""

    rows: tuple[Row, ...]
    renamed: Mapping[str, str]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedDataset:
    """The two files that training and evaluation read, and what lint had to say."""

    train: Path
    held_out: Path
    columns: tuple[str, ...]  # that the files have
    train_rows: int
    held_out_rows: int
    renamed: Mapping[str, str]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Rows to train on and rows to judge by; no prompt is in both."""

    train: tuple[Row, ...]
    held_out: tuple[Row, ...]


def lint_dataset(path: Path, *, mapping: Mapping[str, str] | None = None) -> LintedDataset:
    """The rows of a .jsonl, .json (array) or .csv file, if all of them can be trained on.

    `mapping` names columns of the file and what they are (`{"frage": "instruct", "antwort": "output"}`);
    without it the well-known names are understood. Other columns are left out, with a warning.

    Raises DatasetError naming row and field, or what is wrong with the file.
    """
    records = _read_records(path)
    if not records:
        _refuse("the data set has no rows", found="0 rows")
    names = _column_names({column for record in records for column in record}, mapping)
    rows = tuple(_row(record, names, number) for number, record in enumerate(records, 1))
    return LintedDataset(
        rows=rows,
        renamed={theirs: ours for theirs, ours in names.items() if theirs != ours},
        warnings=(*_column_warnings(records, names), *_duplicate_warnings(rows)),
    )


def prepare_dataset(path: Path, into: Path, *, mapping: Mapping[str, str] | None = None) -> PreparedDataset:
    """Lint `path`, split it, and write train.json and held-out.json into the new folder `into`.

    The same rows in any order give the same bytes. Raises DatasetError as `lint_dataset` does, and for too
    few rows.
    """
    linted = lint_dataset(path, mapping=mapping)
    split = split_rows(linted.rows)
    into.mkdir()
    columns = [c for c in COLUMNS if c != "system" or any(row.system for row in linted.rows)]
    train, held_out = into / TRAIN_FILE, into / HELD_OUT_FILE
    _write_rows(train, split.train, columns)
    _write_rows(held_out, split.held_out, columns)
    warnings = list(linted.warnings)
    if len(split.train) < COMFORTABLE_TRAIN_ROWS:
        warnings.append(
            f"{len(split.train)} training rows are few: some champions hold 200 of them back; "
            f"{COMFORTABLE_TRAIN_ROWS} or more are better"
        )
    return PreparedDataset(
        train=train,
        held_out=held_out,
        columns=tuple(columns),
        train_rows=len(split.train),
        held_out_rows=len(split.held_out),
        renamed=linted.renamed,
        warnings=tuple(warnings),
    )


def split_rows(rows: Iterable[Row]) -> Split:
    """A tenth of the rows, at most 400, is held out; the rest is for training.

    The shuffle: rows are ordered by SHA-256 of the seed and the row's canonical JSON, so the file's order has
    no influence. Held out are the first rows in that order whose prompt occurs once, so no prompt, however it
    is spelled (case, width, spaces), is on both sides, and no held-out row counts twice.

    Raises DatasetError if too few rows remain on either side.
    """
    shuffled = sorted(rows, key=_shuffle_key)
    wanted = min(MAX_HELD_OUT_ROWS, len(shuffled) // HELD_OUT_DIVISOR)
    if len(shuffled) - wanted < MIN_TRAIN_ROWS:
        _refuse(
            f"{len(shuffled)} rows leave {len(shuffled) - wanted} for training after {wanted} are held out; "
            f"training needs at least {MIN_TRAIN_ROWS}, so bring at least {MIN_ROWS} rows",
            found=f"{len(shuffled)} rows",
            wanted=f"{MIN_ROWS} rows",
        )
    prompts = Counter(_prompt_key(row) for row in shuffled)
    single = [row for row in shuffled if prompts[_prompt_key(row)] == 1]
    held_out = single[:wanted]
    if len(held_out) < MIN_HELD_OUT_ROWS:
        _refuse(
            f"only {len(single)} prompts occur just once; at least {MIN_HELD_OUT_ROWS} such rows must "
            "be held out to judge the result",
            found=f"{len(single)} prompts",
            wanted=f"{MIN_HELD_OUT_ROWS} prompts",
        )
    judged = set(held_out)
    return Split(train=tuple(row for row in shuffled if row not in judged), held_out=tuple(held_out))


def _read_records(path: Path) -> list[dict[str, Any]]:
    readers = {".jsonl": _jsonl_records, ".json": _json_records, ".csv": _csv_records}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        _refuse(f"file name ends in {path.suffix or 'nothing'!r}; wanted .jsonl, .json or .csv")
    if not path.is_file():
        _refuse(f"{path.name} is not a file")
    size_bytes = path.stat().st_size
    if size_bytes > MAX_FILE_BYTES:
        _refuse(f"the file has {size_bytes} bytes; at most {MAX_FILE_BYTES} are taken")
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        message = f"the file is not UTF-8: byte {error.start} is 0x{byte:02x} ({error.reason})"
        raise DatasetError(message, checked="encoding") from error
    text = text.removeprefix("\ufeff")  # spreadsheets put a byte order mark in front
    if not text.strip():
        _refuse("the file is empty")
    return list(reader(text))


def _jsonl_records(text: str) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield _record(_parse_json(line, where=f"line {number}"), where=f"line {number}")


def _json_records(text: str) -> Iterator[dict[str, Any]]:
    whole = _parse_json(text, where="the file")
    if not isinstance(whole, list):
        _refuse(f"the file holds {_kind(whole)}; wanted an array of objects", found=_kind(whole))
    for number, record in enumerate(whole, 1):
        yield _record(record, where=f"row {number}")


def _csv_records(text: str) -> Iterator[dict[str, Any]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(reader)
        if len(set(header)) < len(header):
            _refuse(f"the header names a column twice: {', '.join(header)}")
        number = 0
        for cells in reader:
            if not cells:
                continue
            number += 1
            if len(cells) != len(header):
                _refuse(f"row {number} has {len(cells)} cells; the header has {len(header)}")
            yield dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise DatasetError(f"line {reader.line_num} is not CSV: {error}") from error


def _parse_json(text: str, *, where: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_without_twins)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{where} is not JSON: {error}", checked="syntax") from error


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        raise ValueError("a field occurs twice in one object")
    return record


def _record(value: Any, *, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        _refuse(f"{where} is {_kind(value)}; wanted an object with fields", found=_kind(value))
    return value


def _column_names(columns: Set[str], mapping: Mapping[str, str] | None) -> dict[str, str]:
    """Which columns of the file are used and what they are, theirs → ours."""
    if mapping is not None:
        _check_mapping(mapping)
    for known in KNOWN_NAMES if mapping is None else (mapping,):
        if set(known) <= columns:
            free = {"input", "system"} & columns - set(known) - set(known.values())
            return {**known, **{column: column for column in sorted(free)}}
    found = ", ".join(sorted(columns)) or "none"
    wanted = " or ".join(" and ".join(known) for known in (KNOWN_NAMES if mapping is None else (mapping,)))
    return _refuse(
        f"the columns are {found}; wanted {wanted} (input and system may be added). "
        "A mapping can give other columns these names",
        found=found,
        wanted=wanted,
    )


def _check_mapping(mapping: Mapping[str, str]) -> None:
    ours = list(mapping.values())
    if unknown := sorted(set(ours) - set(COLUMNS)):
        _refuse(f"the mapping names {', '.join(unknown)}; wanted {', '.join(COLUMNS)}")
    if len(set(ours)) < len(ours) or not set(REQUIRED) <= set(ours):
        _refuse("the mapping must name instruct and output, each once", found=", ".join(ours))


def _row(record: Mapping[str, Any], names: Mapping[str, str], number: int) -> Row:
    cells = dict.fromkeys(COLUMNS, "")
    for theirs, ours in names.items():
        is_required = ours in REQUIRED
        where = f"row {number}, field {theirs!r}"
        cell = record.get(theirs)
        if theirs not in record and is_required:
            _refuse(f"row {number} has no field {theirs!r}", checked=where)
        if cell is None and not is_required:
            continue
        if not isinstance(cell, str):
            _refuse(
                f"{where}: wanted text, found {_kind(cell)}", checked=where, found=_kind(cell), wanted="text"
            )
        if is_required and not cell.strip():
            _refuse(f"{where} is empty", checked=where, wanted="text")
        if any("\ud800" <= letter <= "\udfff" for letter in cell):
            _refuse(f"{where}: holds half a character (a lone surrogate)", checked=where)
        cells[ours] = cell
    return Row(**cells)


def _column_warnings(records: list[dict[str, Any]], names: Mapping[str, str]) -> Iterator[str]:
    unused = Counter(column for record in records for column in record if column not in names)
    for column, times in sorted(unused.items()):
        yield f"column {column!r} is not used ({times} rows have it)"


def _duplicate_warnings(rows: tuple[Row, ...]) -> Iterator[str]:
    first: dict[tuple[str, ...], int] = {}
    repeated = [
        (number, first[_content_key(row)])
        for number, row in enumerate(rows, 1)
        if first.setdefault(_content_key(row), number) != number
    ]
    if repeated:
        number, earlier = repeated[0]
        yield f"{len(repeated)} rows repeat an earlier one; the first is row {number}, equal to row {earlier}"


def _normalised(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _prompt_key(row: Row) -> tuple[str, ...]:
    return (_normalised(row.system), _normalised(row.instruct), _normalised(row.input))


def _content_key(row: Row) -> tuple[str, ...]:
    return (*_prompt_key(row), _normalised(row.output))


def _shuffle_key(row: Row) -> bytes:
    return hashlib.sha256(b"assay split %d\0" % SPLIT_SEED + _encode_row(row, COLUMNS)).digest()


def _encode_row(row: Row, columns: Iterable[str]) -> bytes:
    record = {column: getattr(row, column) for column in columns}
    return json.dumps(record, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def _write_rows(path: Path, rows: Iterable[Row], columns: list[str]) -> None:
    # One row a line, so that a person can read and compare the file.
    path.write_bytes(b"[\n" + b",\n".join(_encode_row(row, columns) for row in rows) + b"\n]\n")


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "an array", str: "text", bool: "true or false", int: "a number"}
    return "nothing (null)" if value is None else names.get(type(value), "a number")


def _refuse(message: str, **facts: str) -> NoReturn:
    raise DatasetError(message, **facts)
