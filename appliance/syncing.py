"""Champions from a signed feed: fetched, pinned, taken into the store, proposed, logged."""

from dataclasses import replace
from pathlib import Path

from appliance.assembly import Appliance
from appliance.errors import AdmissionError
from appliance.home import checked_name
from appliance.store import champions
from appliance.store.champions import ChampionRow
from audit.event import Event, EventKind
from audit.store import enqueue
from tournament_sync.folder import FolderSource
from tournament_sync.snapshot import Snapshot
from tournament_sync.sync import Refusal, SyncReport, sync_once


def sync_feed(appliance: Appliance, feed: Path, *, actor: str) -> SyncReport:
    """One pass over the folder `feed`; `actor` proposes whatever is new there.

    Refused champions are audit events and stand in the report; they keep no other champion out.
    Raises SourceUnavailableError if the feed cannot be read, HomeError if `actor` is no plain name.
    """
    checked_name(actor)
    with appliance.engine.connect() as connection:
        known = {c.name: c.manifest_sha256 for c in champions.list_champions(connection)}
    appliance.home.quarantine_dir.mkdir(exist_ok=True, mode=0o700)
    report = sync_once(
        FolderSource(feed),
        known=known,
        quarantine=appliance.home.quarantine_dir,
        trust=appliance.home.trust(),
        now=appliance.clock.now(),
    )
    new, refused = [], list(report.refused)
    for snapshot in report.new:
        proposed = _propose(appliance, snapshot, actor=actor)
        if proposed.name == snapshot.champion.name:
            new.append(snapshot)
        else:
            refused.append(
                Refusal(name=snapshot.champion.name, reason=f"its tree is here already, as {proposed.name}")
            )
    for refusal in refused:
        _record_refusal(appliance, refusal, actor=actor)
    return replace(report, new=tuple(new), refused=tuple(refused))


def champion_named(appliance: Appliance, name: str) -> ChampionRow:
    """The champion with that name. Raises AdmissionError if none was synced."""
    with appliance.engine.connect() as connection:
        for champion in champions.list_champions(connection):
            if champion.name == name:
                return champion
    raise AdmissionError(f"no champion {name} was synced")


def _propose(appliance: Appliance, snapshot: Snapshot, *, actor: str) -> ChampionRow:
    """The champion of this tree as the store has it: an earlier proposal stands, whatever its name."""
    # The store's copy is what is approved and run; quarantine only saves fetching again.
    manifest = appliance.store.put(snapshot.folder)
    champion, now = snapshot.champion, appliance.clock.now()
    row = ChampionRow(
        manifest_sha256=manifest.root_sha256,
        name=champion.name,
        channel=champion.channel.value,
        commit=champion.commit,
        tree=champion.tree,
        contract_epoch=champion.contract_epoch.value,
        release_bundle=champion.bundle,
        proposed_by=actor,
        proposed_at=now,
    )
    event = Event(
        kind=EventKind.CHAMPION_SYNCED,
        subject=manifest.root_sha256,
        actor=actor,
        at=now,
        detail={"name": champion.name, "commit": champion.commit, "tree": champion.tree},
    )
    with appliance.engine.begin() as connection:
        if champions.add(connection, row):
            enqueue(connection, event)
        return champions.get(connection, manifest.root_sha256)


def _record_refusal(appliance: Appliance, refusal: Refusal, *, actor: str) -> None:
    event = Event(
        kind=EventKind.CHAMPION_REFUSED,
        subject=refusal.name[:120] or "unnamed",
        actor=actor,
        at=appliance.clock.now(),
        detail={"reason": refusal.reason[:2000]},
    )
    with appliance.engine.begin() as connection:
        enqueue(connection, event)
