"""Base models from outside: what a Hugging Face folder must look like before it is taken."""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from appliance.errors import ArtifactError
from runner.safetensors import SafetensorsError, read_header

MAX_CONFIG_BYTES: Final = 4 << 20
MAX_JSON_BYTES: Final = 64 << 20  # the largest tokenizers in use have half of it
# Weights in these forms are pickles: loading one runs whatever its maker wrote.
PICKLE_SUFFIXES: Final = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"})
# All that a model needs, and nothing that anybody could run. Everything else is refused or left behind.
MODEL_SUFFIXES: Final = frozenset({".safetensors", ".json", ".txt", ".model", ".jinja", ".md"})
FOREIGN_CODE: Final = "auto_map"  # the key with which a configuration asks for code of its maker's to be run
_PLAIN_TEXTS: Final = re.compile(r"(licen[cs]e|notice|readme|copying|copyright|authors)([-_][a-z0-9_-]+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseModel:
    """What a base model says of itself."""

    architectures: tuple[str, ...]
    model_type: str


def check_model_folder(folder: Path) -> BaseModel:
    """What is in `folder`, if it is a model that can be trained here without running foreign code.

    Raises ArtifactError naming the file at fault: no folder, no config, foreign code, pickles, other files
    than a model needs, malformed JSON or weights, no weights.
    """
    if not folder.is_dir():
        raise ArtifactError(f"model {folder}: no such folder")
    config = _read_config(folder)
    names = _list_files(folder)
    for name in names:
        _check_file(folder, name)
    if not any(n.endswith(".safetensors") and "/" not in n for n in names):
        raise ArtifactError(f"model {folder}: found no .safetensors weights among {names[:8]}")
    architectures = config.get("architectures")
    if (
        not isinstance(architectures, list)
        or not all(isinstance(a, str) for a in architectures)
        or not architectures
    ):
        raise ArtifactError(f"model {folder}: config.json names no architectures")
    return BaseModel(architectures=tuple(architectures), model_type=str(config.get("model_type", "")))


def is_model_file(name: str) -> bool:
    """Whether a file of that name, without its folder, is of a kind that belongs to a model and is harmless."""
    is_known = Path(name).suffix.lower() in MODEL_SUFFIXES
    return is_known or _PLAIN_TEXTS.fullmatch(name.lower()) is not None


def _list_files(folder: Path) -> list[str]:
    """Everything below `folder` but folders, relative to it, sorted; links to folders are not entered."""
    return sorted(
        (Path(below) / name).relative_to(folder).as_posix()
        for below, _, names in os.walk(folder)
        for name in names
    )


def _check_file(folder: Path, name: str) -> None:
    path = folder / name
    suffix = path.suffix.lower()
    if suffix in PICKLE_SUFFIXES:
        raise ArtifactError(f"model {folder}: {name} is a pickle, wanted .safetensors weights only")
    if not is_model_file(path.name) and name != ".gitattributes":  # every folder from a hub has one
        raise ArtifactError(
            f"model {folder}: {name} is no kind of file that a model needs here"
            f" ({', '.join(sorted(MODEL_SUFFIXES))}, licence texts); remove it from the folder"
        )
    if path.is_symlink() or not path.is_file():
        return  # the store refuses it, saying what to do
    if suffix == ".json":
        settings = _read_json(folder, name, max_bytes=MAX_JSON_BYTES)
        if isinstance(settings, dict) and FOREIGN_CODE in settings:
            raise ArtifactError(
                f"model {folder}: {name} has {FOREIGN_CODE}, which asks for foreign code to be run"
            )
    elif suffix == ".safetensors":
        try:
            read_header(path)
        except (SafetensorsError, OSError) as error:
            raise ArtifactError(f"model {path.parent}: {error}") from error


def _read_config(folder: Path) -> dict[str, Any]:
    if not (folder / "config.json").exists():
        raise ArtifactError(f"model {folder}: found no config.json; wanted a Hugging Face folder")
    config = _read_json(folder, "config.json", max_bytes=MAX_CONFIG_BYTES)
    if not isinstance(config, dict):
        raise ArtifactError(f"model {folder}: config.json is not a JSON object")
    return config


def _read_json(folder: Path, name: str, *, max_bytes: int) -> object:
    file = folder / name
    try:
        if file.stat().st_size > max_bytes:
            raise ArtifactError(f"model {folder}: {name} is larger than {max_bytes} bytes")
        found: object = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"model {folder}: {name} cannot be read: {error}") from error
    return found
