"""What is known of a champion beside its release: where it came from, its reports, its tournament's word."""

from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Connection, insert, select

from appliance.store.tables import champion_origin as origin_table
from appliance.store.tables import crosscheck as crosscheck_table
from appliance.store.tables import inspection as inspection_table
from attestation.digest import sha256_hex


class OriginKind(StrEnum):
    """How a champion came to this site. `git` and `tree` were released by the site itself."""

    FEED = "feed"
    GIT = "git"
    ARCHIVE = "archive"
    TREE = "tree"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChampionOrigin:
    """The source that a champion was taken from, and whose keyless signature was verified then, "" if none.

    `feed_root`: the digest of the pinned root, "" unless it was a feed.
    """

    champion: str
    kind: OriginKind
    location: str
    keyless_identity: str = ""
    feed_root: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """A kept report and the statement signed over its digest, byte for byte."""

    champion: str
    report: bytes
    bundle: bytes
    sha256: str
    inspected_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptCrossCheck:
    """Findings of a comparison with the tournament's API, as canonical JSON."""

    champion: str
    findings: bytes
    details_sha256: str
    checked_at: datetime


def add_origin(conn: Connection, origin: ChampionOrigin) -> None:
    """Keep where a champion came from. Raises IntegrityError if that is known: the first source stands."""
    conn.execute(insert(origin_table).values(asdict(origin)))


def origin_of(conn: Connection, manifest_sha256: str) -> ChampionOrigin | None:
    """Where the champion came from; None for those of a home that did not keep it yet."""
    query = select(origin_table).where(origin_table.c.champion == manifest_sha256)
    row = conn.execute(query).one_or_none()
    return None if row is None else ChampionOrigin(**{**row._asdict(), "kind": OriginKind(row.kind)})


def add_inspection(
    conn: Connection, manifest_sha256: str, *, report: bytes, bundle: bytes, inspected_at: datetime
) -> None:
    """Keep a report; from now on it is the one that counts."""
    kept = Inspection(
        champion=manifest_sha256,
        report=report,
        bundle=bundle,
        sha256=sha256_hex(report),
        inspected_at=inspected_at,
    )
    conn.execute(insert(inspection_table).values(asdict(kept)))


def newest_inspection(conn: Connection, manifest_sha256: str) -> Inspection | None:
    """The report that counts, None if there is none."""
    query = select(inspection_table).where(inspection_table.c.champion == manifest_sha256)
    row = conn.execute(query.order_by(inspection_table.c.number.desc()).limit(1)).one_or_none()
    if row is None:
        return None
    return Inspection(
        champion=row.champion,
        report=row.report,
        bundle=row.bundle,
        sha256=row.sha256,
        inspected_at=row.inspected_at,
    )


def add_crosscheck(conn: Connection, kept: KeptCrossCheck) -> None:
    """Keep what a comparison found, beside what earlier ones did."""
    conn.execute(insert(crosscheck_table).values(asdict(kept)))


def crosschecks_of(conn: Connection, manifest_sha256: str) -> tuple[KeptCrossCheck, ...]:
    """All comparisons, oldest first; each of them counts."""
    query = select(crosscheck_table).where(crosscheck_table.c.champion == manifest_sha256)
    return tuple(
        KeptCrossCheck(
            champion=row.champion,
            findings=row.findings,
            details_sha256=row.details_sha256,
            checked_at=row.checked_at,
        )
        for row in conn.execute(query.order_by(crosscheck_table.c.number))
    )
