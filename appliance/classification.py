"""How secret a data set is: said when it is registered, logged, and only ever made stricter.

What is covered: a row that was changed to something weaker than what the log has of it.
What is not covered: a person who registers secret data as public, and the same rows in another order or file,
which are a data set of their own.
"""

from typing import Final

from sqlalchemy import Connection

from appliance.assembly import Appliance
from appliance.domain import Classification
from appliance.errors import ConflictError, DatasetError
from appliance.store import artifacts
from appliance.store.artifacts import Artifact
from appliance.store.engine import reading
from audit.event import Event, EventKind
from audit.store import enqueue, events_of

FACT: Final = "classification"  # in an artifact's facts, and in the log entries of its registration
DEFAULT: Final = Classification.INTERNAL


def classification_of(conn: Connection, dataset: Artifact) -> Classification:
    """The strictest that the database or the log says of `dataset`; the default if neither says anything.

    Raises DatasetError for a word that is no classification.
    """
    said = [dataset.facts.get(FACT)]
    said += [
        logged.event.detail.get(FACT)
        for logged in events_of(conn, dataset.root_sha256)
        if logged.event.kind is EventKind.DATASET_IMPORTED
    ]
    found = [_parsed(word, dataset) for word in said if word is not None]
    return max(found, key=lambda classification: classification.rank, default=DEFAULT)


def reclassify(appliance: Appliance, dataset: Artifact, to: Classification, *, actor: str) -> Artifact:
    """`dataset`, known under `to` from now on; runs that were ordered before keep the walls they were ordered with.

    Raises ConflictError if it is known as something stricter.
    """
    with reading(appliance.engine) as connection:
        known = classification_of(connection, dataset)
    if to is known:
        return dataset
    if to.rank < known.rank:
        raise ConflictError(
            f"data set sha256:{dataset.root_sha256} was registered as {known} and cannot become {to}",
            checked="classification",
            found=known,
            wanted=" or ".join(stricter for stricter in Classification if stricter.rank >= known.rank),
        )
    event = Event(
        kind=EventKind.DATASET_IMPORTED,
        subject=dataset.root_sha256,
        actor=actor,
        at=appliance.clock.now(),
        detail={"name": dataset.name, FACT: to.value},
    )
    with appliance.engine.begin() as connection:
        artifacts.set_facts(connection, dataset.root_sha256, {**dataset.facts, FACT: to.value})
        enqueue(connection, event)
        return artifacts.get(connection, dataset.root_sha256)


def _parsed(word: object, dataset: Artifact) -> Classification:
    try:
        return Classification(str(word))
    except ValueError as error:
        raise DatasetError(
            f"data set {dataset.name}: {str(word)[:40]!r} is no classification",
            checked="classification",
            found=str(word)[:40],
            wanted=" or ".join(Classification),
        ) from error
