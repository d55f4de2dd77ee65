"""Base models from outside: what a Hugging Face folder must look like before it is taken."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.errors import ArtifactError

MAX_CONFIG_BYTES = 4 << 20
# Weights in these forms are pickles: loading one runs whatever its maker wrote.
PICKLE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"})


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseModel:
    """What a base model says of itself."""

    architectures: tuple[str, ...]
    model_type: str


def check_model_folder(folder: Path) -> BaseModel:
    """What is in `folder`, if it is a model that can be trained here without running foreign code.

    Raises ArtifactError naming the file at fault: no folder, no config, foreign code, pickles, no weights.
    """
    if not folder.is_dir():
        raise ArtifactError(f"model {folder}: no such folder")
    config = _read_config(folder)
    if "auto_map" in config:
        raise ArtifactError(
            f"model {folder}: config.json has auto_map, which asks for foreign code to be run"
        )
    names = sorted(p.name for p in folder.iterdir())
    pickles = [n for n in names if Path(n).suffix in PICKLE_SUFFIXES]
    if pickles:
        raise ArtifactError(f"model {folder}: {pickles[0]} is a pickle, wanted .safetensors weights only")
    if not any(n.endswith(".safetensors") for n in names):
        raise ArtifactError(f"model {folder}: found no .safetensors weights among {names[:8]}")
    architectures = config.get("architectures")
    if (
        not isinstance(architectures, list)
        or not all(isinstance(a, str) for a in architectures)
        or not architectures
    ):
        raise ArtifactError(f"model {folder}: config.json names no architectures")
    return BaseModel(architectures=tuple(architectures), model_type=str(config.get("model_type", "")))


def _read_config(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    try:
        if file.stat().st_size > MAX_CONFIG_BYTES:
            raise ArtifactError(f"model {folder}: config.json is larger than {MAX_CONFIG_BYTES} bytes")
        config = json.loads(file.read_bytes())
    except FileNotFoundError as error:
        raise ArtifactError(f"model {folder}: found no config.json; wanted a Hugging Face folder") from error
    except (OSError, ValueError) as error:
        raise ArtifactError(f"model {folder}: config.json cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise ArtifactError(f"model {folder}: config.json is not a JSON object")
    return config
