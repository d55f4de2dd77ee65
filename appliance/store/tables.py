"""The tables, on one MetaData with the audit log's: a change and its event share a transaction."""

from datetime import datetime
from typing import Final

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.types import TypeDecorator

from attestation.times import format_time, parse_time
from audit.store import metadata

SCHEMA_VERSION: Final = 1  # counts released shapes of these tables


class UtcText(TypeDecorator[datetime]):
    """Aware UTC times of whole seconds as text, "2026-11-21T02:00:00Z": sorts right on every engine."""

    impl = String(20)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:
        """The text of `value`; fractions of a second are cut off."""
        return None if value is None else format_time(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> datetime | None:
        """The time that was stored."""
        return None if value is None else parse_time(value)


_DIGEST = String(64)  # SHA-256, lower-case hex
_NAME = String(200)

schema_version = Table("schema_version", metadata, Column("version", Integer, nullable=False))

run = Table(
    "run",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("champion", _DIGEST, nullable=False),
    Column("base_model", _DIGEST, nullable=False),
    Column("dataset", _DIGEST, nullable=False),
    Column("hours_to_complete", Float, nullable=False),
    Column("task_type", _NAME, nullable=False),
    Column("state", String(20), nullable=False, index=True),
    Column("version", Integer, nullable=False),
    Column("submitted_by", _NAME, nullable=False),
    Column("submitted_at", UtcText, nullable=False),
    Column("updated_at", UtcText, nullable=False),
    Column("idempotency_key", _NAME),
    Column("cancel_requested_by", _NAME),
    Column("reason", Text),
    Column("verdict", String(40)),
    Column("model", _DIGEST),
    Column("metrics", Text),
    UniqueConstraint("submitted_by", "idempotency_key"),  # null keys never collide
    Index("run_by_time", "submitted_at", "id"),
)

claim = Table(
    "claim",
    metadata,
    Column("run_id", ForeignKey("run.id"), primary_key=True),
    Column("ordinal", Integer, primary_key=True),
    Column("kind", String(40), nullable=False),
    Column("bundle", LargeBinary, nullable=False),  # verbatim: another serialisation breaks the signature
    Column("sha256", _DIGEST, nullable=False),
    Column("entry", LargeBinary, nullable=False),  # what the log holds of it, verbatim
)

champion = Table(
    "champion",
    metadata,
    Column("manifest_sha256", _DIGEST, primary_key=True),
    Column("name", _NAME, nullable=False),
    Column("channel", String(20), nullable=False),
    Column("commit", String(40), nullable=False),
    Column("tree", String(40), nullable=False),
    Column("contract_epoch", String(10), nullable=False),
    Column("release_bundle", LargeBinary, nullable=False),
    Column("proposed_by", _NAME, nullable=False),
    Column("proposed_at", UtcText, nullable=False),
)

approval = Table(
    "approval",
    metadata,
    Column("sha256", _DIGEST, primary_key=True),  # of the bundle
    Column("champion", ForeignKey("champion.manifest_sha256"), nullable=False, index=True),
    Column("approver", _NAME, nullable=False),
    Column("policy_sha256", _DIGEST, nullable=False),  # the set under which it was approved
    Column("bundle", LargeBinary, nullable=False),
    Column("approved_at", UtcText, nullable=False),
)

# Every decision is kept; the newest of a champion counts.
admission = Table(
    "admission",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("champion", ForeignKey("champion.manifest_sha256"), nullable=False, index=True),
    Column("policy_sha256", _DIGEST, nullable=False),
    Column("allowed", Boolean, nullable=False),
    Column("reasons", JSON, nullable=False),
    Column("bundle", LargeBinary),  # a signed verdict exists for admissions only
    Column("decided_by", _NAME, nullable=False),
    Column("decided_at", UtcText, nullable=False),
)

artifact = Table(
    "artifact",
    metadata,
    Column("root_sha256", _DIGEST, primary_key=True),
    Column("kind", String(20), nullable=False),
    Column("name", _NAME, nullable=False),
    Column("facts", JSON, nullable=False),
    Column("imported_by", _NAME, nullable=False),
    Column("imported_at", UtcText, nullable=False),
)

token = Table(
    "token",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("name", _NAME, nullable=False),
    Column("role", String(20), nullable=False),
    Column("sha256", _DIGEST, nullable=False, unique=True),  # of the secret, which is nowhere
    Column("created_at", UtcText, nullable=False),
    Column("revoked_at", UtcText),
)

# A name is one person at a time: it is what the log and the rule of two persons know.
Index(
    "token_name_in_use",
    token.c.name,
    unique=True,
    sqlite_where=token.c.revoked_at.is_(None),
    postgresql_where=token.c.revoked_at.is_(None),
)
