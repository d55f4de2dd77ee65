"""Sources that are synced on schedule. A pass is claimed before it begins, and counts as failed until it ends well."""

from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Connection, delete, insert, select, update

from appliance.store.tables import sync_source as source_table
from tournament_sync.backoff import is_due


class SourceKind(StrEnum):
    """What stands at a location."""

    FEED = "feed"


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncSource:
    """A source and how its last pass went; `etag` is what it called its state then."""

    location: str
    kind: SourceKind
    root_sha256: str
    interval_s: int
    added_by: str
    next_at: datetime
    failures: int = 0
    last_at: datetime | None = None
    last_result: str | None = None
    etag: str | None = None


def add(conn: Connection, source: SyncSource) -> None:
    """Keep a source. Raises IntegrityError if its location is there."""
    conn.execute(insert(source_table).values(asdict(source)))


def remove(conn: Connection, location: str) -> bool:
    """Forget a source. False if there is none."""
    return conn.execute(delete(source_table).where(source_table.c.location == location)).rowcount == 1


def list_sources(conn: Connection) -> tuple[SyncSource, ...]:
    """All sources, whose turn is next first."""
    rows = conn.execute(select(source_table).order_by(source_table.c.next_at, source_table.c.location))
    return tuple(SyncSource(**{**row._asdict(), "kind": SourceKind(row.kind)}) for row in rows)


def due(conn: Connection, now: datetime) -> tuple[SyncSource, ...]:
    """The sources whose turn has come, longest waiting first."""
    return tuple(
        source
        for source in list_sources(conn)
        if is_due(next_at=source.next_at, last_attempt_at=source.last_at or now, now=now)
    )


def claim(conn: Connection, source: SyncSource, *, now: datetime, next_at: datetime) -> bool:
    """Begin a pass, unless somebody else did since `source` was read. A crash from here on is a failure."""
    same = (
        source_table.c.location == source.location,
        source_table.c.next_at == source.next_at,
        source_table.c.failures == source.failures,
    )
    begun = {
        "next_at": next_at,
        "failures": source.failures + 1,
        "last_at": now,
        "last_result": "begun, and not ended yet",
    }
    return conn.execute(update(source_table).where(*same).values(begun)).rowcount == 1


def succeeded(conn: Connection, location: str, *, next_at: datetime, result: str, etag: str | None) -> None:
    """The pass ended well."""
    values = {"next_at": next_at, "failures": 0, "last_result": result, "etag": etag}
    conn.execute(update(source_table).where(source_table.c.location == location).values(values))


def failed(conn: Connection, location: str, *, result: str) -> None:
    """The pass did not end well; when it is tried again was set when it began."""
    conn.execute(update(source_table).where(source_table.c.location == location).values(last_result=result))
