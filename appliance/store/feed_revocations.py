"""What feeds revoked, as they said it: remembered for champions that come later, from there or from elsewhere."""

from collections.abc import Collection
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import Connection, insert, or_, select

from appliance.store.tables import feed_revocation as revocation_table

# By what two entries of one feed are the same: channel, manifest, tree.
RevocationKey = tuple[str, str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedRevocation:
    """An entry of a list that the feed with that root signed for `channel`; `champion` is a manifest's root digest.

    `synced_by` had the feed synced that said it at `location`.
    """

    feed_root: str
    channel: str
    champion: str
    tree: str
    name: str
    location: str
    reason: str
    revoked_at: datetime
    synced_by: str

    @property
    def key(self) -> RevocationKey:
        return self.channel, self.champion, self.tree


def remember(conn: Connection, entries: Collection[FeedRevocation]) -> None:
    """Keep entries that were acted on. Raises IntegrityError for one that is here."""
    if entries:
        conn.execute(insert(revocation_table), [asdict(entry) for entry in entries])


def remembered(conn: Connection, feed_root: str) -> frozenset[RevocationKey]:
    """What that feed revoked up to now."""
    table = revocation_table.c
    query = select(table.channel, table.champion, table.tree).where(table.feed_root == feed_root)
    return frozenset((row.channel, row.champion, row.tree) for row in conn.execute(query))


def revocations_about(conn: Connection, manifest_sha256: str, *, tree: str) -> tuple[FeedRevocation, ...]:
    """What feeds said against the champion of that manifest or git tree, first said first."""
    table = revocation_table.c
    query = select(revocation_table).where(or_(table.champion == manifest_sha256, table.tree == tree))
    rows = (row._asdict() for row in conn.execute(query.order_by(table.number)))
    return tuple(FeedRevocation(**{name: row[name] for name in row if name != "number"}) for row in rows)
