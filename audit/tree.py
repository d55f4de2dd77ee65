"""Which stored nodes make up a root or a proof, so that both cost O(log n); pure.

A node (level, index) is the hash of the complete subtree over leaves index·2^level … (index+1)·2^level − 1.
Only complete subtrees are stored, since they never change. Source: RFC 6962, section 2.1.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import reduce

from attestation.merkle import node_hash

Key = tuple[int, int]  # (level, index)
Span = tuple[int, int]  # leaves first … end − 1


def nodes_of(span: Span) -> tuple[Key, ...]:
    """The fewest complete subtrees that make up `span`, left to right. Wants a span of an RFC 6962 split."""
    first, end = span
    keys = []
    while first < end:
        level = (end - first).bit_length() - 1
        keys.append((level, first >> level))
        first += 1 << level
    return tuple(keys)


def span_hash(span: Span, nodes: Mapping[Key, bytes]) -> bytes:
    """The hash over the leaves of `span`, which must not be empty."""
    hashes = [nodes[key] for key in nodes_of(span)]
    return reduce(lambda right, left: node_hash(left, right), reversed(hashes))


def inclusion_spans(index: int, *, size: int) -> tuple[Span, ...]:
    """Spans whose hashes prove leaf `index` in a tree of `size`, nearest sibling first."""
    spans: list[Span] = []
    first, end = 0, size
    while end - first > 1:
        split = first + _split(end - first)
        if index < split:
            spans.append((split, end))
            end = split
        else:
            spans.append((first, split))
            first = split
    return tuple(reversed(spans))


def consistency_spans(old_size: int, *, size: int) -> tuple[Span, ...]:
    """Spans whose hashes prove that the tree of `old_size` is a prefix of the tree of `size`."""
    spans: list[Span] = []
    first, end = 0, size
    while end != old_size:
        split = first + _split(end - first)
        if old_size <= split:
            spans.append((split, end))
            end = split
        else:
            spans.append((first, split))
            first = split
    if first > 0:  # else the old tree is this very subtree, and its root is known to whoever asks
        spans.append((first, end))
    return tuple(reversed(spans))


def grow(size: int, leaves: Sequence[bytes], *, left: Callable[[Key], bytes]) -> dict[Key, bytes]:
    """The nodes that become complete when `leaves` (leaf hashes) join a tree of `size`, leaves included.

    `left` gives the stored nodes of `nodes_of((0, size))`; it is asked for no others.
    """
    new: dict[Key, bytes] = {}
    for index, leaf in enumerate(leaves, start=size):
        level, place, value = 0, index, leaf
        new[level, place] = value
        while place % 2:
            sibling = (level, place - 1)
            value = node_hash(new[sibling] if sibling in new else left(sibling), value)
            level, place = level + 1, place >> 1
            new[level, place] = value
    return new


def _split(count: int) -> int:
    """The largest power of two below `count`."""
    return 1 << ((count - 1).bit_length() - 1)
