"""Stands in for the package toml: reading by the standard library, writing of one flat table."""

import json
import tomllib
from typing import IO


def load(file: IO[str]) -> dict[str, object]:
    return tomllib.loads(file.read())


def dump(table: dict[str, object], file: IO[str]) -> None:
    # JSON's strings, numbers, booleans and lists are TOML's too.
    file.writelines(f"{name} = {json.dumps(value)}\n" for name, value in table.items() if value is not None)
