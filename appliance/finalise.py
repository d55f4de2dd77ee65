"""What of a champion's output is the model: the tournament's own finaliser rules, done locally.

Source: the tournament's uploader. A direct sub-folder with weights is preferred, trainer leftovers and
pickles are left behind, an adapter names its real base model.
"""

import json
import shutil
from pathlib import Path
from typing import Final

from appliance.models import PICKLE_SUFFIXES

_LEFTOVERS: Final = frozenset({"trainer_state.json"})
_MAX_ADAPTER_CONFIG_BYTES: Final = 1 << 20


def finalise(output: Path, into: Path, *, base_model_name: str) -> None:
    """Copy the model that lies in the harvested folder `output` to the new folder `into`.

    Whole checkpoints (`checkpoint-*`) and pickles stay behind. `output` is already free of links.
    Without an output there is no model, which the verdict tells.
    """
    if not output.is_dir():
        return
    source = _with_weights(output)
    shutil.copytree(source, into, ignore=_left_behind)
    config = into / "adapter_config.json"
    if config.is_file() and config.stat().st_size <= _MAX_ADAPTER_CONFIG_BYTES:
        _name_base_model(config, base_model_name)


def _with_weights(output: Path) -> Path:
    if any(output.glob("*.safetensors")):
        return output
    folders = sorted(p.parent for p in output.glob("*/*.safetensors"))
    return folders[0] if folders else output


def _left_behind(_folder: str, names: list[str]) -> set[str]:
    return {
        n
        for n in names
        if n in _LEFTOVERS or n.startswith("checkpoint-") or Path(n).suffix in PICKLE_SUFFIXES
    }


def _name_base_model(config: Path, base_model_name: str) -> None:
    try:
        settings = json.loads(config.read_bytes())
    except (ValueError, RecursionError):
        return  # the verdict judges a broken configuration; here it is only carried along
    if isinstance(settings, dict):
        settings["base_model_name_or_path"] = base_model_name
        config.chmod(0o644)
        config.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")
