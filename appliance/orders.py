"""What an order must name to be taken: an admitted champion, an imported model, an imported dataset."""

from sqlalchemy import Connection

from appliance.domain import Order
from appliance.errors import ForbiddenError, InvalidOrderError, NotFoundError
from appliance.store import artifacts, champions
from appliance.store.artifacts import ArtifactKind


def check_order(conn: Connection, order: Order, *, submitter: str) -> None:
    """Return if `submitter` may order this.

    Raises InvalidOrderError naming the first part of `order` that is not here or not admitted, and
    ForbiddenError if the submitter approved the champion: nobody runs what they let in themselves.
    """
    try:
        champion = champions.get(conn, order.champion)
    except NotFoundError as error:
        raise _refusal("champion", order.champion, found="no such champion") from error
    admitted = champions.admitted(conn, order.champion)
    if admitted is None:
        decision = champions.newest_decision(conn, order.champion)
        reasons = "; ".join(decision.reasons) if decision else "nobody decided about it yet"
        raise _refusal("champion", order.champion, found=f"{champion.name} is not admitted: {reasons}")
    if submitter.casefold() in {approver.casefold() for approver in admitted.approvers}:
        raise ForbiddenError(
            f"{submitter} approved {champion.name}: another person must submit runs with it",
            checked="submitter",
            found=submitter,
            wanted="somebody who did not approve the champion",
        )
    _check_artifact(conn, "base_model", order.base_model, ArtifactKind.MODEL)
    _check_artifact(conn, "dataset", order.dataset, ArtifactKind.DATASET)


def _check_artifact(conn: Connection, part: str, digest: str, kind: ArtifactKind) -> None:
    try:
        found = artifacts.get(conn, digest)
    except NotFoundError as error:
        raise _refusal(part, digest, found=f"no such {kind}") from error
    if found.kind is not kind:
        raise _refusal(part, digest, found=f"{found.name} is a {found.kind}")


def _refusal(part: str, digest: str, *, found: str) -> InvalidOrderError:
    wanted = "an admitted champion" if part == "champion" else f"an imported {part.replace('_', ' ')}"
    return InvalidOrderError(
        f"{part} sha256:{digest}: {found}; wanted {wanted}", checked=part, found=found, wanted=wanted
    )
