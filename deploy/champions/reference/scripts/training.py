"""One LoRA fine-tune with TRL's SFTTrainer, watched by the clock; the best epoch is kept."""

import ctypes
import math
import random
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from datasets import Dataset
from instruct import encode_file, parse_format
from peft import LoraConfig
from saving import save_adapter
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, TrainerCallback, set_seed
from transformers.utils import logging
from trl import SFTConfig, SFTTrainer

SEED = 42
MAX_EPOCHS = 4
MAX_TOKENS = 4096  # the tournament's sequence length
DEV_SHARE, MAX_DEV_ROWS = 0.1, 48  # rows held back to choose the best epoch
CPU_BATCH, GPU_BATCH = 16, 32
# (parameters below, learning rate): small models need large steps.
LEARNING_RATES = ((10e6, 5e-3), (1e9, 5e-4), (math.inf, 2e-4))


@dataclass(frozen=True)
class Job:
    """What to train, on what, where the result belongs, and when to stop (seconds of time.monotonic)."""

    model: str
    model_folder: Path
    data_file: Path
    dataset_type: str
    output: Path
    stop_at: float


class EndFlag(Protocol):
    has_come: bool
    is_training: bool


class Watch(TrainerCallback):  # type: ignore[misc]  # the library is untyped
    """Tells progress, saves the best epoch, and stops in time."""

    def __init__(self, job: Job, end_request: EndFlag) -> None:
        self.job, self.end_request = job, end_request
        self.trainer: Any = None
        self.saved_step = 0
        self.best_loss: float | None = None

    @property
    def seconds_left(self) -> float:
        return self.job.stop_at - time.monotonic()

    @property
    def is_over(self) -> bool:
        return self.end_request.has_come or self.seconds_left <= 0

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **rest: Any) -> None:
        if "loss" in (logs or {}):
            print(
                f"step={state.global_step} total={state.max_steps} loss={logs['loss']:.4f} "
                f"seconds_left={max(0.0, self.seconds_left):.0f}",
                flush=True,
            )

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        control.should_training_stop = self.is_over or state.global_step >= state.max_steps

    def on_epoch_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        if self.is_over:
            if not self.saved_step:
                self._save(state.global_step, loss=None)
            return
        loss = self.trainer.evaluate()["eval_loss"]
        print(
            f"epoch={state.epoch:.0f} eval_loss={loss:.4f} seconds_left={self.seconds_left:.0f}", flush=True
        )
        if self.best_loss is None or loss < self.best_loss:
            self.best_loss = loss
            self._save(state.global_step, loss=loss)

    def _save(self, step: int, *, loss: float | None) -> None:
        trainer = self.trainer
        save_adapter(
            trainer.model,
            trainer.processing_class,
            self.job.output,
            base=self.job.model,
            step=step,
            loss=loss,
        )
        self.saved_step = step


def train(job: Job, end_request: EndFlag) -> int:
    """Fine-tune and save at `job.output`; gives the step that was saved. Same job, same weights (on a CPU),
    unless the clock cut in."""
    set_seed(SEED)
    torch.use_deterministic_algorithms(True, warn_only=True)
    logging.disable_progress_bar()
    keep_freed_memory()
    has_gpu = torch.cuda.is_available()
    tokenizer = AutoTokenizer.from_pretrained(job.model_folder, local_files_only=True)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(
        job.model_folder, local_files_only=True, dtype=torch.bfloat16 if has_gpu else torch.float32
    )
    context = getattr(model.config, "max_position_embeddings", MAX_TOKENS)
    rows = encode_file(
        job.data_file, parse_format(job.dataset_type), tokenizer, max_tokens=min(MAX_TOKENS, context)
    )
    learn, dev = split(rows)
    print(
        f"rows={len(learn)} dev_rows={len(dev)} parameters={model.num_parameters()} gpu={has_gpu}", flush=True
    )
    watch = Watch(job, end_request)
    with tempfile.TemporaryDirectory() as scratch:
        trainer = SFTTrainer(
            model=model,
            args=settings(scratch, parameters=model.num_parameters(), has_gpu=has_gpu),
            train_dataset=Dataset.from_list(learn),
            eval_dataset=Dataset.from_list(dev),
            processing_class=tokenizer,
            peft_config=LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=32, target_modules="all-linear"),
            callbacks=[watch],
        )
        trainer.remove_callback(PrinterCallback)
        watch.trainer = trainer
        end_request.is_training = True
        trainer.train()
    return watch.saved_step


def keep_freed_memory() -> None:
    """Have glibc keep what is freed: on a CPU, giving pages back after each step doubles its time."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD
        libc.mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD


def split(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows to learn from, and rows held back to choose the best epoch. Raises ValueError below two rows."""
    if len(rows) < 2:
        raise ValueError(f"{len(rows)} usable rows; at least two are needed")
    shuffled = random.Random(SEED).sample(rows, len(rows))
    held_back = min(MAX_DEV_ROWS, max(1, int(len(rows) * DEV_SHARE)))
    return shuffled[held_back:], shuffled[:held_back]


def settings(scratch: str, *, parameters: int, has_gpu: bool) -> SFTConfig:
    """The trainer's settings for a model of that size on this machine."""
    return SFTConfig(
        output_dir=scratch,
        num_train_epochs=MAX_EPOCHS,
        per_device_train_batch_size=GPU_BATCH if has_gpu else CPU_BATCH,
        per_device_eval_batch_size=GPU_BATCH if has_gpu else CPU_BATCH,
        auto_find_batch_size=has_gpu,  # halves the batch when the memory of the GPU does not suffice
        learning_rate=next(rate for below, rate in LEARNING_RATES if parameters < below),
        lr_scheduler_type="cosine",
        warmup_steps=5,
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},  # rows are tokenised by the tournament's rules already
        use_cpu=not has_gpu,
        bf16=has_gpu,
        gradient_checkpointing=has_gpu,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        logging_steps=1,
        seed=SEED,
        data_seed=SEED,
    )
