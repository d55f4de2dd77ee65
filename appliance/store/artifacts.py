"""What was imported: base models and datasets by the root digest of their manifest."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from appliance.errors import ConflictError, NotFoundError
from appliance.store.tables import artifact as artifact_table


class ArtifactKind(StrEnum):
    """What an imported folder is."""

    MODEL = "model"
    DATASET = "dataset"


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """An imported folder. `facts` are plain JSON: rows of a dataset, architecture of a model."""

    root_sha256: str
    kind: ArtifactKind
    name: str
    facts: Mapping[str, Any]  # Any: plain JSON
    imported_by: str
    imported_at: datetime


def add(conn: Connection, artifact: Artifact) -> bool:
    """Index `artifact`. False if it was imported before; then the first import stands.

    Raises ConflictError if the same content was imported as another kind.
    """
    known = select(artifact_table).where(artifact_table.c.root_sha256 == artifact.root_sha256)
    row = conn.execute(known).one_or_none()
    if row is None:
        conn.execute(insert(artifact_table).values(asdict(artifact)))
        return True
    if row.kind != artifact.kind:
        raise ConflictError(f"sha256:{artifact.root_sha256} was imported as a {row.kind}")
    return False


def set_facts(conn: Connection, root_sha256: str, facts: Mapping[str, Any]) -> None:  # Any: plain JSON
    """Know other `facts` of that artifact from now on. An unknown digest changes nothing."""
    known = artifact_table.c.root_sha256 == root_sha256
    conn.execute(update(artifact_table).where(known).values(facts=dict(facts)))


def get(conn: Connection, root_sha256: str) -> Artifact:
    """The artifact of that digest. Raises NotFoundError."""
    query = select(artifact_table).where(artifact_table.c.root_sha256 == root_sha256)
    row = conn.execute(query).one_or_none()
    if row is None:
        raise NotFoundError(f"no artifact sha256:{root_sha256}")
    return _artifact(row)


def list_artifacts(conn: Connection, kind: ArtifactKind) -> tuple[Artifact, ...]:
    """All artifacts of `kind`, oldest import first."""
    query = select(artifact_table).where(artifact_table.c.kind == kind)
    rows = conn.execute(query.order_by(artifact_table.c.imported_at, artifact_table.c.root_sha256))
    return tuple(_artifact(row) for row in rows)


# Any: rows of a Core select have no static column types.
def _artifact(row: Row[Any]) -> Artifact:
    return Artifact(**{**row._asdict(), "kind": ArtifactKind(row.kind)})
