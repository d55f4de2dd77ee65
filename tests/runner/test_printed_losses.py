"""Losses that a guest prints as words are read by a strict grammar."""

import pytest

from runner.printed_losses import parse_printed


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
