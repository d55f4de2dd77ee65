"""Which files are pickles, by name or by content; loading one runs whatever its maker wrote.

What is covered: the names that pickles have in machine learning; pickles of protocol 2 and later, which say so in
their first bytes; archives as torch writes them. Nothing is unpacked or loaded to find out.
What is not covered: pickles that say nothing of themselves (protocols 0 and 1, compressed ones). Hence what is kept of
a model is decided by a list of harmless kinds of file, not by this.
"""

import json
import os
from fnmatch import fnmatchcase

from runner.safetensors import MAX_HEADER_BYTES

PICKLE_SUFFIXES = frozenset({".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth"})
# What trainers save beside a model to go on from, under whatever suffix.
TRAINER_STATE = ("optimizer.*", "rng_state*.pth", "scaler.pt", "scheduler.pt", "training_args.bin")
CHUNK_BYTES = 1 << 20

_FRAME = b"\x80"
_PROTOCOLS = b"\x02\x03\x04\x05"
_ARCHIVE = b"PK\x03\x04"  # torch.load asks for these four bytes
_TORCH_MEMBER = b"data.pkl"


def is_pickle_name(name: str) -> bool:
    """Whether a file of that name, without its folder, is taken for a pickle whatever it holds.

    >>> [is_pickle_name(name) for name in ("pytorch_model.bin", "Optimizer.safetensors", "model.safetensors")]
    [True, True, False]
    """
    lower = name.lower()
    return lower.endswith(tuple(PICKLE_SUFFIXES)) or is_trainer_state(name)


def is_trainer_state(name: str) -> bool:
    """Whether a trainer leaves a file of that name, in any case of letters, to go on from."""
    return any(fnmatchcase(name.lower(), pattern) for pattern in TRAINER_STATE)


def holds_pickle(file: int) -> bool:
    """Whether the open file is a pickle or an archive with torch's; its position does not change."""
    head = os.pread(file, 9, 0)
    if head[:1] == _FRAME and head[1:2] and head[1] in _PROTOCOLS:
        return not _is_safetensors(file, head)
    return head.startswith(_ARCHIVE) and _has_torch_member(file)


def _is_safetensors(file: int, head: bytes) -> bool:
    """Whether the first bytes are the length of a header: one length in 5,000 looks like a pickle's first bytes."""
    size_bytes = int.from_bytes(head[:8], "little")
    if head[8:9] != b"{" or size_bytes > MAX_HEADER_BYTES:
        return False
    try:
        json.loads(os.pread(file, size_bytes, 8))
    except (ValueError, RecursionError):
        return False  # some pickles can have such first bytes, but not go on as JSON
    return True


def _has_torch_member(archive: int) -> bool:
    """Names of members are not compressed, so they are found without unpacking, wherever they stand."""
    place, kept = 0, b""
    while chunk := os.pread(archive, CHUNK_BYTES, place):
        if _TORCH_MEMBER in kept + chunk:
            return True
        kept = chunk[-len(_TORCH_MEMBER) :]
        place += len(chunk)
    return False
