"""LoRA adapters held against their base model: do the shapes fit, does the adapter change anything?

What is covered: settings that are not a plain LoRA's, products that are zero because of a factor, of the scale
or of ranks that only one factor uses.
What is not covered: products that cancel out, or that are too small to be noticed. The evaluation tells.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from reprlib import repr as short
from typing import Any

from runner.safetensors import FLOATS, Tensor, any_nonzero_in_columns, nonzero_rows, same_values

# (down projection, up projection) as PEFT names them; embeddings have no `.weight`.
_PAIRS = ((".lora_A.weight", ".lora_B.weight"), (".lora_embedding_A", ".lora_embedding_B"))
_MAGNITUDE = (".lora_magnitude_vector", ".lora_magnitude_vector.weight")
DEFAULT_RANK = DEFAULT_ALPHA = 8  # PEFT
MAX_RANK = 4096
MAX_PATTERNS = 1024
MAX_SETTING = 1 << 20  # of a rank or an alpha; real ones are below 1,000
MAX_NAME = 1024  # characters of a tensor's name
# Settings of a plain LoRA. Any other must be unset: PEFT would make another model of the same tensors.
LORA_FIELDS = frozenset({
    "alpha_pattern", "bias", "exclude_modules", "fan_in_fan_out", "layers_pattern", "layers_to_transform",
    "lora_alpha", "lora_bias", "r", "rank_pattern", "target_modules", "use_dora", "use_rslora",
})  # fmt: skip
# Of no effect on a trained adapter.
HARMLESS_LORA_FIELDS = frozenset({
    "base_model_name_or_path", "inference_mode", "lora_dropout", "megatron_core", "peft_version",
    "qalora_group_size", "revision",
})  # fmt: skip
# Of the ways to start an adapter, those that leave the base model as it is.
LORA_STARTS = (None, True, False, "gaussian", "orthogonal")
_OTHER_LORA_FIELDS: Mapping[str, tuple[object, ...]] = {
    "init_lora_weights": LORA_STARTS, "peft_type": ("LORA",), "task_type": (None, "CAUSAL_LM"),
}  # fmt: skip
# PEFT takes a pattern's key for a regular expression; one of a stranger's is not run here.
PATTERN_KEY = re.compile(r"\^?[A-Za-z0-9_.-]{1,255}")


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
        return f"adapter_config.json: peft_type is {short(config.get('peft_type'))}; only LORA is understood"
    if (strange := _strange_setting(config)) is not None:
        return f"adapter_config.json: {strange}"
    return _odd_tensor(own) or _misfit_of_pairs(config, own, base) or _misfit_of_others(own, base)


def _odd_tensor(own: Mapping[str, Tensor]) -> str | None:
    for name, tensor in sorted(own.items()):
        if len(name) > MAX_NAME:
            return f"a tensor has a name of {len(name)} characters: {name[:64]}"
        if tensor.dtype not in FLOATS:
            return f"{name} is of type {tensor.dtype}"
        half = _missing_half(name, own)
        if half is not None:
            return f"{name} has no {half}"
    return None


def _misfit_of_pairs(
    config: Mapping[str, Any], own: Mapping[str, Tensor], base: Mapping[str, Tensor]
) -> str | None:
    ranks = _Setting.of(config, "r", "rank_pattern", default=DEFAULT_RANK)
    adapted: set[str] = set()
    for pair in _pairs(own):
        weight = _find(f"{pair.module}.weight", base)
        if weight is None:
            return f"{pair.module} is no module of the base model"
        if weight.name in adapted:
            return f"{pair.module} adapts a module twice"
        adapted.add(weight.name)
        if not _pair_fits(pair, weight):
            return (
                f"{pair.module}: shapes {list(pair.down.shape)} and {list(pair.up.shape)} do not fit"
                f" the base model's {list(weight.shape)}"
            )
        if pair.down.shape[0] != ranks.at(pair.module):
            told = short(ranks.at(pair.module))
            return f"{pair.module} is of rank {pair.down.shape[0]}, the configuration says {told}"
    return None


def _misfit_of_others(own: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> str | None:
    replaced: set[str] = set()
    for name, tensor in sorted(_others(own).items()):
        weight = _find(name, base)
        if weight is None or weight.shape[1:] != tensor.shape[1:]:
            return f"{name} of shape {list(tensor.shape)} has no place in the base model"
        if weight.name in replaced:
            return f"{name} replaces a tensor twice"
        replaced.add(weight.name)
    return None


def adapter_changes_nothing(
    config: Mapping[str, Any], own: Mapping[str, Tensor], base: Mapping[str, Tensor]
) -> str:
    """Why this adapter leaves the base model as it is, or an empty text if it changes it.

    The adapter must fit. A product is zero if either factor is, if its scale is, or if each rank is zero in
    one of the factors.
    """
    for name, tensor in _others(own).items():
        weight = _find(name, base)
        if weight is None or not same_values(tensor, weight):
            return ""
    alphas = _Setting.of(config, "lora_alpha", "alpha_pattern", default=DEFAULT_ALPHA)
    pairs = list(_pairs(own))
    if not all(alphas.at(pair.module) == 0 or _product_is_zero(pair) for pair in pairs):
        return ""
    return (
        f"all {len(pairs)} LoRA products are zero"
        " (every lora_B is zero, or its lora_A or scale, or they share no rank)"
    )


def _strange_setting(config: Mapping[str, Any]) -> str | None:
    """Which setting is not a plain LoRA's, or None."""
    for field in sorted(config.keys() - LORA_FIELDS - HARMLESS_LORA_FIELDS):
        value = config[field]
        legal = _OTHER_LORA_FIELDS.get(field)
        if value not in legal if legal is not None else value:
            return f"{field} is {short(value)}, which is not judged"
    for field in ("r", "lora_alpha"):
        if not _is_number(config.get(field, 1)):
            return f"{field} is {short(config[field])}"
    for field in ("rank_pattern", "alpha_pattern"):
        pattern = config.get(field) or {}
        if not isinstance(pattern, dict) or len(pattern) > MAX_PATTERNS:
            return f"{field} is {short(pattern)}"
        for key, value in pattern.items():
            if not PATTERN_KEY.fullmatch(key):
                return f"{field}: {short(key)} is no plain module name"
            if not _is_number(value):
                return f"{field} is {short(pattern)}"
    return None


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and abs(value) <= MAX_SETTING  # type: ignore[arg-type]  # just checked


@dataclass(frozen=True, slots=True, kw_only=True)
class _Setting:
    """A number for each module: that of the first pattern that fits the end of its name, else the general one."""

    patterns: tuple[tuple[re.Pattern[str], float], ...]
    general: float

    @classmethod
    def of(cls, config: Mapping[str, Any], field: str, pattern_field: str, *, default: int) -> "_Setting":
        told = config.get(pattern_field) or {}
        # As peft.utils.other.get_pattern_key has it.
        patterns = tuple((re.compile(rf"(.*\.)?({key})$"), value) for key, value in told.items())
        return cls(patterns=patterns, general=config.get(field, default))

    def at(self, module: str) -> float:
        return next((value for pattern, value in self.patterns if pattern.match(module)), self.general)


def _product_is_zero(pair: _Pair) -> bool:
    """Whether each rank is zero in one of the factors, so that nothing is left to add up."""
    used = nonzero_rows(pair.down)
    return not used or not any_nonzero_in_columns(pair.up, used)


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
    if rank != same_rank or not 0 < rank <= MAX_RANK:
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
