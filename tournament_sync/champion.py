"""A champion as its publisher signed it, and the strict way from bytes to it.

Champions are training repositories that won a tournament of Gradients.io (https://gradients.io).
"""

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from attestation.bundle import open_bundle, parse_bundle
from attestation.errors import AttestationError, VerificationError
from attestation.keys import load_public_key
from attestation.predicates import CHAMPION_RELEASE
from attestation.statement import Statement
from attestation.times import format_time, parse_time
from attestation.trust import Role, TrustedKey, TrustRoot
from tournament_sync.errors import ReleaseError

# Folder and repository name in one; upstream's longest, god-environment-tourn-…-position-1, has 64.
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,98}[a-z0-9])?", re.ASCII)


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
class ReleaseOffer:
    """What a source lists: a name, and a bundle that is not verified yet. Grants no trust."""

    name: str
    bundle: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Champion:
    """A verified release. Commit and tree are git ids (SHA-1), all other digests SHA-256.

    The git ids name the upstream content; `manifest_root` (attestation.oms) is what is trusted.
    `licence_sha256` and `notice_sha256` are of the normalised texts (tournament_sync.licence).
    """

    name: str
    channel: Channel
    commit: str
    tree: str
    contract_epoch: ContractEpoch
    manifest_root: str
    licence_sha256: str
    notice_sha256: str
    published_at: datetime
    publisher: str  # key id
    bundle: bytes


def is_champion_name(text: str) -> bool:
    """Whether `text` may name a champion: lower case, digits and inner hyphens, safe as a file name."""
    return _NAME.fullmatch(text) is not None


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
        licence_sha256=released["licence"]["sha256"],
        notice_sha256=released["notice"]["sha256"],
        published_at=published_at,
        publisher=publisher,
        bundle=offer.bundle,
    )
