"""What can be ordered: champions, base models, datasets."""

from dataclasses import dataclass
from datetime import datetime

from fastapi import APIRouter
from sqlalchemy import Connection

from appliance.api.deps import ServicesDep
from appliance.store import artifacts, champions
from appliance.store.artifacts import Artifact, ArtifactKind
from appliance.store.champions import ChampionRow
from appliance.store.engine import reading

router = APIRouter(prefix="/v1", tags=["inventory"])


@dataclass(frozen=True, slots=True, kw_only=True)
class ChampionView:
    """A champion as clients see it: only an admitted one can be ordered; `reasons` say why it is not."""

    manifest_sha256: str
    name: str
    channel: str
    commit: str
    contract_epoch: str
    proposed_by: str
    proposed_at: datetime
    approved_by: tuple[str, ...]
    admitted: bool
    reasons: tuple[str, ...]
    policy_sha256: str | None


@router.get("/champions")
def list_champions(services: ServicesDep) -> dict[str, tuple[ChampionView, ...]]:
    """Champions, oldest proposal first. Their work is Gradients.io's (https://gradients.io)."""
    with reading(services.engine) as conn:
        return {"champions": tuple(_view(conn, row) for row in champions.list_champions(conn))}


@router.get("/models")
def list_models(services: ServicesDep) -> dict[str, tuple[Artifact, ...]]:
    """Imported base models, oldest first."""
    with reading(services.engine) as conn:
        return {"models": artifacts.list_artifacts(conn, ArtifactKind.MODEL)}


@router.get("/datasets")
def list_datasets(services: ServicesDep) -> dict[str, tuple[Artifact, ...]]:
    """Imported datasets, oldest first."""
    with reading(services.engine) as conn:
        return {"datasets": artifacts.list_artifacts(conn, ArtifactKind.DATASET)}


def _view(conn: Connection, row: ChampionRow) -> ChampionView:
    decision = champions.newest_decision(conn, row.manifest_sha256)
    return ChampionView(
        manifest_sha256=row.manifest_sha256,
        name=row.name,
        channel=row.channel,
        commit=row.commit,
        contract_epoch=row.contract_epoch,
        proposed_by=row.proposed_by,
        proposed_at=row.proposed_at,
        approved_by=tuple(a.approver for a in champions.approvals(conn, row.manifest_sha256)),
        admitted=decision is not None and decision.allowed,
        reasons=decision.reasons if decision else (),
        policy_sha256=decision.policy_sha256 if decision else None,
    )
