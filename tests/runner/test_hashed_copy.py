"""A copy has the bytes and the digest of its source, or is refused."""

import hashlib
import os
from pathlib import Path

import pytest

from runner.hashed_copy import CHUNK_BYTES, ChangedError, HashedCopier

SIZES = [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, 7 * CHUNK_BYTES + 3]


def copy(tmp_path: Path, copier: HashedCopier, data: bytes, *, size_bytes: int) -> str:
    (tmp_path / "source").write_bytes(data)
    with (tmp_path / "source").open("rb") as source, (tmp_path / "target").open("wb", buffering=0) as target:
        return copier.copy(source.fileno(), target.fileno(), size_bytes=size_bytes)


def test_one_copier_takes_files_of_any_size_one_after_the_other(tmp_path: Path) -> None:
    with HashedCopier() as copier:
        for size_bytes in (*reversed(SIZES), *SIZES):
            data = os.urandom(size_bytes)
            sha256 = copy(tmp_path, copier, data, size_bytes=size_bytes)
            assert sha256 == hashlib.sha256(data).hexdigest()
            assert (tmp_path / "target").read_bytes() == data


@pytest.mark.parametrize("size_bytes", [1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])
@pytest.mark.parametrize("more", [-1, 1])
def test_refuses_a_source_that_is_shorter_or_longer(tmp_path: Path, size_bytes: int, more: int) -> None:
    with HashedCopier() as copier, pytest.raises(ChangedError):
        copy(tmp_path, copier, bytes(size_bytes + more), size_bytes=size_bytes)


def test_a_copier_can_go_on_after_a_refusal(tmp_path: Path) -> None:
    with HashedCopier() as copier:
        with pytest.raises(ChangedError):
            copy(tmp_path, copier, bytes(CHUNK_BYTES), size_bytes=9 * CHUNK_BYTES)
        data = os.urandom(5 * CHUNK_BYTES)
        assert copy(tmp_path, copier, data, size_bytes=len(data)) == hashlib.sha256(data).hexdigest()
