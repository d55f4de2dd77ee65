"""Champions, read: who they are, what they would do, what changed, how they stand.

Their work is Gradients.io's participants' (https://gradients.io), which every answer says.
"""

import threading
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Response
from sqlalchemy import Connection

from appliance.adoption import ChampionState
from appliance.api.bodies import ChampionPage
from appliance.api.deps import ApplianceDep, ServicesDep
from appliance.champion_report import kept_report
from appliance.digest import changes_since
from appliance.dossier import (
    ATTRIBUTION,
    DefaultLine,
    Dossier,
    find_champion,
    list_defaults,
    list_lines,
    read_dossier,
)
from appliance.errors import BusyError, InvalidOrderError, NotFoundError
from appliance.store.champions import ChampionRow
from appliance.store.engine import reading
from appliance.store.sources import SyncSource, list_sources
from attestation.trust import TrustRoot
from tournament_sync.champion import Channel
from tournament_sync.diff import compare, encode_diff
from tournament_sync.diff.render import diff_html, diff_text
from tournament_sync.inspection.report import InspectionReport, encode_report

# Each is a process that may take a core for a minute; what is over is refused, not queued in the server's threads.
_COMPARISONS: Final = threading.BoundedSemaphore(2)

router = APIRouter(prefix="/v1/champions", tags=["champions"])
JSON: Final = "application/json"
# A fragment of strangers' text: whatever shows it alone runs nothing and loads nothing.
_FRAGMENT_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
    "X-Content-Type-Options": "nosniff",
}


class DiffForm(StrEnum):
    """How a diff is written."""

    JSON = "json"
    TEXT = "text"
    HTML = "html"


@router.get("")
def list_champions(
    services: ServicesDep,
    channel: Channel | None = None,
    status: ChampionState | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    after: Annotated[str | None, Query(description="`next` of the page before")] = None,
) -> ChampionPage:
    """Champions, oldest proposal first. Their work is Gradients.io's (https://gradients.io)."""
    with reading(services.engine) as conn:
        lines = list_lines(conn, trust=services.home.trust(), channel=channel, state=status)
    places = {line.manifest_sha256: place for place, line in enumerate(lines)}
    if after is not None and after not in places:
        raise InvalidOrderError(
            "`after` is no champion of this list", checked="query.after", found=after[:64]
        )
    begin = 0 if after is None else places[after] + 1
    page = lines[begin : begin + limit]
    return ChampionPage(
        champions=page,
        next=page[-1].manifest_sha256 if len(lines) > begin + limit else None,
        attribution=ATTRIBUTION,
    )


@router.get("/diff", response_class=Response, responses={200: {"content": {JSON: {}, "text/html": {}}}})
def get_diff(
    services: ServicesDep,
    appliance: ApplianceDep,
    old: Annotated[str, Query(alias="from", description="name or manifest digest")],
    new: Annotated[str, Query(alias="to", description="name or manifest digest")],
    form: DiffForm = DiffForm.JSON,
) -> Response:
    """What changed between two champions: files, functions, tables, dependencies, capabilities, findings.

    Takes seconds; 503 while others are being made.
    """
    with reading(services.engine) as conn:
        before, after = find_champion(conn, old), find_champion(conn, new)
        trust = services.home.trust()
        reports = _report(conn, before, trust), _report(conn, after, trust)
    if not _COMPARISONS.acquire(blocking=False):
        raise BusyError("other champions are being compared; ask again in a few seconds")
    try:
        changes = compare(
            appliance.store.path(before.manifest_sha256),
            appliance.store.path(after.manifest_sha256),
            old=reports[0],
            new=reports[1],
        )
    finally:
        _COMPARISONS.release()
    match form:
        case DiffForm.JSON:
            return Response(encode_diff(changes), media_type=JSON)
        case DiffForm.TEXT:
            return Response(diff_text(changes), media_type="text/plain; charset=utf-8")
        case DiffForm.HTML:
            return Response(
                diff_html(changes), media_type="text/html; charset=utf-8", headers=_FRAGMENT_HEADERS
            )


@router.get("/digest")
def get_digest(
    appliance: ApplianceDep,
    since: Annotated[datetime | None, Query(description="with a time zone; else a week ago")] = None,
) -> dict[str, Any]:
    """What changed since then: champions that came, were decided on, were revoked; from the audit log."""
    start = since or appliance.clock.now() - timedelta(days=7)
    if start.tzinfo is None:
        raise InvalidOrderError(
            "a time without a time zone is no moment", checked="query.since", wanted="2026-11-21T02:00:00Z"
        )
    return changes_since(appliance, start).plain()


@router.get("/default")
def get_defaults(services: ServicesDep) -> dict[str, tuple[DefaultLine, ...]]:
    """What an order gets that names no champion, per channel and task type."""
    with reading(services.engine) as conn:
        return {"defaults": list_defaults(conn, trust=services.home.trust())}


@router.get("/sync")
def get_sync_status(services: ServicesDep) -> dict[str, tuple[SyncSource, ...]]:
    """The feeds that are synced on schedule, and how their last pass went."""
    with reading(services.engine) as conn:
        return {"sources": list_sources(conn)}


@router.get("/{champion}")
def get_champion(champion: str, services: ServicesDep) -> Dossier:
    """One champion, by name or manifest digest: what it is, whose, what it would do, who decided what."""
    with reading(services.engine) as conn:
        row = find_champion(conn, champion)
        return read_dossier(conn, row, trust=services.home.trust(), now=services.clock.now())


@router.get("/{champion}/inspection", response_class=Response, responses={200: {"content": {JSON: {}}}})
def get_inspection(champion: str, services: ServicesDep) -> Response:
    """Its inspection report, byte for byte: the SHA-256 of the answer is what decisions about it name."""
    with reading(services.engine) as conn:
        report = _report(conn, find_champion(conn, champion), services.home.trust())
    return Response(encode_report(report), media_type=JSON)


def _report(conn: Connection, champion: ChampionRow, trust: TrustRoot) -> InspectionReport:
    report = kept_report(conn, champion.manifest_sha256, trust=trust)
    if report is None:
        raise NotFoundError(f"{champion.name} has no inspection report of this version; sync it again")
    return report
