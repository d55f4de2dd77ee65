"""Whether this process can answer. Besides it, only the API's own description (/openapi.json) needs no token."""

from fastapi import APIRouter
from sqlalchemy import select

from appliance.api.deps import ServicesDep
from appliance.store.engine import reading
from appliance.store.tables import schema_version
from attestation import __version__

router = APIRouter(tags=["health"])


@router.get("/healthz")
def get_health(services: ServicesDep) -> dict[str, str]:
    """`ok` if the database can be read."""
    with reading(services.engine) as conn:
        conn.execute(select(schema_version.c.version)).scalar_one()
    return {"status": "ok", "version": __version__}
