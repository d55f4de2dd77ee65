"""Tiny safetensors files and model folders, made by hand."""

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Values = Sequence[float]
LETTERS = {"F64": "d", "F32": "f", "F16": "e", "I64": "q", "U8": "B"}
Named = Mapping[str, tuple[str, list[int], Values]]


def pack(dtype: str, values: Values) -> bytes:
    if dtype == "BF16":
        return b"".join(struct.pack("<f", v)[2:] for v in values)
    return struct.pack(f"<{len(values)}{LETTERS[dtype]}", *values)


def encode_file(tensors: Named, metadata: Mapping[str, str] | None = None) -> bytes:
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    data = b""
    for name, (dtype, shape, values) in tensors.items():
        packed = pack(dtype, values)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(packed)]}
        data += packed
    return encode_raw(header, data)


def encode_raw(header: object, data: bytes) -> bytes:
    encoded = json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + data


def ramp(count: int, start: float = 1.0) -> list[float]:
    return [start + i / 64 for i in range(count)]


CONFIG = {
    "architectures": ["TinyForCausalLM"],
    "model_type": "tiny",
    "hidden_size": 4,
    "max_position_embeddings": 64,
}
BASE: dict[str, tuple[str, list[int], Values]] = {
    "model.embed_tokens.weight": ("F32", [6, 4], ramp(24)),
    "model.layers.0.q_proj.weight": ("F32", [4, 4], ramp(16)),
    "model.layers.0.v_proj.weight": ("F32", [2, 4], ramp(8)),
}


def write_model(folder: Path, tensors: Named, config: Mapping[str, Any] = CONFIG) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(encode_file(tensors))
    return folder


def write_sharded(folder: Path, shards: Mapping[str, Named]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    for file, tensors in shards.items():
        (folder / file).write_bytes(encode_file(tensors))
    index = {"weight_map": {name: file for file, tensors in shards.items() for name in tensors}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


PREFIX = "base_model.model.model.layers.0.q_proj"
ADAPTER: dict[str, tuple[str, list[int], Values]] = {
    f"{PREFIX}.lora_A.weight": ("F32", [2, 4], ramp(8)),
    f"{PREFIX}.lora_B.weight": ("F32", [4, 2], ramp(8)),
}


def write_adapter(folder: Path, tensors: Named = ADAPTER, **config: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, **config}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    (folder / "adapter_model.safetensors").write_bytes(encode_file(tensors))
    return folder
