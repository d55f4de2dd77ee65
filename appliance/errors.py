"""Errors of the appliance.

ApplianceError
├── the caller must act
│   ├── InvalidOrderError      422  an order names something that cannot be trained
│   ├── DatasetError           422  a dataset cannot be taken; names the row
│   ├── TooLargeError          413  the request is larger than the cap
│   ├── UnauthorizedError      401  no token, or not one of ours
│   ├── ForbiddenError         403  the token's role may not do this
│   ├── NotFoundError          404  no such thing
│   ├── AdmissionError         403  refused by policy, with reasons
│   └── ConflictError          409  cannot be done now that things are as they are
│       ├── StaleRunError      409  somebody else moved the run first
│       └── NotReadyError      409  not logged yet: what is not proved is not handed out
├── BusyError                  503  others are being served with it; the same again a little later
├── the operator must act
│   ├── SettingsError          500  a setting is unknown or malformed
│   ├── HomeError              503  the home is missing, foreign, newer than this program, full
│   ├── PolicyError            500  no usable policy set, so everything is refused
│   └── ArtifactError          500  a folder in the store is missing or was changed, or cannot be taken
├── ApiError                        what the API answered, as its clients see it
├── UnreachableError           503  the API cannot be reached
├── EvaluationError            500  the evaluator's result cannot be used; the run fails
└── EvidenceError              500  the evidence just written does not verify; nothing is handed out

Each knows its HTTP status and its `code`, the stable last part of the problem's type.
"""

from collections.abc import Sequence
from typing import ClassVar


class ApplianceError(Exception):
    """Base of everything the appliance raises on purpose; the message is for a person.

    `checked`, `found` and `wanted` say the same to a program, where they help.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "The appliance failed"

    def __init__(
        self, message: str, *, checked: str | None = None, found: str | None = None, wanted: str | None = None
    ) -> None:
        super().__init__(message)
        self.checked = checked
        self.found = found
        self.wanted = wanted


class InvalidOrderError(ApplianceError):
    """An order or request names something that is not there or cannot be used."""

    status = 422
    code = "invalid-request"
    title = "The request cannot be carried out as written"


class DatasetError(ApplianceError):
    """A dataset cannot be taken; the message names the row."""

    status = 422
    code = "invalid-dataset"
    title = "The dataset cannot be used"


class TooLargeError(ApplianceError):
    """The request is larger than the cap."""

    status = 413
    code = "too-large"
    title = "The request is too large"


class UnauthorizedError(ApplianceError):
    """No token, or one that is unknown or revoked; which of these is not told."""

    status = 401
    code = "unauthorized"
    title = "A valid token is needed"


class ForbiddenError(ApplianceError):
    """The token is good, its role does not allow this."""

    status = 403
    code = "forbidden"
    title = "This role may not do this"


class NotFoundError(ApplianceError):
    """There is no such thing."""

    status = 404
    code = "not-found"
    title = "There is no such thing"


class AdmissionError(ApplianceError):
    """A champion is refused by policy; `reasons` say by which rules, one sentence each."""

    status = 403
    code = "not-admitted"
    title = "Refused by the admission policy"

    def __init__(self, message: str, *, reasons: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.reasons = tuple(reasons)


class ConflictError(ApplianceError):
    """Cannot be done as things stand."""

    status = 409
    code = "conflict"
    title = "This conflicts with how things stand"


class BusyError(ApplianceError):
    """As many as may at once are doing it; ask again."""

    status = 503
    code = "busy"
    title = "Others are being served with this; ask again"


class StaleRunError(ConflictError):
    """The run was moved or its cancellation asked for since it was read: read it again."""

    code = "stale-run"
    title = "The run has moved on"


class NotReadyError(ConflictError):
    """The run is not logged yet, so its outputs are not handed out."""

    code = "not-ready"
    title = "Not logged yet"


class SettingsError(ApplianceError):
    """A setting is unknown or malformed; names it."""

    code = "settings"
    title = "The appliance is configured wrongly"


class HomeError(ApplianceError):
    """The home is missing, foreign, made by a newer Assay, unwritable or full."""

    status = 503
    code = "home"
    title = "The appliance's home cannot be used"


class PolicyError(ApplianceError):
    """There is no usable policy set; without one everything is refused."""

    code = "policy"
    title = "The policy set cannot be used"


class ArtifactError(ApplianceError):
    """A folder cannot be taken into the store, or one in it is missing or was changed."""

    code = "artifact"
    title = "A stored artifact cannot be used"


class EvaluationError(ApplianceError):
    """The evaluator's result is missing, malformed or incomplete."""

    code = "evaluation"
    title = "The evaluation cannot be used"


class EvidenceError(ApplianceError):
    """The evidence just written does not verify, so it is not kept."""

    code = "evidence"
    title = "The evidence does not verify"


class ApiError(ApplianceError):
    """A problem as the API told it; status and code are the problem's own."""

    def __init__(self, message: str, *, status: int, code: str) -> None:
        super().__init__(message)
        self.answer_status = status
        self.answer_code = code


class UnreachableError(ApplianceError):
    """The API cannot be reached, or broke off."""

    status = 503
    code = "unreachable"
    title = "The appliance cannot be reached"
