"""What an order must name to be taken: an admitted champion, an imported model, an imported dataset, walls."""

from dataclasses import replace

from sqlalchemy import Connection

from appliance.adoption import ChampionState, ChampionStatus, status_of
from appliance.classification import classification_of
from appliance.defaults import CHANNEL_OF_TASK, default_for
from appliance.domain import Order
from appliance.errors import ForbiddenError, InvalidOrderError, NotFoundError
from appliance.isolation_policy import Defaults, IsolationPolicy, choose_walls
from appliance.store import artifacts, champions
from appliance.store.artifacts import ArtifactKind
from attestation.trust import TrustRoot


def resolve_champion(conn: Connection, champion: str | None, *, task_type: str) -> str:
    """The champion that an order is for: the one it names, or the default of its task type.

    Raises InvalidOrderError if it names none and nobody set a default.
    """
    if champion is not None:
        return champion
    channel = CHANNEL_OF_TASK.get(task_type)
    default = None if channel is None else default_for(conn, channel=channel, task_type=task_type)
    if default is None:
        raise InvalidOrderError(
            f"the order names no champion, and there is no default for {task_type[:80]}",
            checked="champion",
            found="none",
            wanted="the digest of an adopted champion, or a default for this task type",
        )
    return default.champion


def check_order(conn: Connection, order: Order, *, submitter: str, trust: TrustRoot) -> None:
    """Return if `submitter` may order this.

    Raises InvalidOrderError naming the first part of `order` that is not here or not admitted, and
    ForbiddenError if the submitter approved the champion: nobody runs what they let in themselves.
    """
    try:
        champion = champions.get(conn, order.champion)
    except NotFoundError as error:
        raise _refusal("champion", order.champion, found="no such champion") from error
    admitted = champions.admitted(conn, order.champion, trust=trust)
    if admitted is None:
        found = f"{champion.name} is not admitted: {_why_not(status_of(conn, champion, trust=trust))}"
        raise _refusal("champion", order.champion, found=found)
    if submitter.casefold() in {approver.casefold() for approver in admitted.approvers}:
        raise ForbiddenError(
            f"{submitter} approved {champion.name}: another person must submit runs with it",
            checked="submitter",
            found=submitter,
            wanted="somebody who did not approve the champion",
        )
    _check_artifact(conn, "base_model", order.base_model, ArtifactKind.MODEL)
    _check_artifact(conn, "dataset", order.dataset, ArtifactKind.DATASET)


def with_walls(conn: Connection, order: Order, *, policy: IsolationPolicy, defaults: Defaults) -> Order:
    """`order` with the walls that its data set needs; `check_order` has found the data set.

    Raises InvalidOrderError if it asks for weaker ones.
    """
    classification = classification_of(conn, artifacts.get(conn, order.dataset))
    walls = choose_walls(policy, classification, asked=order.driver, defaults=defaults)
    return replace(order, walls=walls)


def _why_not(status: ChampionStatus) -> str:
    reasons = "; ".join(status.reasons) or "nobody decided about it yet"
    if status.state in (ChampionState.HELD, ChampionState.REVOKED):
        return f"{status.state} by {status.decided_by}: {reasons}"
    return reasons


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
