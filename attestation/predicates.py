"""What each kind of claim must say: predicate types and the shape of each predicate.

Our own predicates are exact: an unknown, missing or mistyped field is an error until the version in the
type changes. Of foreign ones the fields that we rely on are checked and the others skipped, except
`externalParameters`, where SLSA wants unknown ones refused.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType

from attestation.errors import MalformedError
from attestation.isolation import check_measured
from attestation.oms import OMS_SIGNATURE, parse_oms
from attestation.shapes import (
    MAX_TEXT_CHARS,
    Check,
    at_least,
    count,
    digest,
    exactly,
    fail,
    integer,
    list_of,
    map_of,
    one_of,
    or_null,
    sha256,
    text,
    time,
    truth,
)
from attestation.statement import OWN_NAMESPACE, Statement

SLSA_PROVENANCE = "https://slsa.dev/provenance/v1"
SVR = "https://in-toto.io/attestation/svr/v0.2"
CHAMPION_RELEASE = f"{OWN_NAMESPACE}champion-release:v1"
APPROVAL = f"{OWN_NAMESPACE}approval:v1"
CHAMPION_DECISION = f"{OWN_NAMESPACE}champion-decision:v1"
CHAMPION_INSPECTION = f"{OWN_NAMESPACE}champion-inspection:v1"
TRAINING_RUN = f"{OWN_NAMESPACE}training-run:v1"
ISOLATION = f"{OWN_NAMESPACE}isolation:v1"
VERDICT = f"{OWN_NAMESPACE}verdict:v1"
EVALUATION = f"{OWN_NAMESPACE}evaluation:v1"
EVIDENCE_MANIFEST = f"{OWN_NAMESPACE}evidence-manifest:v1"
BUILD_TYPE = f"{OWN_NAMESPACE}champion-training:v1"
BUILDER_PREFIX = f"{OWN_NAMESPACE}appliance:"
IMAGE_PREFIX = "image:"  # of the resolved dependency that is the image in which a champion ran
CHAMPION_ADMITTED = "ASSAY_CHAMPION_ADMITTED"

_COMMIT = re.compile(r"[0-9a-f]{40}", re.ASCII)


def check_predicate(statement: Statement) -> None:
    """Raise MalformedError unless the predicate has its type's shape.

    Types of others that are not listed here pass: who relies on one must know its shape.
    """
    shape = _SHAPES.get(statement.predicate_type)
    if shape is not None:
        shape(statement.predicate, "predicate")
    elif statement.predicate_type == OMS_SIGNATURE:
        parse_oms(statement)
    elif statement.is_own:
        raise MalformedError(f"unknown predicate type {statement.predicate_type[:120]!r}")
    if shape is not None and len(statement.subjects) != 1:
        raise MalformedError(f"expected exactly one subject, found {len(statement.subjects)}")


def _fact(value: object, path: str) -> None:
    """What a policy decides on: a truth, a whole number, a text (also an empty one) or a list of texts."""
    texts = value if isinstance(value, list | tuple) else (value,)
    if isinstance(value, int) or all(isinstance(t, str) and len(t) <= MAX_TEXT_CHARS for t in texts):
        return
    raise fail(path, "true, false, an integer, a text or a list of texts")


def _commit(value: object, path: str) -> None:
    if not isinstance(value, str) or not _COMMIT.fullmatch(value):
        raise fail(path, "40 lower-case hexadecimal digits")


_epoch = one_of("E2", "E3", "E4")  # versions of the tournament's contract with a champion
_purpose = one_of("train", "evaluate")
_facts = map_of(_fact)
_runtime = exactly(python=text, packages=digest)
_foreign_digest = at_least(sha256=sha256)

# Type → shape. Read it as the specification; the meaning of each field is in README.md.
_SHAPES: Mapping[str, Check] = MappingProxyType(
    {
        CHAMPION_RELEASE: exactly(
            name=text,
            channel=one_of("text", "image", "environment"),
            commit=_commit,
            tree=_commit,
            contractEpoch=_epoch,
            origin=text,  # where the publisher took it from: a URL, or "tree" for one of its own
            licence=or_null(digest),  # null: there is none, and whoever admits it must know
            notice=or_null(digest),
            links=list_of(exactly(name=text, target=text)),  # in the tree, not among the files
            images=list_of(exactly(dockerfile=text, manifest=digest, archive=digest, inventory=digest)),
            tournament=or_null(
                exactly(tournamentId=text, position=count, hotkey=text, competedCommit=or_null(_commit))
            ),
            publishedAt=time,
        ),
        APPROVAL: exactly(
            approver=text,
            printedName=text,
            meaning=one_of("approval", "review", "responsibility", "authorship"),
            reason=text,
            approvedAt=time,
            policy=digest,
        ),
        # Every decision about a champion but its admission, which is an SVR: that one lists passes only.
        CHAMPION_DECISION: exactly(
            decision=one_of("refused", "held", "released", "revoked"),
            decidedBy=text,
            decidedAt=time,
            reason=text,  # a person's words, or the rules that refused
            tree=_commit,  # a revocation is of this git tree too, under whatever name
            policy=or_null(digest),  # null, with facts and report: a person's decision, not a policy's
            facts=or_null(_facts),
            approvals=list_of(digest),  # the bundles that counted
            report=or_null(digest),  # null: it was not inspected
        ),
        # That the appliance itself read the champion's files, and what the report on them is.
        CHAMPION_INSPECTION: exactly(report=digest, inspectedAt=time),
        TRAINING_RUN: exactly(
            runId=text,
            submittedBy=text,
            submittedAt=time,
            order=digest,
            contractEpoch=_epoch,
            champion=exactly(name=text, commit=_commit, tree=_commit, manifest=digest),
            baseModel=exactly(name=text, manifest=digest),
            dataset=exactly(manifest=digest, train=digest, heldOut=digest),
            runtime=or_null(_runtime),  # null: the champion ran in an image
            image=or_null(digest),  # of the image's manifest; null: it ran in the shipped environment
            startedAt=time,
            endedAt=time,
            exit=exactly(reason=text, code=or_null(integer)),
            limits=map_of(integer),
            log=exactly(sha256=sha256, bytes=count),
            isolation=digest,
        ),
        ISOLATION: exactly(runId=text, purpose=_purpose, measured=check_measured),
        VERDICT: exactly(
            runId=text,
            verdict=one_of("trained", "unchanged", "noise-fallback", "partial"),
            rules=list_of(exactly(rule=text, holds=truth, detail=text)),
            baseModel=digest,
        ),
        EVALUATION: exactly(
            runId=text,
            metric=text,
            unit=one_of("micronat"),
            rows=count,
            heldOut=digest,
            baseModel=digest,
            evaluator=digest,
            losses=digest,
            runtime=_runtime,  # what the evaluator ran in
            meanBefore=integer,
            meanAfter=integer,
            meanDifference=integer,
            low=integer,
            high=integer,
            confidencePermille=count,
            resamples=count,
            isolation=digest,
        ),
        EVIDENCE_MANIFEST: exactly(runId=text, sealedAt=time, files=count),
        SVR: at_least(
            verifier=at_least(id=text, policies=list_of(at_least(uri=text, digest=_foreign_digest))),
            timeCreated=time,
            properties=list_of(text),
            proposedBy=text,  # ours, like what follows: who may not approve
            facts=_facts,  # on which the policy decided: with its rules, anybody can decide again
            approvals=list_of(digest),  # the bundles that counted
            report=or_null(digest),  # the inspection report that the facts are from
        ),
        SLSA_PROVENANCE: at_least(
            buildDefinition=at_least(
                buildType=one_of(BUILD_TYPE),
                externalParameters=exactly(
                    taskType=text, hoursToComplete=text, model=text, dataset=text, champion=text
                ),
                internalParameters=exactly(),
                resolvedDependencies=list_of(at_least(uri=text, digest=_foreign_digest)),
            ),
            runDetails=at_least(
                builder=at_least(id=text),
                metadata=at_least(invocationId=text, startedOn=time, finishedOn=time),
            ),
        ),
    }
)
