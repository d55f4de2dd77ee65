"""What a feed may demand: it revokes what it vouches for, and can have everything else held, never more.

A feed vouches for a champion that came to this home from that feed, wherever it was read (the same pinned root),
in the channel whose list names it. So whoever stole the key of one channel ends the champions of that channel of
that feed, which its publisher could, too. Anything else is held, which a person can end. What a feed revoked
before it came is remembered: refused from there, held from elsewhere.
Not covered: a feed's publisher who revokes their own champions without need.
"""

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

from appliance.adoption import MAX_REASON_CHARS, hold_for_feed, revoke
from appliance.assembly import Appliance
from appliance.proposing import Intake
from appliance.store import champions, decisions, feed_revocations, inspections
from appliance.store.champions import ChampionRow
from appliance.store.decisions import DecisionKind
from appliance.store.engine import reading
from appliance.store.feed_revocations import FeedRevocation
from appliance.store.inspections import ChampionOrigin, OriginKind
from attestation.statement import Subject
from attestation.times import format_time
from tournament_sync.champion import Champion, Channel
from tournament_sync.feed.revocations import Revocation
from tournament_sync.sync import Revoked


@runtime_checkable
class RevokingSource(Protocol):
    """A feed: a source that also says which champions shall not be used any more."""

    @property
    def root_sha256(self) -> str:
        """The digest of its pinned root: the same feed has the same, wherever it is read."""

    def revocations_of(self, channel: Channel) -> tuple[Revocation, ...]:
        """All that the role of that channel lists. Raises SourceUnavailableError."""


def apply_revocations(appliance: Appliance, source: RevokingSource, intake: Intake) -> tuple[Revoked, ...]:
    """Do what the feed newly demands about the champions that are here, then remember it for those to come.

    In that order: a crash between the two has it looked at again.
    """
    with reading(appliance.engine) as connection:
        known = feed_revocations.remembered(connection, source.root_sha256)
    listed = {entry.key: entry for entry in _listed(source, intake)}
    new = [entry for key, entry in listed.items() if key not in known]
    if not new:
        return ()
    with reading(appliance.engine) as connection:
        here = champions.list_champions(connection)
        origins = {
            row.manifest_sha256: inspections.origin_of(connection, row.manifest_sha256) for row in here
        }
    asked = [
        _demand(appliance, entry, champion, origin=origins[champion.manifest_sha256])
        for entry, champion in _about(here, new)
    ]
    with appliance.engine.begin() as connection:
        feed_revocations.remember(connection, new)
    return tuple(done for done in asked if done is not None)


def why_unwanted(appliance: Appliance, champion: Champion, intake: Intake) -> str | None:
    """Why `champion` is not to be taken from there; None if it may be. Asked before anything is fetched."""
    with reading(appliance.engine) as connection:
        block = decisions.revocation_of(connection, champion.manifest_root, tree=champion.tree)
        said = feed_revocations.revocations_about(connection, champion.manifest_root, tree=champion.tree)
    if block is not None:
        return f"its tree was {block}"
    for entry in said:
        if (entry.feed_root, entry.channel) == (intake.feed_root, champion.channel.value):
            return f"its feed revoked it: {_reason(entry)}"
    return None


def hold_if_revoked_elsewhere(appliance: Appliance, champion: Champion) -> None:
    """Hold what another feed, or another channel, revoked; before it is proposed, so that a crash leaves no gap."""
    manifest, tree = champion.manifest_root, champion.tree
    with reading(appliance.engine) as connection:
        said = feed_revocations.revocations_about(connection, manifest, tree=tree)
        block = decisions.block_of(connection, manifest, tree=tree, trust=appliance.home.trust())
    if said and block is None:
        subject = Subject(name=champion.name, sha256=manifest)
        hold_for_feed(appliance, subject, tree=tree, actor=said[0].synced_by, reason=_reason(said[0]))


def _listed(source: RevokingSource, intake: Intake) -> Iterable[FeedRevocation]:
    for channel in Channel:
        for entry in source.revocations_of(channel):
            yield FeedRevocation(
                feed_root=source.root_sha256,
                channel=channel.value,
                champion=entry.manifest_root,
                tree=entry.tree,
                name=entry.name,
                location=intake.location,
                reason=entry.reason,
                revoked_at=entry.revoked_at,
                synced_by=intake.actor,
            )


def _about(
    here: Iterable[ChampionRow], entries: Iterable[FeedRevocation]
) -> Iterable[tuple[FeedRevocation, ChampionRow]]:
    """Each entry with each champion that it names, by manifest or by tree: the two may be of different ones."""
    by_manifest: dict[str, ChampionRow] = {}
    by_tree: dict[str, list[ChampionRow]] = {}
    for row in here:
        by_manifest[row.manifest_sha256] = row
        by_tree.setdefault(row.tree, []).append(row)
    for entry in entries:
        named = {row.manifest_sha256: row for row in by_tree.get(entry.tree, ())}
        if (row_named := by_manifest.get(entry.champion)) is not None:
            named[row_named.manifest_sha256] = row_named
        for row in named.values():
            yield entry, row


def _demand(
    appliance: Appliance,
    entry: FeedRevocation,
    champion: ChampionRow,
    *,
    origin: ChampionOrigin | None,
) -> Revoked | None:
    actor = entry.synced_by
    manifest, reason = champion.manifest_sha256, _reason(entry)
    with reading(appliance.engine) as connection:
        block = decisions.block_of(connection, manifest, tree=champion.tree, trust=appliance.home.trust())
    if block is not None and block.decision is DecisionKind.REVOKED:
        return None
    is_held = not _vouches(entry, champion, origin)
    if not is_held:
        revoke(appliance, champion, actor=actor, reason=reason)
    elif block is None or block.reason != reason:  # the same: a crash came before it was remembered
        subject = Subject(name=champion.name, sha256=manifest)
        hold_for_feed(appliance, subject, tree=champion.tree, actor=actor, reason=reason)
    return Revoked(name=champion.name, reason=reason, is_held=is_held)


def _vouches(entry: FeedRevocation, champion: ChampionRow, origin: ChampionOrigin | None) -> bool:
    """Whether the feed that lists `entry` is the one by which `champion` is here, and the list its channel's."""
    if origin is None or origin.kind is not OriginKind.FEED:
        return False
    return (origin.feed_root, champion.channel) == (entry.feed_root, entry.channel)


def _reason(entry: FeedRevocation) -> str:
    """Signed and logged; it begins with who demands it, since the actor only had the feed synced."""
    told = (
        f"{entry.location}, channel {entry.channel}, revoked {entry.name} at {format_time(entry.revoked_at)}"
    )
    return f"{told}: {entry.reason}"[:MAX_REASON_CHARS]
