"""Do the claims speak of the same things? Step 8 of attestation.verify: links between claims are digests."""

from collections.abc import Mapping
from typing import Any, NoReturn

from attestation.claims import Claim, Claims, Kind
from attestation.digest import folder_sha256
from attestation.errors import VerificationError
from attestation.isolation import contradictions
from attestation.oms import parse_oms
from attestation.pack import LOG, Pack
from attestation.predicates import BUILDER_PREFIX, CHAMPION_ADMITTED, IMAGE_PREFIX
from attestation.times import parse_time

_ABOUT_MODEL = (
    Kind.ISOLATION_TRAIN,
    Kind.ISOLATION_EVALUATE,
    Kind.TRAINING_RUN,
    Kind.VERDICT,
    Kind.EVALUATION,
    Kind.PROVENANCE,
)


def check_links(claims: Claims, *, pack: Pack, run_id: str) -> None:
    """Raise VerificationError, naming the claim and the link, unless all claims are about one run."""
    run = claims.one(Kind.TRAINING_RUN)
    for kind in _ABOUT_MODEL:
        claim = claims.one(kind)
        _same(claim, "subject", claim.subject, claims.one(Kind.MODEL).subject)
        if kind is not Kind.PROVENANCE:
            _same(claim, "run id", claim.predicate["runId"], run_id)
    _check_log(run, pack=pack)
    _check_champion(claims, run=run)
    _check_permission(claims, run=run, policy=folder_sha256(pack.digests_below("policy")))
    _check_materials(claims, run=run)
    _check_isolation(claims, run=run)
    _check_image(claims, run=run)
    _check_provenance(claims.one(Kind.PROVENANCE), run=run)


def _check_log(run: Claim, *, pack: Pack) -> None:
    log = pack.files.file(LOG)
    if log is None:
        raise VerificationError("missing from the pack", file=LOG)
    _same(run, f"digest of {LOG}", run.predicate["log"]["sha256"], log.sha256)
    _same(run, f"size of {LOG}", run.predicate["log"]["bytes"], log.size_bytes)


def _check_champion(claims: Claims, *, run: Claim) -> None:
    release, champion = claims.one(Kind.CHAMPION_RELEASE), run.predicate["champion"]
    _same(release, "name", release.predicate["name"], release.subject.name)
    for claim in (release, *claims.of(Kind.APPROVAL), claims.one(Kind.ADMISSION)):
        _same(claim, "champion name", claim.subject.name, champion["name"])
        _same(claim, "champion digest", claim.subject.sha256, champion["manifest"]["sha256"])
    for field in ("commit", "tree"):
        _same(release, field, release.predicate[field], champion[field])
    _same(release, "contract epoch", release.predicate["contractEpoch"], run.predicate["contractEpoch"])


def _check_permission(claims: Claims, *, run: Claim, policy: str) -> None:
    started_at, submitter = parse_time(run.predicate["startedAt"]), run.predicate["submittedBy"]
    admission = claims.one(Kind.ADMISSION)
    proposer, publisher = admission.predicate["proposedBy"], claims.one(Kind.CHAMPION_RELEASE).key.name
    for approval in claims.of(Kind.APPROVAL):
        said = approval.predicate
        _same(approval, "approver", said["approver"], approval.key.name)
        if said["approver"].casefold() == submitter.casefold():
            _fail(approval, f"{submitter!r} approved what they submitted themselves")
        if said["approver"].casefold() == proposer.casefold():
            _fail(approval, f"{proposer!r} approved what they proposed themselves")
        if said["approver"].casefold() == publisher.casefold():
            _fail(approval, f"{publisher!r} approved what they released themselves")
        _same(approval, "policy digest", said["policy"]["sha256"], policy)
    if not any(approval.predicate["meaning"] == "approval" for approval in claims.of(Kind.APPROVAL)):
        _fail(claims.of(Kind.APPROVAL)[0], "signatures of review or authorship, but none of approval")
    _same(
        admission,
        "policy digests",
        [named["digest"]["sha256"] for named in admission.predicate["verifier"]["policies"]],
        [policy],
    )
    _same(
        admission,
        "approvals",
        sorted({counted["sha256"] for counted in admission.predicate["approvals"]}),
        sorted({approval.bundle_sha256 for approval in claims.of(Kind.APPROVAL)}),
    )
    if CHAMPION_ADMITTED not in admission.predicate["properties"]:
        _fail(admission, f"property {CHAMPION_ADMITTED} was not granted")
    for claim in (*claims.of(Kind.APPROVAL), admission):
        if claim.claimed_at is None or claim.claimed_at > started_at:
            _fail(claim, "made after the run had started")


def _check_materials(claims: Claims, *, run: Claim) -> None:
    dataset, said = claims.one(Kind.DATASET), run.predicate["dataset"]
    _same(run, "dataset", said["manifest"]["sha256"], dataset.subject.sha256)
    listed = {file.name: file.sha256 for file in parse_oms(dataset.statement).files}
    _same(run, "train.json", said["train"]["sha256"], listed.get("train.json"))
    _same(run, "held-out.json", said["heldOut"]["sha256"], listed.get("held-out.json"))
    evaluation, base = claims.one(Kind.EVALUATION), run.predicate["baseModel"]["manifest"]
    _same(evaluation, "held-out.json", evaluation.predicate["heldOut"], said["heldOut"])
    _same(evaluation, "base model", evaluation.predicate["baseModel"], base)
    verdict = claims.one(Kind.VERDICT)
    _same(verdict, "base model", verdict.predicate["baseModel"], base)


def _check_isolation(claims: Claims, *, run: Claim) -> None:
    train, evaluate = claims.one(Kind.ISOLATION_TRAIN), claims.one(Kind.ISOLATION_EVALUATE)
    for claim, isolation in ((run, train), (claims.one(Kind.EVALUATION), evaluate)):
        _same(claim, "isolation claim", claim.predicate["isolation"]["sha256"], isolation.bundle_sha256)
        for contradiction in contradictions(isolation.predicate["measured"]):
            _fail(isolation, f"the sandbox's walls were not as asked: {contradiction[:400]}")
    measured = train.predicate["measured"]
    _same(run, "start", run.predicate["startedAt"], measured["released_at"])
    _same(run, "end", run.predicate["endedAt"], measured["after"]["ended_at"])


def _check_image(claims: Claims, *, run: Claim) -> None:
    """One image or none, by the word of the run, its walls and its provenance; one that the release pins."""
    image = _image(run.predicate)
    if (image is None) == (run.predicate["runtime"] is None):
        found = "both" if image else "neither"
        _fail(run, f"names {found} of image and runtime, wanted exactly one")
    train, evaluate = claims.one(Kind.ISOLATION_TRAIN), claims.one(Kind.ISOLATION_EVALUATE)
    _same(train, "image", train.predicate["measured"]["image"], image)
    _same(evaluate, "image", evaluate.predicate["measured"]["image"], None)
    provenance, release = claims.one(Kind.PROVENANCE), claims.one(Kind.CHAMPION_RELEASE)
    dependencies = provenance.predicate["buildDefinition"]["resolvedDependencies"]
    named = [one["digest"]["sha256"] for one in dependencies if one["uri"].startswith(IMAGE_PREFIX)]
    _same(provenance, "images", named, [] if image is None else [image])
    pinned = [pin["manifest"]["sha256"] for pin in release.predicate["images"]]
    if image is not None and image not in pinned:
        _fail(release, f"pins no image {image}, in which the champion ran; it pins {pinned or 'none'}")


def _check_provenance(provenance: Claim, *, run: Claim) -> None:
    build, details = provenance.predicate["buildDefinition"], provenance.predicate["runDetails"]
    said, metadata = run.predicate, details["metadata"]
    _same(provenance, "invocation id", metadata["invocationId"], said["runId"])
    _same(provenance, "start", metadata["startedOn"], said["startedAt"])
    _same(provenance, "end", metadata["finishedOn"], said["endedAt"])
    _same(provenance, "builder", details["builder"]["id"], BUILDER_PREFIX + provenance.key.key_id)
    asked = build["externalParameters"]
    _same(provenance, "champion asked for", asked["champion"], said["champion"]["manifest"]["sha256"])
    _same(provenance, "model asked for", asked["model"], said["baseModel"]["manifest"]["sha256"])
    _same(provenance, "dataset asked for", asked["dataset"], said["dataset"]["manifest"]["sha256"])
    digests = [dependency["digest"] for dependency in build["resolvedDependencies"]]
    _same(provenance, "dependencies", digests, _dependencies(said))


def _dependencies(run: Mapping[str, Any]) -> list[dict[str, str]]:  # Any: see Statement
    """The digests of `resolvedDependencies`, in order: champion, base model, training data, image or runtime."""
    champion = run["champion"]
    return [
        {"gitCommit": champion["commit"], "sha256": champion["manifest"]["sha256"]},
        {"sha256": run["baseModel"]["manifest"]["sha256"]},
        {"sha256": run["dataset"]["train"]["sha256"]},
        {"sha256": _image(run) or run["runtime"]["packages"]["sha256"]},
    ]


def _image(run: Mapping[str, Any]) -> str | None:
    return None if run["image"] is None else str(run["image"]["sha256"])


def _same(claim: Claim, what: str, found: object, wanted: object) -> None:
    if found != wanted:
        _fail(claim, f"{what} is {str(found)[:400]}, but the other claims and files say {str(wanted)[:400]}")


def _fail(claim: Claim, message: str) -> NoReturn:
    raise VerificationError(f"{claim.kind}: {message}", check="links", file=claim.file)
