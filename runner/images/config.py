"""Reads an image's manifest and configuration strictly: what its layers are and how it wants to be started.

What is covered: one reading of every key that is used, whatever the case it is written in; sizes; words that no
command line or environment can hold. Keys that are not used here may be anything, as the specification wants.
What is not covered: whether what it wants is good; that is for whoever starts it.

Source: OCI image specification, manifest.md and config.md.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runner.images.errors import ImageError

MAX_JSON_BYTES = 4 << 20  # OCI distribution specification: of a manifest
MAX_WORDS = 4096  # of an entry point, a command or an environment
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})", re.ASCII)
_VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_.-]*)=([^\0]*)", re.ASCII | re.DOTALL)
_ROOT = frozenset({"", "0", "root", "0:0", "root:root", "0:root", "root:0"})

Json = dict[str, Any]  # Any: foreign documents, each value checked where it is used


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageConfig:
    """What a container made from the image would do. `diff_ids` are its layers, SHA-256 of their tars in hex."""

    architecture: str
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    environment: Mapping[str, str]
    working_folder: str
    user: str
    diff_ids: tuple[str, ...]

    @property
    def is_for_root(self) -> bool:
        """Whether it wants to be started as user and group 0."""
        return self.user in _ROOT


def parse_config(data: bytes) -> ImageConfig:
    """The configuration in `data`. Raises ImageError."""
    document = _parse(data, name="configuration", used=("architecture", "os", "config", "rootfs"))
    if document.get("os") != "linux":
        raise ImageError(f"the configuration is for {document.get('os')!r}, wanted 'linux'")
    started = {} if document.get("config") is None else document["config"]
    run = _object(started, "config", ("Entrypoint", "Cmd", "Env", "WorkingDir", "User"))
    layers = _object(document.get("rootfs"), "rootfs", ("type", "diff_ids"))
    if layers.get("type") != "layers":
        raise ImageError(f"rootfs.type is {layers.get('type')!r}, wanted 'layers'")
    return ImageConfig(
        architecture=_word(document.get("architecture"), "architecture"),
        entrypoint=_words(run.get("Entrypoint"), "config.Entrypoint"),
        command=_words(run.get("Cmd"), "config.Cmd"),
        environment=_environment(_words(run.get("Env"), "config.Env")),
        working_folder=_folder(run.get("WorkingDir")),
        user=_word("" if run.get("User") is None else run["User"], "config.User"),
        diff_ids=tuple(_sha256(one, "rootfs.diff_ids") for one in _words(layers.get("diff_ids"), "diff_ids")),
    )


def check_config(manifest: bytes, config: bytes) -> None:
    """Raise ImageError unless `manifest` is an image's and names exactly this configuration."""
    document = _parse(manifest, name="manifest", used=("schemaVersion", "config", "layers"))
    if document.get("schemaVersion") != 2:
        raise ImageError(f"the manifest has schema version {document.get('schemaVersion')!r}, wanted 2")
    named = _object(document.get("config"), "config", ("digest",)).get("digest")
    if (found := hashlib.sha256(config).hexdigest()) != _sha256(named, "config.digest"):
        raise ImageError(f"the configuration has sha256:{found}, the manifest names {named}")


def _parse(data: bytes, *, name: str, used: tuple[str, ...]) -> Json:
    if len(data) > MAX_JSON_BYTES:
        raise ImageError(f"the {name} has {len(data)} bytes, wanted at most {MAX_JSON_BYTES}")
    try:
        document = json.loads(data.decode("utf-8"), object_pairs_hook=_once)
        json.dumps(document, ensure_ascii=False).encode()  # no half of a surrogate pair
    except (ValueError, RecursionError) as error:
        raise ImageError(f"the {name} is not JSON with one reading: {str(error)[:200]}") from error
    return _object(document, name, used)


def _once(pairs: list[tuple[str, Any]]) -> Json:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


def _object(value: Any, name: str, used: tuple[str, ...]) -> Json:
    if not isinstance(value, dict):
        raise ImageError(f"{name} is {_shown(value)}, wanted an object")
    for key in value:
        # Go, in which container tools are written, takes a key in any case for the one it knows.
        if key not in used and key.casefold() in {one.casefold() for one in used}:
            raise ImageError(f"{name} has {key[:100]!r}, which some would read as another key")
    return value


def _words(value: Any, name: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > MAX_WORDS:
        raise ImageError(f"{name} is {_shown(value)}, wanted a list of at most {MAX_WORDS} words")
    return tuple(_word(one, name) for one in value)


def _word(value: Any, name: str) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise ImageError(f"{name} has {_shown(value)}, wanted a word")
    return value


def _environment(words: tuple[str, ...]) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for word in words:
        parts = _VARIABLE.fullmatch(word)
        if parts is None or parts[1] in found:
            raise ImageError(f"config.Env has {word[:100]!r}, no variable or one set before")
        found[parts[1]] = parts[2]
    return found


def _folder(value: Any) -> str:
    folder = _word("/" if value is None or value == "" else value, "config.WorkingDir")
    if not folder.startswith("/") or ".." in folder.split("/"):
        raise ImageError(f"config.WorkingDir is {folder[:200]!r}, wanted an absolute path without ..")
    return folder


def _sha256(value: Any, name: str) -> str:
    parts = _DIGEST.fullmatch(value) if isinstance(value, str) else None
    if parts is None:
        raise ImageError(f"{name} has {_shown(value)}, wanted sha256: and 64 hexadecimal digits")
    return parts[1]


def _shown(value: Any) -> str:
    return repr(value)[:100]
