"""One problem shape for every error (RFC 9457), one place that makes it."""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from appliance.errors import AdmissionError, ApplianceError, ArtifactError, InvalidOrderError
from tournament_sync.errors import SyncError

log = logging.getLogger(__name__)

MEDIA_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "urn:assay:problem:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """The body of every error. What does not help is left out; `code` is the stable part of `type`."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    checked: str | None = None
    found: str | None = None
    wanted: str | None = None
    reasons: tuple[str, ...] | None = None


def problem_response(problem: Problem, *, headers: Mapping[str, str] | None = None) -> Response:
    """The response that carries `problem`."""
    body = {name: value for name, value in asdict(problem).items() if value is not None}
    more = {"WWW-Authenticate": "Bearer"} if problem.status == HTTPStatus.UNAUTHORIZED else {}
    return Response(
        json.dumps(body),
        status_code=problem.status,
        media_type=MEDIA_TYPE,
        headers={**(headers or {}), **more},
    )


def problem_of(error: ApplianceError) -> Problem:
    """`error` as the caller sees it."""
    return Problem(
        type=TYPE_PREFIX + error.code,
        title=error.title,
        status=error.status,
        detail=str(error),
        code=error.code,
        checked=error.checked,
        found=error.found,
        wanted=error.wanted,
        reasons=error.reasons if isinstance(error, AdmissionError) else None,
    )


def install_handlers(app: FastAPI) -> None:
    """Make every error of `app` a problem: ours, unknown routes, malformed requests, bugs."""
    app.add_exception_handler(ApplianceError, _answer_ours)
    app.add_exception_handler(SyncError, _answer_stored)
    app.add_exception_handler(HTTPException, _answer_framework)
    app.add_exception_handler(RequestValidationError, _answer_malformed)
    app.add_exception_handler(Exception, _answer_bug)


def _answer_ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApplianceError)
    if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("path=%s code=%s %s", request.url.path, error.code, error)
    return problem_response(problem_of(error))


def _answer_stored(request: Request, error: Exception) -> Response:
    """No request fetches anything, so what cannot be read is what this home keeps."""
    return _answer_ours(request, ArtifactError(str(error)))


def _answer_framework(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    code = status.phrase.lower().replace(" ", "-")
    problem = Problem(
        type=TYPE_PREFIX + code,
        title=status.phrase,
        status=status,
        detail=status.description or status.phrase,
        code=code,
    )
    return problem_response(problem, headers=error.headers)


def _answer_malformed(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # The values that were sent are not repeated: a secret may be in the wrong place.
    faults = [(_place(fault), str(fault["msg"])) for fault in error.errors()]
    refusal = InvalidOrderError(
        "; ".join(f"{place}: {message}" for place, message in faults), checked=faults[0][0]
    )
    return problem_response(problem_of(refusal))


def _answer_bug(_request: Request, _error: Exception) -> Response:
    # The server logs the traceback, the caller gets none of it.
    return problem_response(
        problem_of(ApplianceError("an unexpected error; the server's log has the details"))
    )


# Any: what pydantic calls an error.
def _place(fault: Mapping[str, Any]) -> str:
    return ".".join(str(part) for part in fault["loc"])
