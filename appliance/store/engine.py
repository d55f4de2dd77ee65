"""Opening the database: SQLite with full durability, one schema version, errors an operator can act on."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, create_engine, event, insert, inspect, select, update
from sqlalchemy.engine import ExceptionContext

from appliance.errors import HomeError
from appliance.store.tables import SCHEMA_VERSION, schema_version

BUSY_TIMEOUT_MS: Final = 30_000
_READS: Final = "assay_reads"

# What the operator sees for SQLite's primary result codes; every other code is our bug and stays as it is.
_OPERATOR_ERRORS: Final = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_IOERR: "the disk reports an error",
    sqlite3.SQLITE_BUSY: f"another process kept it locked for {BUSY_TIMEOUT_MS // 1000} seconds",
    sqlite3.SQLITE_READONLY: "it cannot be written by this user",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened by this user",
    sqlite3.SQLITE_CORRUPT: "the file is damaged; restore it from a backup",
    sqlite3.SQLITE_NOTADB: "the file is not a database",
}


def open_database(path: Path) -> Engine:
    """The database at `path`, with its tables made if it is new, and those it lacks if it is of an older Assay.

    Raises HomeError if it cannot be used: a newer Assay made it, it is not ours, unwritable, full.
    """
    engine = create_engine(URL.create("sqlite+pysqlite", database=str(path)))
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    event.listen(engine, "handle_error", _tell_operator)
    try:
        with engine.begin() as conn:
            _prepare(conn, path)
    except HomeError:
        engine.dispose()
        raise
    return engine


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that only reads: no wait for writers, one moment seen. Writers: `engine.begin()`."""
    with engine.connect().execution_options(**{_READS: True}) as conn, conn.begin():
        yield conn


def _prepare(conn: Connection, path: Path) -> None:
    present = set(inspect(conn).get_table_names())
    if present and schema_version.name not in present:
        raise HomeError(f"{path}: not a database of Assay; found tables {', '.join(sorted(present)[:5])}")
    if not present:
        schema_version.metadata.create_all(conn)  # the audit log's tables are on it too
        conn.execute(insert(schema_version).values(version=SCHEMA_VERSION))
        return
    found = conn.execute(select(schema_version.c.version)).scalar_one()
    if found > SCHEMA_VERSION:
        raise HomeError(
            f"{path}: this home was made by a newer Assay: its schema is {found}, this program knows"
            f" {SCHEMA_VERSION}; install the newer one",
            checked="schema version",
            found=str(found),
            wanted=str(SCHEMA_VERSION),
        )
    if found < SCHEMA_VERSION:
        # One transaction, and tables that are there stay as they are: a crash leaves the older home whole.
        schema_version.metadata.create_all(conn)
        conn.execute(update(schema_version).values(version=SCHEMA_VERSION))


def _configure(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # the driver must not start transactions by itself; _begin does
    for pragma in (
        f"busy_timeout = {BUSY_TIMEOUT_MS}",
        "journal_mode = wal",
        "synchronous = full",
        "foreign_keys = on",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin(conn: Connection) -> None:
    # A writer takes the lock at once: one that reads first and writes later can fail busy without waiting.
    deferred = conn.get_execution_options().get(_READS, False)
    conn.exec_driver_sql("BEGIN" if deferred else "BEGIN IMMEDIATE")


def _tell_operator(context: ExceptionContext) -> None:
    found: Any = context.original_exception  # only sqlite3's errors carry a code
    reason = _OPERATOR_ERRORS.get(getattr(found, "sqlite_errorcode", 0) & 0xFF)
    if reason is not None and context.engine is not None:
        raise HomeError(f"{context.engine.url.database}: the database cannot be used: {reason}") from found
