"""Entries of JSON, YAML and TOML files, flat: dotted name → value as text."""

import json
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

import yaml  # type: ignore[import-untyped]  # its stubs are a package of their own

MAX_JSON_BYTES = 4 << 20
MAX_TEXT_BYTES = 128 << 10  # of YAML and TOML, which are read slowly
MAX_ENTRIES = 50_000
MAX_NAME_CHARS = 1000  # of a dotted name: each entry below a long one would carry it
MAX_DEPTH = 100  # of YAML's brackets and dashes; its fast parser dies of more, and takes the process along
SUFFIXES = (".json", ".yaml", ".yml", ".toml")

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the fast one where there is one


class UnreadableTableError(Exception):
    """No document. Never leaves this package."""


def read_entries(data: bytes, *, file: str) -> dict[str, str]:
    """The entries of one file, numbers as they are written. Raises UnreadableTableError."""
    try:
        entries = dict(_flat(_document(data, file)))
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise UnreadableTableError(f"{type(error).__name__}: {error}") from error
    return entries


def _document(data: bytes, file: str) -> object:
    is_json = file.endswith(".json")
    limit = MAX_JSON_BYTES if is_json else MAX_TEXT_BYTES
    if len(data) > limit:
        raise UnreadableTableError(f"{len(data)} bytes are over the limit of {limit}")
    if is_json:
        return json.loads(data, parse_float=_Number, parse_int=_Number)
    if file.endswith(".toml"):
        return tomllib.loads(data.decode(), parse_float=_Number)
    if b"&" in data:
        # A few anchors make a document of gigabytes.
        raise UnreadableTableError("it may have anchors, which are not followed")
    if _deepest(data) > MAX_DEPTH:
        raise UnreadableTableError(f"it may be nested deeper than {MAX_DEPTH}")
    return yaml.load(data, Loader=_Loader)  # noqa: S506  it is a safe loader


def _deepest(data: bytes) -> int:
    """At least how deep a YAML document nests: brackets that may be open, dashes and question marks on one line."""
    is_open = deepest = 0
    for line in data.splitlines():
        is_open += line.count(b"[") + line.count(b"{")
        starts = sum(line.count(mark) for mark in (b"- ", b"? ", b": "))
        indent = len(line) - len(line.lstrip(b" "))
        deepest = max(deepest, is_open + starts + indent)
        is_open = max(0, is_open - line.count(b"]") - line.count(b"}"))
    return deepest


class _Number(str):
    """A number as it is written: 1e-5 stays 1e-5."""

    __slots__ = ()


def _flat(document: object) -> Iterator[tuple[str, str]]:
    pending: list[tuple[str, Any]] = [("", document)]  # Any: whatever the document holds
    count = 0
    while pending:
        name, value = pending.pop()
        count += 1
        if count > MAX_ENTRIES:
            raise UnreadableTableError(f"more than {MAX_ENTRIES} entries")
        if len(name) > MAX_NAME_CHARS:
            raise UnreadableTableError(f"a name of more than {MAX_NAME_CHARS} characters")
        if isinstance(value, Mapping) and value:
            pending.extend((f"{name}.{key}" if name else str(key), item) for key, item in value.items())
        elif isinstance(value, list) and value:
            pending.extend((f"{name}[{number}]", item) for number, item in enumerate(value))
        else:
            yield name, _written(value)


def _written(value: object) -> str:
    if isinstance(value, str) and not isinstance(value, _Number):
        return json.dumps(value, ensure_ascii=False)
    return json.dumps(value) if isinstance(value, bool) or value is None else str(value)
