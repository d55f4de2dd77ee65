"""What of a champion's output is the model: the tournament's own finaliser rules, done locally.

Source: the tournament's uploader. A direct sub-folder with weights is preferred, trainer leftovers are left
behind, an adapter names its real base model. Ours is stricter: only kinds of files that are known to be
harmless are kept, and no configuration keeps its call for foreign code.
"""

import json
import shutil
from pathlib import Path
from typing import Final

from appliance.errors import ArtifactError
from appliance.models import FOREIGN_CODE, MAX_JSON_BYTES, is_model_file
from attestation.errors import MalformedError
from attestation.oms import check_file_names

_LEFTOVERS: Final = frozenset({"trainer_state.json"})


def finalise(output: Path, into: Path, *, base_model_name: str) -> None:
    """Copy the model that lies in the harvested folder `output` to the new folder `into`.

    Whole checkpoints (`checkpoint-*`) and every other kind of file stay behind. `output` is already free of
    links. Without an output there is no model, which the verdict tells. Raises ArtifactError for JSON that
    cannot be looked into, and for file names that no evidence can hold.
    """
    if not output.is_dir():
        return

    def copy(source: str, target: str) -> None:
        if not source.lower().endswith(".json"):
            shutil.copyfile(source, target)
        else:
            is_adapter = Path(target) == into / "adapter_config.json"
            settings = {"base_model_name_or_path": base_model_name} if is_adapter else {}
            Path(target).write_bytes(_cleaned(Path(source), settings))

    shutil.copytree(_with_weights(output), into, ignore=_left_behind, copy_function=copy)
    _check_names(into)


def _with_weights(output: Path) -> Path:
    if any(output.glob("*.safetensors")):
        return output
    folders = sorted(p.parent for p in output.glob("*/*.safetensors"))
    return folders[0] if folders else output


def _left_behind(folder: str, names: list[str]) -> set[str]:
    return {n for n in names if not _is_kept(Path(folder) / n)}


def _is_kept(path: Path) -> bool:
    if path.is_dir():
        return not path.name.lower().startswith("checkpoint-")
    return path.name.lower() not in _LEFTOVERS and is_model_file(path.name)


def _cleaned(file: Path, settings: dict[str, str]) -> bytes:
    """The JSON in `file` without a call for foreign code and with `settings`.

    What needs no change keeps its bytes. Raises ArtifactError if nobody can say what it holds.
    """
    if file.stat().st_size > MAX_JSON_BYTES:
        raise ArtifactError(f"the champion's {file.name} is larger than {MAX_JSON_BYTES} bytes")
    data = file.read_bytes()
    try:
        found = json.loads(data)
        if not isinstance(found, dict):
            return data
        wanted = {name: value for name, value in found.items() if name != FOREIGN_CODE} | settings
        return data if wanted == found else (json.dumps(wanted, indent=2) + "\n").encode()
    except json.JSONDecodeError:
        return data  # no reader takes it; the verdict judges it, here it is only carried along
    except (ValueError, RecursionError) as error:
        # Too deep, too many digits or no text for this reader; another one may see more.
        raise ArtifactError(f"the champion's {file.name} cannot be looked into: {error}") from error


def _check_names(model: Path) -> None:
    names = sorted(p.relative_to(model).as_posix() for p in model.rglob("*") if p.is_file())
    try:
        check_file_names(f"model/{name}" for name in names)  # as evidence has them
    except MalformedError as error:
        raise ArtifactError(f"the trained model cannot be kept: {error}") from error
