"""The live line shows numbers from a stranger's log and nothing else of it."""

import pytest

from appliance.demo.progress import TrainingProgress


def test_shows_steps_loss_and_remaining_time() -> None:
    progress = TrainingProgress()
    progress.feed("step=10 total=100 loss=4.0 seconds_left=900\n", now_s=0.0)
    progress.feed("step=20 total=100 loss=1.0 seconds_left=895\n", now_s=5.0)
    assert progress.line() == "20/100 steps  loss 1.0000 █▃  about 40 s left"


def test_time_left_is_never_more_than_the_budget() -> None:
    progress = TrainingProgress()
    progress.feed("step=10 total=1000 loss=4.0 seconds_left=60\n", now_s=0.0)
    progress.feed("step=20 total=1000 loss=1.0 seconds_left=55\n", now_s=5.0)
    assert progress.line().endswith("about 55 s left")


def test_says_nothing_before_the_first_report() -> None:
    progress = TrainingProgress()
    progress.feed("reference champion: started\n", now_s=0.0)
    assert progress.line() == ""


@pytest.mark.parametrize("text", ["step=1 total=2 loss=nan", "step=x", "\x1b[2J", "step=1 total=2 loss=-1.0"])
def test_ignores_what_is_no_report(text: str) -> None:
    progress = TrainingProgress()
    progress.feed(text, now_s=0.0)
    assert progress.line() == ""


def test_plot_stays_small_however_long_the_run() -> None:
    progress = TrainingProgress()
    for step in range(1, 5000):
        progress.feed(f"step={step} total=5000 loss=0.0", now_s=float(step))
    assert len(progress.line()) < 90
