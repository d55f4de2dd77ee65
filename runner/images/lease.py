"""Keeps an unpacked image while it is used: shared by those who run it, exclusive for whoever removes it.

What is covered: the kernel releases the lock when its last holder is dead, however it died.
What is not covered: who removes the folder without asking here.
"""

import os
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock
from pathlib import Path

from runner.images.errors import ImageError

LOCK = "lock"


def hold_image(tree: Path) -> int:
    """An open file that keeps the image of that tree until it is closed, here and in every fork.

    Raises ImageError if the image is gone.
    """
    path = tree.parent / LOCK
    try:
        lock = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise ImageError(f"{tree} is no image that can be used: {error.strerror}") from error
    flock(lock, LOCK_SH)  # waits for a removal that has begun
    if not _is_at(lock, path):
        os.close(lock)
        raise ImageError(f"{tree} was removed; import its image again")
    return lock


def claim_image(folder: Path) -> int | None:
    """An open file that keeps everybody else from using the image in `folder`; None while somebody does."""
    try:
        lock = os.open(folder / LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise ImageError(f"{folder} is no image that can be removed: {error.strerror}") from error
    try:
        flock(lock, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def _is_at(lock: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(lock), path.stat())
    except FileNotFoundError:
        return False
