"""LoRA files of image champions: are they whole in themselves, fit the base model, and change it?

What is covered: the layouts of kohya's scripts (`lora_unet_….lora_down.weight`), of diffusers, PEFT and ai-toolkit
(`transformer.….lora_A.weight`); pairs, ranks, scales; shapes against the base model's modules where the names of both
mean the same place.
What is not covered: shapes where they do not, which the report says; other kinds of adapter (LoKr, LoHa, full weights),
which are refused by the name of a tensor; products that cancel out.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path, PurePosixPath

from runner.adapter import MAX_NAME, MAX_RANK
from runner.diffusion_base import ModuleKey, module_key
from runner.safetensors import FLOATS, Tensor, any_nonzero_in_columns, is_zero, nonzero_rows, told

CHECKPOINTS = "checkpoints"  # the tournament keeps image models below this folder
# (down projection, up projection), as trainers name them.
PAIRS = (
    (".lora_down.weight", ".lora_up.weight"),
    (".lora_A.weight", ".lora_B.weight"),
    (".lora.down.weight", ".lora.up.weight"),
    ("_lora.down.weight", "_lora.up.weight"),
)
ALPHA, MIDDLE = ".alpha", ".lora_mid.weight"
MAGNITUDES = (".dora_scale", ".lora_magnitude_vector", ".lora_magnitude_vector.weight")
FINAL = "last.safetensors"
_NUMBERED = re.compile(r".*[-_](\d{1,12})\.safetensors")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraModule:
    """What adapts one module; convolutions have more than two dimensions."""

    name: str
    down: Tensor  # [rank, in, …]
    up: Tensor  # [out, rank, …]
    middle: Tensor | None  # [rank, rank, …]
    alpha: Tensor | None


def newest(names: list[str]) -> str | None:
    """Which of these LoRA files the tournament takes: `last.safetensors`, else the one of the last step or epoch.

    >>> newest(["last-000002.safetensors", "last-000010.safetensors", "notes.txt"])
    'last-000010.safetensors'
    """
    files = sorted(name for name in names if name.endswith(".safetensors"))
    if not files:
        return None
    final = [name for name in files if PurePosixPath(name).name == FINAL]
    return final[0] if final else max(files, key=_step)


def lora_files(output: Path) -> list[Path]:
    """The weights of an image model, wherever in its folder they lie."""
    return sorted(path for path in output.rglob("*") if path.name.casefold().endswith(".safetensors"))


def misfit_of_lora(own: Mapping[str, Tensor]) -> str | None:
    """Why these tensors are no LoRA that is whole in itself, or None."""
    for name, tensor in sorted(own.items()):
        if len(name) > MAX_NAME:
            return f"a tensor has a name of {len(name)} characters: {told(name)}"
        if tensor.dtype not in FLOATS:
            return f"{told(name)} is of type {tensor.dtype}"
        if (stray := _stray(name, own)) is not None:
            return stray
    modules = list(lora_modules(own))
    if not modules:
        return "no pair of LoRA factors"
    return next((misfit for module in modules if (misfit := _misfit(module)) is not None), None)


def misfit_of_base(own: Mapping[str, Tensor], base: Mapping[ModuleKey, Tensor]) -> str | None:
    """Why a whole LoRA cannot be one of this base model, or None; modules that are not found there are passed over."""
    adapted: set[ModuleKey] = set()
    for module in lora_modules(own):
        key = module_key(module.name)
        weight = base.get(key)
        if key in adapted:
            return f"{told(module.name)} adapts a module twice"
        adapted.add(key)
        if weight is not None and not _fits(module, weight):
            return (
                f"{told(module.name)}: shapes {list(module.down.shape)} and {list(module.up.shape)} do not fit"
                f" the base model's {list(weight.shape)}"
            )
    return None


def fit(own: Mapping[str, Tensor], base: Mapping[ModuleKey, Tensor]) -> str:
    """How much of a LoRA that fits was held against the base model."""
    modules = list(lora_modules(own))
    ranks = sorted({module.down.shape[0] for module in modules})
    rank = f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {ranks[0]} to {ranks[-1]}"
    found = sum(module_key(module.name) in base for module in modules)
    what = f"{len(modules)} LoRA pairs of {rank}"
    if not found:
        return (
            f"{what} are whole in themselves; none has a name of the base model's, so no shape was compared"
        )
    if found < len(modules):
        return f"{what}: {found} fit the base model, {len(modules) - found} have no name of it and were not compared"
    return f"{what} fit the base model"


def lora_changes_nothing(own: Mapping[str, Tensor]) -> str:
    """Why a whole LoRA leaves its base model as it is, or an empty text if it changes it."""
    modules = list(lora_modules(own))
    if not all(_is_silent(module) for module in modules):
        return ""
    return (
        f"all {len(modules)} LoRA products are zero (every up projection is, or its down projection or scale)"
    )


def lora_modules(own: Mapping[str, Tensor]) -> Iterator[LoraModule]:
    """The modules with both factors, by name."""
    for down, up in PAIRS:
        for name in sorted(n for n in own if n.endswith(down)):
            module = name.removesuffix(down)
            if module + up in own:
                yield LoraModule(
                    name=module,
                    down=own[name],
                    up=own[module + up],
                    middle=own.get(module + MIDDLE),
                    alpha=own.get(module + ALPHA),
                )


def _step(name: str) -> tuple[int, str]:
    numbered = _NUMBERED.fullmatch(name)
    return (int(numbered[1]) if numbered else -1, name)


def _stray(name: str, own: Mapping[str, Tensor]) -> str | None:
    """What is wrong with a tensor that belongs to no pair, or None."""
    for down, up in PAIRS:
        for mine, other in ((down, up), (up, down)):
            if name.endswith(mine):
                whole = name.removesuffix(mine) + other
                return None if whole in own else f"{told(name)} has no {other[1:].removesuffix('.weight')}"
    for suffix in (ALPHA, MIDDLE, *MAGNITUDES):
        if name.endswith(suffix):
            module = name.removesuffix(suffix)
            has_pair = any(module + half in own for pair in PAIRS for half in pair)
            return None if has_pair else f"{told(name)} belongs to no pair of LoRA factors"
    return f"{told(name)} is no part of a LoRA that is understood"


def _misfit(module: LoraModule) -> str | None:
    down, up, middle = module.down.shape, module.up.shape, module.middle
    if not (2 <= len(down) <= 5 and 2 <= len(up) <= 5) or 0 in down + up:
        return f"{told(module.name)}: shapes {list(down)} and {list(up)} are no factors"
    if down[0] != up[1] or prod(up[2:]) != 1:
        return f"{told(module.name)}: shapes {list(down)} and {list(up)} have no rank in common"
    if down[0] > MAX_RANK:
        return f"{told(module.name)} is of rank {down[0]}, over {MAX_RANK}"
    if middle is not None and (middle.shape[:2] != (down[0], down[0]) or 0 in middle.shape):
        return f"{told(module.name)}: a middle factor of shape {list(middle.shape)} for rank {down[0]}"
    if module.alpha is not None and prod(module.alpha.shape) != 1:
        return f"{told(module.name)}: alpha of shape {list(module.alpha.shape)} is no number"
    return None


def _fits(module: LoraModule, weight: Tensor) -> bool:
    if len(weight.shape) < 2 or module.up.shape[0] != weight.shape[0]:
        return False
    if module.middle is not None:
        return module.down.shape[1] == weight.shape[1] and module.middle.shape[2:] == weight.shape[2:]
    return prod(module.down.shape[1:]) == prod(weight.shape[1:])


def _is_silent(module: LoraModule) -> bool:
    """Whether the product is zero: a factor or the scale is, or each rank is zero in one of both."""
    if any(part is not None and is_zero(part) for part in (module.alpha, module.middle)):
        return True
    used = nonzero_rows(_matrix(module.down))
    if module.middle is not None:
        return not used or is_zero(module.up)  # a middle factor mixes the ranks
    return not used or not any_nonzero_in_columns(_matrix(module.up), used)


def _matrix(tensor: Tensor) -> Tensor:
    return replace(tensor, shape=(tensor.shape[0], prod(tensor.shape[1:])))
