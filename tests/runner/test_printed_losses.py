"""Losses that a guest prints are read by a strict grammar, and a flood of them does no harm."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from runner.errors import HarvestError
from runner.losses import Losses, Source, StepKind
from runner.printed_losses import PRINTED_NAME, PrintedLosses, parse_printed, read_printed


@pytest.mark.parametrize(
    ("line", "numbers"),
    [
        ("{'loss': 1.25, 'grad_norm': 0.5, 'epoch': 0.1}", {"loss": 1.25, "grad_norm": 0.5, "epoch": 0.1}),
        ("{'loss': '1.25', 'epoch': '5e-02'}", {"loss": 1.25, "epoch": 0.05}),
        ('rank0: {"loss": 2, "step": 7, "tag": "x", "ok": true}', {"loss": 2.0, "step": 7.0}),
        ("{'eval_loss': inf}", {"eval_loss": float("inf")}),
        ("{'loss': 1,}", {"loss": 1.0}),
        ("loss: 1.25", {}),
        ("{'loss': __import__('os').system('id')}", {}),
        ("{'loss': 1.25, 'x': [1]}", {}),
        ("{'loss': 1.25 'x': 1}", {}),
        ("{'loss': 1_0}", {}),
        ("{'loss': 0x10}", {}),
        ("{'loss': 1, 'loss': 2}", {}),
        ("{'loss: 1}", {}),
        ("{{'loss': 1}}", {"loss": 1.0}),
    ],
)  # fmt: skip
def test_printed_dictionaries_are_read_strictly(line: str, numbers: dict[str, float]) -> None:
    assert parse_printed(line) == numbers


@pytest.mark.parametrize("part", ["{", "{'loss': ", "{'a':1,", "'", "{'loss':'", "{'a': 1 ", "{'loss': -"])
def test_hostile_lines_take_no_time(part: str, tmp_path: Path) -> None:
    line = ((part * 4096)[:4000] + " loss {\n").encode()
    began = time.monotonic()
    watch(tmp_path, line * 100)
    assert time.monotonic() - began < 2.0


def watch(folder: Path, *pieces: bytes) -> Losses | None:
    descriptor = os.open(folder, os.O_RDONLY)
    losses = PrintedLosses(folder=descriptor)
    for piece in pieces:
        losses.read(piece)
    losses.close()
    os.close(descriptor)
    return read_printed(folder)


def test_printed_losses_are_counted_by_name(tmp_path: Path) -> None:
    found = watch(
        tmp_path,
        b"starting\n{'loss': 2.5, 'epoch': 0.1}\n{'loss': 2.0, 'epoch': 0.2}\n",
        b"{'eval_loss': 1.5, 'eval_runtime': 3}\n{'loss': nan}\n",
    )
    assert found is not None
    assert [(p.step, p.name, p.micros) for p in found.points] == [
        (1, "loss", 2_500_000),
        (2, "loss", 2_000_000),
        (1, "eval_loss", 1_500_000),
    ]
    assert (found.source, found.steps, found.file) == (Source.PRINTED, StepKind.ORDINALS, "stdout.log")


def test_printed_steps_are_taken_where_there_are_some(tmp_path: Path) -> None:
    found = watch(tmp_path, b"{'loss': 2.5, 'step': 30}\n")
    assert found is not None
    assert (found.points[0].step, found.steps) == (30, StepKind.STEPS)


def test_nothing_printed_is_no_curve(tmp_path: Path) -> None:
    assert watch(tmp_path, b"loss is falling\n") is None
    assert list(tmp_path.iterdir()) == []


def test_a_flood_of_losses_is_thinned_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.printed_losses.CAP_BYTES", 4096)
    found = watch(tmp_path, b"{'loss': 2.5}\n" * 500, b"{'eval_loss': 1}\n", b"{'loss': 2.5}\n" * 500)
    assert found is not None
    assert (tmp_path / PRINTED_NAME).stat().st_size <= 4096
    assert {p.name for p in found.points} == {"loss", "eval_loss"}
    assert found.points[-1].step == 1000


def test_a_full_disk_ends_watching(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    assert watch(tmp_path, b"{'loss': 2.5}\n" * 3) is None


def test_a_curve_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / PRINTED_NAME).symlink_to("/etc/hostname")
    with pytest.raises(HarvestError, match="cannot be read"):
        read_printed(tmp_path)


@pytest.mark.parametrize(
    ("line", "numbers"),
    [
        ("step=17 total=48 loss=0.6997", {"step": 17.0, "total": 48.0, "loss": 0.6997}),
        ("epoch=4 eval_loss=4.88e-2", {"epoch": 4.0, "eval_loss": 0.0488}),
        ("the loss=0.1 was good", {}),
        ("loss=0.1 loss=0.2", {}),
        ("loss=__import__('os')", {}),
        ("loss=", {}),
    ],
)
def test_lines_of_names_and_numbers_are_read_and_nothing_like_them(
    line: str, numbers: dict[str, float]
) -> None:
    assert parse_printed(line) == numbers
