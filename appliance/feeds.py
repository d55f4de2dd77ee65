"""Feeds that somebody syncs by hand: the root is given once, kept in the home, and followed from then on.

Covered: what a feed said before is remembered by its root (appliance.feed_places), so a stick that is mounted
elsewhere cannot bring an older state; another root for a known place is refused.
Not covered: whether the root that was given first is the publisher's; compare its digest, got another way.
"""

from dataclasses import dataclass
from datetime import datetime

from appliance.assembly import Appliance
from appliance.champion_report import Inspect
from appliance.errors import ConflictError, InvalidOrderError
from appliance.feed_places import MAX_ROOT_BYTES, feed_memory, feed_place, pin_root, pinned_root
from appliance.home import checked_name
from appliance.store.engine import reading
from appliance.syncing import record_break_glass, sync_source
from attestation.digest import sha256_hex
from attestation.times import format_time
from audit.event import Event, EventKind
from audit.store import enqueue, events_of
from tournament_sync.feed.client import FeedSource
from tournament_sync.inspection.run import inspect_tree
from tournament_sync.sync import SyncReport


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakGlass:
    """Somebody's decision to take an expired feed for what it was at `reference_time`, and why."""

    reference_time: datetime
    reason: str


def sync_by_hand(
    appliance: Appliance,
    location: str,
    *,
    actor: str,
    root: bytes | None = None,
    break_glass: BreakGlass | None = None,
    inspect: Inspect = inspect_tree,
) -> SyncReport:
    """One pass over the feed at `location`, a folder or a URL; `actor` proposes whatever is new there.

    Raises InvalidOrderError if no root is known yet, ConflictError for another root than the kept one, and as
    `appliance.syncing.sync_source`.
    """
    checked_name(actor)
    place = feed_place(location)
    with reading(appliance.engine) as connection:
        kept = pinned_root(connection, appliance.home, place)
    trusted = _trusted(place, kept, root)
    if break_glass is not None:
        _log_break_glass(appliance, place, break_glass, actor=actor)
    source = FeedSource(
        place,
        state=feed_memory(appliance.home, sha256_hex(trusted)),
        root=trusted,
        break_glass_reference_time=None if break_glass is None else break_glass.reference_time,
        clock=appliance.clock.now,
    )
    report = sync_source(appliance, source, actor=actor, location=place, inspect=inspect)
    # Only now: a root that verifies nothing must not stand in the way of the right one.
    _keep_root(appliance, place, trusted, actor=actor)
    return report


def _trusted(place: str, kept: bytes | None, given: bytes | None) -> bytes:
    if given is not None and len(given) > MAX_ROOT_BYTES:
        raise InvalidOrderError(f"a root of {len(given)} bytes is over the limit of {MAX_ROOT_BYTES}")
    if kept is None and given is None:
        raise InvalidOrderError(
            f"nothing is known of the feed {place} yet: give its first root",
            checked="--root",
            wanted="root.json, got another way than the feed",
        )
    if kept is not None and given is not None and kept != given:
        raise ConflictError(
            f"another root is kept for {place}: sha256:{sha256_hex(kept)}, given was sha256:{sha256_hex(given)};"
            " a feed rotates its keys by itself, so leave --root out"
        )
    return kept if kept is not None else given or b""


def _log_break_glass(appliance: Appliance, place: str, asked: BreakGlass, *, actor: str) -> None:
    if asked.reference_time >= appliance.clock.now():
        raise InvalidOrderError(
            f"break-glass takes a moment that is past, found {format_time(asked.reference_time)}",
            checked="--break-glass",
        )
    record_break_glass(
        appliance, place, reference_time=asked.reference_time, actor=actor, reason=asked.reason
    )


def _keep_root(appliance: Appliance, place: str, root: bytes, *, actor: str) -> None:
    """Keep and log it; the same again is no change."""
    pin_root(appliance.home, place, root)
    event = Event(
        kind=EventKind.SOURCE_ADDED,
        subject=place,
        actor=actor,
        at=appliance.clock.now(),
        detail={"kind": "feed", "root": sha256_hex(root), "interval_s": 0},  # 0: by hand only
    )
    with reading(appliance.engine) as connection:
        logged = [
            (entry.event.kind, entry.event.detail.get("root")) for entry in events_of(connection, place)
        ]
    # Asked of the log and not of the file: a crash between the two must not leave it untold.
    if (event.kind, event.detail["root"]) not in logged:
        with appliance.engine.begin() as connection:
            enqueue(connection, event)
