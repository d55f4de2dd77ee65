"""Copying open files and hashing them in the same pass, on two cores.

The digest is that of the bytes written. While a chunk is written another thread hashes it; and as soon as it is written
the kernel is asked to begin with the disk, so that the flush at the end has little left to do.
"""

import hashlib
import os
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from runner.errors import HarvestError

CHUNK_BYTES = 4 << 20
BUFFERS = 3  # one is read, one hashed, one written


class ChangedError(Exception):
    """The source does not hold as many bytes as it should."""


class HashedCopier:
    """Copies one file after another; its thread and buffers are made for the first file of several chunks."""

    def __init__(self) -> None:
        self._hashing: ThreadPoolExecutor | None = None
        self._buffers: list[memoryview] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._hashing is not None:
            self._hashing.shutdown()

    def copy(self, source: int, target: int, *, size_bytes: int) -> str:
        """Append the `size_bytes` of `source` to `target`; their SHA-256 as hexadecimal digits.

        Raises ChangedError if the source is shorter or longer, OSError for the disk's faults, HarvestError if this
        machine has no thread left.
        """
        if size_bytes > CHUNK_BYTES:
            sha256 = self._copy_in_chunks(source, target, size_bytes=size_bytes)
        else:
            data = os.pread(source, size_bytes, 0)
            if len(data) != size_bytes:
                raise ChangedError
            _write(target, memoryview(data))
            sha256 = hashlib.sha256(data).hexdigest()
        if os.pread(source, 1, size_bytes):
            raise ChangedError
        return sha256

    def _copy_in_chunks(self, source: int, target: int, *, size_bytes: int) -> str:
        hashing, buffers = self._ready()
        digest, copied, turn = hashlib.sha256(), 0, 0
        hashed: list[Future[None]] = []
        try:
            while copied < size_bytes:
                if len(hashed) == BUFFERS:
                    hashed.pop(0).result()  # its buffer is the next one
                count = os.preadv(source, [buffers[turn][: size_bytes - copied]], copied)
                if count == 0:
                    raise ChangedError
                chunk = buffers[turn][:count]
                hashed.append(hashing.submit(digest.update, chunk))
                _write(target, chunk)
                # Drops no page that is still to be written, but begins the writing.
                os.posix_fadvise(target, copied, count, os.POSIX_FADV_DONTNEED)
                copied, turn = copied + count, (turn + 1) % BUFFERS
        finally:
            for pending in hashed:
                pending.result()  # nothing reads a buffer that the next file fills
        return digest.hexdigest()

    def _ready(self) -> tuple[ThreadPoolExecutor, list[memoryview]]:
        if self._hashing is None:
            self._buffers = [memoryview(bytearray(CHUNK_BYTES)) for _ in range(BUFFERS)]
            hashing = ThreadPoolExecutor(max_workers=1)
            try:
                hashing.submit(int).result()
            except RuntimeError as error:
                raise HarvestError(f"no thread to be had for hashing: {error}") from error
            self._hashing = hashing
        return self._hashing, self._buffers


def _write(target: int, data: memoryview) -> None:
    while data:
        data = data[os.write(target, data) :]
