"""Which images belong here: those that a champion's signed release pins, as long as something needs them.

    archive ──release pins manifest and archive──► unpacked ──needed, in use or young──► kept
                                                      └────────── otherwise, by gc ────► removed

An image is an event when it comes and when it goes. Events follow the files, and whoever finds one missing after
a crash writes it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from sqlalchemy import Connection, Engine

from appliance.adoption import ChampionState, status_of
from appliance.assembly import Appliance
from appliance.champion_archive import pin_of
from appliance.errors import AdmissionError, ArtifactError
from appliance.home import Home, checked_name
from appliance.image_store import ImageStore, Kept
from appliance.pinned_images import said_pins
from appliance.store import champions, defaults, runs
from appliance.store.champions import ChampionRow
from appliance.store.engine import reading
from attestation.times import parse_time
from attestation.trust import TrustRoot
from audit.event import Event, EventKind
from audit.store import enqueue, events_of
from runner.images.unpack import UnpackedImage
from tournament_sync.champion import ImagePin
from tournament_sync.images.oci import open_archive

KEEP_DAYS: Final = 30  # that an image stays which nothing needs
_NEEDED = frozenset({ChampionState.ADOPTED, ChampionState.HELD})  # a hold may end


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLine:
    """An image as a list shows it; no `reasons` to keep it means that gc removes it."""

    kept: Kept
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rules:
    """What gc goes by."""

    now: datetime
    trust: TrustRoot
    keep_days: int = KEEP_DAYS


def import_image(appliance: Appliance, champion: ChampionRow, archive: Path, *, actor: str) -> UnpackedImage:
    """Unpack the image in `archive`, which the release of `champion` must pin. The same again repairs what changed.

    Raises AdmissionError for a revoked champion, NotFoundError for an image that is not pinned, ArtifactError for
    another archive or one that cannot be unpacked, BuildError for what is no archive of an image.
    """
    checked_name(actor)
    with reading(appliance.engine) as connection:
        state = status_of(connection, champion, trust=appliance.home.trust()).state
    if state is ChampionState.REVOKED:
        raise AdmissionError(f"{champion.name} was revoked: its images are not unpacked")
    opened = open_archive(archive)
    pin = pin_of(appliance, champion, manifest_sha256=opened.manifest_sha256)
    if opened.archive_sha256 != pin.archive:
        raise ArtifactError(
            f"{archive} has sha256:{opened.archive_sha256}, {champion.name} pins sha256:{pin.archive} for"
            f" {pin.dockerfile}: nothing is unpacked"
        )
    image = ImageStore(appliance.home).unpack(opened, now=appliance.clock.now())
    with appliance.engine.begin() as connection:
        newest = _newest(connection, pin.manifest)
        told = newest is not None and newest.kind is EventKind.IMAGE_UNPACKED and newest.detail["tree"]
        if told != image.facts.tree_sha256:
            enqueue(connection, _unpacked(appliance, champion, pin, image, actor=actor))
    return image


def list_images(appliance: Appliance, *, keep_days: int = KEEP_DAYS) -> tuple[ImageLine, ...]:
    """Every image with the reasons to keep it."""
    rules = _rules(appliance, keep_days)
    with reading(appliance.engine) as connection:
        needs = list(_needs(connection, trust=rules.trust))
    return tuple(
        ImageLine(kept=kept, reasons=tuple(_reasons(kept, needs, rules)))
        for kept in ImageStore(appliance.home).list()
    )


def collect_images(appliance: Appliance, *, actor: str, keep_days: int = KEEP_DAYS) -> tuple[Kept, ...]:
    """Remove every image that there is no reason to keep; those that were removed."""
    checked_name(actor)
    images = ImageStore(appliance.home)
    rules = _rules(appliance, keep_days)

    def removed(manifest_sha256: str) -> None:
        with appliance.engine.begin() as connection:
            newest = _newest(connection, manifest_sha256)
            if newest is not None and newest.kind is EventKind.IMAGE_UNPACKED:
                enqueue(connection, _removed(appliance, manifest_sha256, actor=actor))

    def is_unneeded(kept: Kept) -> bool:
        with reading(appliance.engine) as connection:
            return not [*_reasons(kept, list(_needs(connection, trust=rules.trust)), rules)]

    images.sweep(removed)
    return tuple(
        line.kept
        for line in list_images(appliance, keep_days=keep_days)
        if not line.reasons
        # Asked for again when nobody can begin to use it any more: a run may have come meanwhile.
        and images.remove(
            line.kept.manifest_sha256,
            if_still=partial(is_unneeded, line.kept),
            then=partial(removed, line.kept.manifest_sha256),
        )
    )


class Keeper(Protocol):
    """Whose images they are: an appliance, or what its worker has of it."""

    @property
    def home(self) -> Home:
        """Where they lie."""

    @property
    def engine(self) -> Engine:
        """Whose log names them."""


def verify_kept(appliance: Keeper, manifest_sha256: str) -> UnpackedImage:
    """Read the whole image again, and hold it against the log. Raises ArtifactError, NotFoundError."""
    image = ImageStore(appliance.home).verify(manifest_sha256)
    with reading(appliance.engine) as connection:
        told = _newest(connection, manifest_sha256)
    if told is None or told.kind is not EventKind.IMAGE_UNPACKED:
        raise ArtifactError(f"the log does not know image sha256:{manifest_sha256}; import it again")
    if told.detail.get("tree") != image.facts.tree_sha256:
        raise ArtifactError(
            f"image sha256:{manifest_sha256} was changed: its files are listed as sha256:{image.facts.tree_sha256},"
            f" logged was sha256:{told.detail.get('tree')}"
        )
    return image


def _rules(appliance: Appliance, keep_days: int) -> _Rules:
    return _Rules(now=appliance.clock.now(), trust=appliance.home.trust(), keep_days=keep_days)


def _needs(connection: Connection, *, trust: TrustRoot) -> Iterator[tuple[str, str]]:
    """(manifest of an image, why it is needed). Releases are read as they stand: to keep too much does no harm."""
    rows = {row.manifest_sha256: row for row in champions.list_champions(connection)}
    why = [(row, f"champion {row.name} is {state}") for row, state in _alive(connection, rows, trust=trust)]
    why += [
        (rows[default.champion], f"default of {default.channel}/{default.task_type}")
        for default in defaults.list_defaults(connection)
        if default.champion in rows
    ]
    why += [
        (rows[run.order.champion], f"run {run.id} is {run.state}")
        for run in runs.unfinished(connection)
        if run.order.champion in rows
    ]
    for row, reason in why:
        for pin in said_pins(row.release_bundle):
            yield pin.manifest, reason


def _alive(
    connection: Connection, rows: dict[str, ChampionRow], *, trust: TrustRoot
) -> Iterator[tuple[ChampionRow, ChampionState]]:
    for row in rows.values():
        if (state := status_of(connection, row, trust=trust).state) in _NEEDED:
            yield row, state


def _reasons(kept: Kept, needs: list[tuple[str, str]], rules: _Rules) -> Iterator[str]:
    yield from (reason for manifest_sha256, reason in needs if manifest_sha256 == kept.manifest_sha256)
    if kept.is_in_use:
        yield "in use"
    if kept.image is not None:
        age = rules.now - parse_time(kept.image.facts.unpacked_at)
        if age < timedelta(days=rules.keep_days):
            yield f"unpacked {age.days} days ago, kept for {rules.keep_days}"


def _newest(connection: Connection, manifest_sha256: str) -> Event | None:
    """Whether it came or went last; None if it was never here."""
    events = events_of(connection, manifest_sha256)
    return events[-1].event if events else None


def _unpacked(
    appliance: Appliance, champion: ChampionRow, pin: ImagePin, image: UnpackedImage, *, actor: str
) -> Event:
    return Event(
        kind=EventKind.IMAGE_UNPACKED,
        subject=pin.manifest,
        actor=actor,
        at=appliance.clock.now(),
        detail={
            "archive": pin.archive,
            "champion": champion.manifest_sha256,
            "dockerfile": pin.dockerfile,
            "tree": image.facts.tree_sha256,
        },
    )


def _removed(appliance: Appliance, manifest_sha256: str, *, actor: str) -> Event:
    return Event(kind=EventKind.IMAGE_REMOVED, subject=manifest_sha256, actor=actor, at=appliance.clock.now())
