"""The modules of a diffusion model, found by the names that LoRA files have for them.

A LoRA file names a module of the denoiser or of a text encoder by its path, with dots or with underscores, behind a
prefix of its trainer's. The base model is a folder as diffusers writes it or single checkpoint files; where both name a
module alike it is found here, where they follow different conventions it is not.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runner.safetensors import Tensor, read_header, read_header_size
from runner.weights import MAX_MODEL_HEADER_BYTES, WeightsError

DENOISER = "denoiser"
# Folders of diffusers with modules that are trained.
COMPONENTS = {
    "transformer": DENOISER, "unet": DENOISER,
    "text_encoder": "text-encoder-1", "text_encoder_2": "text-encoder-2", "text_encoder_3": "text-encoder-3",
}  # fmt: skip
# Beginnings of names in single files; the longer of two comes first. All others belong to the denoiser.
CHECKPOINT_PREFIXES = {
    "model.diffusion_model.": DENOISER, "diffusion_model.": DENOISER,
    "conditioner.embedders.0.transformer.": "text-encoder-1", "cond_stage_model.transformer.": "text-encoder-1",
    "conditioner.embedders.1.": None, "cond_stage_model.": None, "first_stage_model.": None, "vae.": None,
}  # fmt: skip
# Beginnings of names in LoRA files, tried in this order.
LORA_PREFIXES = {
    "lora_unet_": DENOISER, "lora_transformer_": DENOISER,
    "lora_te1_": "text-encoder-1", "lora_te2_": "text-encoder-2", "lora_te3_": "text-encoder-3",
    "lora_te_": "text-encoder-1",
    "model.diffusion_model.": DENOISER, "diffusion_model.": DENOISER, "transformer.": DENOISER, "unet.": DENOISER,
    "text_encoder.": "text-encoder-1", "text_encoder_2.": "text-encoder-2", "text_encoder_3.": "text-encoder-3",
}  # fmt: skip
_WRAPPER = "base_model.model."  # PEFT


@dataclass(frozen=True, slots=True)
class ModuleKey:
    """A module's place: the part of the pipeline, and its path with underscores for dots."""

    part: str
    path: str


def module_key(name: str) -> ModuleKey:
    """The place of the module that a LoRA file calls `name`.

    >>> module_key("lora_unet_mid_block_attn_to_q") == module_key("unet.mid_block.attn.to_q")
    True
    """
    name = name.removeprefix(_WRAPPER)
    for prefix, part in LORA_PREFIXES.items():
        if name.startswith(prefix):
            return ModuleKey(part, name.removeprefix(prefix).replace(".", "_"))
    return ModuleKey(DENOISER, name.replace(".", "_"))


def open_diffusion_base(base: Path) -> Mapping[ModuleKey, Tensor]:
    """The weights of the modules of the base model, a folder or one file; headers only.

    A place that two modules of different shapes have is left out: nobody can say which is meant. Raises WeightsError or
    SafetensorsError if a file of it is not whole.
    """
    found: dict[ModuleKey, Tensor] = {}
    ambiguous: set[ModuleKey] = set()
    for key, tensor in _named(base):
        if found.setdefault(key, tensor).shape != tensor.shape:
            ambiguous.add(key)
    return {key: tensor for key, tensor in found.items() if key not in ambiguous}


def _named(base: Path) -> list[tuple[ModuleKey, Tensor]]:
    if not base.exists():
        raise WeightsError(f"{base.name}: no such base model")
    files: list[tuple[Path, str | None]] = [(base, None)] if base.is_file() else []
    files += [(file, None) for file in sorted(base.glob("*.safetensors"))]
    for folder, component in COMPONENTS.items():
        files += [(file, component) for file in sorted((base / folder).glob("*.safetensors"))]
    header_bytes = 0
    named: list[tuple[ModuleKey, Tensor]] = []
    for file, part in files:
        header_bytes += read_header_size(file)
        if header_bytes > MAX_MODEL_HEADER_BYTES:
            raise WeightsError(
                f"{file.name}: headers of more than {MAX_MODEL_HEADER_BYTES} bytes in one model"
            )
        for tensor in read_header(file):
            key = _base_key(tensor.name, part)
            if key is not None:
                named.append((key, tensor))
    return named


def _base_key(name: str, part: str | None) -> ModuleKey | None:
    """The place of a base model's tensor; None for what is no module's weight or never trained."""
    if not name.endswith(".weight"):
        return None
    path = name.removesuffix(".weight")
    if part is None:
        return _checkpoint_key(path)
    return ModuleKey(part, path.replace(".", "_"))


def _checkpoint_key(path: str) -> ModuleKey | None:
    for prefix, part in CHECKPOINT_PREFIXES.items():
        if path.startswith(prefix):
            return None if part is None else ModuleKey(part, path.removeprefix(prefix).replace(".", "_"))
    return ModuleKey(DENOISER, path.replace(".", "_"))
