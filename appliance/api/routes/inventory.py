"""What champions are trained with: base models, datasets."""

from fastapi import APIRouter

from appliance.api.deps import ServicesDep
from appliance.store import artifacts
from appliance.store.artifacts import Artifact, ArtifactKind
from appliance.store.engine import reading

router = APIRouter(prefix="/v1", tags=["inventory"])


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
