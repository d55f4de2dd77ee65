"""A winner's checkout made ready for a machine without its image: its own files, beside what stands in for the rest.

See `docs/champion-behaviour.md` for what is stood in for. Gradients.io (https://gradients.io).
"""

import json
import re
import shutil
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.contract.epochs import ContractEpoch, EntryPoint
from runner.contract.launch import find_dockerfile
from tests.runner.champion_runs import SCRIPTS, Ran

STAND_INS = SCRIPTS / "stand_ins"
PATH = "/stand-ins/bin:/opt/venv/bin:/usr/bin:/bin"
# Stage of the image build → what stands in for it. Winners call what is here by these names and paths.
WRAPPERS = {
    "bin/accelerate": 'exec /opt/venv/bin/python /stand-ins/launcher.py accelerate "$@"',
    "bin/torchrun": 'exec /opt/venv/bin/python /stand-ins/launcher.py torchrun "$@"',
    "bin/deepspeed": 'exec /opt/venv/bin/python /stand-ins/launcher.py deepspeed "$@"',
    # Without a GPU a training script is started by python itself: only that, and ai-toolkit's, is not run.
    "bin/python": (
        'case "$1" in train_*.py|/app/ai-toolkit/run.py)'
        ' exec /opt/venv/bin/python /stand-ins/launcher.py python "$@";; esac\n'
        'exec /opt/venv/bin/python "$@"'
    ),
    "bin/python3": 'exec /stand-ins/bin/python "$@"',
    "bin/redis-server": "exec /opt/venv/bin/python /stand-ins/redis_server.py",
    "axo_py/bin/python": 'exec /opt/venv/bin/python "$@"',
    "grpo_env/bin/activate": "deactivate() { :; }",
}
ADDED = """
COPY stand_ins /stand-ins
COPY stand_ins/axo_py /workspace/axo_py
COPY stand_ins/grpo_env /workspace/.grpo_env
ENV PYTHONPATH=/stand-ins/modules
"""


def own_lines(dockerfile: Path) -> Iterator[str]:
    """A winner's own COPY, WORKDIR, ENV and ENTRYPOINT, word by word; what an image build does is left out."""
    text = re.sub(r"\\\n", " ", dockerfile.read_text())
    copied = [line.split()[-1] for line in text.splitlines() if line.startswith("COPY")]
    for line in text.splitlines():
        words = line.split()
        if not words or words[0] not in {"COPY", "WORKDIR", "ENV", "ENTRYPOINT"} or "--from=" in line:
            continue
        if words[0] == "COPY" and any(Path(other) in Path(words[-1]).parents for other in copied):
            continue  # the same file again, in a folder that is copied whole
        yield line


def tree_of(checkout: Path, folder: Path, *, epoch: ContractEpoch, entries: tuple[EntryPoint, ...]) -> Path:
    """The winner's files beside the stand-ins, with its own Dockerfile less its image build."""
    shutil.copytree(checkout, folder, symlinks=True, ignore=shutil.ignore_patterns(".git"))
    for path in folder.rglob("*"):
        if path.is_symlink():
            path.unlink()  # as at intake: no links
    for script in (folder / "scripts").glob("*.sh"):
        script.chmod(0o755)  # RUN chmod +x
    shutil.copytree(STAND_INS, folder / "stand_ins")
    for name, body in WRAPPERS.items():
        path = folder / "stand_ins" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
    found = folder / find_dockerfile(folder, epoch=epoch, entries=entries).name
    found.write_text("\n".join(["FROM not/built", *own_lines(found)]) + ADDED)
    return folder


@dataclass(frozen=True)
class Told:
    """What the stand-in for the GPU's part was given, see champions/stand_ins/launcher.py."""

    launches: list[list[str]]
    files: dict[str, str]
    rows: dict[str, tuple[int, list[str]]]
    sources: dict[str, str]
    images: list[str]


def told(ran: Ran) -> Told:
    """Read the launcher's words out of the log, and nothing else of the winner's."""
    found: dict[str, list[Any]] = {kind: [] for kind in ("LAUNCH", "FILE", "ROWS", "SOURCE", "IMAGE")}
    for line in ran.log.splitlines():
        kind, _, value = line.partition(" ")
        if kind in found and value[:1] in {"[", '"'}:
            found[kind].append(json.loads(value))
    return Told(
        launches=found["LAUNCH"],
        files=dict(found["FILE"]),
        rows={path: (count, names) for path, count, names in found["ROWS"]},
        sources=dict(found["SOURCE"]),
        images=found["IMAGE"],
    )


def picture() -> bytes:
    """A PNG of one pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0\0"))
        + chunk(b"IEND", b"")
    )
