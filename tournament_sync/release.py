"""Signs a release: the statement by which a publisher says what a champion's files are and where they came from."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from attestation.bundle import parse_bundle, sign_statement
from attestation.errors import AttestationError
from attestation.keys import Signer
from attestation.oms import Manifest
from attestation.predicates import CHAMPION_RELEASE, check_predicate
from attestation.statement import Statement, Subject, parse_statement
from attestation.times import format_time
from tournament_sync.champion import Channel, ContractEpoch, ImagePin, TournamentFacts, is_champion_name
from tournament_sync.errors import LicenceError, PublishError
from tournament_sync.git_objects import Link
from tournament_sync.licence import read_licence


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A champion's files as they were taken in, verified against its commit, signed by nobody yet.

    `folder` holds the files; `competed_commit` are 8 digits from the commit's message; `links` are in the commit's
    tree and were left out of the files by whoever took it in.
    """

    commit: str
    raw_commit: bytes
    tree: str
    manifest: Manifest
    folder: Path
    competed_commit: str | None
    origin: str
    links: tuple[Link, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseFacts:
    """What only the publisher knows."""

    name: str
    channel: Channel
    contract_epoch: ContractEpoch
    images: tuple[ImagePin, ...] = ()
    tournament: TournamentFacts | None = None


def sign_release(taken: Taken, facts: ReleaseFacts, *, signer: Signer, now: datetime) -> bytes:
    """The bundle that releases `taken`. Raises PublishError for a name that is none."""
    return sign_statement(release_statement(taken, facts, now=now), signer)


def release_statement(taken: Taken, facts: ReleaseFacts, *, now: datetime) -> Statement:
    """What `sign_release` signs."""
    if not is_champion_name(facts.name):
        raise PublishError(f"champion name {facts.name[:120]!r} is not lower case, digits and inner hyphens")
    licence_sha256, notice_sha256 = licence_digests(taken.folder)
    return Statement(
        subjects=(Subject(name=facts.name, sha256=taken.manifest.root_sha256),),
        predicate_type=CHAMPION_RELEASE,
        predicate={
            "name": facts.name,
            "channel": facts.channel.value,
            "commit": taken.commit,
            "tree": taken.tree,
            "contractEpoch": facts.contract_epoch.value,
            "origin": taken.origin,
            "licence": _digest(licence_sha256),
            "notice": _digest(notice_sha256),
            "links": [{"name": link.name, "target": link.target} for link in taken.links],
            "images": [
                {
                    "dockerfile": image.dockerfile,
                    "manifest": {"sha256": image.manifest},
                    "archive": {"sha256": image.archive},
                    "inventory": {"sha256": image.inventory},
                }
                for image in facts.images
            ],
            "tournament": _tournament(facts.tournament),
            "publishedAt": format_time(now),
        },
    )


def claimed_links(release: bytes) -> tuple[Link, ...]:
    """The links that a release says were left out; none if it is no release. Not verified: the tree id decides."""
    try:
        statement = parse_statement(parse_bundle(release).payload)
        if statement.predicate_type != CHAMPION_RELEASE:
            return ()
        check_predicate(statement)
    except AttestationError:
        return ()
    return tuple(Link(name=raw["name"], target=raw["target"]) for raw in statement.predicate["links"])


def licence_digests(folder: Path) -> tuple[str | None, str | None]:
    """Digests of the accepted licence and notice in `folder`, None for both unless both are there."""
    try:
        licence = read_licence(folder)
    except LicenceError:
        return None, None
    return licence.licence_sha256, licence.notice_sha256


def _digest(sha256: str | None) -> dict[str, str] | None:
    return None if sha256 is None else {"sha256": sha256}


def _tournament(facts: TournamentFacts | None) -> dict[str, str | int | None] | None:
    if facts is None:
        return None
    return {
        "tournamentId": facts.tournament_id,
        "position": facts.position,
        "hotkey": facts.hotkey,
        "competedCommit": facts.competed_commit,
    }
