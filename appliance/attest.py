"""The signed claims about one run, in the order in which they stand in claims.jsonl; pure but for the key."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from appliance.domain import Order, Run
from appliance.evaluation import Metrics
from attestation.bundle import sign_statement
from attestation.canonical import MAX_INTEGER, encode
from attestation.claims import Kind
from attestation.digest import sha256_hex
from attestation.keys import Signer
from attestation.oms import Manifest, oms_statement
from attestation.predicates import (
    BUILD_TYPE,
    BUILDER_PREFIX,
    EVALUATION,
    IMAGE_PREFIX,
    ISOLATION,
    SLSA_PROVENANCE,
    TRAINING_RUN,
    VERDICT,
)
from attestation.shapes import MAX_TEXT_CHARS
from attestation.statement import Statement, Subject
from attestation.times import format_time
from runner.spec import Exit, Limits
from runner.verdict import VerdictReport


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmittedChampion:
    """What the appliance knows of an admitted champion; the bundles are verbatim as signed."""

    name: str
    manifest_sha256: str
    commit: str
    tree: str
    contract_epoch: str
    policy_sha256: str  # the set under which it was admitted
    release_bundle: bytes
    approvers: frozenset[str]
    approval_bundles: tuple[bytes, ...]
    admission_bundle: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeFacts:
    """The Python environment that we ship, as measured when the worker started; the evaluator always runs in it."""

    python: str
    packages_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunImage:
    """The image in which a champion ran, and the Dockerfile for which its release pins that image."""

    dockerfile: str
    manifest_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """Everything that is claimed about a run."""

    run: Run
    champion: AdmittedChampion
    base_model_name: str
    model: Manifest
    dataset: Manifest
    runtime: RuntimeFacts
    image: RunImage | None  # None: the champion, too, ran in `runtime`
    limits: Limits
    exit: Exit
    log_sha256: str
    log_size_bytes: int
    isolation_train: Mapping[str, Any]
    isolation_evaluate: Mapping[str, Any]
    verdict: VerdictReport
    metrics: Metrics
    evaluator_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One signed claim: its kind, the bundle's bytes verbatim and their digest."""

    kind: str
    bundle: bytes
    sha256: str


def order_sha256(order: Order) -> str:
    """Names an order: the digest of its canonical JSON, hours as the decimal string a champion gets."""
    return sha256_hex(encode({**asdict(order), "hours_to_complete": str(order.hours_to_complete)}))


def walls_with_end(measured: Mapping[str, Any], ended: Exit, *, job_dir: str) -> dict[str, Any]:
    """What was measured of the walls before the start, and what was counted after the end: one claim's worth."""
    walls: dict[str, Any] = _plain(
        {
            **measured,
            "measured_at": ended.measured_at,
            "released_at": ended.released_at,
            "after": {
                "ended_at": ended.ended_at,
                "network_bytes": {name: dict(both) for name, both in ended.network_bytes.items()},
                "out_of_memory": ended.out_of_memory,
                "survivors": ended.survivors,
                "usage": dict(ended.usage),
                # Where this appliance keeps its files is nobody's business.
                "remnants": [
                    remnant.replace(f"{job_dir}/", "")[:MAX_TEXT_CHARS] for remnant in ended.remnants
                ],
            },
        }
    )
    return walls


def sign_claims(facts: RunFacts, *, signer: Signer) -> tuple[Claim, ...]:
    """All claims about a run. Links between claims are digests, so the order of signing is the order below."""
    return tuple(_claims(facts, signer))


def _claims(facts: RunFacts, signer: Signer) -> Iterator[Claim]:
    def signed(kind: Kind, statement: Statement) -> Claim:
        return _claim(kind, sign_statement(statement, signer))

    yield signed(Kind.MODEL, oms_statement("model", facts.model))
    yield signed(Kind.DATASET, oms_statement("dataset", facts.dataset))
    yield _claim(Kind.CHAMPION_RELEASE, facts.champion.release_bundle)
    for approval in facts.champion.approval_bundles:
        yield _claim(Kind.APPROVAL, approval)
    yield _claim(Kind.ADMISSION, facts.champion.admission_bundle)
    train = signed(Kind.ISOLATION_TRAIN, _isolation(facts, "train", facts.isolation_train))
    evaluate = signed(Kind.ISOLATION_EVALUATE, _isolation(facts, "evaluate", facts.isolation_evaluate))
    yield train
    yield evaluate
    yield signed(Kind.TRAINING_RUN, _training_run(facts, isolation_sha256=train.sha256))
    yield signed(Kind.VERDICT, _verdict(facts))
    yield signed(Kind.EVALUATION, _evaluation(facts, isolation_sha256=evaluate.sha256))
    yield signed(Kind.PROVENANCE, _provenance(facts, signer))


def _claim(kind: Kind, bundle: bytes) -> Claim:
    return Claim(kind=kind, bundle=bundle, sha256=sha256_hex(bundle))


def _about_model(facts: RunFacts, predicate_type: str, predicate: Mapping[str, Any]) -> Statement:
    subject = Subject(name="model", sha256=facts.model.root_sha256)
    return Statement(subjects=(subject,), predicate_type=predicate_type, predicate=predicate)


def _isolation(facts: RunFacts, purpose: str, measured: Mapping[str, Any]) -> Statement:
    return _about_model(
        facts, ISOLATION, {"runId": facts.run.id, "purpose": purpose, "measured": dict(measured)}
    )


def _training_run(facts: RunFacts, *, isolation_sha256: str) -> Statement:
    run, champion = facts.run, facts.champion
    return _about_model(
        facts,
        TRAINING_RUN,
        {
            "runId": run.id,
            "submittedBy": run.submitted_by,
            "submittedAt": format_time(run.submitted_at),
            "order": _sha256(order_sha256(run.order)),
            "contractEpoch": champion.contract_epoch,
            "champion": {
                "name": champion.name,
                "commit": champion.commit,
                "tree": champion.tree,
                "manifest": _sha256(champion.manifest_sha256),
            },
            "baseModel": {"name": facts.base_model_name, "manifest": _sha256(run.order.base_model)},
            "dataset": {
                "manifest": _sha256(facts.dataset.root_sha256),
                "train": _sha256(_file(facts.dataset, "train.json")),
                "heldOut": _sha256(_file(facts.dataset, "held-out.json")),
            },
            "runtime": _runtime(facts) if facts.image is None else None,
            "image": None if facts.image is None else _sha256(facts.image.manifest_sha256),
            "startedAt": facts.exit.released_at,
            "endedAt": facts.exit.ended_at,
            "exit": {"reason": facts.exit.reason.value, "code": facts.exit.code},
            "limits": _integers(asdict(facts.limits)),
            "log": {"sha256": facts.log_sha256, "bytes": facts.log_size_bytes},
            "isolation": _sha256(isolation_sha256),
        },
    )


def _verdict(facts: RunFacts) -> Statement:
    return _about_model(
        facts,
        VERDICT,
        {
            "runId": facts.run.id,
            "verdict": facts.verdict.verdict.value,
            "rules": [{"rule": r.rule, "holds": r.holds, "detail": r.detail} for r in facts.verdict.rules],
            "baseModel": _sha256(facts.run.order.base_model),
        },
    )


def _evaluation(facts: RunFacts, *, isolation_sha256: str) -> Statement:
    metrics = facts.metrics
    return _about_model(
        facts,
        EVALUATION,
        {
            "runId": facts.run.id,
            "metric": metrics.metric,
            "unit": "micronat",
            "rows": metrics.rows,
            "heldOut": _sha256(_file(facts.dataset, "held-out.json")),
            "baseModel": _sha256(facts.run.order.base_model),
            "evaluator": _sha256(facts.evaluator_sha256),
            "losses": _sha256(metrics.losses_sha256),
            "runtime": _runtime(facts),
            "meanBefore": metrics.mean_before,
            "meanAfter": metrics.mean_after,
            "meanDifference": metrics.mean_difference,
            "low": metrics.low,
            "high": metrics.high,
            "confidencePermille": metrics.confidence_permille,
            "resamples": metrics.resamples,
            "isolation": _sha256(isolation_sha256),
        },
    )


def _provenance(facts: RunFacts, signer: Signer) -> Statement:
    """Source: SLSA provenance v1; training is the build, its materials are the resolved dependencies."""
    order, champion = facts.run.order, facts.champion
    return _about_model(
        facts,
        SLSA_PROVENANCE,
        {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "taskType": order.task_type,
                    "hoursToComplete": str(order.hours_to_complete),
                    "champion": champion.manifest_sha256,
                    "model": order.base_model,
                    "dataset": facts.dataset.root_sha256,
                },
                "internalParameters": {},
                "resolvedDependencies": [
                    _dependency(
                        f"champion:{champion.name}", champion.manifest_sha256, gitCommit=champion.commit
                    ),
                    _dependency(f"model:{facts.base_model_name}", order.base_model),
                    _dependency("dataset:train.json", _file(facts.dataset, "train.json")),
                    _environment(facts),
                ],
            },
            "runDetails": {
                "builder": {"id": f"{BUILDER_PREFIX}{signer.key_id}"},
                "metadata": {
                    "invocationId": facts.run.id,
                    "startedOn": facts.exit.released_at,
                    "finishedOn": facts.exit.ended_at,
                },
                "byproducts": [_dependency("run/stdout.log", facts.log_sha256)],
            },
        },
    )


def _environment(facts: RunFacts) -> dict[str, Any]:
    if facts.image is None:
        return _dependency("runtime:python", facts.runtime.packages_sha256)
    return _dependency(f"{IMAGE_PREFIX}{facts.image.dockerfile}", facts.image.manifest_sha256)


def _runtime(facts: RunFacts) -> dict[str, Any]:
    return {"python": facts.runtime.python, "packages": _sha256(facts.runtime.packages_sha256)}


def _dependency(uri: str, sha256: str, **more_digests: str) -> dict[str, Any]:
    return {"uri": uri, "digest": {"sha256": sha256, **more_digests}}


def _sha256(hex_digest: str) -> dict[str, str]:
    return {"sha256": hex_digest}


def _plain(value: Any) -> Any:
    """`value` with integers that not every reader of JSON reads alike as texts: sizes of very large file systems."""
    match value:
        case Mapping():
            return {name: _plain(part) for name, part in value.items()}
        case list() | tuple():
            return [_plain(part) for part in value]
        case int() if abs(value) > MAX_INTEGER:
            return str(value)
        case _:
            return value


def _file(manifest: Manifest, name: str) -> str:
    return next(f.sha256 for f in manifest.files if f.name == name)


def _integers(limits: Mapping[str, Any]) -> dict[str, int]:
    """Claims hold no floats: seconds become whole milliseconds."""
    return {
        (f"{name[:-2]}_ms" if name.endswith("_s") else name): (
            round(value * 1000) if name.endswith("_s") else value
        )
        for name, value in limits.items()
    }
