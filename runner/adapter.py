"""LoRA adapters held against their base model: do the shapes fit, does the adapter change anything?"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from runner.safetensors import Tensor, is_zero, same_values

# (down projection, up projection) as PEFT names them; embeddings have no `.weight`.
_PAIRS = ((".lora_A.weight", ".lora_B.weight"), (".lora_embedding_A", ".lora_embedding_B"))
_MAGNITUDE = (".lora_magnitude_vector", ".lora_magnitude_vector.weight")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    module: str
    down: Tensor  # [rank, in]
    up: Tensor  # [out, rank]
    is_embedding: bool


def misfit_of_adapter(
    config: Mapping[str, Any], own: Mapping[str, Tensor], base: Mapping[str, Tensor]
) -> str | None:
    """Why the adapter cannot be an adapter of this base model, or None if it fits."""
    if config.get("peft_type") != "LORA":
        return f"adapter_config.json: peft_type is {config.get('peft_type')!r}; only LORA is understood"
    for name in sorted(own):
        half = _missing_half(name, own)
        if half is not None:
            return f"{name} has no {half}"
    for pair in _pairs(own):
        weight = _find(f"{pair.module}.weight", base)
        if weight is None:
            return f"{pair.module} is no module of the base model"
        if not _pair_fits(pair, weight):
            return (
                f"{pair.module}: shapes {list(pair.down.shape)} and {list(pair.up.shape)} do not fit"
                f" the base model's {list(weight.shape)}"
            )
    for name, tensor in sorted(_others(own).items()):
        weight = _find(name, base)
        if weight is None or weight.shape[1:] != tensor.shape[1:]:
            return f"{name} of shape {list(tensor.shape)} has no place in the base model"
    return None


def adapter_changes_nothing(
    config: Mapping[str, Any], own: Mapping[str, Tensor], base: Mapping[str, Tensor]
) -> str:
    """Why this adapter leaves the base model as it is, or an empty text if it changes it.

    The adapter must fit. A product is zero if either factor is; a scale of zero silences all.
    """
    for name, tensor in _others(own).items():
        weight = _find(name, base)
        if weight is None or not same_values(tensor, weight):
            return ""
    if config.get("lora_alpha") == 0 and not config.get("alpha_pattern"):
        return "lora_alpha is 0"
    pairs = list(_pairs(own))
    # The up projection starts at zero for linear layers, the down projection for embeddings.
    if not all(is_zero(p.up) or is_zero(p.down) for p in pairs):
        return ""
    return f"the products of all {len(pairs)} LoRA pairs are zero (every lora_B is zero, or its lora_A)"


def _pairs(own: Mapping[str, Tensor]) -> Iterator[_Pair]:
    for down, up in _PAIRS:
        for name in sorted(n for n in own if n.endswith(down)):
            module = name.removesuffix(down)
            yield _Pair(module=module, down=own[name], up=own[module + up], is_embedding=down == _PAIRS[1][0])


def _missing_half(name: str, own: Mapping[str, Tensor]) -> str | None:
    for down, up in _PAIRS:
        for mine, other in ((down, up), (up, down)):
            if name.endswith(mine) and name.removesuffix(mine) + other not in own:
                return other.removeprefix(".").removesuffix(".weight")
    return None


def _pair_fits(pair: _Pair, weight: Tensor) -> bool:
    if not len(pair.down.shape) == len(pair.up.shape) == len(weight.shape) == 2:
        return False
    rank, entering = pair.down.shape
    leaving, same_rank = pair.up.shape
    if rank != same_rank or rank == 0:
        return False
    found = (entering, leaving) if pair.is_embedding else (leaving, entering)
    # One-dimensional convolutions, as in GPT-2, keep their weight the other way round.
    return found in (weight.shape, weight.shape[::-1])


def _others(own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors that replace one of the base model's: modules to save, biases."""
    halves = tuple(half for pair in _PAIRS for half in pair)
    return {name: tensor for name, tensor in own.items() if not name.endswith(halves + _MAGNITUDE)}


def _find(name: str, base: Mapping[str, Tensor]) -> Tensor | None:
    """The base model's tensor of that name; a leading part that only one of the two has is ignored."""
    name = name.replace(".base_layer.", ".")  # PEFT saves an adapted embedding's own weights under this name
    if name in base:
        return base[name]
    close = [t for n, t in base.items() if name.endswith("." + n) or n.endswith("." + name)]
    return close[0] if len(close) == 1 else None
