"""What upstream tells a text champion, read as strictly as real ones do, and how these scripts save a model."""

import argparse
import json
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

CHECKPOINTS, CACHE = Path("/app/checkpoints"), Path("/cache")
NAMES = [
    "--task-id", "--model", "--dataset", "--dataset-type", "--task-type", "--file-format",
    "--expected-repo-name", "--hours-to-complete",
]  # fmt: skip
MODEL = "model.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """The command line, and the paths that follow from it."""

    task_id: str
    hours: str
    dataset_type: dict[str, object]
    base: Path
    data: Path
    leaf: Path


def read() -> Told:
    """The contract's arguments; anything else ends the script with 2, as argparse does."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for name in NAMES:
        parser.add_argument(name, required=True)
    told = parser.parse_args()
    if sys.argv[1::2] != NAMES:
        parser.error(f"upstream's order is {NAMES}")
    return Told(
        task_id=told.task_id,
        hours=told.hours_to_complete,
        dataset_type=json.loads(told.dataset_type),
        base=CACHE / "models" / told.model.replace("/", "--"),
        data=CACHE / "datasets" / f"{told.task_id}_train_data.json",
        leaf=CHECKPOINTS / told.task_id / told.expected_repo_name,
    )


def say(name: str, value: object) -> None:
    """One fact for whoever reads the log."""
    print(f"{name}={value}", flush=True)


def save(told: Told, *, into: Path | None = None, only: str = "") -> None:
    """Save what training would give: every value moved a little, or just those of tensors that end in `only`."""
    leaf = into or told.leaf
    leaf.mkdir(parents=True, exist_ok=True)
    (leaf / "config.json").write_bytes((told.base / "config.json").read_bytes())
    (leaf / MODEL).write_bytes(_moved((told.base / MODEL).read_bytes(), only=only))
    (leaf / "loss.txt").write_text("70,1.25")


def _moved(whole: bytes, *, only: str) -> bytes:
    start = 8 + struct.unpack("<Q", whole[:8])[0]
    moved = bytearray(whole)
    for name, facts in json.loads(whole[8:start]).items():
        if name != "__metadata__" and name.endswith(only):
            first, end = (start + offset for offset in facts["data_offsets"])
            layout = f"<{(end - first) // 4}f"
            values = struct.unpack(layout, whole[first:end])
            moved[first:end] = struct.pack(layout, *(value + 0.01 for value in values))
    return bytes(moved)
