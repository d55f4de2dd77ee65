"""Make the demo's base model: a small language model of the Llama architecture, trained here from nothing.

It is real in every respect but size: a folder as the Hugging Face libraries write it, with configuration,
safetensors and a byte-level BPE tokenizer, pretrained on sentences made by this file. It has never seen the
demo's task. The same seed on the same machine gives the same bytes.
"""

import argparse
import ctypes
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path

# Before torch is imported: idle OpenMP threads that spin cost far more than a second thread gains.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, set_seed
from transformers.utils import logging

VOCABULARY = 768
CONTEXT = 512
BLOCK = 96  # tokens a training row
SENTENCES = 6000
STEPS = 80
BATCH = 16
LEARNING_RATE = 4e-3
BEGIN, END, PAD = "<s>", "</s>", "<pad>"

PEOPLE = ("The customer", "A clerk", "My neighbour", "The team", "An old friend", "The manager", "Somebody")
VERBS = ("asked", "wrote", "called", "answered", "paid", "waited", "looked", "complained", "explained")
ABOUT = (
    "about a card",
    "about the transfer",
    "about her loan",
    "about the app",
    "about a payment",
    "about the mortgage",
    "about a fee",
    "about the account",
    "about a password",
)
WHEN = ("on Monday", "last week", "for three days", "in May", "this morning", "two weeks ago", "at once")
ENDINGS = (
    "and nobody answered.",
    "and it was done.",
    "because the bill was due.",
    "and the bank said thank you.",
    "but the web page was slow.",
    "with high hopes.",
    "as is normal here.",
    "and the decision came early.",
    "before the priority changed.",
)
MONEY = (
    "The bill was {n} euros.",
    "It cost {n} euros a year.",
    "There were {n} euros left.",
    "No money was gone.",
)
LABELS = ("Name", "Colour", "Size", "Town", "Answer", "Day", "Code", "Kind", "Note", "Team", "State", "Price")
VALUES = ("red", "blue", "small", "large", "open", "closed", "early", "late", "new", "old", "fast", "slow")
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
GREETINGS = ("Hello.", "Good morning.", "Dear bank,", "Hi there,", "Please help me.", "I do not know.")


def sentence(random_source: random.Random) -> str:
    """A line of plain office English."""
    pick = random_source.choice
    money = pick(MONEY).format(n=random_source.randrange(10, 1500))
    if random_source.random() < 0.4:  # a form, with a word never seen before, so that every letter is learnt
        word = "".join(random_source.choices(LETTERS, k=random_source.randrange(2, 9)))
        return f"{pick(LABELS)}: {pick(VALUES)}. {pick(LABELS)}: {word}. {pick(LABELS)}: {pick(VALUES)}."
    return (
        f"{pick(GREETINGS)} {pick(PEOPLE)} {pick(VERBS)} {pick(ABOUT)} {pick(WHEN)} {pick(ENDINGS)} {money}"
    )


def make_tokenizer(lines: list[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer learnt from `lines`; any text can be written with it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[BEGIN, END, PAD],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(lines, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BEGIN, eos_token=END, pad_token=PAD, model_max_length=CONTEXT
    )


def make_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """An untrained model of about one million parameters."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=CONTEXT,
            initializer_range=0.08,  # with the usual 0.02 a model this narrow cannot tell its tokens apart
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def batches(tokens: list[int], seed: int) -> Iterator[torch.Tensor]:
    """`STEPS` batches of random windows; tokens: [batch, BLOCK]."""
    random_source = random.Random(seed)
    for _ in range(STEPS):
        starts = [random_source.randrange(len(tokens) - BLOCK) for _ in range(BATCH)]
        yield torch.tensor([tokens[start : start + BLOCK] for start in starts])


def pretrain(model: LlamaForCausalLM, tokens: list[int], *, seed: int) -> float:
    """Train all weights for a few seconds; gives the last loss."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=STEPS)
    loss = torch.zeros(())
    model.train()
    for batch in batches(tokens, seed):
        loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return float(loss.detach())


def keep_freed_memory() -> None:
    """Have glibc keep what is freed: giving pages back between steps costs as much time as the steps."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD
        libc.mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--output", type=Path, required=True, help="folder to make; it must not exist")
    parser.add_argument("--seed", type=int, default=7)
    asked = parser.parse_args()
    if asked.output.exists():
        parser.error(f"{asked.output} exists already")
    logging.disable_progress_bar()
    keep_freed_memory()
    torch.set_num_threads(1)  # more threads sum in another order, and the bytes would differ
    set_seed(asked.seed)
    random_source = random.Random(asked.seed)
    lines = [sentence(random_source) for _ in range(SENTENCES)]
    tokenizer = make_tokenizer(lines)
    model = make_model(tokenizer)
    tokens = [token for ids in tokenizer(lines)["input_ids"] for token in [*ids, tokenizer.eos_token_id]]
    loss = pretrain(model, tokens, seed=asked.seed)
    model.save_pretrained(asked.output)
    tokenizer.save_pretrained(asked.output)
    for file in asked.output.iterdir():
        file.chmod(0o644)
    print(f"parameters={model.num_parameters()} vocabulary={len(tokenizer)} loss={loss:.3f}", file=sys.stderr)


if __name__ == "__main__":
    main()
