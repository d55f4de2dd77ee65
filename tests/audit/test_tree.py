"""Nodes and spans against the plain recursive definitions of attestation.merkle."""

import pytest

from attestation.merkle import consistency_path, inclusion_path, leaf_hash, root_hash
from audit.tree import Key, consistency_spans, grow, inclusion_spans, nodes_of, span_hash

LEAVES = [leaf_hash(bytes([number])) for number in range(70)]
SIZES = [*range(1, 36), 63, 64, 65, 70]


def nodes(size: int) -> dict[Key, bytes]:
    return grow(0, LEAVES[:size], left={}.__getitem__)


@pytest.mark.parametrize("size", SIZES)
def test_root_from_nodes_is_the_root(size: int) -> None:
    assert span_hash((0, size), nodes(size)) == root_hash(LEAVES[:size])


@pytest.mark.parametrize("size", SIZES)
def test_inclusion_proofs_from_nodes_are_the_proofs(size: int) -> None:
    stored = nodes(size)
    for index in range(size):
        path = tuple(span_hash(span, stored) for span in inclusion_spans(index, size=size))
        assert path == inclusion_path(LEAVES[:size], index)


@pytest.mark.parametrize("size", SIZES)
def test_consistency_proofs_from_nodes_are_the_proofs(size: int) -> None:
    stored = nodes(size)
    for old_size in range(1, size + 1):
        path = tuple(span_hash(span, stored) for span in consistency_spans(old_size, size=size))
        assert path == consistency_path(LEAVES[:size], old_size)


@pytest.mark.parametrize("size", SIZES)
def test_growing_in_two_steps_gives_the_same_nodes(size: int) -> None:
    for first in range(size):
        old = nodes(first)
        edge = {key: old[key] for key in nodes_of((0, first))}
        assert {**old, **grow(first, LEAVES[first:size], left=edge.__getitem__)} == nodes(size)


def test_a_proof_needs_few_nodes_in_a_large_log() -> None:
    size = 2**40 + 12345
    keys = [key for span in inclusion_spans(2**39 + 77, size=size) for key in nodes_of(span)]
    assert len(keys) < 64
