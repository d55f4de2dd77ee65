"""Builds the web application from its parts."""

import secrets
import time
from typing import Any, Final

from fastapi import Depends, FastAPI

from appliance.api.deps import Services, get_caller
from appliance.api.errors import MEDIA_TYPE, Problem, install_handlers
from appliance.api.routes import (
    champion_decisions,
    champions,
    health,
    inventory,
    isolation,
    log,
    nodes,
    runs,
)
from appliance.api.size_limit import SizeLimit
from attestation import __version__

_DESCRIPTION: Final = (
    "Fine-tuning whose every model can be proved. Champions' training scripts are the work of"
    " Gradients.io (https://gradients.io)."
)
_PROBLEM: Final[dict[str, Any]] = {  # Any: a fragment of OpenAPI
    "description": "A problem (RFC 9457)",
    "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}


def create_app(services: Services) -> FastAPI:
    """The API over `services`. It carries out no step of a run: that is the worker's, another process."""
    app = FastAPI(title="Assay", version=__version__, description=_DESCRIPTION, docs_url=None, redoc_url=None)
    app.state.services = services
    app.add_middleware(SizeLimit)
    install_handlers(app)
    responses: dict[int | str, dict[str, Any]] = {
        422: {**_PROBLEM, "model": Problem},
        "default": {**_PROBLEM, "model": Problem},
    }
    app.include_router(health.router, responses=responses)
    for router in (
        runs.router,
        isolation.router,
        champions.router,
        champion_decisions.router,
        inventory.router,
        nodes.router,
        log.router,
    ):
        app.include_router(router, dependencies=[Depends(get_caller)], responses=responses)
    return app


def new_run_id() -> str:
    """A fresh run id; later ids sort behind earlier ones."""
    return f"run-{time.time_ns() // 1_000_000:012x}-{secrets.token_hex(4)}"
