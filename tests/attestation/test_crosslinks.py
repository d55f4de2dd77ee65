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
        (Kind.ISOLATION_TRAIN, ("measured", "violations"), ["network is up"], "violations ..network is up"),
        (Kind.ISOLATION_EVALUATE, ("measured", "violations"), ["x"], "violations"),
        (Kind.ISOLATION_TRAIN, ("measured",), {}, "violations None"),
        (Kind.ISOLATION_TRAIN, ("measured", "unenforced"), None, "could not enforce"),
        (Kind.ISOLATION_EVALUATE, ("measured", "unenforced"), [1], "could not enforce"),
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
