"""Re-verifies the whole log from what is stored, believing nothing: entries, nodes, heads, outbox."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from sqlalchemy import Connection, Engine

from attestation.checkpoint import Checkpoint, open_checkpoint
from attestation.errors import AttestationError
from attestation.merkle import leaf_hash
from audit import store
from audit.errors import EventError, LogStateError
from audit.event import parse_event
from audit.log import EMPTY_ROOT, read_published
from audit.tree import Key, grow, nodes_of, span_hash

_CHUNK_ENTRIES = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that is wrong: where, and what was found against what was wanted."""

    where: str
    problem: str

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}"


@dataclass(slots=True)
class _Tree:
    """The tree as recomputed so far, and its roots at the sizes asked for."""

    size: int
    nodes: int  # above the leaves
    edge: dict[Key, bytes]
    roots: dict[int, bytes]


def check_log(engine: Engine, *, origin: str, vkey: str, checkpoint_path: Path) -> tuple[Finding, ...]:
    """Everything that is wrong with the stored log, nothing for a sound one.

    1. There is one head, of this origin. 2. Entries are numbered without gaps (after
    one nothing more is checked), each is an event in its one
    form under its own subject, and hashes to its leaf. 3. The stored nodes are those that the entries give,
    and no more. 4. The head is their root. 5. The stored checkpoint is signed and a head of this log.
    6. So is the published one. 7. The outbox holds events, and none that the log has already.

    What a crash leaves (events waiting, a head not yet signed or published) is no finding. Reads in one
    transaction: on an engine other than SQLite give it REPEATABLE READ while others write.
    """
    with engine.begin() as conn:
        return tuple(_check(conn, origin=origin, vkey=vkey, checkpoint_path=checkpoint_path))


def _check(conn: Connection, *, origin: str, vkey: str, checkpoint_path: Path) -> Iterator[Finding]:
    # 1.
    origins = store.read_origins(conn)
    if set(origins) - {origin}:
        yield Finding(where="head", problem=f"expected only log {origin}, found {', '.join(origins)}")
    head = store.read_head(conn, origin) or store.Head(
        origin=origin, size=0, root=EMPTY_ROOT, signed_size=0, checkpoint=None
    )
    # 5. and 6. first read what is signed, so that one pass gives the roots at those sizes.
    signed: dict[str, Checkpoint] = {}
    try:
        if head.checkpoint is not None:
            signed["checkpoint"] = open_checkpoint(head.checkpoint, vkey=vkey)
    except AttestationError as error:
        yield Finding(where="checkpoint", problem=str(error))
    try:
        published = read_published(checkpoint_path, vkey=vkey)
        if published is not None:
            signed[str(checkpoint_path)] = published
    except LogStateError as error:
        yield Finding(where=str(checkpoint_path), problem=str(error))
    # 2. and 3.
    tree = _Tree(size=0, nodes=0, edge={}, roots={0: EMPTY_ROOT})
    yield from _check_entries(conn, tree, sizes={head.size, *(each.size for each in signed.values())})
    # 4.
    yield from _check_root("head", tree, size=head.size, root=head.root)
    if tree.size > head.size:
        yield Finding(where="head", problem=f"has size {head.size}, but {tree.size} entries are stored")
    # 5. and 6.
    for where, checkpoint in signed.items():
        yield from _check_root(where, tree, size=checkpoint.size, root=checkpoint.root)
        if where == "checkpoint" and checkpoint.size != head.signed_size:
            yield Finding(where=where, problem=f"is for size {checkpoint.size}, noted as {head.signed_size}")
    # 7.
    yield from _check_outbox(conn)


def _check_entries(conn: Connection, tree: _Tree, *, sizes: set[int]) -> Iterator[Finding]:
    """Recompute `tree` from the entries, and compare each stored row and node on the way."""
    rows = store.scan_entries(conn)
    while chunk := list(islice(rows, _CHUNK_ENTRIES)):
        for position, row in enumerate(chunk, start=tree.size):
            if row.index != position:
                yield Finding(
                    where=f"entry {position}", problem=f"is missing; the next stored is {row.index}"
                )
                return
            yield from _check_entry(row)
        new = grow(tree.size, [leaf_hash(row.entry) for row in chunk], left=tree.edge.__getitem__)
        inner = {key: value for key, value in new.items() if key[0] > 0}
        stored = store.read_nodes(conn, inner)
        for (level, index), value in inner.items():
            if stored.get((level, index)) != value:
                yield Finding(
                    where=f"node {level}/{index}", problem="is not the hash of its entries, or missing"
                )
        known = {**tree.edge, **new}
        end = tree.size + len(chunk)
        for size in sizes:
            if tree.size < size <= end:
                tree.roots[size] = span_hash((0, size), known)
        tree.size, tree.nodes = end, tree.nodes + len(inner)
        tree.edge = {key: known[key] for key in nodes_of((0, end))}
    if (count := store.count_nodes(conn)) > tree.nodes:
        yield Finding(where="nodes", problem=f"{count} are stored, but the entries give {tree.nodes}")


def _check_entry(row: store.StoredEntry) -> Iterator[Finding]:
    where = f"entry {row.index}"
    if row.leaf_hash != leaf_hash(row.entry):
        yield Finding(where=where, problem="its bytes do not hash to its leaf hash")
    yield from _check_event(where, subject=row.subject, entry=row.entry)


def _check_event(where: str, *, subject: str, entry: bytes) -> Iterator[Finding]:
    try:
        event = parse_event(entry)
    except EventError as error:
        yield Finding(where=where, problem=str(error))
        return
    if event.subject != subject:
        yield Finding(where=where, problem=f"is about {event.subject!r}, filed under {subject!r}")


def _check_root(where: str, tree: _Tree, *, size: int, root: bytes) -> Iterator[Finding]:
    if size > tree.size:
        yield Finding(where=where, problem=f"has size {size}, but only {tree.size} entries are sound")
    elif tree.roots[size] != root:
        yield Finding(where=where, problem=f"its root is not that of the first {size} entries")


def _check_outbox(conn: Connection) -> Iterator[Finding]:
    for pending in store.read_pending(conn):
        yield from _check_event(f"outbox {pending.id}", subject=pending.subject, entry=pending.entry)
    for outbox_id in store.read_sequenced_twice(conn):
        yield Finding(where=f"outbox {outbox_id}", problem="waits although the log has it already")
