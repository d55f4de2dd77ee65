"""Which memory ran out: the guest's own limit, the host's, or the GPU's.

What is covered: kills that the kernel counted for the guest's control group, and the words with which CUDA
libraries give up.
What is not covered: words can be faked by the guest, and a library may use others; a kill cannot be faked.
"""

from enum import StrEnum

MAX_TAIL_BYTES = 64 << 10
AT_LIMIT_PERMILLE = 980  # the kernel gives up some pages short of a limit
_CUDA_WORDS = (
    b"CUDA out of memory",
    b"torch.OutOfMemoryError",
    b"torch.cuda.OutOfMemoryError",
    b"CUDA error: out of memory",
    b"CUBLAS_STATUS_ALLOC_FAILED",
    b"NCCL error: out of memory",
)


class OutOfMemory(StrEnum):
    """The memory that ran out."""

    CONTROL_GROUP = "control group"  # the guest's own limit
    HOST = "host"  # the machine had no more, although the guest was below its limit
    CUDA = "CUDA"  # the GPU's; by the guest's own words


def which_memory(
    *, kills: int, peak_bytes: int | None, limit_bytes: int, log_tail: bytes
) -> OutOfMemory | None:
    """The memory that ran out, or None.

    `kills` are the kernel's for want of memory; `peak_bytes` is the most that the guest held (None: the host
    does not tell). Kernels do not count reliably how often a group met its limit; a peak short of it means
    that the want was not the guest's own.
    """
    if kills:
        is_below = peak_bytes is not None and peak_bytes < limit_bytes * AT_LIMIT_PERMILLE // 1000
        return OutOfMemory.HOST if is_below else OutOfMemory.CONTROL_GROUP
    if any(words in log_tail for words in _CUDA_WORDS):
        return OutOfMemory.CUDA
    return None
