"""The weights of one model folder, whole or in shards, by canonical tensor name; headers only, no values."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.errors import RunnerError
from runner.safetensors import SafetensorsError, Tensor, read_header, read_header_size, told, without_twins

WHOLE, INDEX, ADAPTER = "model.safetensors", "model.safetensors.index.json", "adapter_model.safetensors"
MAX_CONFIG_BYTES = 1 << 20  # real ones: some kB, with a name for each of 20,000 labels 1 MB
MAX_INDEX_BYTES = 16 << 20  # the largest real one, of 91,000 tensors, has 9 MB
MAX_DEPTH = 16  # of a JSON file; a configuration with three models inside has 5
MAX_MODEL_HEADER_BYTES = 32 << 20  # of all its files together
SHARD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,242}\.safetensors")  # 255 bytes at most
# What wrappers put before a name; without them the same tensor has the same name everywhere.
WRAPPERS = ("_orig_mod.", "module.", "base_model.model.")


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
        if not isinstance(shard, str) or not SHARD.fullmatch(shard):
            raise WeightsError(f"{INDEX}: unusable shard name {repr(shard)[:64]} of {told(name)}")
        names = shards.setdefault(shard, set())
        assert names is not None
        names.add(name)
    for shard in sorted(shards):
        if not (folder / shard).is_file():
            raise WeightsError(f"{INDEX} names {shard}, which is missing")
    return _collect(folder, shards)


def open_adapter(folder: Path) -> Weights:
    """The adapter's own tensors. Raises WeightsError or SafetensorsError if they are not whole."""
    if not (folder / ADAPTER).is_file():
        raise WeightsError(f"adapter_config.json without {ADAPTER}")
    return _collect(folder, {ADAPTER: None})


def read_json(path: Path, *, max_bytes: int = MAX_CONFIG_BYTES) -> dict[str, Any]:
    """The object in a model's JSON file.

    Raises WeightsError if it is missing, too large, too deep for code that recurses, no object, or if a key stands
    twice in one: readers differ in which they take.
    """
    if not path.is_file():
        raise WeightsError(f"{path.name} is missing")
    if path.stat().st_size > max_bytes:
        raise WeightsError(f"{path.name} is over {max_bytes} bytes")
    try:
        value = json.loads(path.read_bytes(), object_pairs_hook=without_twins)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path.name} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise WeightsError(f"{path.name} is not an object")
    if _is_deeper(value, MAX_DEPTH):
        raise WeightsError(f"{path.name} is nested deeper than {MAX_DEPTH}")
    return value


def _is_deeper(value: object, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deeper(part, levels - 1) for part in inner)


def canonical_name(name: str) -> str:
    """The name without the prefixes of wrappers.

    >>> canonical_name("_orig_mod.model.embed_tokens.weight")
    'model.embed_tokens.weight'
    """
    for wrapper in WRAPPERS:
        if name.startswith(wrapper):
            return canonical_name(name.removeprefix(wrapper))
    return name


def _collect(folder: Path, shards: Mapping[str, set[str] | None]) -> Weights:
    tensors: dict[str, Tensor] = {}
    header_bytes = 0
    for shard, wanted in sorted(shards.items()):
        header_bytes += read_header_size(folder / shard)
        if header_bytes > MAX_MODEL_HEADER_BYTES:
            raise WeightsError(f"{shard}: headers of more than {MAX_MODEL_HEADER_BYTES} bytes in one model")
        found = read_header(folder / shard)
        if wanted is not None and (other := wanted ^ {t.name for t in found}):
            raise WeightsError(f"{INDEX} and {shard} disagree on {told(sorted(other)[0])}")
        for tensor in found:
            if tensors.setdefault(canonical_name(tensor.name), tensor) is not tensor:
                raise WeightsError(f"{shard}: {told(tensor.name)} stands twice")
    if not tensors:
        raise SafetensorsError(f"{folder.name}: weights without a tensor")
    return Weights(files=tuple(sorted(shards)), tensors=tensors)
