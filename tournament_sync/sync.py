"""One pass over a source: what is new, what is known, what is refused and why."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from attestation.trust import TrustRoot
from tournament_sync.champion import ReleaseOffer, open_release
from tournament_sync.errors import RefusedError, ReleaseError
from tournament_sync.snapshot import Snapshot, snapshot
from tournament_sync.source import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A champion that was not taken, and the reason."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoked:
    """A champion that the source took back, by its name here; `is_held`: whether it is only held for that."""

    name: str
    reason: str
    is_held: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncReport:
    """Every offer of the source is in exactly one of the first three, by name; `revoked` are offered no more."""

    new: tuple[Snapshot, ...]
    known: tuple[str, ...]
    refused: tuple[Refusal, ...]
    revoked: tuple[Revoked, ...] = ()  # at this pass for the first time


def sync_once(
    source: Source, *, known: Mapping[str, str], quarantine: Path, trust: TrustRoot, now: datetime
) -> SyncReport:
    """Take every new champion into a folder below `quarantine`; `known` is name → manifest root.

    Repeating a pass before its result was recorded gives the same result and fetches nothing again.
    Raises SourceUnavailableError; a refused champion does not keep the others out.
    """
    new: list[Snapshot] = []
    unchanged: list[str] = []
    refused: list[Refusal] = []
    for offer in source.offers():
        try:
            taken = _take(source, offer, known=known, quarantine=quarantine, trust=trust, now=now)
        except RefusedError as error:
            refused.append(Refusal(name=offer.name, reason=str(error)))
        else:
            if taken is None:
                unchanged.append(offer.name)
            else:
                new.append(taken)
    return SyncReport(new=tuple(new), known=tuple(unchanged), refused=tuple(refused))


def _take(
    source: Source,
    offer: ReleaseOffer,
    *,
    known: Mapping[str, str],
    quarantine: Path,
    trust: TrustRoot,
    now: datetime,
) -> Snapshot | None:
    """The snapshot of a new champion, None for a known one. Raises RefusedError."""
    champion = open_release(offer, trust=trust, now=now)
    root = known.get(champion.name)
    if root == champion.manifest_root:
        return None
    if root is not None:
        raise ReleaseError(
            f"{champion.name} was taken as {root}, and is now released as {champion.manifest_root}: "
            "a champion does not change under its name"
        )
    return snapshot(source, champion, into=quarantine / champion.commit)
