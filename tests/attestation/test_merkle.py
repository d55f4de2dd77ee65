"""Against a second, naive implementation of RFC 6962, section 2.1, for every small tree."""

import hashlib

import pytest

from attestation import merkle
from attestation.errors import MalformedError, VerificationError

LEAVES = [merkle.leaf_hash(b"entry %d" % number) for number in range(17)]


def naive_root(leaves: list[bytes]) -> bytes:
    if len(leaves) < 2:
        return leaves[0] if leaves else hashlib.sha256(b"").digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\x01" + naive_root(leaves[:split]) + naive_root(leaves[split:])).digest()


def test_roots_are_those_of_the_definition() -> None:
    for size in range(len(LEAVES) + 1):
        assert merkle.root_hash(LEAVES[:size]) == naive_root(LEAVES[:size])


def test_leaf_is_hashed_with_its_own_prefix() -> None:
    assert merkle.leaf_hash(b"") == hashlib.sha256(b"\x00").digest()


def test_every_leaf_of_every_tree_is_proved_and_only_there() -> None:
    for size in range(1, len(LEAVES) + 1):
        leaves = LEAVES[:size]
        root = merkle.root_hash(leaves)
        for index in range(size):
            path = merkle.inclusion_path(leaves, index)
            merkle.verify_inclusion(leaves[index], index=index, size=size, path=path, root=root)
            with pytest.raises(VerificationError, match=r"another root|too short|too long"):
                merkle.verify_inclusion(LEAVES[-1] + b"x", index=index, size=size, path=path, root=root)
            for other in set(range(size)) - {index}:
                with pytest.raises(VerificationError):
                    merkle.verify_inclusion(leaves[index], index=other, size=size, path=path, root=root)


def test_rejects_proof_with_extra_hash() -> None:
    path = (*merkle.inclusion_path(LEAVES, 3), bytes(32))
    with pytest.raises(VerificationError, match="inclusion proof is too long"):
        merkle.verify_inclusion(LEAVES[3], index=3, size=17, path=path, root=merkle.root_hash(LEAVES))


def test_rejects_proof_with_missing_hash() -> None:
    path = merkle.inclusion_path(LEAVES, 3)[:-1]
    with pytest.raises(VerificationError, match="inclusion proof is too short"):
        merkle.verify_inclusion(LEAVES[3], index=3, size=17, path=path, root=merkle.root_hash(LEAVES))


@pytest.mark.parametrize(("index", "size"), [(0, 0), (1, 1), (-1, 1), (0, -1)])
def test_rejects_proof_against_a_log_without_that_leaf(index: int, size: int) -> None:
    with pytest.raises(VerificationError, match="cannot be in a tree"):
        merkle.verify_inclusion(LEAVES[0], index=index, size=size, path=(), root=LEAVES[0])


def test_every_growth_is_proved() -> None:
    for new_size in range(1, len(LEAVES) + 1):
        for old_size in range(1, new_size + 1):
            path = merkle.consistency_path(LEAVES[:new_size], old_size)
            old_root, new_root = merkle.root_hash(LEAVES[:old_size]), merkle.root_hash(LEAVES[:new_size])
            heads = {"old_size": old_size, "old_root": old_root, "new_size": new_size, "new_root": new_root}
            merkle.verify_consistency(**heads, path=path)  # type: ignore[arg-type]  # ints and bytes by name
            for spoiled in (
                {**heads, "old_root": bytes(32)},
                {**heads, "new_root": bytes(32)},
                {**heads, "path": (*path, bytes(32))},
                {**heads, "path": path[:-1]} if path else {**heads, "old_size": 0},
            ):
                with pytest.raises(VerificationError):
                    merkle.verify_consistency(**{"path": path, **spoiled})  # type: ignore[arg-type]


def test_names_a_fork_of_equal_size() -> None:
    with pytest.raises(VerificationError, match="forked"):
        merkle.verify_consistency(old_size=2, old_root=LEAVES[0], new_size=2, new_root=LEAVES[1], path=())


@pytest.mark.parametrize(("old_size", "new_size"), [(0, 0), (0, 5), (6, 5), (-1, 5)])
def test_rejects_consistency_from_nothing_or_backwards(old_size: int, new_size: int) -> None:
    with pytest.raises(VerificationError, match="no consistency proof leads"):
        merkle.verify_consistency(
            old_size=old_size, old_root=merkle.EMPTY_ROOT, new_size=new_size, new_root=LEAVES[0], path=()
        )


def test_refuses_to_prove_what_is_not_there() -> None:
    for index in (-1, 17):
        with pytest.raises(MalformedError, match="no leaf"):
            merkle.inclusion_path(LEAVES, index)
    for size in (0, 18):
        with pytest.raises(MalformedError, match="no consistency proof from"):
            merkle.consistency_path(LEAVES, size)
