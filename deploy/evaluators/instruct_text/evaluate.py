"""Losses of a base model and of a fine-tune of it on held-out instruct rows, one number a row.

Runs in a sandbox of its own, after training, on what a champion left behind. It trusts none of that: no code
from a model folder, safetensors only, the base model's tokenizer and architecture. Prompts and losses follow
the rules of the Gradients tournament. Gradients.io (https://gradients.io).

Covered: a result of another architecture or vocabulary, missing or surplus adapter tensors, losses that are
not numbers, too many rows. Each ends with one line on stderr and code 2.
Not covered: flaws of the libraries that read the files. That is what the sandbox is for.
"""

import argparse
import ctypes
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

# Before torch is imported: OpenMP threads that wait must not spin, and nothing may look for a network.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

MAX_ROWS = 400  # tournament: a tenth of the rows, at most 400
MAX_TOKENS = 4096  # tournament: sequence length of the evaluation
BATCH_ROWS = 8
MICRONATS = 1_000_000
NOT_COUNTED = -100  # label of a prompt's or a padding token
# A fine-tune may not differ from its base in any of these (tournament: is_finetune).
ARCHITECTURE = (
    "architectures", "hidden_size", "n_layer", "intermediate_size", "head_dim", "hidden_act", "model_type",
    "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "vocab_size",
)  # fmt: skip
# What a LoRA's configuration may say; the rest of its fields only matter before training.
LORA_FIELDS = (
    "r", "lora_alpha", "target_modules", "exclude_modules", "rank_pattern", "alpha_pattern", "use_rslora",
    "use_dora", "fan_in_fan_out", "layers_to_transform", "layers_pattern", "bias", "lora_bias",
)  # fmt: skip
# Fields that would change the model in ways a plain LoRA does not.
REFUSED_LORA_FIELDS = (
    "auto_mapping", "layer_replication", "modules_to_save", "trainable_token_indices", "target_parameters",
    "alora_invocation_tokens", "arrow_config", "use_bdlora", "use_qalora", "megatron_config",
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


def load_model(folder: Path, *, device: str) -> Any:
    """A causal language model from safetensors, without running any code of the folder."""
    return AutoModelForCausalLM.from_pretrained(
        folder,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        dtype=torch.float32 if device == "cpu" else torch.bfloat16,
    ).to(device)


def attach_adapter(model: Any, tuned: Path) -> Any:
    """`model` with the LoRA in `tuned`. Raises Refused unless it is a plain LoRA that fits exactly."""
    raw = json.loads((tuned / "adapter_config.json").read_text(encoding="utf-8"))
    if raw.get("peft_type") != "LORA":
        raise Refused(f"adapter is of type {raw.get('peft_type')!r}; wanted 'LORA'")
    if strange := [field for field in REFUSED_LORA_FIELDS if raw.get(field)]:
        raise Refused(f"adapter configuration sets {', '.join(strange)}, which is not evaluated")
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


def check_same_architecture(base: Path, tuned: Path) -> None:
    """Raises Refused where full weights are not a fine-tune of the base (tournament: is_finetune)."""
    ours, theirs = (
        AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False).to_dict()
        for folder in (base, tuned)
    )
    for field in ARCHITECTURE:
        if ours.get(field) != theirs.get(field):
            raise Refused(f"{field} is {theirs.get(field)}; the base model has {ours.get(field)}")
    if theirs.get("quantization_config"):
        raise Refused("tuned weights are quantised; the base model is not")
    if (theirs.get("max_position_embeddings") or 0) < (ours.get("max_position_embeddings") or 0):
        raise Refused("max_position_embeddings is smaller than the base model's")


def evaluate(base: Path, tuned: Path, *, rows: list[dict[str, str]]) -> dict[str, list[int]]:
    """Losses before and after, row by row, in the order of `rows`."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True, trust_remote_code=False)
    is_adapter = (tuned / "adapter_config.json").is_file()
    if not is_adapter:
        check_same_architecture(base, tuned)
    model = load_model(base, device=device)
    context = getattr(model.config, "max_position_embeddings", None) or MAX_TOKENS
    encoded = [encode_row(row, tokenizer, max_tokens=min(MAX_TOKENS, context)) for row in rows]
    # The base is judged first: attaching an adapter may change it.
    before = row_losses(model, encoded, name="base")
    model = attach_adapter(model, tuned) if is_adapter else load_model(tuned, device=device)
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
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        # What the libraries raise on files that are damaged or made up.
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
