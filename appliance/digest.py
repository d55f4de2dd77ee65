"""What changed since some day: champions that came, were refused, adopted, held, revoked; from the audit log.

Champions are the work of Gradients.io's participants (https://gradients.io).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection

from appliance.assembly import Appliance
from appliance.store import champions
from appliance.store.engine import reading
from attestation.times import format_time
from audit.event import Event, EventKind, parse_event
from audit.store import read_pending, scan_entries
from tournament_sync.inspection.report import Severity

ATTRIBUTION: Final = "Gradients.io (https://gradients.io)"
# Parts of the digest in the order of its text.
_PARTS: Final[Mapping[EventKind, str]] = {
    EventKind.CHAMPION_SYNCED: "synced",
    EventKind.CHAMPION_REFUSED: "refused",
    EventKind.CHAMPION_APPROVED: "approved",
    EventKind.CHAMPION_ADMITTED: "adopted",
    EventKind.CHAMPION_DENIED: "denied",
    EventKind.CHAMPION_HELD: "held",
    EventKind.CHAMPION_RELEASED: "released",
    EventKind.CHAMPION_REVOKED: "revoked",
    EventKind.CHAMPION_DEFAULT: "defaults",
    EventKind.SOURCE_ADDED: "sources_added",
    EventKind.SOURCE_REMOVED: "sources_removed",
    EventKind.SOURCE_BREAK_GLASS: "break_glass",
}
_TITLES: Final = {
    "synced": "New, proposed",
    "refused": "Not taken",
    "approved": "Approved",
    "adopted": "Adopted",
    "denied": "Refused by policy",
    "held": "Held",
    "released": "Hold released",
    "revoked": "Revoked",
    "defaults": "New defaults",
    "sources_added": "Sources added",
    "sources_removed": "Sources removed",
    "break_glass": "BREAK-GLASS: expired feeds made to count",
}
# Cheap to look for before a line is parsed: most entries are of runs.
_MARKS: Final = (b'"event":"champion:', b'"event":"source:')


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One event. `name` is the champion's, or what else the event is about; `note` says why, or of what."""

    name: str
    subject: str
    actor: str
    at: datetime
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangesDigest:
    """All changes from `since` to `until`, oldest first; `findings` counts those of what was inspected, by severity."""

    since: datetime
    until: datetime
    changes: Mapping[str, tuple[Change, ...]]
    findings: Mapping[str, int]
    attribution: str = ATTRIBUTION

    @property
    def is_empty(self) -> bool:
        return not any(self.changes.values())

    def plain(self) -> dict[str, Any]:  # Any: JSON
        """Plain JSON."""
        return {
            "since": format_time(self.since),
            "until": format_time(self.until),
            **{
                part: [asdict(change) | {"at": format_time(change.at)} for change in changes]
                for part, changes in self.changes.items()
            },
            "findings": dict(self.findings),
            "attribution": self.attribution,
        }


def changes_since(appliance: Appliance, since: datetime) -> ChangesDigest:
    """What the audit log holds about champions and their sources from `since` on."""
    with reading(appliance.engine) as connection:
        names = {row.manifest_sha256: row.name for row in champions.list_champions(connection)}
        events = [event for event in _events(connection) if event.at >= since]
    return ChangesDigest(
        since=since,
        until=appliance.clock.now(),
        changes={
            part: tuple(_change(event, names) for event in events if event.kind is kind)
            for kind, part in _PARTS.items()
        },
        findings=_findings(events),
    )


def render_text(digest: ChangesDigest) -> str:
    """The digest for a person; nothing that others wrote reaches a terminal unescaped."""
    return "".join(f"{_plain(line)}\n" for line in _lines(digest))


def _lines(digest: ChangesDigest) -> Iterator[str]:
    yield f"Champions since {format_time(digest.since)}, until {format_time(digest.until)}"
    if digest.is_empty:
        yield "  nothing changed"
    for part, changes in digest.changes.items():
        if changes:
            yield f"{_TITLES[part]} ({len(changes)})"
        for change in changes:
            note = f": {change.note}" if change.note else ""
            yield f"  {format_time(change.at)}  {change.name}  by {change.actor}{note}"
    if any(digest.findings.values()):
        told = ", ".join(f"{count} {severity}" for severity, count in digest.findings.items() if count)
        yield f"Findings in what was inspected: {told}"
    yield f"By courtesy of {digest.attribution}"


def _events(connection: Connection) -> Iterator[Event]:
    """Events of champions and sources: logged ones in order, then those on their way there."""
    logged = (stored.entry for stored in scan_entries(connection))
    waiting = (pending.entry for pending in read_pending(connection))
    for entries in (logged, waiting):
        for entry in entries:
            if any(mark in entry for mark in _MARKS):
                yield parse_event(entry)


def _change(event: Event, names: Mapping[str, str]) -> Change:
    detail = event.detail
    name = str(detail.get("name") or names.get(event.subject, event.subject))
    told = ("reason", "rules", "origin", "as_of", "task")
    note = "; ".join(f"{detail[key]}" for key in told if detail.get(key))
    return Change(name=name, subject=event.subject, actor=event.actor, at=event.at, note=note)


def _findings(events: Iterable[Event]) -> dict[str, int]:
    inspected = [event.detail for event in events if event.kind is EventKind.CHAMPION_INSPECTED]
    return {
        severity.value: sum(int(detail.get(severity.value, 0)) for detail in inspected)
        for severity in reversed(Severity)
    }


def _plain(text: str) -> str:
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
