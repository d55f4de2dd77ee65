"""Losses of a base model and of a fine-tune of it on held-out instruct rows, one number a row.

Runs in a sandbox of its own, after training, on what a champion left behind. It trusts none of that: no code
from a model folder, safetensors only, the base model's tokenizer, configuration and architecture. Of full
weights it takes the values of tensors and their number of token rows, nothing else; a configuration that does
not mean what the base model's means is refused all the same, since users of the model would load it. Prompts
and losses follow the rules of the Gradients tournament. Gradients.io (https://gradients.io).

Covered: a configuration of another meaning, missing, surplus or reshaped tensors, weights beside those that the
verdict judged, adapters that are no plain LoRA, losses that are not numbers, too many rows. Each ends with one
line on stderr and code 2.
Not covered: flaws of the libraries that read the files. That is what the sandbox is for. Full weights of types
that keep models inside (multimodal) must have a literally equal configuration.
"""

import argparse
import copy
import ctypes
import json
import math
import os
import re
import sys
from collections.abc import Collection, Iterator, Mapping, Set
from pathlib import Path
from typing import Any

# Before torch is imported: OpenMP threads that wait must not spin, and nothing may look for a network.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from huggingface_hub.errors import StrictDataclassError
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

MAX_ROWS = 400  # tournament: a tenth of the rows, at most 400
MAX_TOKENS = 4096  # tournament: sequence length of the evaluation
BATCH_ROWS = 8
MICRONATS = 1_000_000
FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
NOT_COUNTED = -100  # label of a prompt's or a padding token
MAX_CONFIG_BYTES = 1 << 20
MAX_INDEX_BYTES = 16 << 20
# The lists from here to SHARD are those of runner/verdict.py, runner/adapter.py and runner/weights.py; a test
# compares them. This file is alone in its sandbox.
# Fields of a configuration without effect on what the model computes.
HARMLESS = frozenset({
    "_attn_implementation_autoset", "_name_or_path", "attention_dropout", "attn_pdrop", "bos_token_id",
    "classifier_dropout", "dtype", "embd_pdrop", "eos_token_id", "hidden_dropout", "initializer_range",
    "pad_token_id", "resid_pdrop", "torch_dtype", "transformers_version", "unsloth_fixed", "unsloth_version",
    "use_cache",
})  # fmt: skip
# Constants that some versions of a library save and others do not; the base model's are used.
BUFFERS = (".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias", ".position_ids")
EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight", "word_embeddings.weight")
HEADS = ("lm_head.weight", "embed_out.weight")
WRAPPERS = ("_orig_mod.", "module.", "base_model.model.")
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
# PEFT takes a pattern's key for a regular expression; the verdict does not run one of a stranger's.
PATTERN_KEY = re.compile(r"\^?[A-Za-z0-9_.-]{1,255}")
SHARD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,242}\.safetensors")
# Older spellings, which the library translates.
SPELLINGS: Mapping[str, str | None] = {
    "partial_rotary_factor": "partial_rotary_factor", "rope_scaling": None, "rope_theta": "rope_theta",
    "rotary_emb_base": "rope_theta", "rotary_pct": "partial_rotary_factor",
}  # fmt: skip

# What the libraries raise on files that are damaged or made up.
LIBRARY_ERRORS = (
    OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, SafetensorError,
    StrictDataclassError,
)  # fmt: skip


class Refused(Exception):  # noqa: N818  a refusal, not a failure
    """The input cannot be judged; the message says why."""


def read_rows(path: Path) -> list[dict[str, str]]:
    """The held-out rows: a JSON array of objects with text in `instruct` and `output`."""
    rows = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(rows, list) or not rows:
        raise Refused("held-out file is not a JSON array with rows")
    if len(rows) > MAX_ROWS:
        raise Refused(f"held-out file has {len(rows)} rows; at most {MAX_ROWS} are evaluated")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or not all(isinstance(cell, str) for cell in row.values()):
            raise Refused(f"held-out row {number} is not an object of texts")
        if not row.get("instruct") or not row.get("output"):
            raise Refused(f"held-out row {number} has no instruct or no output")
    return rows


def encode_row(row: Mapping[str, str], tokenizer: Any, *, max_tokens: int) -> tuple[list[int], list[int]]:
    """Token ids and labels of a row; only the answer and the end token count.

    A row that is too long loses the beginning of its prompt first, then the end of its answer, so every row
    has a loss.
    """
    prompt = (row.get("system") or "") + row["instruct"] + (f" {row['input']}" if row.get("input") else "")
    head = tokenizer(prompt)["input_ids"]
    if head and head[-1] == tokenizer.eos_token_id:
        head = head[:-1]
    tail = [*tokenizer(row["output"], add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    tail = tail[: max_tokens - 1]
    head = head[max(0, len(head) + len(tail) - max_tokens) :]
    return head + tail, [NOT_COUNTED] * len(head) + tail


def padded_batches(encoded: list[tuple[list[int], list[int]]]) -> Iterator[tuple[torch.Tensor, ...]]:
    """(ids, attention mask, labels), each [rows, tokens], padded on the right, in file order."""
    for start in range(0, len(encoded), BATCH_ROWS):
        part = encoded[start : start + BATCH_ROWS]
        width = max(len(ids) for ids, _ in part)
        yield (
            torch.tensor([ids + [0] * (width - len(ids)) for ids, _ in part]),
            torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids, _ in part]),
            torch.tensor([labels + [NOT_COUNTED] * (width - len(labels)) for _, labels in part]),
        )


@torch.no_grad()
def row_losses(model: Any, encoded: list[tuple[list[int], list[int]]], *, name: str) -> list[int]:
    """Mean cross-entropy of each row's answer in micronats. Padding neither attends nor counts."""
    model.eval()
    losses: list[int] = []
    for ids, mask, labels in padded_batches(encoded):
        device = model.device
        logits = model(input_ids=ids.to(device), attention_mask=mask.to(device)).logits[:, :-1].float()
        wanted = labels[:, 1:].to(device)
        each = torch.nn.functional.cross_entropy(
            logits.transpose(1, 2), wanted, ignore_index=NOT_COUNTED, reduction="none"
        )
        counted = (wanted != NOT_COUNTED).sum(dim=1)
        for loss in (each.double().sum(dim=1) / counted).tolist():
            if not math.isfinite(loss):
                raise Refused(f"{name}: the loss of row {len(losses) + 1} is not a number")
            losses.append(round(loss * MICRONATS))
        print(f"evaluate model={name} rows={len(losses)} total={len(encoded)}", flush=True)
    return losses


def load_base(folder: Path, *, device: str) -> Any:
    """The base model, without running any code of its folder."""
    return AutoModelForCausalLM.from_pretrained(
        folder,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        dtype=torch.float32 if device == "cpu" else torch.bfloat16,
    ).to(device)


def read_object(path: Path, *, max_bytes: int = MAX_CONFIG_BYTES) -> dict[str, Any]:
    """The object in a JSON file of the champion's. Raises Refused if it is none or too large."""
    if not path.is_file():
        raise Refused(f"{path.name} is missing")
    if path.stat().st_size > max_bytes:
        raise Refused(f"{path.name} is over {max_bytes} bytes")
    value = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        raise Refused(f"{path.name} is not an object")
    return value


def attach_adapter(model: Any, tuned: Path) -> Any:
    """`model` with the LoRA in `tuned`. Raises Refused unless it is a plain LoRA that fits exactly."""
    raw = read_object(tuned / "adapter_config.json")
    check_plain_lora(raw)
    check_nothing_beside(tuned, {"adapter_model.safetensors"})
    known = {field: raw[field] for field in LORA_FIELDS if raw.get(field) is not None}
    tensors = load_file(tuned / "adapter_model.safetensors")
    adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", lora_dropout=0.0, **known))
    result = set_peft_model_state_dict(adapted, tensors)
    missing = [key for key in result.missing_keys if "lora_" in key]
    if missing or result.unexpected_keys:
        name = (missing or list(result.unexpected_keys))[0]
        raise Refused(f"adapter does not fit the base model: {len(missing)} tensors missing, "
                      f"{len(result.unexpected_keys)} too many, first {name}")  # fmt: skip
    return adapted


def check_plain_lora(raw: Mapping[str, Any]) -> None:
    """Raises Refused where PEFT would make something else of an adapter than base + scale · B · A."""
    if raw.get("peft_type") != "LORA":
        raise Refused(f"adapter is of type {raw.get('peft_type')!r}; wanted 'LORA'")
    if raw.get("task_type") not in (None, "CAUSAL_LM") or raw.get("init_lora_weights") not in LORA_STARTS:
        raise Refused("adapter configuration sets task_type or init_lora_weights to what is not evaluated")
    judged = LORA_FIELDS | HARMLESS_LORA_FIELDS | {"peft_type", "task_type", "init_lora_weights"}
    if strange := sorted(field for field in raw.keys() - judged if raw[field]):
        raise Refused(f"adapter configuration sets {', '.join(strange)}, which is not evaluated")
    for field in ("rank_pattern", "alpha_pattern"):
        if strange := [key for key in raw.get(field) or {} if not PATTERN_KEY.fullmatch(key)]:
            raise Refused(f"{field} names {strange[0]!r}, which is no plain module name")


def check_same_config(base: Path, tuned: Path) -> int | None:
    """The number of token rows that full weights tell. Raises Refused unless their configuration means the same.

    None is for types that keep models inside, which tell it there.

    Each field must be the base model's, one that the library fills in for it, or harmless; and the library,
    which fills in defaults and translates old spellings, must make the same of both.
    """
    ours = AutoConfig.from_pretrained(base, local_files_only=True, trust_remote_code=False)
    written, raw = json.loads((base / "config.json").read_bytes()), read_object(tuned / "config.json")
    known = HARMLESS | SPELLINGS.keys() | written.keys() | ours.to_dict().keys()
    if strange := sorted(raw.keys() - known):
        raise Refused(f"config.json sets {strange[0]}; the base model does not")
    if raw.get("model_type") != written.get("model_type"):
        raise Refused(
            f"model_type is {raw.get('model_type')!r}; the base model has {written.get('model_type')!r}"
        )
    check_one_spelling(raw)
    wanted, found = ours.to_dict(), type(ours).from_dict(copy.deepcopy(raw)).to_dict()
    for field in sorted((wanted.keys() | found.keys()) - HARMLESS):
        if field == "max_position_embeddings" and type(found.get(field)) is int and wanted.get(field):
            if found[field] < wanted[field]:
                raise Refused("max_position_embeddings is smaller than the base model's")
        elif field != "vocab_size" and found.get(field) != wanted.get(field):
            raise Refused(f"{field} is {found.get(field)}; the base model has {wanted.get(field)}")
    rows = found.get("vocab_size")
    if rows != wanted.get("vocab_size") and type(rows) is not int:
        raise Refused(f"vocab_size is {rows!r}; the base model has {wanted.get('vocab_size')}")
    return rows


def check_one_spelling(raw: Mapping[str, Any]) -> None:
    """Raises Refused if an older spelling contradicts the newest, of which the library reads only one."""
    rope = raw.get("rope_parameters")
    for field, newest in SPELLINGS.items():
        if rope and raw.get(field) is not None and rope.get(newest) != raw[field]:
            raise Refused(f"{field} is {raw[field]}; rope_parameters is {rope}")


def check_nothing_beside(tuned: Path, judged: Collection[str]) -> None:
    """Raises Refused if there are weights that are not evaluated."""
    for name in sorted(path.name for path in tuned.iterdir()):
        if name.casefold().endswith(".safetensors") and name not in judged:
            raise Refused(f"{name} lies beside the weights that are judged")


def weight_files(folder: Path) -> list[str]:
    """The files that hold full weights: `model.safetensors`, else the shards that the index names."""
    if (folder / "model.safetensors").is_file():
        return ["model.safetensors"]
    index = read_object(folder / "model.safetensors.index.json", max_bytes=MAX_INDEX_BYTES)
    files = sorted(set((index.get("weight_map") or {}).values()))
    if unusable := [name for name in files if not SHARD.fullmatch(name)]:
        raise Refused(f"model.safetensors.index.json: unusable shard name {unusable[0][:64]!r}")
    return files


def canonical_name(name: str) -> str:
    """The name without the prefixes of wrappers."""
    while wrapper := next(filter(name.startswith, WRAPPERS), ""):
        name = name.removeprefix(wrapper)
    return name


def load_weights(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of a champion's full weights by canonical name. Raises Refused if others lie beside them."""
    files = weight_files(folder)
    check_nothing_beside(folder, files)
    tensors: dict[str, torch.Tensor] = {}
    for file in files:
        for name, tensor in load_file(folder / file).items():
            if tensor.dtype not in FLOATS and not name.endswith(BUFFERS):
                raise Refused(f"{name} is of type {tensor.dtype}")
            if tensors.setdefault(canonical_name(name), tensor) is not tensor:
                raise Refused(f"{name} stands twice")
    return tensors


def check_same_names(names: Set[str], base: Path) -> None:
    """Raises Refused unless these are the base model's tensors, but for constants and a copy of the embeddings."""
    wanted: set[str] = set()
    for file in weight_files(base):
        with safe_open(base / file, framework="pt") as opened:
            wanted.update(map(canonical_name, opened.keys()))
    for name in sorted(names ^ wanted):
        if not name.endswith(BUFFERS + HEADS):
            raise Refused(f"{name} is missing in the {'base model' if name in names else 'tuned weights'}")


def load_tuned(base_model: Any, base: Path, tuned: Path) -> Any:
    """A model of the base model's class and configuration with the values of the tensors in `tuned`.

    Raises Refused unless those are the base model's, of the same shapes but for the number of token rows.
    """
    rows = check_same_config(base, tuned)
    tensors = load_weights(tuned)
    check_same_names(tensors.keys(), base)
    config = copy.deepcopy(base_model.config)
    token_rows = {name: len(t) for name, t in tensors.items() if name.endswith(EMBEDDINGS + HEADS)}
    if rows is not None and rows != config.vocab_size:
        if not token_rows or set(token_rows.values()) != {rows}:
            raise Refused(
                f"vocab_size is {rows}; the base model has {config.vocab_size}, the weights {token_rows}"
            )
        config.vocab_size = rows
    if getattr(config, "tie_word_embeddings", False):
        tensors = without_tied_heads(tensors)
    kept = {name: tensor for name, tensor in tensors.items() if not name.endswith(BUFFERS)}
    own = base_model.state_dict()
    kept |= {name: own[name] for name in own if name.endswith(BUFFERS)}
    model, loaded = type(base_model).from_pretrained(
        None,
        config=config,
        state_dict=kept,
        dtype=base_model.dtype,
        ignore_mismatched_sizes=True,  # told below, by name
        output_loading_info=True,
    )
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        if loaded[what]:
            raise Refused(f"weights do not fit the base model: {what}: {sorted(map(str, loaded[what]))[0]}")
    return model.to(base_model.device)


def without_tied_heads(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors but for copies of the embeddings. Raises Refused if one is no copy: it would not be used."""
    heads = [name for name in tensors if name.endswith(HEADS)]
    embeddings = [tensor for name, tensor in tensors.items() if name.endswith(EMBEDDINGS)]
    for name in heads:
        if not any(torch.equal(tensors[name], embedding) for embedding in embeddings):
            raise Refused(f"{name} differs from the input embeddings, with which the configuration ties it")
    return {name: tensor for name, tensor in tensors.items() if name not in heads}


def evaluate(base: Path, tuned: Path, *, rows: list[dict[str, str]]) -> dict[str, list[int]]:
    """Losses before and after, row by row, in the order of `rows`."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True, trust_remote_code=False)
    is_adapter = (tuned / "adapter_config.json").is_file()
    if not is_adapter:
        token_rows = check_same_config(base, tuned)  # before the work
        if token_rows is not None and token_rows < len(tokenizer):
            raise Refused(
                f"vocab_size is {token_rows}; the base model's tokenizer has {len(tokenizer)} tokens"
            )
    model = load_base(base, device=device)
    context = getattr(model.config, "max_position_embeddings", None) or MAX_TOKENS
    encoded = [encode_row(row, tokenizer, max_tokens=min(MAX_TOKENS, context)) for row in rows]
    # The base is judged first: attaching an adapter may change it.
    before = row_losses(model, encoded, name="base")
    model = attach_adapter(model, tuned) if is_adapter else load_tuned(model, base, tuned)
    return {"after": row_losses(model, encoded, name="tuned"), "before": before}


def keep_freed_memory() -> None:
    """Have glibc keep what is freed: on a CPU, giving pages back costs as much time as the work."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD
        libc.mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Losses on held-out rows, before and after.", allow_abbrev=False
    )
    parser.add_argument("--base-model", type=Path, required=True, help="folder of the base model")
    parser.add_argument("--tuned", type=Path, required=True, help="folder of an adapter or of full weights")
    parser.add_argument("--held-out", type=Path, required=True, help="JSON array of rows")
    parser.add_argument("--output", type=Path, required=True, help="folder for losses.json")
    asked = parser.parse_args()
    logging.disable_progress_bar()
    keep_freed_memory()
    try:
        losses = evaluate(asked.base_model, asked.tuned, rows=read_rows(asked.held_out))
    except Refused as refusal:
        print(f"evaluate: refused: {refusal}", file=sys.stderr, flush=True)
        return 2
    except LIBRARY_ERRORS as error:
        print(
            f"evaluate: refused: {type(error).__name__}: {' '.join(str(error).split())[:500]}",
            file=sys.stderr,
        )
        return 2
    canonical = json.dumps(losses, sort_keys=True, separators=(",", ":"))
    (asked.output / "losses.json").write_text(canonical, encoding="ascii")
    return 0


if __name__ == "__main__":
    sys.exit(main())
