"""The tables, on one MetaData with the audit log's: a change and its event share a transaction."""

from datetime import datetime
from typing import Final

from sqlalchemy import (
    JSON,
    BigInteger,
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

# Counts released shapes of these tables. A new shape adds tables and leaves those that were released as they
# are: a home of an older shape gets what it lacks when it is opened (appliance.store.engine).
SCHEMA_VERSION: Final = 3


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

# What must stand around a run's jobs. Runs of shapes 1 and 2 have none.
run_walls = Table(
    "run_walls",
    metadata,
    Column("run_id", ForeignKey("run.id"), primary_key=True),
    Column("asked", String(40)),  # the driver that the order named, if it did
    Column("classification", String(20), nullable=False),
    Column("driver", String(40), nullable=False),
    Column("evaluation_driver", String(40), nullable=False),
    Column("demand", Text, nullable=False),
    Column("policy_sha256", _DIGEST, nullable=False),
)

# What a run has of the node for itself, from being placed until its jobs are over.
reservation = Table(
    "reservation",
    metadata,
    Column("run_id", ForeignKey("run.id"), primary_key=True),
    Column("memory_bytes", BigInteger, nullable=False),
    Column("cpu_millis", BigInteger, nullable=False),
    Column("shm_bytes", BigInteger, nullable=False),
    Column("disk_bytes", BigInteger, nullable=False),
)

# Whole GPUs and MIG slices by NVML's UUID. The key is the promise that no two runs have the same one.
gpu_grant = Table(
    "gpu_grant",
    metadata,
    Column("uuid", String(100), primary_key=True),
    Column("run_id", ForeignKey("run.id"), nullable=False, index=True),
    Column("ordinal", Integer, nullable=False),  # the first granted GPU is the guest's GPU 0
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
    Column("bundle", LargeBinary),  # the signed verdict: null for refusals of shape 1, which were not signed
    Column("decided_by", _NAME, nullable=False),
    Column("decided_at", UtcText, nullable=False),
)

# The approvals that a decision counted, in it by digest.
counted_approval = Table(
    "counted_approval",
    metadata,
    Column("admission", ForeignKey("admission.number"), primary_key=True),
    Column("approval", ForeignKey("approval.sha256"), primary_key=True),
)

# How a champion came to this site, and what came with it that its release does not hold.
champion_origin = Table(
    "champion_origin",
    metadata,
    Column("champion", ForeignKey("champion.manifest_sha256"), primary_key=True),
    Column("kind", String(20), nullable=False),
    Column("location", Text, nullable=False),
    Column("keyless_identity", Text, nullable=False),  # verified when it was taken; "" if there is none
    Column("feed_root", String(64), nullable=False),  # of the feed that it came from; "" if it came otherwise
)

# Every report is kept, since decisions name theirs; the newest of a champion counts.
inspection = Table(
    "inspection",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("champion", ForeignKey("champion.manifest_sha256"), nullable=False, index=True),
    Column("report", LargeBinary, nullable=False),  # verbatim
    Column("bundle", LargeBinary, nullable=False),  # the appliance's signature over its digest
    Column("sha256", _DIGEST, nullable=False),
    Column("inspected_at", UtcText, nullable=False),
)

# What the tournament's API said against it; every check is kept and counts.
crosscheck = Table(
    "crosscheck",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("champion", ForeignKey("champion.manifest_sha256"), nullable=False, index=True),
    Column("findings", LargeBinary, nullable=False),  # canonical JSON
    Column("details_sha256", _DIGEST, nullable=False),
    Column("checked_at", UtcText, nullable=False),
)

# Decisions of people: holds, their ends, revocations. No foreign key: a feed may revoke what never came here.
champion_decision = Table(
    "champion_decision",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("champion", _DIGEST, nullable=False, index=True),
    Column("tree", String(40), nullable=False, index=True),
    Column("name", _NAME, nullable=False),
    Column("decision", String(20), nullable=False),
    Column("reason", Text, nullable=False),
    Column("bundle", LargeBinary, nullable=False),
    Column("decided_by", _NAME, nullable=False),
    Column("decided_at", UtcText, nullable=False),
)

# What feeds revoked and was acted on. No foreign key: most of it never came here.
feed_revocation = Table(
    "feed_revocation",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("feed_root", _DIGEST, nullable=False),  # the pinned root: the same feed at whatever place
    Column("channel", String(20), nullable=False),
    Column("champion", _DIGEST, nullable=False, index=True),
    Column("tree", String(40), nullable=False, index=True),
    Column("name", _NAME, nullable=False),
    Column("location", Text, nullable=False),  # where the feed was read first
    Column("reason", Text, nullable=False),
    Column("revoked_at", UtcText, nullable=False),
    Column("synced_by", _NAME, nullable=False),
    UniqueConstraint("feed_root", "channel", "champion", "tree"),
)

champion_default = Table(
    "champion_default",
    metadata,
    Column("channel", String(20), primary_key=True),
    Column("task_type", _NAME, primary_key=True),
    Column("champion", ForeignKey("champion.manifest_sha256"), nullable=False),
    Column("set_by", _NAME, nullable=False),
    Column("set_at", UtcText, nullable=False),
)

sync_source = Table(
    "sync_source",
    metadata,
    Column("location", String(500), primary_key=True),
    Column("kind", String(20), nullable=False),
    Column("root_sha256", _DIGEST, nullable=False),  # of the pinned root, whose bytes are in the home
    Column("interval_s", Integer, nullable=False),
    Column("added_by", _NAME, nullable=False),  # who proposes what comes from it
    Column("next_at", UtcText, nullable=False, index=True),
    Column("failures", Integer, nullable=False),  # in a row; a pass that was begun counts until it succeeds
    Column("last_at", UtcText),
    Column("last_result", Text),
    Column("etag", Text),  # what the source called its state then
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
