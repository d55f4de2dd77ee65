"""Write the trained adapter so that a kill at any moment leaves either the older or the newer one, whole."""

import json
import shutil
from pathlib import Path
from typing import Any

CARD = """---
base_model: {base}
library_name: peft
---
LoRA adapter for {base}, trained by the reference champion after {step} steps.
Made with software of the Gradients-on-Demand project: Gradients.io (https://gradients.io).
"""


def save_adapter(model: Any, tokenizer: Any, into: Path, *, base: str, step: int, loss: float | None) -> None:
    """Put adapter, tokenizer and loss.txt at `into`. No pickles are written."""
    fresh = into.with_name(into.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    model.save_pretrained(fresh, safe_serialization=True)
    tokenizer.save_pretrained(fresh)
    _settle_config(fresh / "adapter_config.json", base)
    (fresh / "README.md").write_text(CARD.format(base=base, step=step), encoding="utf-8")
    told = "no_eval" if loss is None else f"{loss:.6f}"
    (fresh / "loss.txt").write_text(f"{step},{told}", encoding="utf-8")
    shutil.rmtree(into, ignore_errors=True)
    fresh.rename(into)


def _settle_config(path: Path, base: str) -> None:
    # Left alone, it names a local folder, and the order of target_modules changes from run to run.
    config = json.loads(path.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = base
    config["target_modules"] = sorted(config["target_modules"])
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
