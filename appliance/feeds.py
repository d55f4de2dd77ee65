"""Feeds that somebody syncs by hand: the root is given once, kept in the home, and followed from then on.

Covered: what a feed said before is remembered by its root, so a stick that is mounted elsewhere cannot bring an
older state; another root for a known place is refused.
Not covered: whether the root that was given first is the publisher's; compare its digest, got another way.
"""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from appliance.assembly import Appliance
from appliance.errors import ConflictError, HomeError, InvalidOrderError
from appliance.home import checked_name
from appliance.syncing import record_break_glass, sync_feed, sync_source
from attestation.digest import sha256_hex
from attestation.times import format_time
from audit.durable import write_durably
from audit.event import Event, EventKind
from audit.store import enqueue
from tournament_sync.feed.client import FeedSource
from tournament_sync.sync import SyncReport

MAX_ROOT_BYTES: Final = 512_000  # python-tuf's own limit for a root
_ROOT_FILE: Final = "root.json"


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
) -> SyncReport:
    """One pass over the feed at `location`, a folder or a URL; `actor` proposes whatever is new there.

    Raises InvalidOrderError if no root is known yet, ConflictError for another root than the kept one, and as
    `appliance.syncing.sync_source`.
    """
    checked_name(actor)
    place = _place(location)
    kept = _kept_root(appliance, place)
    trusted = _trusted(location, kept, root)
    if break_glass is not None:
        _log_break_glass(appliance, str(place), break_glass, actor=actor)
    source = FeedSource(
        place,
        state=_state(appliance, trusted),
        root=trusted,
        break_glass_reference_time=None if break_glass is None else break_glass.reference_time,
        clock=appliance.clock.now,
    )
    report = sync_source(appliance, source, actor=actor, location=str(place))
    if kept is None:  # only now: a root that verifies nothing must not stand in the way of the right one
        _keep_root(appliance, place, trusted, actor=actor)
    return report


def sync_plain(appliance: Appliance, location: str, *, actor: str) -> SyncReport:
    """One pass over a folder of signed releases without TUF: nothing says that it is current, nothing is revoked.

    Raises ConflictError for a place whose root is kept: what was a feed with dates does not become one without.
    """
    place = _place(location)
    if not isinstance(place, Path) or _kept_root(appliance, place) is not None:
        raise ConflictError(f"{location} is a feed with TUF here, or no folder; sync it as one")
    return sync_feed(appliance, place, actor=actor)


def _place(location: str) -> str | Path:
    if location.startswith(("http://", "https://")):
        return location
    return Path(location.removeprefix("file://")).absolute()


def _kept_root(appliance: Appliance, place: str | Path) -> bytes | None:
    path = _folder(appliance, place) / _ROOT_FILE
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HomeError(f"the root kept of {place} cannot be read: {error}") from error


def _trusted(location: str, kept: bytes | None, given: bytes | None) -> bytes:
    if given is not None and len(given) > MAX_ROOT_BYTES:
        raise InvalidOrderError(f"a root of {len(given)} bytes is over the limit of {MAX_ROOT_BYTES}")
    if kept is None and given is None:
        raise InvalidOrderError(
            f"nothing is known of the feed {location} yet: give its first root",
            checked="--root",
            wanted="root.json, got another way than the feed",
        )
    if kept is not None and given is not None and kept != given:
        raise ConflictError(
            f"another root is kept for {location}: sha256:{sha256_hex(kept)}, given was sha256:{sha256_hex(given)};"
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


def _keep_root(appliance: Appliance, place: str | Path, root: bytes, *, actor: str) -> None:
    folder = _folder(appliance, place)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_durably(folder / _ROOT_FILE, root)
    event = Event(
        kind=EventKind.SOURCE_ADDED,
        subject=str(place),
        actor=actor,
        at=appliance.clock.now(),
        detail={"kind": "feed", "root": sha256_hex(root), "interval_s": 0},  # 0: by hand only
    )
    with appliance.engine.begin() as connection:
        enqueue(connection, event)


def _folder(appliance: Appliance, place: str | Path) -> Path:
    """Where a scheduled source of that place has its root, too (appliance.schedule)."""
    return appliance.home.feeds_dir / sha256_hex(str(place).encode())[:16]


def _state(appliance: Appliance, root: bytes) -> Path:
    folder = appliance.home.feeds_dir / f"root-{sha256_hex(root)[:16]}"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder
