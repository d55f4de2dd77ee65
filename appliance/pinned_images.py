"""Which image a champion starts in: the one that its signed release pins for the Dockerfile of the task."""

from appliance.errors import ArtifactError
from appliance.home import Home
from appliance.image_store import ImageStore
from appliance.store.champions import ChampionRow
from attestation.bundle import parse_bundle
from attestation.claims import Kind, open_claim
from attestation.errors import AttestationError
from attestation.predicates import CHAMPION_RELEASE, check_predicate
from attestation.statement import Statement, parse_statement
from attestation.trust import TrustRoot
from runner.images.unpack import UnpackedImage
from tournament_sync.champion import ImagePin


def pinned_image(home: Home, champion: ChampionRow, dockerfile: str) -> UnpackedImage | None:
    """The image that the release of `champion` pins for `dockerfile`; None if it pins none.

    Raises ArtifactError for a release that does not verify and for an image that is not here: nothing else is
    started in its place.
    """
    pins = verified_pins(champion, trust=home.trust())
    pin = next((pin for pin in pins if pin.dockerfile == dockerfile), None)
    if pin is None:
        return None
    image = ImageStore(home).find(pin.manifest)
    if image is None:
        raise ArtifactError(
            f"{champion.name} starts in image sha256:{pin.manifest}, built of {dockerfile}, which is not here; bring"
            f" it with `assay images import ARCHIVE --champion {champion.name} --as NAME`"
        )
    return image


def verified_pins(champion: ChampionRow, *, trust: TrustRoot) -> tuple[ImagePin, ...]:
    """The pins of the release as a publisher of the trust root signed it for exactly these files.

    Whether its key counts still is asked when a run is placed. Raises ArtifactError.
    """
    try:
        claim = open_claim(champion.release_bundle, trust, file=f"release of {champion.name}")
    except AttestationError as error:
        raise ArtifactError(f"the release of {champion.name} does not verify: {error}") from error
    if claim.kind is not Kind.CHAMPION_RELEASE or claim.subject.sha256 != champion.manifest_sha256:
        raise ArtifactError(
            f"the release of {champion.name} is a {claim.kind} of sha256:{claim.subject.sha256}, wanted a"
            f" {Kind.CHAMPION_RELEASE} of sha256:{champion.manifest_sha256}"
        )
    return _pins(claim.statement)


def said_pins(release: bytes) -> tuple[ImagePin, ...]:
    """What a release says that it pins, none if it is no release. Not verified: for what does no harm."""
    try:
        statement = parse_statement(parse_bundle(release).payload)
        if statement.predicate_type != CHAMPION_RELEASE:
            return ()
        check_predicate(statement)
    except AttestationError:
        return ()
    return _pins(statement)


def _pins(statement: Statement) -> tuple[ImagePin, ...]:
    return tuple(
        ImagePin(
            dockerfile=raw["dockerfile"],
            manifest=raw["manifest"]["sha256"],
            archive=raw["archive"]["sha256"],
            inventory=raw["inventory"]["sha256"],
        )
        for raw in statement.predicate["images"]
    )
