"""Sources that are synced by themselves: with jitter, and ever longer waits while they fail.

A pass is claimed in the database before it begins and counts as failed until it ends well, so a process that
is killed in the middle of one leaves a source that waits its turn, and no two processes take the same turn.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from appliance.assembly import Appliance
from appliance.errors import ApplianceError, ConflictError, InvalidOrderError, NotFoundError
from appliance.feed_places import MAX_ROOT_BYTES, feed_memory, feed_place, keep_root, kept_root, pinned_root
from appliance.home import checked_name
from appliance.store import sources
from appliance.store.engine import reading
from appliance.store.sources import SourceKind, SyncSource
from appliance.syncing import sync_source
from attestation.digest import sha256_hex
from attestation.errors import AttestationError
from audit.event import Event, EventKind
from audit.store import enqueue
from tournament_sync.backoff import Schedule, next_attempt_at
from tournament_sync.errors import SyncError
from tournament_sync.feed.client import FeedSource
from tournament_sync.source import Source
from tournament_sync.sync import SyncReport

MIN_INTERVAL_S: Final = 60
MAX_INTERVAL_S: Final = 30 * 86_400
MAX_WAIT_S: Final = 86_400  # a source that failed for long is still asked daily
JITTER_FRACTION: Final = 0.1
_MAX_RESULT_CHARS: Final = 1000

OpenSource = Callable[[Appliance, SyncSource], Source]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """How one turn of a source went; `report` is None if it failed."""

    location: str
    result: str
    report: SyncReport | None


def add_source(
    appliance: Appliance, *, location: str, root: bytes, interval_s: int, actor: str
) -> SyncSource:
    """Sync the feed at `location` from now on, every `interval_s`; `actor` proposes what comes from it.

    `root` is the feed's root that the operator trusts. Raises InvalidOrderError, ConflictError if it is there or
    another root is trusted for that place.
    """
    place = _checked_place(location)
    _check_source(root, interval_s=interval_s)
    source = SyncSource(
        location=place,
        kind=SourceKind.FEED,
        root_sha256=sha256_hex(root),
        interval_s=interval_s,
        added_by=checked_name(actor),
        next_at=appliance.clock.now(),
    )
    try:
        with appliance.engine.begin() as connection:
            _check_root(pinned_root(connection, appliance.home, place), source)
            sources.add(connection, source)
            enqueue(connection, _event(appliance, EventKind.SOURCE_ADDED, source, actor=actor))
            # Under its own digest, and before the row counts: a crash leaves no row without its root, and no
            # other root is touched.
            keep_root(appliance.home, root)
    except IntegrityError as error:
        raise ConflictError(f"{place} is synced already; remove it first to change it") from error
    return source


def remove_source(appliance: Appliance, location: str, *, actor: str) -> None:
    """Sync it no more. What was seen of it is kept: an older state of the feed stays refused. NotFoundError."""
    checked_name(actor)
    place = feed_place(location)
    with appliance.engine.begin() as connection:
        known = {source.location: source for source in sources.list_sources(connection)}
        if not sources.remove(connection, place):
            raise NotFoundError(f"{place} is not synced on schedule")
        event = _event(appliance, EventKind.SOURCE_REMOVED, known[place], actor=actor)
        enqueue(connection, event)


def due_sources(connection: Connection, now: datetime) -> tuple[SyncSource, ...]:
    """The sources whose turn has come, longest waiting first."""
    return sources.due(connection, now)


def run_due(
    appliance: Appliance,
    now: datetime,
    random: Callable[[], float],
    *,
    open_source: OpenSource | None = None,
) -> tuple[Pass, ...]:
    """Give every source that is due its turn; how they went. One that fails keeps no other from its turn.

    `random` draws from 0 to 1.
    """
    with reading(appliance.engine) as connection:
        due = due_sources(connection, now)
    passes = (_turn(appliance, source, now, random, open_source or open_feed) for source in due)
    return tuple(done for done in passes if done is not None)


def open_feed(appliance: Appliance, source: SyncSource) -> FeedSource:
    """The feed of a scheduled source. Raises HomeError if its pinned root was changed."""
    root = kept_root(appliance.home, source.root_sha256, place=source.location)
    state = feed_memory(appliance.home, source.root_sha256)
    return FeedSource(source.location, state=state, root=root, clock=appliance.clock.now)


def _turn(
    appliance: Appliance,
    source: SyncSource,
    now: datetime,
    random: Callable[[], float],
    open_source: OpenSource,
) -> Pass | None:
    """One turn, None if another process has it."""
    waits = Schedule(
        interval_s=source.interval_s,
        cap_s=max(MAX_WAIT_S, source.interval_s),
        jitter_fraction=JITTER_FRACTION,
    )

    def next_at(failures: int) -> datetime:
        at = next_attempt_at(waits, last_attempt_at=now, failures=failures, random_value=random())
        return at.replace(microsecond=0)

    with appliance.engine.begin() as connection:
        if not sources.claim(connection, source, now=now, next_at=next_at(source.failures + 1)):
            return None
    try:
        opened = open_source(appliance, source)
        report = sync_source(appliance, opened, actor=source.added_by, location=source.location)
    except (SyncError, ApplianceError, AttestationError, OSError) as error:
        result = f"failed: {error}"[:_MAX_RESULT_CHARS]
        with appliance.engine.begin() as connection:
            sources.failed(connection, source.location, result=result)
        return Pass(location=source.location, result=result, report=None)
    result = _told(report)
    etag = f"timestamp {opened.status().timestamp_version}" if isinstance(opened, FeedSource) else None
    with appliance.engine.begin() as connection:
        sources.succeeded(connection, source.location, next_at=next_at(0), result=result, etag=etag)
    return Pass(location=source.location, result=result, report=report)


def _told(report: SyncReport) -> str:
    told = f"{len(report.new)} new, {len(report.known)} known, {len(report.refused)} refused"
    held = sum(revoked.is_held for revoked in report.revoked)
    if ended := len(report.revoked) - held:
        told += f", {ended} revoked"
    return f"{told}, {held} held" if held else told


def _checked_place(location: str) -> str:
    """The worker has a folder of its own, so a path must not depend on where it is said."""
    place = feed_place(location)
    if "://" not in location and not Path(location).is_absolute():
        raise InvalidOrderError(
            f"{location[:80]!r} is no feed", checked="location", wanted="http(s)://… or an absolute path"
        )
    return place


def _check_root(pinned: bytes | None, source: SyncSource) -> None:
    if pinned is not None and (found := sha256_hex(pinned)) != source.root_sha256:
        raise ConflictError(
            f"another root is kept for {source.location}: sha256:{found}, given was sha256:{source.root_sha256}"
        )


def _check_source(root: bytes, *, interval_s: int) -> None:
    if not MIN_INTERVAL_S <= interval_s <= MAX_INTERVAL_S:
        raise InvalidOrderError(
            f"an interval of {interval_s} s",
            checked="interval",
            wanted=f"{MIN_INTERVAL_S}…{MAX_INTERVAL_S} s",
        )
    if not 0 < len(root) <= MAX_ROOT_BYTES:
        raise InvalidOrderError(
            f"a root of {len(root)} bytes", checked="root", wanted=f"1…{MAX_ROOT_BYTES} bytes"
        )


def _event(appliance: Appliance, kind: EventKind, source: SyncSource, *, actor: str) -> Event:
    return Event(
        kind=kind,
        subject=source.location,
        actor=actor,
        at=appliance.clock.now(),
        detail={
            "interval_s": source.interval_s,
            "kind": source.kind.value,
            "root": source.root_sha256,
        },
    )
