"""The log's tables and all its SQL; every function takes the caller's connection and never commits.

`enqueue` belongs into the transaction of the state change that it records. Sequencing is audit/log.py.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    delete,
    func,
    insert,
    select,
    tuple_,
    update,
)

from audit.event import Event, parse_event
from audit.tree import Key

_BATCH_ROWS = 10_000  # rows held in memory while the whole log is read
_BATCH_KEYS = 200  # a proof needs at most twice 63 nodes; bound variables are limited on every engine

metadata = MetaData()

# sqlite_autoincrement: an outbox id is never used twice, so that it can name an event for ever.
log_outbox = Table(
    "log_outbox",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("subject", String, nullable=False, index=True),
    Column("entry", LargeBinary, nullable=False),
    sqlite_autoincrement=True,
)
log_entry = Table(
    "log_entry",
    metadata,
    Column("leaf_index", BigInteger, primary_key=True, autoincrement=False),
    Column("outbox_id", BigInteger, nullable=False, unique=True),
    Column("subject", String, nullable=False, index=True),
    Column("entry", LargeBinary, nullable=False),
    Column("leaf_hash", LargeBinary(32), nullable=False),
    Index("ix_log_entry_leaf_hash", "leaf_hash"),
)
log_node = Table(  # complete subtrees above the leaves
    "log_node",
    metadata,
    Column("level", Integer, primary_key=True, autoincrement=False),
    Column("node_index", BigInteger, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary(32), nullable=False),
)
log_head = Table(
    "log_head",
    metadata,
    Column("origin", String, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("root", LargeBinary(32), nullable=False),
    Column("signed_size", BigInteger, nullable=False),  # 0: nothing is signed yet
    Column("signed_at", String),
    Column("checkpoint", LargeBinary),  # the signed note over `signed_size`, verbatim
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The committed tree head, and the newest signed one, which may be older."""

    origin: str
    size: int
    root: bytes
    signed_size: int
    checkpoint: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """An event in the outbox."""

    id: int
    subject: str
    entry: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEntry:
    """A row of the log as it lies in the database."""

    index: int
    outbox_id: int
    subject: str
    entry: bytes
    leaf_hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedEvent:
    """An event and its place in the log; `index` is None while it waits in the outbox."""

    index: int | None
    event: Event


def enqueue(conn: Connection, event: Event) -> None:
    """Record `event` in the caller's transaction. Raises EventError."""
    conn.execute(insert(log_outbox).values(subject=event.subject, entry=event.encode()))


def events_of(conn: Connection, subject: str) -> tuple[LoggedEvent, ...]:
    """All that is recorded about `subject`: logged events in order, then waiting ones. Raises EventError."""
    logged = select(log_entry.c.leaf_index, log_entry.c.entry).where(log_entry.c.subject == subject)
    waiting = select(log_outbox.c.entry).where(log_outbox.c.subject == subject)
    return (
        *(
            LoggedEvent(index=row.leaf_index, event=parse_event(row.entry))
            for row in conn.execute(logged.order_by(log_entry.c.leaf_index))
        ),
        *(
            LoggedEvent(index=None, event=parse_event(entry))
            for entry in conn.scalars(waiting.order_by(log_outbox.c.id))
        ),
    )


def read_head(conn: Connection, origin: str) -> Head | None:
    """The head of the log `origin`, None before `insert_head`."""
    row = conn.execute(select(log_head).where(log_head.c.origin == origin)).one_or_none()
    if row is None:
        return None
    return Head(
        origin=row.origin,
        size=row.size,
        root=row.root,
        signed_size=row.signed_size,
        checkpoint=row.checkpoint,
    )


def read_origins(conn: Connection) -> tuple[str, ...]:
    """The origins of all heads; a sound database has at most one."""
    return tuple(conn.scalars(select(log_head.c.origin).order_by(log_head.c.origin)))


def insert_head(conn: Connection, origin: str, *, root: bytes) -> None:
    """The head of an empty log. Raises IntegrityError if somebody else was first."""
    conn.execute(insert(log_head).values(origin=origin, size=0, root=root, signed_size=0))


def swap_head(conn: Connection, old: Head, *, size: int, root: bytes) -> bool:
    """Move the head, unless it moved since `old` was read."""
    guard = (log_head.c.origin == old.origin, log_head.c.size == old.size, log_head.c.root == old.root)
    return conn.execute(update(log_head).where(*guard).values(size=size, root=root)).rowcount == 1


def store_checkpoint(conn: Connection, origin: str, *, size: int, checkpoint: bytes, at: str) -> None:
    """Keep a signed head, unless a newer one is kept already."""
    guard = (log_head.c.origin == origin, log_head.c.signed_size < size)
    values = {"signed_size": size, "signed_at": at, "checkpoint": checkpoint}
    conn.execute(update(log_head).where(*guard).values(values))


def read_pending(conn: Connection, *, limit: int | None = None) -> tuple[Pending, ...]:
    """The oldest waiting events."""
    rows = conn.execute(select(log_outbox).order_by(log_outbox.c.id).limit(limit))
    return tuple(Pending(id=row.id, subject=row.subject, entry=row.entry) for row in rows)


def append(conn: Connection, first: int, batch: Sequence[Pending], *, new_nodes: dict[Key, bytes]) -> int:
    """Move `batch` from the outbox into the log at index `first`; how many of its rows the outbox had."""
    rows = [
        {
            "leaf_index": first + offset,
            "outbox_id": pending.id,
            "subject": pending.subject,
            "entry": pending.entry,
            "leaf_hash": new_nodes[0, first + offset],
        }
        for offset, pending in enumerate(batch)
    ]
    conn.execute(insert(log_entry), rows)
    inner = [
        {"level": level, "node_index": index, "hash": value}
        for (level, index), value in new_nodes.items()
        if level > 0
    ]
    if inner:
        conn.execute(insert(log_node), inner)
    return conn.execute(delete(log_outbox).where(log_outbox.c.id.in_([row.id for row in batch]))).rowcount


def read_nodes(conn: Connection, keys: Iterable[Key]) -> dict[Key, bytes]:
    """The stored nodes among `keys`; level 0 are the leaf hashes."""
    found: dict[Key, bytes] = {}
    wanted = sorted(set(keys))
    for start in range(0, len(wanted), _BATCH_KEYS):
        part = wanted[start : start + _BATCH_KEYS]
        if inner := [key for key in part if key[0] > 0]:
            rows = conn.execute(
                select(log_node).where(tuple_(log_node.c.level, log_node.c.node_index).in_(inner))
            )
            found.update({(row.level, row.node_index): row.hash for row in rows})
        if leaves := [index for level, index in part if level == 0]:
            at = select(log_entry.c.leaf_index, log_entry.c.leaf_hash).where(
                log_entry.c.leaf_index.in_(leaves)
            )
            found.update({(0, row.leaf_index): row.leaf_hash for row in conn.execute(at)})
    return found


def find_indexes(conn: Connection, entries: Sequence[bytes], *, hashes: Sequence[bytes]) -> list[int | None]:
    """For each entry (its leaf hash beside it) the index at which the log has these very bytes first."""
    found: dict[bytes, int] = {}
    for start in range(0, len(hashes), _BATCH_KEYS):
        part = hashes[start : start + _BATCH_KEYS]
        by_hash = select(log_entry.c.leaf_index, log_entry.c.entry).where(log_entry.c.leaf_hash.in_(part))
        for row in conn.execute(by_hash.order_by(log_entry.c.leaf_index)):
            found.setdefault(row.entry, row.leaf_index)
    return [found.get(entry) for entry in entries]


def scan_entries(conn: Connection) -> Iterator[StoredEntry]:
    """Every entry in index order, without holding them all in memory."""
    query = select(log_entry).order_by(log_entry.c.leaf_index).execution_options(yield_per=_BATCH_ROWS)
    for row in conn.execute(query):
        yield StoredEntry(
            index=row.leaf_index,
            outbox_id=row.outbox_id,
            subject=row.subject,
            entry=row.entry,
            leaf_hash=row.leaf_hash,
        )


def count_nodes(conn: Connection) -> int:
    """How many nodes are stored above the leaves."""
    return conn.execute(select(func.count()).select_from(log_node)).scalar_one()


def read_sequenced_twice(conn: Connection) -> tuple[int, ...]:
    """Ids that still wait in the outbox although the log has them."""
    query = select(log_outbox.c.id).join(log_entry, log_entry.c.outbox_id == log_outbox.c.id)
    return tuple(conn.scalars(query.order_by(log_outbox.c.id)))
