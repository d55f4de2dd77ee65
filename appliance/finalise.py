"""What of a champion's output is the model: the tournament's own finaliser rules, done locally.

Source: the tournament's uploader. A direct sub-folder with weights is preferred, trainer leftovers are left behind, an
adapter and its card name the real base model, image models lie below `checkpoints/`. Ours is stricter: only kinds of
files that are known to be harmless are kept, and no configuration keeps its call for foreign code; of the LoRA files of
an image model the last whole one is kept; a trainer's `checkpoint-*` counts only where nothing else has weights.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.errors import ArtifactError
from appliance.model_card import MAX_CARD_BYTES, with_base_model
from appliance.models import FOREIGN_CODE, MAX_CONFIG_BYTES, MAX_JSON_BYTES, is_model_file
from attestation.errors import MalformedError
from attestation.oms import Manifest, check_file_names
from runner.contract.tasks import TaskType
from runner.harvest import Harvest
from runner.image_adapter import CHECKPOINTS, newest
from runner.pickles import is_trainer_state
from runner.safetensors import SafetensorsError, read_header

MAX_METADATA_BYTES: Final = 1024  # tournament: an output with nothing larger is no model
MAX_CHAIN: Final = 10  # tournament: adapters of adapters that are followed
MAX_NAMES_TOLD: Final = 8
MAX_PARSED_BYTES: Final = 8 << 20  # of one JSON file; as objects the worst of it takes twenty times that
MAX_JSON_TOTAL_BYTES: Final = 64 << 20
MAX_INDENTED_BYTES: Final = 64 << 10  # beyond, nobody reads it, and the pretty encoder takes far more memory
WEIGHTS: Final = ".safetensors"
_ADAPTER_CONFIG: Final = "adapter_config.json"
_LEFTOVERS: Final = frozenset({"trainer_state.json"})
_LARGE: Final = frozenset({"tokenizer.json", "vocab.json"})  # the largest in use have 32 MiB
# The key as any reader of JSON may find it: each character as it is or escaped.
_FOREIGN_KEY: Final = re.compile(
    b'"' + b"".join(rb"(?:%b|\\u(?i:%04x))" % (c.encode(), ord(c)) for c in FOREIGN_CODE) + b'"'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finalised:
    """What became of an output. Paths are relative, with slashes: of the model, and of the output."""

    kept: Mapping[str, str]  # path in the model → path in the output
    rewritten: frozenset[str]  # of the model's, those whose bytes are not the champion's any more
    left_behind: Mapping[str, str]  # path in the output → why


def finalise(
    output: Path, into: Path, *, base_model_name: str, task: TaskType = TaskType.INSTRUCT
) -> Finalised:
    """Put the model that lies in the harvested folder `output` into the new folder `into`.

    What stays as it is is linked where that can be done: nothing may write to either folder. `output` is already free
    of links. Without an output there is no model, which the verdict tells. Raises ArtifactError for an output of
    nothing but metadata, for JSON that cannot be looked into, and for file names that no evidence can hold.
    """
    if not output.is_dir():
        return Finalised(kept={}, rewritten=frozenset(), left_behind={})
    source = _with_weights(output)
    reasons = {path: _why_left(path, source) for path in _files(output)}
    if task is TaskType.IMAGE:
        reasons |= _all_but_newest([path for path, why in reasons.items() if why is None], output)
    kept = {path: path.relative_to(source) for path, why in reasons.items() if why is None}
    _check_more_than_metadata(
        kept, left=[_below(path, output) for path, why in reasons.items() if why is not None]
    )
    _check_json_total(kept)
    root = into / CHECKPOINTS if task is TaskType.IMAGE else into
    root.mkdir(parents=True)
    rewritten = {
        path for path, name in kept.items() if _put(path, root / name, base_model_name, is_top=_is_top(name))
    }
    _check_names(into)
    return Finalised(
        kept={
            (root / name).relative_to(into).as_posix(): _below(path, output) for path, name in kept.items()
        },
        rewritten=frozenset((root / kept[path]).relative_to(into).as_posix() for path in rewritten),
        left_behind={_below(path, output): why for path, why in reasons.items() if why is not None},
    )


def real_base_name(name: str, *, named_by: Callable[[str], str | None]) -> str:
    """The base model at the end of a chain of adapters that begins at `name`.

    `named_by` tells which model an adapter of that name is for, None for what is no adapter or is not known here.
    Raises ArtifactError for a chain that is longer than the tournament follows, or has no end.
    """
    found = name
    for _ in range(MAX_CHAIN):
        parent = named_by(found)
        if parent is None:
            return found
        found = parent
    if named_by(found) is None:
        return found
    raise ArtifactError(
        f"base model {name}: more than {MAX_CHAIN} adapters, each made for the next; the last is {found}"
    )


def base_named_in(folder: Path) -> str | None:
    """The model for which the adapter in `folder` was made; None if there is no adapter or it names none.

    Raises ArtifactError if nobody can say.
    """
    file = folder / _ADAPTER_CONFIG
    if not file.is_file():
        return None
    try:
        if file.stat().st_size > MAX_CONFIG_BYTES:
            raise ArtifactError(f"model {folder}: {file.name} is larger than {MAX_CONFIG_BYTES} bytes")
        config = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"model {folder}: {file.name} cannot be read: {error}") from error
    named = config.get("base_model_name_or_path") if isinstance(config, dict) else None
    return named if isinstance(named, str) and named else None


def check_harvested(final: Finalised, *, stored: Manifest, harvest: Harvest, output_leaf: str) -> None:
    """Raise ArtifactError unless every stored file is the one that was taken out of the sandbox, or was rewritten."""
    taken = {file.path: file.sha256 for file in harvest.files}
    for file in stored.files:
        if file.name in final.rewritten:
            continue
        wanted = taken.get(f"{output_leaf}/{final.kept.get(file.name)}")
        if file.sha256 != wanted:
            raise ArtifactError(
                f"{file.name} changed between harvest and store: found sha256:{file.sha256}, wanted"
                f" {f'sha256:{wanted}' if wanted else 'no such file'}"
            )


def _with_weights(output: Path) -> Path:
    folders = sorted({path.parent for path in output.glob(f"*/*{WEIGHTS}") if path.is_file()})
    results = [folder for folder in folders if not _is_checkpoint(folder)]
    if results:
        return results[0]
    if not folders or any(output.glob(f"*{WEIGHTS}")):
        return output
    return max(folders, key=_checkpoint_step)


def _is_checkpoint(folder: Path) -> bool:
    return folder.name.lower().startswith("checkpoint-")


def _checkpoint_step(folder: Path) -> tuple[int, str]:
    step = folder.name.rpartition("-")[2]
    return (int(step) if step.isascii() and step.isdigit() and len(step) <= 12 else -1, folder.name)


def _files(output: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(output):
        folders.sort()
        yield from (Path(folder) / name for name in sorted(names))


def _why_left(path: Path, source: Path) -> str | None:
    """Why the file is no part of the model in `source`; None if it is one."""
    if path.is_symlink() or not path.is_file():
        return "no regular file"
    if not path.is_relative_to(source):
        return f"beside {source.name}, which has the weights"
    if any(_is_checkpoint(parent) for parent in path.relative_to(source).parents):
        return "in a checkpoint of the trainer's"
    if path.name.lower() in _LEFTOVERS or is_trainer_state(path.name):
        return "the trainer's own state"
    return None if is_model_file(path.name) else "no kind of file that a model needs"


def _all_but_newest(kept: list[Path], output: Path) -> dict[Path, str]:
    """Why each of these LoRA files but one is left behind: the last whole one counts, or the last if none is whole."""
    files = {_below(path, output): path for path in kept if path.suffix == WEIGHTS}
    broken = {name for name, path in files.items() if not _is_whole(path)}
    chosen = newest([name for name in files if name not in broken]) or newest(list(files))
    return {
        path: "not whole" if name in broken else f"older than {chosen}"
        for name, path in files.items()
        if name != chosen
    }


def _is_whole(path: Path) -> bool:
    try:
        read_header(path)
    except SafetensorsError:
        return False
    return True


def _check_more_than_metadata(kept: Mapping[Path, Path], *, left: list[str]) -> None:
    """Weights count, however small they are: the verdict judges those. So it does where nothing is kept."""
    if kept and not any(p.suffix == WEIGHTS or p.stat().st_size > MAX_METADATA_BYTES for p in kept):
        raise ArtifactError(
            f"the champion wrote no model: nothing but metadata of at most {MAX_METADATA_BYTES} bytes a file:"
            f" {_some(sorted(path.name for path in kept))}; left behind: {_some(left) or 'nothing'}"
        )


def _check_json_total(kept: Iterable[Path]) -> None:
    found = sum(path.stat().st_size for path in kept if _is_json(path))
    if found > MAX_JSON_TOTAL_BYTES:
        raise ArtifactError(
            f"the champion's JSON files cannot be looked into: found {found} bytes in all,"
            f" wanted at most {MAX_JSON_TOTAL_BYTES}"
        )


def _is_json(path: Path) -> bool:
    return path.name.lower().endswith(".json")


def _some(names: list[str]) -> str:
    return ", ".join(names[:MAX_NAMES_TOLD]) + (", …" if len(names) > MAX_NAMES_TOLD else "")


def _is_top(name: Path) -> bool:
    return len(name.parts) == 1


def _below(path: Path, output: Path) -> str:
    return path.relative_to(output).as_posix()


def _put(source: Path, target: Path, base_model_name: str, *, is_top: bool) -> bool:
    """Put the file in its place; whether its bytes had to be changed."""
    data = _changed(source, base_model_name, is_top=is_top)
    target.parent.mkdir(parents=True, exist_ok=True)
    if data is not None:
        target.write_bytes(data)
        return True
    try:
        target.hardlink_to(source)
    except OSError:  # another disk, too many names, a disk without links
        shutil.copyfile(source, target)
    return False


def _changed(source: Path, base_model_name: str, *, is_top: bool) -> bytes | None:
    """The file's new bytes, or None if it stays as it is."""
    if _is_json(source):
        is_adapter = is_top and source.name == _ADAPTER_CONFIG
        settings = {"base_model_name_or_path": base_model_name} if is_adapter else {}
        return _cleaned(source, settings)
    if is_top and source.name == "README.md":
        if source.stat().st_size > MAX_CARD_BYTES:
            raise ArtifactError(f"the champion's {source.name} is larger than {MAX_CARD_BYTES} bytes")
        before = source.read_bytes()
        after = with_base_model(before, base_model_name)
        return None if after == before else after
    return None


def _cleaned(file: Path, settings: dict[str, str]) -> bytes | None:
    """The JSON in `file` without a call for foreign code and with `settings`; None if it needs no change.

    Raises ArtifactError if nobody can say what it holds.
    """
    size = file.stat().st_size
    most = MAX_JSON_BYTES if file.name in _LARGE else MAX_PARSED_BYTES
    if size > most:
        raise ArtifactError(
            f"the champion's {file.name} cannot be looked into: found {size} bytes, wanted at most {most}"
        )
    data = file.read_bytes()
    if size > MAX_PARSED_BYTES:
        _check_without_foreign_code(file.name, data)
        return None
    try:
        found = json.loads(data)
        if not isinstance(found, dict):
            return None
        wanted = {name: value for name, value in found.items() if name != FOREIGN_CODE} | settings
        indent = 2 if size <= MAX_INDENTED_BYTES else None
        return None if wanted == found else (json.dumps(wanted, indent=indent) + "\n").encode()
    except json.JSONDecodeError:
        return None  # no reader takes it; the verdict judges it, here it is only carried along
    except (ValueError, RecursionError) as error:
        # Too deep, too many digits or no text for this reader; another one may see more.
        raise ArtifactError(f"the champion's {file.name} cannot be looked into: {error}") from error


def _check_without_foreign_code(name: str, data: bytes) -> None:
    """Raise ArtifactError if any reader may find the call for foreign code in `data`, which is too large to parse."""
    if b"\0" in data or _FOREIGN_KEY.search(data):  # with zero bytes it may be UTF-16
        raise ArtifactError(
            f"the champion's {name} cannot be looked into: found {len(data)} bytes with {FOREIGN_CODE} or a zero"
            f" byte in them, wanted neither in more than {MAX_PARSED_BYTES}"
        )


def _check_names(model: Path) -> None:
    names = sorted(p.relative_to(model).as_posix() for p in model.rglob("*") if p.is_file())
    try:
        check_file_names(f"model/{name}" for name in names)  # as evidence has them
    except MalformedError as error:
        raise ArtifactError(f"the trained model cannot be kept: {error}") from error
