"""RFC 6962 Merkle trees on plain values: roots, and proofs that a leaf is in a tree or a tree grew.

Everything here works on leaf hashes, never on entries: `leaf_hash` is the only way in.
Source: RFC 6962, section 2.1; checking algorithms from RFC 9162, sections 2.1.3.2 and 2.1.4.2.
"""

import hashlib
from collections.abc import Sequence

from attestation.errors import MalformedError, VerificationError

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(entry: bytes) -> bytes:
    """The hash of an entry as a leaf."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of two subtrees side by side."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_hash(leaves: Sequence[bytes]) -> bytes:
    """The root over leaf hashes, in order."""
    if not leaves:
        return EMPTY_ROOT
    # Roots of perfect subtrees, largest first, with their sizes: as the bits of len(leaves).
    stack: list[tuple[int, bytes]] = []
    for leaf in leaves:
        size, top = 1, leaf
        while stack and stack[-1][0] == size:
            top = node_hash(stack.pop()[1], top)
            size *= 2
        stack.append((size, top))
    root = stack.pop()[1]
    while stack:
        root = node_hash(stack.pop()[1], root)
    return root


def inclusion_path(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """The hashes, lowest first, that lead from leaf `index` to the root. Raises MalformedError."""
    if not 0 <= index < len(leaves):
        raise MalformedError(f"no leaf {index} in a tree of {len(leaves)}")
    path: list[bytes] = []
    while len(leaves) > 1:
        split = _split(len(leaves))
        if index < split:
            path.append(root_hash(leaves[split:]))
            leaves = leaves[:split]
        else:
            path.append(root_hash(leaves[:split]))
            leaves, index = leaves[split:], index - split
    return tuple(reversed(path))


def consistency_path(leaves: Sequence[bytes], old_size: int) -> tuple[bytes, ...]:
    """The hashes that show the first `old_size` leaves to be unchanged. Raises MalformedError."""
    if not 0 < old_size <= len(leaves):
        raise MalformedError(f"no consistency proof from size {old_size} to size {len(leaves)}")
    path: list[bytes] = []
    is_whole = True  # whether the subtree at hand is the old tree itself, whose root the reader has
    while old_size != len(leaves):
        split = _split(len(leaves))
        if old_size <= split:
            path.append(root_hash(leaves[split:]))
            leaves = leaves[:split]
        else:
            path.append(root_hash(leaves[:split]))
            leaves, old_size, is_whole = leaves[split:], old_size - split, False
    if not is_whole:
        path.append(root_hash(leaves))
    return tuple(reversed(path))


def verify_inclusion(leaf: bytes, *, index: int, size: int, path: Sequence[bytes], root: bytes) -> None:
    """Raise VerificationError unless `path` shows leaf hash `leaf` at `index` under `root`."""
    if not 0 <= index < size:
        raise VerificationError(f"leaf {index} cannot be in a tree of {size}")
    position, last, found = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            raise VerificationError("inclusion proof is too long")
        if position & 1 or position == last:
            found = node_hash(sibling, found)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        position, last = position >> 1, last >> 1
    if last != 0:
        raise VerificationError("inclusion proof is too short")
    if found != root:
        raise VerificationError(f"inclusion proof leads to another root than that of size {size}")


def verify_consistency(
    *, old_size: int, old_root: bytes, new_size: int, new_root: bytes, path: Sequence[bytes]
) -> None:
    """Raise VerificationError unless `path` shows the new tree to begin with the whole old one."""
    if not 0 < old_size <= new_size:
        raise VerificationError(f"no consistency proof leads from size {old_size} to size {new_size}")
    if old_size == new_size:
        _verify_same(old_size, old_root=old_root, new_root=new_root, path=path)
        return
    steps = list(path)
    if old_size & (old_size - 1) == 0:
        steps.insert(0, old_root)  # the old tree is a subtree of the new one: its root is left out
    if not steps:
        raise VerificationError("consistency proof is too short")
    old_at, new_at = old_size - 1, new_size - 1
    while old_at & 1:
        old_at, new_at = old_at >> 1, new_at >> 1
    old_found = new_found = steps[0]
    for sibling in steps[1:]:
        if new_at == 0:
            raise VerificationError("consistency proof is too long")
        if old_at & 1 or old_at == new_at:
            old_found, new_found = node_hash(sibling, old_found), node_hash(sibling, new_found)
            while not old_at & 1 and old_at:
                old_at, new_at = old_at >> 1, new_at >> 1
        else:
            new_found = node_hash(new_found, sibling)
        old_at, new_at = old_at >> 1, new_at >> 1
    if new_at != 0:
        raise VerificationError("consistency proof is too short")
    if old_found != old_root or new_found != new_root:
        raise VerificationError(f"the log of size {new_size} does not contain the log of size {old_size}")


def _verify_same(size: int, *, old_root: bytes, new_root: bytes, path: Sequence[bytes]) -> None:
    if path:
        raise VerificationError("consistency proof is too long")
    if old_root != new_root:
        raise VerificationError(f"two different logs of size {size}: the log has forked")


def _split(size: int) -> int:
    """The largest power of two below `size`."""
    return 1 << ((size - 1).bit_length() - 1)
