"""The closed vocabulary of what is logged, for runs and operators alike, and its one written form."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from attestation import canonical
from attestation.errors import MalformedError
from attestation.times import format_time, parse_time
from audit.errors import EventError

MAX_ENTRY_BYTES = 65_535  # C2SP tlog-tiles: entries carry a 16-bit length
APPLIANCE = "appliance"  # the actor of what no person asked for
_VERSION = 1
_FIXED = frozenset({"actor", "at", "event", "run", "subject", "v"})


class EventKind(StrEnum):
    """`subject:action`. A new kind is a new meaning; a kind that was ever logged is never renamed."""

    PERSON_TRUSTED = "person:trusted"
    CHAMPION_SYNCED = "champion:synced"
    CHAMPION_REFUSED = "champion:refused"
    CHAMPION_APPROVED = "champion:approved"
    CHAMPION_ADMITTED = "champion:admitted"
    CHAMPION_DENIED = "champion:denied"
    CHAMPION_INSPECTED = "champion:inspected"
    CHAMPION_CROSSCHECKED = "champion:crosschecked"
    CHAMPION_HELD = "champion:held"
    CHAMPION_RELEASED = "champion:released"
    CHAMPION_REVOKED = "champion:revoked"
    CHAMPION_DEFAULT = "champion:default"
    IMAGE_UNPACKED = "image:unpacked"
    IMAGE_REMOVED = "image:removed"
    SOURCE_ADDED = "source:added"
    SOURCE_REMOVED = "source:removed"
    SOURCE_BREAK_GLASS = "source:break-glass"
    MODEL_IMPORTED = "model:imported"
    DATASET_IMPORTED = "dataset:imported"
    TOKEN_CREATED = "token:created"  # noqa: S105 - the name of an event
    TOKEN_REVOKED = "token:revoked"  # noqa: S105 - the name of an event
    RUN_SUBMITTED = "run:submitted"
    RUN_PLACED = "run:placed"
    RUN_STARTED = "run:started"
    RUN_HARVESTED = "run:harvested"
    RUN_EVALUATED = "run:evaluated"
    RUN_ATTESTED = "run:attested"
    CLAIM_SIGNED = "claim:signed"
    RUN_LOGGED = "run:logged"
    RUN_FAILED = "run:failed"
    RUN_CANCEL_REQUESTED = "run:cancel-requested"
    RUN_CANCELLED = "run:cancelled"
    RUN_REMNANT_LEFT = "run:remnant-left"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One fact: what happened to `subject` (a name, an id or a digest), by whom, when.

    `detail` holds digests, ids and counts, never content. A signed claim is its run's event, by the
    appliance, and carries exactly the bundle's digest and its kind. Raises EventError for anything else.
    """

    kind: EventKind
    subject: str
    actor: str
    at: datetime
    detail: Mapping[str, str | int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "detail", MappingProxyType(dict(self.detail)))
        if not all(isinstance(name, str) and name for name in (self.subject, self.actor)):
            raise EventError(f"{self.kind}: subject and actor must be named")
        if self.at.tzinfo is None or self.at.microsecond:
            raise EventError(
                f"{self.kind}: a time of whole seconds with a time zone is wanted, found {self.at}"
            )
        if taken := _FIXED & self.detail.keys():
            raise EventError(f"{self.kind}: detail may not redefine {sorted(taken)}")
        if not all(isinstance(value, str | int) for value in self.detail.values()):
            raise EventError(f"{self.kind}: detail is text and integers only")
        if self.kind is EventKind.CLAIM_SIGNED:
            _check_claim(self)

    def encode(self) -> bytes:
        """The log entry: canonical JSON, the same bytes for equal events."""
        fields = _claim_fields(self) if self.kind is EventKind.CLAIM_SIGNED else _fields(self)
        try:
            entry = canonical.encode(
                {**fields, "at": format_time(self.at), "event": self.kind, "v": _VERSION}
            )
        except MalformedError as error:
            raise EventError(f"{self.kind}: {error}") from error
        if len(entry) > MAX_ENTRY_BYTES:
            raise EventError(f"{self.kind}: {len(entry)} bytes are over the limit of {MAX_ENTRY_BYTES}")
        return entry


def parse_event(entry: bytes) -> Event:
    """The event that `encode` wrote. Raises EventError for bytes it would not have written."""
    try:
        raw = canonical.decode(entry, max_bytes=MAX_ENTRY_BYTES)
        event = _event(dict(raw)) if isinstance(raw, dict) else None
    except (MalformedError, KeyError, ValueError, TypeError) as error:
        raise EventError(f"not a log entry: {error}") from error
    if event is None or event.encode() != entry:
        raise EventError("not a log entry in its one written form")
    return event


# Any: fields of decoded JSON; Event and the comparison with its one form check them.
def _event(raw: dict[str, Any]) -> Event:
    kind, at, _ = EventKind(raw.pop("event")), parse_time(raw.pop("at")), raw.pop("v")
    if kind is EventKind.CLAIM_SIGNED:
        return Event(kind=kind, subject=raw.pop("run"), actor=APPLIANCE, at=at, detail=raw)
    return Event(kind=kind, subject=raw.pop("subject"), actor=raw.pop("actor"), at=at, detail=raw)


def _fields(event: Event) -> dict[str, str | int]:
    return {**event.detail, "actor": event.actor, "subject": event.subject}


def _claim_fields(event: Event) -> dict[str, str | int]:
    # What a verifier demands to the byte: the run by its own name, and no actor, who is always the appliance.
    return {**event.detail, "run": event.subject}


def _check_claim(event: Event) -> None:
    if event.detail.keys() != {"bundle", "kind"}:
        raise EventError(f"{event.kind}: detail is bundle and kind, found {sorted(event.detail)}")
    if event.actor != APPLIANCE:
        raise EventError(f"{event.kind}: claims are signed by the appliance, not by {event.actor!r}")
