"""The audit log's newest signed head."""

from fastapi import APIRouter, Response

from appliance.api.deps import ServicesDep
from appliance.errors import NotReadyError

router = APIRouter(prefix="/v1/log", tags=["log"])


@router.get("/checkpoint", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def get_checkpoint(services: ServicesDep) -> Response:
    """The signed note, verbatim. Keep it: `assay-verify --checkpoint` finds any later rewriting."""
    try:
        note = services.home.log_checkpoint_path.read_bytes()
    except FileNotFoundError as error:
        raise NotReadyError("the audit log has no signed head yet; the worker signs the first one") from error
    return Response(note, media_type="text/plain; charset=utf-8")
