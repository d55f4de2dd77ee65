"""Instruct rows as token ids, by the tournament's prompt rules: no chat template, the answer right behind."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NOT_LEARNED = -100  # label of a token that does not count in the loss


@dataclass(frozen=True)
class InstructFormat:
    """Which columns a row has and how they become a prompt; the order of fields is the contract's."""

    system_prompt: str
    system_format: str
    field_system: str | None
    field_instruction: str
    field_input: str | None
    field_output: str | None
    format: str
    no_input_format: str


def parse_format(text: str) -> InstructFormat:
    """The format in the argument `--dataset-type`. Raises ValueError with the reason."""
    raw = json.loads(text)
    if not isinstance(raw, dict) or not isinstance(raw.get("field_instruction"), str):
        raise ValueError("--dataset-type has no field_instruction")
    return InstructFormat(
        system_prompt=raw.get("system_prompt") or "",
        system_format=raw.get("system_format") or "{system}",
        field_system=raw.get("field_system"),
        field_instruction=raw["field_instruction"],
        field_input=raw.get("field_input"),
        field_output=raw.get("field_output"),
        format=raw.get("format") or "{instruction} {input}",
        no_input_format=raw.get("no_input_format") or "{instruction}",
    )


def prompt_of(row: Mapping[str, str], layout: InstructFormat) -> str:
    """The text in front of the answer."""
    system = (row.get(layout.field_system) if layout.field_system else None) or layout.system_prompt
    instruction = row.get(layout.field_instruction) or ""
    extra = (row.get(layout.field_input) if layout.field_input else None) or ""
    template = layout.format if extra else layout.no_input_format
    head = layout.system_format.format(system=system) if system else ""
    return head + template.format(instruction=instruction, input=extra)


def encode_row(
    row: Mapping[str, str], layout: InstructFormat, tokenizer: Any, *, max_tokens: int
) -> dict[str, list[int]] | None:
    """`input_ids` and `labels` of one row, or None if there is nothing to learn.

    Prompt and answer are tokenised apart, and only the answer and the end token are learned. A row that is
    too long loses the beginning of its prompt first, then the end of its answer.
    """
    if layout.field_output is None:
        prompt, answer = "", row.get(layout.field_instruction) or ""
    else:
        prompt, answer = prompt_of(row, layout), row.get(layout.field_output) or ""
    if not answer:
        return None
    head = tokenizer(prompt)["input_ids"] if prompt else []
    if head and head[-1] == tokenizer.eos_token_id:
        head = head[:-1]
    tail = [*tokenizer(answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id][:max_tokens]
    head = head[max(0, len(head) + len(tail) - max_tokens) :]
    return {"input_ids": head + tail, "labels": [NOT_LEARNED] * len(head) + tail}


def encode_file(
    path: Path, layout: InstructFormat, tokenizer: Any, *, max_tokens: int
) -> list[dict[str, Any]]:
    """All rows of the JSON array in `path` that teach something, in file order."""
    rows = json.loads(path.read_text(encoding="utf-8"))
    encoded = (encode_row(row, layout, tokenizer, max_tokens=max_tokens) for row in rows)
    return [row for row in encoded if row is not None]
