"""A log on SQLite as the appliance opens it, with a key of its own."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Engine, create_engine

from attestation.checkpoint import format_vkey
from audit import store
from audit.event import Event, EventKind
from audit.fsck import Finding, check_log
from audit.log import AuditLog

ORIGIN = "assay.test/log"
NOW = datetime(2026, 11, 21, 2, 0, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogKey:
    """An Ed25519 log key in memory."""

    name: str
    key: Ed25519PrivateKey

    @property
    def vkey(self) -> str:
        return format_vkey(self.name, self.key.public_key().public_bytes_raw())

    def sign(self, message: bytes) -> bytes:
        return self.key.sign(message)


def open_engine(path: Path) -> Engine:
    """SQLite with write-ahead log, full flushes and transactions that take the write lock at once."""
    engine = create_engine(f"sqlite:///{path}")

    @sqlalchemy.event.listens_for(engine, "connect")
    def _connect(connection: object, _record: object) -> None:
        connection.isolation_level = None  # type: ignore[attr-defined]  # the sqlite3 driver's own
        for pragma in ("journal_mode=wal", "synchronous=full", "busy_timeout=30000", "foreign_keys=on"):
            connection.execute(f"PRAGMA {pragma}")  # type: ignore[attr-defined]  # the same

    @sqlalchemy.event.listens_for(engine, "begin")
    def _begin(conn: sqlalchemy.Connection) -> None:
        conn.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def make_event(subject: str, *, number: int = 0) -> Event:
    return Event(
        kind=EventKind.RUN_SUBMITTED, subject=subject, actor="ada", at=NOW, detail={"number": number}
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A folder with a log's database and its published checkpoint."""

    folder: Path
    engine: Engine
    signer: LogKey

    @property
    def checkpoint_path(self) -> Path:
        return self.folder / "checkpoint"

    def log(self, *, engine: Engine | None = None, signer: object = None) -> AuditLog:
        return AuditLog(
            engine or self.engine,
            origin=ORIGIN,
            signer=signer or self.signer,  # type: ignore[arg-type]  # tests pass signers that fail
            checkpoint_path=self.checkpoint_path,
        )

    def enqueue(self, *events: Event) -> None:
        with self.engine.begin() as conn:
            for event in events:
                store.enqueue(conn, event)

    def fsck(self) -> tuple[Finding, ...]:
        return check_log(
            self.engine, origin=ORIGIN, vkey=self.signer.vkey, checkpoint_path=self.checkpoint_path
        )

    def execute(self, sql: str, *values: object) -> None:
        with self.engine.begin() as conn:
            conn.exec_driver_sql(sql, tuple(values))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    engine = open_engine(tmp_path / "log.db")
    with engine.begin() as conn:
        store.metadata.create_all(conn)
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    yield Site(folder=tmp_path, engine=engine, signer=LogKey(name=ORIGIN, key=key))
    engine.dispose()


@pytest.fixture
def reopen() -> Callable[[Path], Engine]:
    return open_engine


@pytest.fixture
def event_about() -> Callable[..., Event]:
    return make_event


@pytest.fixture
def now() -> datetime:
    return NOW
