"""Who the guest is on the host: a user id of its own per run, never root.

What is covered: as root, ids from a pool that nobody else uses, held by a lock that dies with its holder.
What is not covered: an ordinary user has no second id to give; the guest is then that user on the host, and
only the namespaces part them.
"""

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path

from runner.errors import SandboxUnavailableError

# 1879048192 to 2147483647 is unused by convention (systemd, UIDS-GIDS); small maps hold 60100 at least.
POOLS = (1_900_000_000, 60_100)
POOL_SIZE = 256
LOCKS = Path("/run/assay/uids")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A user and group id on the host, ours as long as `lock` stays open."""

    user_id: int
    is_own: bool  # False: the caller's own id
    lock: int | None = None


def claim_identity() -> Identity:
    """An id for one run. Raises SandboxUnavailableError when the pool is used up."""
    if os.geteuid() != 0:
        return Identity(user_id=os.geteuid(), is_own=False)
    first = next((pool for pool in POOLS if _is_mapped(pool)), None)
    if first is None:
        raise SandboxUnavailableError(
            "root's user namespace holds too few user ids to give a guest one of its own; "
            f"map at least {POOLS[-1] + POOL_SIZE} ids into this container"
        )
    LOCKS.mkdir(parents=True, exist_ok=True, mode=0o700)
    for user_id in range(first, first + POOL_SIZE):
        lock = os.open(LOCKS / str(user_id), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        else:
            return Identity(user_id=user_id, is_own=True, lock=lock)
    raise SandboxUnavailableError(f"all {POOL_SIZE} user ids for guests are in use; let other runs end first")


def release_identity(identity: Identity) -> None:
    """Give the id back."""
    if identity.lock is not None:
        os.close(identity.lock)


def _is_mapped(user_id: int) -> bool:
    for line in Path("/proc/self/uid_map").read_text().splitlines():
        inside, _, count = (int(word) for word in line.split())
        if inside <= user_id and user_id + POOL_SIZE <= inside + count:
            return True
    return False
