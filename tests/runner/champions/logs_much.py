"""Keeps more files of logs beside its submission than most champions have in all, as offline loggers do."""

import os
from pathlib import Path

from contract import read, save, say

told = read()
save(told)
logs = Path(os.environ["WANDB_DIR"])
say("logs", logs.is_dir())
for run in range(12):
    files = logs / f"offline-run-{run}" / "files"
    files.mkdir(parents=True)
    for number in range(50):
        (files / f"media_{number}.json").write_text("{}")
