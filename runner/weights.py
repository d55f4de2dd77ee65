"""The weights of one model folder, whole or in shards, by canonical tensor name; headers only, no values."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.errors import RunnerError
from runner.safetensors import SafetensorsError, Tensor, read_header

WHOLE, INDEX, ADAPTER = "model.safetensors", "model.safetensors.index.json", "adapter_model.safetensors"
MAX_CONFIG_BYTES = 16 << 20
MAX_INDEX_BYTES = 64 << 20
# What wrappers put before a name; without them the same tensor has the same name everywhere.
_WRAPPERS = ("_orig_mod.", "module.", "base_model.model.")


class WeightsError(RunnerError):
    """A model folder is incomplete or contradicts itself; the message names the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """`tensors` by canonical name; `files` are those that hold them."""

    files: tuple[str, ...]
    tensors: Mapping[str, Tensor]


def open_weights(folder: Path) -> Weights:
    """The full weights of `folder`: `model.safetensors`, else the shards that the index names.

    Raises WeightsError or SafetensorsError if they are not whole.
    """
    if (folder / WHOLE).is_file():
        return _collect(folder, {WHOLE: None})
    if not (folder / INDEX).is_file():
        raise WeightsError(f"{folder.name}: neither {WHOLE} nor {INDEX}")
    shards: dict[str, set[str] | None] = {}
    weight_map = read_json(folder / INDEX, max_bytes=MAX_INDEX_BYTES).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise WeightsError(f"{INDEX}: no weight_map")
    for name, shard in weight_map.items():
        if not isinstance(shard, str) or "/" in shard or not shard.endswith(".safetensors"):
            raise WeightsError(f"{INDEX}: {name}: unusable shard name {shard!r}")
        if not (folder / shard).is_file():
            raise WeightsError(f"{INDEX} names {shard}, which is missing")
        names = shards.setdefault(shard, set())
        assert names is not None
        names.add(name)
    return _collect(folder, shards)


def open_adapter(folder: Path) -> Weights:
    """The adapter's own tensors. Raises WeightsError or SafetensorsError if they are not whole."""
    if not (folder / ADAPTER).is_file():
        raise WeightsError(f"adapter_config.json without {ADAPTER}")
    return _collect(folder, {ADAPTER: None})


def read_json(path: Path, *, max_bytes: int = MAX_CONFIG_BYTES) -> dict[str, Any]:
    """The object in a model's JSON file. Raises WeightsError if it is missing, too large or no object."""
    if not path.is_file():
        raise WeightsError(f"{path.name} is missing")
    if path.stat().st_size > max_bytes:
        raise WeightsError(f"{path.name} is over {max_bytes} bytes")
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path.name} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise WeightsError(f"{path.name} is not an object")
    return value


def canonical_name(name: str) -> str:
    """The name without the prefixes of wrappers.

    >>> canonical_name("_orig_mod.model.embed_tokens.weight")
    'model.embed_tokens.weight'
    """
    for wrapper in _WRAPPERS:
        if name.startswith(wrapper):
            return canonical_name(name.removeprefix(wrapper))
    return name


def _collect(folder: Path, shards: Mapping[str, set[str] | None]) -> Weights:
    tensors: dict[str, Tensor] = {}
    for shard, wanted in sorted(shards.items()):
        found = read_header(folder / shard)
        if wanted is not None and (other := wanted ^ {t.name for t in found}):
            raise WeightsError(f"{INDEX} and {shard} disagree on {sorted(other)[0]}")
        for tensor in found:
            if tensors.setdefault(canonical_name(tensor.name), tensor) is not tensor:
                raise WeightsError(f"{shard}: {tensor.name} stands twice")
    if not tensors:
        raise SafetensorsError(f"{folder.name}: weights without a tensor")
    return Weights(files=tuple(sorted(shards)), tensors=tensors)
