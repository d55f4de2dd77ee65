"""Champions from any source: fetched, pinned, inspected, taken into the store, proposed, logged.

Whoever syncs or imports proposes, and so cannot approve.
"""

import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Protocol, runtime_checkable

from appliance.adoption import MAX_REASON_CHARS, checked_reason
from appliance.assembly import Appliance
from appliance.champion_report import Inspect
from appliance.errors import AdmissionError, HomeError
from appliance.home import checked_name
from appliance.people import intake_signer
from appliance.proposing import Intake, complete, take_in
from appliance.revoking import RevokingSource, apply_revocations, hold_if_revoked_elsewhere, why_unwanted
from appliance.store import champions
from appliance.store.champions import ChampionRow
from appliance.store.engine import reading
from appliance.store.inspections import OriginKind
from attestation.times import format_time
from audit.event import Event, EventKind
from audit.store import enqueue, events_of
from tournament_sync.archive import ArchiveSource
from tournament_sync.champion import Champion, Channel, ContractEpoch, ReleaseOffer
from tournament_sync.errors import (
    PublishError,
    RefusedError,
    ReleaseError,
    ReportError,
    SourceUnavailableError,
)
from tournament_sync.feed.client import KeylessBundle
from tournament_sync.feed.keyless import verify_keyless
from tournament_sync.inspection.run import inspect_tree
from tournament_sync.intake import take_git
from tournament_sync.release import ReleaseFacts, sign_release
from tournament_sync.snapshot import Snapshot
from tournament_sync.source import Source
from tournament_sync.sync import Refusal, SyncReport, sync_once
from tournament_sync.tournament.crosscheck import crosscheck
from tournament_sync.tournament.details import TournamentDetails


@runtime_checkable
class KeylessSource(Protocol):
    """A source that may have a keyless signature over a champion's archive."""

    def keyless(self, champion: Champion) -> KeylessBundle | None:
        """The bundle, not verified. Raises ReleaseError."""


def sync_source(
    appliance: Appliance,
    source: Source,
    *,
    actor: str,
    kind: OriginKind = OriginKind.FEED,
    location: str = "",
    inspect: Inspect = inspect_tree,
) -> SyncReport:
    """One pass over `source`; `actor` proposes whatever is new there, and revokes what the source revokes.

    Refused champions are audit events and stand in the report; they keep no other champion out.
    Raises SourceUnavailableError if the source cannot be read, HomeError if `actor` is no plain name or another
    pass is under way.
    """
    intake = Intake(
        actor=checked_name(actor),
        kind=kind,
        location=location,
        inspect=inspect,
        keyless_identity=lambda champion: _keyless_identity(appliance, source, champion),
        feed_root=source.root_sha256 if isinstance(source, RevokingSource) else "",
    )
    with _alone(appliance):
        return _look(appliance, source, intake)


def import_archive(
    appliance: Appliance, path: Path, *, actor: str, inspect: Inspect = inspect_tree
) -> SyncReport:
    """Take the one champion of an import archive, by the rules of `sync_source`."""
    return sync_source(
        appliance,
        ArchiveSource(path),
        actor=actor,
        kind=OriginKind.ARCHIVE,
        location=str(path),
        inspect=inspect,
    )


def import_git(
    appliance: Appliance,
    url: str,
    commit: str,
    *,
    name: str,
    channel: Channel,
    contract_epoch: ContractEpoch,
    actor: str,
    details: TournamentDetails | None,
    details_source: str = "",
    without: Collection[str] = frozenset(),
    inspect: Inspect = inspect_tree,
) -> SyncReport:
    """Take commit `commit` at `url` as the champion `name`, released by this site's own publisher key.

    `without` names the links of its tree that are left out, which the release then says.
    With `details`, what the tournament's API said (`details_source`: a URL, or the file that it was saved to), they
    are compared and the findings kept beside the report.
    Raises as `sync_source`, RefusedError for what may not be taken, PublishError for a name that is none.
    """
    checked_name(actor)
    with _alone(appliance), _not_left(_quarantine(appliance) / commit) as place:
        taken = take_git(url, commit, into=place, without=without)
        found = None
        if details is not None:
            found = crosscheck(
                details, repository=name, commit=commit, competed_commit=taken.competed_commit, origin=url
            )
        facts = ReleaseFacts(
            name=name,
            channel=channel,
            contract_epoch=contract_epoch,
            tournament=None if found is None else found.facts,
        )
        signer = intake_signer(appliance, actor=actor)
        bundle = sign_release(taken, facts, signer=signer, now=appliance.clock.now())
        intake = Intake(
            actor=actor,
            kind=OriginKind.GIT,
            location=url,
            inspect=inspect,
            keyless_identity=lambda _: "",
            crosscheck=found,
            details=details,
            details_source=details_source,
        )
        offer = ReleaseOffer(name=name, bundle=bundle)
        return _sync(appliance, _Listed(found=(offer,), files=_fetch_again), intake)


def record_break_glass(
    appliance: Appliance, location: str, *, reference_time: datetime, actor: str, reason: str
) -> None:
    """Log, before it is done, that `actor` has an expired feed count as if it were `reference_time`, and why."""
    event = Event(
        kind=EventKind.SOURCE_BREAK_GLASS,
        subject=location,
        actor=checked_name(actor),
        at=appliance.clock.now(),
        detail={"as_of": format_time(reference_time), "reason": checked_reason(reason)},
    )
    with appliance.engine.begin() as connection:
        enqueue(connection, event)


def champion_named(appliance: Appliance, name: str) -> ChampionRow:
    """The champion with that name. Raises AdmissionError if none was synced."""
    with reading(appliance.engine) as connection:
        for champion in champions.list_champions(connection):
            if champion.name == name:
                return champion
    raise AdmissionError(f"no champion {name} was synced")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listed:
    """A source that was looked at once: its offers, and where their files come from."""

    found: tuple[ReleaseOffer, ...]
    files: Callable[[Champion, Path], bytes]

    def offers(self) -> tuple[ReleaseOffer, ...]:
        """See Source."""
        return self.found

    def fetch(self, champion: Champion, into: Path) -> bytes:
        """See Source."""
        return self.files(champion, into)


def _look(appliance: Appliance, source: Source, intake: Intake) -> SyncReport:
    """One look at a source: what it revokes, before anything of that is taken, then what it offers."""
    offers = source.offers()
    revoked = apply_revocations(appliance, source, intake) if isinstance(source, RevokingSource) else ()

    def fetch(champion: Champion, into: Path) -> bytes:
        if (
            why_not := why_unwanted(appliance, champion, intake) or _known_as(appliance, champion)
        ) is not None:
            raise ReleaseError(why_not)
        return source.fetch(champion, into)

    report = _sync(appliance, _Listed(found=offers, files=fetch), intake)
    return replace(report, revoked=revoked)


def _sync(appliance: Appliance, source: Source, intake: Intake) -> SyncReport:
    with reading(appliance.engine) as connection:
        known = {c.name: c for c in champions.list_champions(connection)}
    report = sync_once(
        source,
        known={name: champion.manifest_sha256 for name, champion in known.items()},
        quarantine=_quarantine(appliance),
        trust=appliance.home.trust(),
        now=appliance.clock.now(),
    )
    new, refused, again = [], list(report.refused), set[str]()
    for snapshot in report.new:
        try:
            why_not = _take(appliance, snapshot, intake)
        except ReportError as error:
            why_not = f"it could not be inspected: {error}"
            again.add(snapshot.champion.commit)
        if why_not is None:
            new.append(snapshot)
        else:
            refused.append(Refusal(name=snapshot.champion.name, reason=why_not))
    for name in report.known:
        complete(appliance, known[name], intake)
    # Neither what is recorded is wanted here any more nor what is refused: a source could fill the disk with it.
    _clear_quarantine(appliance, but=again)
    for refusal in refused:
        _record_refusal(appliance, refusal, actor=intake.actor)
    return replace(report, new=tuple(new), refused=tuple(refused))


def _known_as(appliance: Appliance, champion: Champion) -> str | None:
    """What `take_in` would say, before anything is fetched at each pass."""
    with reading(appliance.engine) as connection:
        here = {row.manifest_sha256: row.name for row in champions.list_champions(connection)}
    name = here.get(champion.manifest_root)
    return None if name is None else f"its tree is here already, as {name}"


def _take(appliance: Appliance, snapshot: Snapshot, intake: Intake) -> str | None:
    """Why it is not taken. What was revoked by another feed is held from the start."""
    why_not = why_unwanted(appliance, snapshot.champion, intake)
    if why_not is not None:
        return why_not
    hold_if_revoked_elsewhere(appliance, snapshot.champion)
    return take_in(appliance, snapshot, intake)


@contextmanager
def _not_left(place: Path) -> Iterator[Path]:
    """`place`, which is removed if what was to be taken there is refused."""
    try:
        yield place
    except (RefusedError, PublishError):
        shutil.rmtree(place, ignore_errors=True)
        raise


def _fetch_again(champion: Champion, _: Path) -> bytes:
    """For files that are in quarantine already: asked only if somebody took them away meanwhile."""
    raise SourceUnavailableError(f"{champion.commit} was removed from quarantine: import it again")


def _keyless_identity(appliance: Appliance, source: Source, champion: Champion) -> str:
    """Who made the archive, if the source has a keyless signature and the site says whose it expects."""
    settings = appliance.settings
    if settings.keyless_trust is None or not isinstance(source, KeylessSource):
        return ""
    signed = source.keyless(champion)
    if signed is None:
        return ""
    try:
        trust = settings.keyless_trust.read_bytes()
    except OSError as error:
        raise HomeError(f"the root for keyless signatures cannot be read: {error}") from error
    verify_keyless(
        signed.bundle,
        signed.artifact_sha256,
        trust=trust,
        identity=settings.keyless_identity,
        issuer=settings.keyless_issuer,
    )
    return settings.keyless_identity


def _record_refusal(appliance: Appliance, refusal: Refusal, *, actor: str) -> None:
    """Log it, unless the last thing logged of that name is the same refusal: passes repeat every hour."""
    subject, reason = refusal.name[:120] or "unnamed", refusal.reason[:MAX_REASON_CHARS]
    event = Event(
        kind=EventKind.CHAMPION_REFUSED,
        subject=subject,
        actor=actor,
        at=appliance.clock.now(),
        detail={"reason": reason},
    )
    with appliance.engine.begin() as connection:
        logged = events_of(connection, subject)
        if logged and logged[-1].event.detail == {"reason": reason}:
            return
        enqueue(connection, event)


@contextmanager
def _alone(appliance: Appliance) -> Iterator[None]:
    """One pass at a time, without what one that was killed left half-written; it may never come to its end again."""
    with appliance.home.sync_lock():
        _clear_quarantine(appliance, but={path.name for path in _quarantine(appliance).glob("[!.]*")})
        yield


def _clear_quarantine(appliance: Appliance, *, but: Collection[str]) -> None:
    for folder in _quarantine(appliance).iterdir():
        if folder.name not in but:
            shutil.rmtree(folder, ignore_errors=True)


def _quarantine(appliance: Appliance) -> Path:
    appliance.home.quarantine_dir.mkdir(exist_ok=True, mode=0o700)
    return appliance.home.quarantine_dir
