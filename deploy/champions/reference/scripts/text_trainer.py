"""The reference champion: a LoRA fine-tune of any causal language model, within the time it is given.

Arguments, paths and prompt rules are those of the Gradients tournament (epoch E4, text), so it runs wherever
a tournament champion runs. Gradients.io (https://gradients.io).
"""

import argparse
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

STARTED = time.monotonic()
print("reference champion: started", flush=True)  # before the slow imports, so that a start can be timed

# Tests and benchmarks run this file without a sandbox: there /cache and /app lie below this folder.
ROOT = Path(os.environ.get("CHAMPION_ROOT", "/"))
MARGIN_SHARE, MIN_MARGIN_S, MAX_MARGIN_S = 0.1, 4.0, 180.0  # time kept for the last save
# Before torch is imported: idle OpenMP threads must not spin, and a GPU must add up in one order.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def parse_arguments() -> argparse.Namespace:
    """The contract's arguments and no others: an unknown one ends the process with code 2."""
    parser = argparse.ArgumentParser(prog="text_trainer", allow_abbrev=False)
    parser.add_argument("--task-id", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--dataset-type", required=True)
    parser.add_argument("--task-type", required=True, choices=["InstructTextTask"])
    parser.add_argument("--file-format", default="s3", choices=["csv", "json", "hf", "s3"])
    parser.add_argument("--expected-repo-name", required=True)
    parser.add_argument("--hours-to-complete", required=True, type=float)
    return parser.parse_args()


def stop_after_s(budget_s: float) -> float:
    """Seconds after the start at which training stops, so that the last save fits into `budget_s`."""
    return budget_s - min(max(budget_s * MARGIN_SHARE, MIN_MARGIN_S), MAX_MARGIN_S)


class EndRequest:
    """Whether SIGTERM has come. Before a step is trained there is nothing to save, and it ends us at once."""

    def __init__(self) -> None:
        self.has_come = False
        self.is_training = False

    def receive(self, number: int, _frame: FrameType | None) -> None:
        self.has_come = True
        if not self.is_training:
            os._exit(128 + number)  # not sys.exit: a library that is being imported might catch it


def main() -> int:
    """Train as ordered; 0 if weights were saved, 1 if there is nothing to save."""
    order = parse_arguments()
    end_request = EndRequest()
    signal.signal(signal.SIGTERM, end_request.receive)

    from training import Job, train  # noqa: PLC0415  the libraries behind it take seconds to import

    job = Job(
        model=order.model,
        model_folder=ROOT / "cache/models" / order.model.replace("/", "--"),
        data_file=ROOT / "cache/datasets" / f"{order.task_id}_train_data.json",
        dataset_type=order.dataset_type,
        output=ROOT / "app/checkpoints" / order.task_id / order.expected_repo_name,
        stop_at=STARTED + stop_after_s(order.hours_to_complete * 3600),
    )
    saved_step = train(job, end_request)
    print(f"finished saved_step={saved_step} seconds={time.monotonic() - STARTED:.1f}", flush=True)
    return 0 if saved_step else 1


if __name__ == "__main__":
    sys.exit(main())
