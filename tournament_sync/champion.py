"""A champion as its publisher signed it, and the strict way from bytes to it.

Champions are training repositories that won a tournament of Gradients.io (https://gradients.io).
"""

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from attestation.bundle import open_bundle, parse_bundle
from attestation.errors import AttestationError, VerificationError
from attestation.keys import load_public_key
from attestation.predicates import CHAMPION_RELEASE
from attestation.statement import Statement
from attestation.times import format_time, parse_time
from attestation.trust import Role, TrustedKey, TrustRoot
from tournament_sync.errors import ReleaseError
from tournament_sync.git_objects import Link

# Folder and repository name in one; upstream's longest, god-environment-tourn-…-position-1, has 64.
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,98}[a-z0-9])?", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)


class Channel(StrEnum):
    """The tournament that a champion won."""

    TEXT = "text"
    IMAGE = "image"
    ENVIRONMENT = "environment"


class ContractEpoch(StrEnum):
    """The version of the contract between tournament and champion that it was written for.

    E1 has no licence and is not taken.
    """

    E2 = "E2"
    E3 = "E3"
    E4 = "E4"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePin:
    """An image built once from one of the champion's Dockerfiles; all digests SHA-256.

    `manifest` is the digest of the OCI image manifest, `archive` of the OCI archive's bytes, `inventory` of
    the CycloneDX document that says what was built in.
    """

    dockerfile: str
    manifest: str
    archive: str
    inventory: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TournamentFacts:
    """What the tournament's API said about the champion when it was published; the publisher's word."""

    tournament_id: str
    position: int
    hotkey: str
    competed_commit: str | None  # all 40 digits


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseOffer:
    """What a source lists: a name, and a bundle that is not verified yet. Grants no trust."""

    name: str
    bundle: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Champion:
    """A verified release. Commit and tree are git ids (SHA-1), all other digests SHA-256.

    The git ids name the upstream content; `manifest_root` (attestation.oms) is what is trusted.
    `licence_sha256` and `notice_sha256` are of the normalised texts (tournament_sync.licence), None where the
    repository has none that is accepted. `origin`: the URL that the publisher took it from, or "tree".
    """

    name: str
    channel: Channel
    commit: str
    tree: str
    contract_epoch: ContractEpoch
    manifest_root: str
    origin: str
    licence_sha256: str | None
    notice_sha256: str | None
    links: tuple[Link, ...]  # of the tree, left out of the files: named and signed by the publisher
    images: tuple[ImagePin, ...]
    tournament: TournamentFacts | None
    published_at: datetime
    publisher: str  # key id
    bundle: bytes


def is_champion_name(text: str) -> bool:
    """Whether `text` may name a champion: lower case, digits and inner hyphens, safe as a file name.

    Not what looks like a digest: it would answer where somebody else's files are asked for.
    """
    return _NAME.fullmatch(text) is not None and not is_champion_digest(text)


def is_champion_digest(text: str) -> bool:
    """Whether `text` is written like the digest of a champion's manifest, and so can mean nothing else."""
    return _DIGEST.fullmatch(text) is not None


def open_release(offer: ReleaseOffer, *, trust: TrustRoot, now: datetime) -> Champion:
    """The champion that a trusted publisher released as `offer.name`. Raises ReleaseError.

    1. The bundle is well-formed and by a key of the trust root. 2. The key is a publisher's. 3. It was
    valid when the release was signed and is not revoked now: a thief would date back. 4. The statement is
    a release of one champion, under the offered name and not from the future.
    """
    if not is_champion_name(offer.name):
        raise ReleaseError(f"champion name {offer.name[:120]!r} is not lower case, digits and hyphens")
    try:
        # 1.
        bundle = parse_bundle(offer.bundle)
        key = trust.key(bundle.hint)
        # 2.
        if key.role is not Role.PUBLISHER:
            raise VerificationError(f"{key.title} may not sign releases")
        statement = open_bundle(bundle, load_public_key(key.pem))
        if statement.predicate_type != CHAMPION_RELEASE:
            raise VerificationError(f"signed statement is a {statement.predicate_type}")
        # 3.
        published_at = parse_time(statement.predicate["publishedAt"])
        key.check_valid(published_at)
        _check_not_revoked(key, now=now)
    except AttestationError as error:
        raise ReleaseError(f"release of {offer.name}: {error}") from error
    # 4.
    return _champion(statement, offer, published_at=published_at, publisher=key.key_id, now=now)


def _check_not_revoked(key: TrustedKey, *, now: datetime) -> None:
    if key.revoked_at is not None and now >= key.revoked_at:
        raise VerificationError(f"{key.title} was revoked at {format_time(key.revoked_at)}")


def _champion(
    statement: Statement, offer: ReleaseOffer, *, published_at: datetime, publisher: str, now: datetime
) -> Champion:
    # Shape and number of subjects were checked by open_bundle.
    released, subject = statement.predicate, statement.subjects[0]
    if not subject.name == released["name"] == offer.name:
        raise ReleaseError(
            f"release of {offer.name}: its subject is {subject.name!r} and its name {released['name']!r}"
        )
    if published_at > now:
        raise ReleaseError(
            f"release of {offer.name}: published in the future, at {format_time(published_at)}"
        )
    return Champion(
        name=offer.name,
        channel=Channel(released["channel"]),
        commit=released["commit"],
        tree=released["tree"],
        contract_epoch=ContractEpoch(released["contractEpoch"]),
        manifest_root=subject.sha256,
        origin=released["origin"],
        licence_sha256=_optional_digest(released["licence"]),
        notice_sha256=_optional_digest(released["notice"]),
        links=tuple(Link(name=raw["name"], target=raw["target"]) for raw in released["links"]),
        images=tuple(_image(raw) for raw in released["images"]),
        tournament=_tournament(released["tournament"]),
        published_at=published_at,
        publisher=publisher,
        bundle=offer.bundle,
    )


# Any: parts of a predicate whose shape open_bundle has checked.
def _optional_digest(raw: Any) -> str | None:
    return None if raw is None else str(raw["sha256"])


def _image(raw: Any) -> ImagePin:
    return ImagePin(
        dockerfile=raw["dockerfile"],
        manifest=raw["manifest"]["sha256"],
        archive=raw["archive"]["sha256"],
        inventory=raw["inventory"]["sha256"],
    )


def _tournament(raw: Any) -> TournamentFacts | None:
    if raw is None:
        return None
    return TournamentFacts(
        tournament_id=raw["tournamentId"],
        position=raw["position"],
        hotkey=raw["hotkey"],
        competed_commit=raw["competedCommit"],
    )
