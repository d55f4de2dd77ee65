"""From a verified snapshot to a proposed champion: into the store, inspected, recorded with its events.

A champion, where it came from, its report and their events are one transaction, after its tree is in the
store: a crash leaves none of them, or all.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from appliance.assembly import Appliance
from appliance.champion_archive import keep_commit
from appliance.champion_report import (
    Inspect,
    inspect_champion,
    keep_crosscheck,
    kept_report,
    record_crosscheck,
    record_report,
    sign_report,
)
from appliance.errors import ApplianceError, ArtifactError
from appliance.store import champions, decisions, inspections
from appliance.store.champions import ChampionRow
from appliance.store.engine import reading
from appliance.store.inspections import ChampionOrigin, OriginKind
from audit.event import Event, EventKind
from audit.store import enqueue
from tournament_sync.champion import Champion
from tournament_sync.errors import RefusedError, ReportError
from tournament_sync.inspection.links import with_release
from tournament_sync.inspection.report import InspectionReport
from tournament_sync.snapshot import Snapshot
from tournament_sync.tournament.crosscheck import CrossCheck
from tournament_sync.tournament.details import TournamentDetails


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """How a pass takes what is new: on whose behalf, from where, and with which eyes.

    `keyless_identity` says who made a champion's archive, "" if nothing says so; raises RefusedError.
    """

    actor: str
    kind: OriginKind
    location: str
    inspect: Inspect
    keyless_identity: Callable[[Champion], str]
    feed_root: str = ""  # digest of the feed's pinned root, "" for other sources
    crosscheck: CrossCheck | None = None
    details: TournamentDetails | None = None
    details_source: str = ""  # where they are from: a URL, or the name of a file


def take_in(appliance: Appliance, snapshot: Snapshot, intake: Intake) -> str | None:
    """Take it into the store and propose it with its report; why not, if it is not taken.

    Raises HomeError, and ReportError if it could not be inspected for a fault of ours.
    """
    champion = snapshot.champion
    with reading(appliance.engine) as connection:
        revocation = decisions.revocation_of(connection, champion.manifest_root, tree=champion.tree)
    if revocation is not None:
        return f"its tree was {revocation}"
    # The store's copy is what is inspected, approved and run; quarantine only saves fetching again.
    try:
        manifest = appliance.store.put(snapshot.folder)
        if manifest.root_sha256 != champion.manifest_root:
            return f"its files changed while they were taken: {manifest.root_sha256} is not what was released"
        keep_commit(appliance.home, snapshot.folder.parent, manifest_sha256=manifest.root_sha256)
        tree = appliance.store.path(manifest.root_sha256)
        report = with_release(
            intake.inspect(tree, manifest_sha256=manifest.root_sha256),
            links=champion.links,
            epoch=champion.contract_epoch.value,
            channel=champion.channel.value,
        )
        keyless_identity = intake.keyless_identity(champion)
    except (RefusedError, ArtifactError) as error:
        return str(error)
    proposed = _propose(appliance, champion, report, intake, keyless_identity=keyless_identity)
    if proposed.name != champion.name:
        return f"its tree is here already, as {proposed.name}"
    return None


def _propose(
    appliance: Appliance,
    champion: Champion,
    report: InspectionReport,
    intake: Intake,
    *,
    keyless_identity: str,
) -> ChampionRow:
    """The champion of this tree as the store has it: an earlier proposal stands, whatever its name."""
    now = appliance.clock.now()
    row = ChampionRow(
        manifest_sha256=champion.manifest_root,
        name=champion.name,
        channel=champion.channel.value,
        commit=champion.commit,
        tree=champion.tree,
        contract_epoch=champion.contract_epoch.value,
        release_bundle=champion.bundle,
        proposed_by=intake.actor,
        proposed_at=now,
    )
    origin = ChampionOrigin(
        champion=row.manifest_sha256,
        kind=intake.kind,
        location=intake.location,
        keyless_identity=keyless_identity,
        feed_root=intake.feed_root,
    )
    event = Event(
        kind=EventKind.CHAMPION_SYNCED,
        subject=row.manifest_sha256,
        actor=intake.actor,
        at=now,
        detail={
            "name": champion.name,
            "commit": champion.commit,
            "tree": champion.tree,
            "origin": intake.kind.value,
            "keyless": keyless_identity,
        },
    )
    bundle = sign_report(report, signer=appliance.signer, now=now)
    with appliance.engine.begin() as connection:
        if champions.add(connection, row):
            inspections.add_origin(connection, origin)
            enqueue(connection, event)
            record_report(connection, report, bundle=bundle, actor=intake.actor, at=now)
            if intake.crosscheck is not None and intake.details is not None:
                record_crosscheck(
                    connection,
                    row.manifest_sha256,
                    intake.crosscheck,
                    details=intake.details,
                    source=intake.details_source,
                    actor=intake.actor,
                    at=now,
                )
        return champions.get(connection, row.manifest_sha256)


def complete(appliance: Appliance, champion: ChampionRow, intake: Intake) -> None:
    """What a champion lacks that an older Assay took, or that is told only now."""
    with reading(appliance.engine) as connection:
        trust = appliance.home.trust()
        is_inspected = kept_report(connection, champion.manifest_sha256, trust=trust) is not None
    if not is_inspected:
        # It stays without a report otherwise, which the policy refuses.
        with suppress(ReportError, ApplianceError):
            inspect_champion(appliance, champion, actor=intake.actor, inspect=intake.inspect)
    if intake.crosscheck is not None and intake.details is not None:
        keep_crosscheck(
            appliance,
            champion,
            intake.crosscheck,
            details=intake.details,
            source=intake.details_source,
            actor=intake.actor,
        )
