"""Step 8: claims that are true one by one and do not fit together."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from attestation.claims import Kind
from attestation.errors import AttestationError
from attestation.trust import Role
from attestation.verify import Verified

Check = Callable[..., Verified]


def refused(check: str, file: str, message: str) -> Any:
    return pytest.raises(AttestationError, match=rf"^\[{check}\] {file}: .*{message}")


OTHER = {"sha256": "ef" * 32}
BUILD = "buildDefinition"


@pytest.mark.parametrize(
    ("kind", "path", "value", "message"),
    [
        (Kind.TRAINING_RUN, ("runId",), "run-0041", "run id is run-0041"),
        (Kind.ISOLATION_TRAIN, ("runId",), "run-0041", "run id"),
        (Kind.ISOLATION_EVALUATE, ("runId",), "run-0041", "run id"),
        (Kind.VERDICT, ("runId",), "run-0041", "run id"),
        (Kind.EVALUATION, ("runId",), "run-0041", "run id"),
        (Kind.TRAINING_RUN, ("log", "sha256"), "ef" * 32, "digest of run/stdout.log"),
        (Kind.TRAINING_RUN, ("log", "bytes"), 1, "size of run/stdout.log"),
        (Kind.TRAINING_RUN, ("champion", "name"), "other", "champion name"),
        (Kind.TRAINING_RUN, ("champion", "manifest"), OTHER, "champion digest"),
        (Kind.TRAINING_RUN, ("champion", "commit"), "00" * 20, "commit"),
        (Kind.TRAINING_RUN, ("champion", "tree"), "00" * 20, "tree"),
        (Kind.TRAINING_RUN, ("contractEpoch",), "E3", "contract epoch"),
        (Kind.TRAINING_RUN, ("submittedBy",), "Carol", "approved what they submitted themselves"),
        (Kind.TRAINING_RUN, ("dataset", "manifest"), OTHER, "training-run: dataset is"),
        (Kind.TRAINING_RUN, ("dataset", "train"), OTHER, "train.json"),
        (Kind.TRAINING_RUN, ("dataset", "heldOut"), OTHER, "training-run: held-out.json is"),
        (Kind.TRAINING_RUN, ("baseModel", "manifest"), OTHER, "base model"),
        (Kind.TRAINING_RUN, ("isolation",), OTHER, "isolation claim"),
        (Kind.TRAINING_RUN, ("runtime", "packages"), OTHER, "dependencies"),
        (Kind.TRAINING_RUN, ("startedAt",), "2026-11-19T00:00:00Z", "made after the run had started"),
        (Kind.CHAMPION_RELEASE, ("name",), "other", "name is other"),
        (Kind.CHAMPION_RELEASE, ("commit",), "00" * 20, "commit"),
        (Kind.CHAMPION_RELEASE, ("contractEpoch",), "E2", "contract epoch"),
        (Kind.APPROVAL, ("approver",), "dave", "approver is dave"),
        (Kind.APPROVAL, ("policy",), OTHER, "policy digest"),
        (Kind.APPROVAL, ("meaning",), "review", "none of approval"),
        (Kind.APPROVAL, ("approvedAt",), "2026-11-21T01:30:00Z", "made after the run had started"),
        (Kind.ADMISSION, ("timeCreated",), "2026-11-21T01:30:00Z", "made after the run had started"),
        (Kind.ADMISSION, ("properties",), ["ASSAY_OTHER"], "ASSAY_CHAMPION_ADMITTED was not granted"),
        (Kind.ADMISSION, ("verifier", "policies"), [], "policy digests"),
        (Kind.ADMISSION, ("approvals",), [], r"approvals is \[\]"),
        (Kind.ADMISSION, ("approvals",), [OTHER], "approvals is"),
        (Kind.ADMISSION, ("verifier", "policies", 0, "digest"), OTHER, "policy digests"),
        (Kind.VERDICT, ("baseModel",), OTHER, "base model"),
        (Kind.EVALUATION, ("baseModel",), OTHER, "base model"),
        (Kind.EVALUATION, ("heldOut",), OTHER, "held-out.json"),
        (Kind.EVALUATION, ("isolation",), OTHER, "isolation claim"),
        (Kind.ADMISSION, ("proposedBy",), "CAROL", "approved what they proposed"),
        (Kind.ISOLATION_TRAIN, ("measured", "tier"), 3, "isolation-train: .* tier is 3, but bubblewrap is"),
        (
            Kind.ISOLATION_EVALUATE,
            ("measured", "routes"),
            1,
            "isolation-evaluate: .* 1 network routes led out",
        ),
        (
            Kind.ISOLATION_TRAIN,
            ("measured", "after", "network_bytes", "eth0"),
            {"received_bytes": 0, "sent_bytes": 7},
            "isolation-train: .* 7 bytes passed the network interface eth0",
        ),
        (
            Kind.ISOLATION_EVALUATE,
            ("measured", "after", "network_bytes", "eth0"),
            {"received_bytes": 7, "sent_bytes": 0},
            "isolation-evaluate: .* 7 bytes passed the network interface eth0",
        ),
        (Kind.ISOLATION_TRAIN, ("measured", "released_at"), "2026-11-21T01:00:11Z", "start is"),
        (Kind.ISOLATION_TRAIN, ("measured", "after", "ended_at"), "2026-11-21T02:00:01Z", "end is"),
        (Kind.PROVENANCE, ("runDetails", "metadata", "invocationId"), "run-0041", "invocation id"),
        (Kind.PROVENANCE, ("runDetails", "metadata", "startedOn"), "2026-11-21T01:00:11Z", "start"),
        (Kind.PROVENANCE, ("runDetails", "metadata", "finishedOn"), "2026-11-21T01:59:59Z", "end"),
        (Kind.PROVENANCE, ("runDetails", "builder", "id"), "urn:assay:appliance:other", "builder"),
        (Kind.PROVENANCE, (BUILD, "externalParameters", "model"), "other", "model asked for"),
        (Kind.PROVENANCE, (BUILD, "externalParameters", "dataset"), "other", "dataset asked for"),
        (Kind.PROVENANCE, (BUILD, "externalParameters", "champion"), "other", "champion asked for"),
        (Kind.PROVENANCE, (BUILD, "resolvedDependencies"), [], "dependencies"),
        (Kind.PROVENANCE, (BUILD, "resolvedDependencies", 1, "digest"), OTHER, "dependencies"),
        (
            Kind.PROVENANCE,
            (BUILD, "resolvedDependencies", 0, "digest", "gitCommit"),
            "00" * 20,
            "dependencies",
        ),
    ],
)
def test_refuses_claims_that_do_not_fit_together(
    check: Check, packs: ModuleType, kind: Kind, path: tuple[str | int, ...], value: object, message: str
) -> None:
    with refused("links", r"claims.jsonl line \d+", message):
        check(packs.build(edits={kind: packs.set_at(*path, value=value)}))


IMAGE = {"sha256": "1a" * 32}
PIN = {
    "dockerfile": "dockerfiles/text.dockerfile",
    "manifest": IMAGE,
    "archive": {"sha256": "2b" * 32},
    "inventory": {"sha256": "3c" * 32},
}
DEPENDENCY = (BUILD, "resolvedDependencies", 3)


def in_an_image(packs: ModuleType) -> dict[Kind, Any]:
    """The edits after which the champion of a pack ran in an image that its release pins."""
    return {
        Kind.CHAMPION_RELEASE: packs.set_at("images", value=[{**PIN, "manifest": OTHER}, PIN]),
        Kind.ISOLATION_TRAIN: packs.set_at("measured", "image", value=IMAGE["sha256"]),
        Kind.TRAINING_RUN: lambda run: packs.set_at("runtime", value=None)(
            packs.set_at("image", value=IMAGE)(run)
        ),
        Kind.PROVENANCE: packs.set_at(
            *DEPENDENCY, value={"uri": f"image:{PIN['dockerfile']}", "digest": IMAGE}
        ),
    }


def test_takes_a_champion_in_an_image_that_its_release_pins(check: Check, packs: ModuleType) -> None:
    claims = check(packs.build(edits=in_an_image(packs))).claims
    assert claims.one(Kind.TRAINING_RUN).predicate["runtime"] is None
    assert claims.one(Kind.EVALUATION).predicate["runtime"] == packs.RUNTIME


@pytest.mark.parametrize(
    ("kind", "path", "value", "message"),
    [
        (Kind.TRAINING_RUN, ("image",), OTHER, "isolation-train: image is 1a1a.* say efef"),
        (Kind.TRAINING_RUN, ("image",), None, "training-run: names neither of image and runtime"),
        (
            Kind.TRAINING_RUN,
            ("runtime",),
            {"python": "3.11.7", "packages": OTHER},
            "training-run: names both of image and runtime",
        ),
        (Kind.ISOLATION_TRAIN, ("measured", "image"), "ef" * 32, "isolation-train: image is efef.* say 1a1a"),
        (Kind.ISOLATION_TRAIN, ("measured", "image"), None, "isolation-train: image is None"),
        (Kind.ISOLATION_EVALUATE, ("measured", "image"), "1a" * 32, "isolation-evaluate: image is 1a1a"),
        (Kind.PROVENANCE, (*DEPENDENCY, "digest"), OTHER, r"provenance: images is \['efef"),
        (Kind.PROVENANCE, (*DEPENDENCY, "uri"), "runtime:python", r"provenance: images is \[\]"),
        (Kind.PROVENANCE, (BUILD, "resolvedDependencies", 0, "uri"), "image:other", "provenance: images is"),
        (Kind.CHAMPION_RELEASE, ("images",), [], "champion-release: pins no image 1a1a.*; it pins none"),
        (
            Kind.CHAMPION_RELEASE,
            ("images", 1, "manifest"),
            OTHER,
            r"champion-release: pins no image 1a1a.*; it pins \['efef",
        ),
    ],
)
def test_refuses_another_image_by_the_word_of_any_claim(
    check: Check, packs: ModuleType, kind: Kind, path: tuple[str | int, ...], value: object, message: str
) -> None:
    edits = in_an_image(packs)
    before = edits.get(kind, lambda statement: statement)
    edits[kind] = lambda statement: packs.set_at(*path, value=value)(before(statement))
    with refused("links", r"claims.jsonl line \d+", message):
        check(packs.build(edits=edits))


@pytest.mark.parametrize("kind", [Kind.ISOLATION_TRAIN, Kind.ISOLATION_EVALUATE])
def test_refuses_an_image_that_only_the_walls_name(check: Check, packs: ModuleType, kind: Kind) -> None:
    with refused("links", r"claims.jsonl line \d+", f"{kind}: image is 1a1a.* say None"):
        check(packs.build(edits={kind: packs.set_at("measured", "image", value="1a" * 32)}))


@pytest.mark.parametrize("name", ["carol", "Carol"])
def test_refuses_an_approval_by_who_released_the_champion(check: Check, packs: ModuleType, name: str) -> None:
    """Two keys of one person, each for its role: neither key alone looks wrong."""
    root = packs.trust_root(publisher=packs.trusted(packs.PUBLISHER, Role.PUBLISHER, name))
    with refused("links", r"claims.jsonl line \d+", f"approval: '{name}' approved what they released"):
        check(packs.build(root=root), trust=packs.pin(root))


@pytest.mark.parametrize(
    "kind",
    [
        Kind.ISOLATION_TRAIN,
        Kind.ISOLATION_EVALUATE,
        Kind.TRAINING_RUN,
        Kind.VERDICT,
        Kind.EVALUATION,
        Kind.PROVENANCE,
    ],
)
def test_refuses_a_claim_about_another_model(check: Check, packs: ModuleType, kind: Kind) -> None:
    with refused("links", r"claims.jsonl line \d+", f"{kind}: subject is"):
        check(packs.build(edits={kind: packs.about("model", "ef" * 32)}))


@pytest.mark.parametrize("kind", [Kind.CHAMPION_RELEASE, Kind.APPROVAL, Kind.ADMISSION])
def test_refuses_permission_for_another_champion(check: Check, packs: ModuleType, kind: Kind) -> None:
    with refused("links", r"claims.jsonl line \d+", "champion digest"):
        check(packs.build(edits={kind: packs.about(packs.CHAMPION.name, "ef" * 32)}))


def test_refuses_another_policy_folder(check: Check, packs: ModuleType) -> None:
    with refused("links", "claims.jsonl line 4", "policy digest"):
        check(
            packs.build(
                files={"policy/admission.cedar": b"permit(principal, action, resource) when { true };"}
            )
        )


def test_refuses_a_missing_training_log(
    check: Check, packs: ModuleType, valid_pack: dict[str, bytes]
) -> None:
    without = {name: data for name, data in valid_pack.items() if name != "run/stdout.log"}
    with refused("links", "run/stdout.log", "missing from the pack"):
        check(packs.reseal(without))
