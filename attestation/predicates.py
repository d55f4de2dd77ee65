"""What each kind of claim must say: predicate types and the shape of each predicate.

Our own predicates are exact: an unknown, missing or mistyped field is an error until the version in the
type changes. Of foreign ones the fields that we rely on are checked and the others skipped, except
`externalParameters`, where SLSA wants unknown ones refused.
"""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

from attestation.digest import parse_sha256_hex
from attestation.errors import AttestationError, MalformedError
from attestation.oms import OMS_SIGNATURE, parse_oms
from attestation.statement import OWN_NAMESPACE, Statement
from attestation.times import parse_time

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
CHAMPION_ADMITTED = "ASSAY_CHAMPION_ADMITTED"

MAX_TEXT_CHARS = 4096  # names, reasons, details: for people, and bounded
_COMMIT = re.compile(r"[0-9a-f]{40}", re.ASCII)

Check = Callable[[object, str], None]  # value, and its path for the message


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


def _fail(path: str, wanted: str) -> MalformedError:
    return MalformedError(f"{path}: expected {wanted}")


def _text(value: object, path: str) -> None:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_TEXT_CHARS:
        raise _fail(path, f"a text of 1 to {MAX_TEXT_CHARS} characters")


def _integer(value: object, path: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _fail(path, "an integer")


def _count(value: object, path: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise _fail(path, "an integer of at least 0")


def _truth(value: object, path: str) -> None:
    if not isinstance(value, bool):
        raise _fail(path, "true or false")


def _fact(value: object, path: str) -> None:
    """What a policy decides on: a truth, a whole number, a text (also an empty one) or a list of texts."""
    texts = value if isinstance(value, list | tuple) else (value,)
    if isinstance(value, int) or all(isinstance(t, str) and len(t) <= MAX_TEXT_CHARS for t in texts):
        return
    raise _fail(path, "true, false, an integer, a text or a list of texts")


def _any_object(value: object, path: str) -> None:
    if not isinstance(value, Mapping):
        raise _fail(path, "an object")


def _commit(value: object, path: str) -> None:
    if not isinstance(value, str) or not _COMMIT.fullmatch(value):
        raise _fail(path, "40 lower-case hexadecimal digits")


def _parsed_by(parse: Callable[[object], object]) -> Check:
    def check(value: object, path: str) -> None:
        try:
            parse(value)
        except AttestationError as error:
            raise MalformedError(f"{path}: {error.message}") from error

    return check


def _one_of(*values: str) -> Check:
    def check(value: object, path: str) -> None:
        if not isinstance(value, str) or value not in values:
            raise _fail(path, f"one of {', '.join(values)}")

    return check


def _or_null(inner: Check) -> Check:
    def check(value: object, path: str) -> None:
        if value is not None:
            inner(value, path)

    return check


def _list_of(inner: Check) -> Check:
    def check(value: object, path: str) -> None:
        if not isinstance(value, list | tuple):
            raise _fail(path, "a list")
        for index, item in enumerate(value):
            inner(item, f"{path}[{index}]")

    return check


def _map_of(inner: Check) -> Check:
    def check(value: object, path: str) -> None:
        if not isinstance(value, Mapping):
            raise _fail(path, "an object")
        for key, item in value.items():
            inner(item, f"{path}.{key}")

    return check


def _exactly(**fields: Check) -> Check:
    """An object with these fields and no others."""
    required = _at_least(**fields)

    def check(value: object, path: str) -> None:
        required(value, path)
        assert isinstance(value, Mapping)  # `required` saw to it
        if unknown := value.keys() - fields.keys():
            raise MalformedError(f"{path}: unknown fields {sorted(unknown)}")

    return check


def _at_least(**fields: Check) -> Check:
    """An object with these fields; others are skipped, as in-toto demands of readers."""

    def check(value: object, path: str) -> None:
        if not isinstance(value, Mapping):
            raise _fail(path, "an object")
        if missing := fields.keys() - value.keys():
            raise MalformedError(f"{path}: lacks {sorted(missing)}")
        for name, inner in fields.items():
            inner(value[name], f"{path}.{name}")

    return check


_sha256 = _parsed_by(parse_sha256_hex)
_time = _parsed_by(parse_time)
_digest = _exactly(sha256=_sha256)
_epoch = _one_of("E2", "E3", "E4")  # versions of the tournament's contract with a champion
_purpose = _one_of("train", "evaluate")
_facts = _map_of(_fact)
_foreign_digest = _at_least(sha256=_sha256)

# Type → shape. Read it as the specification; the meaning of each field is in README.md.
_SHAPES: Mapping[str, Check] = MappingProxyType(
    {
        CHAMPION_RELEASE: _exactly(
            name=_text,
            channel=_one_of("text", "image", "environment"),
            commit=_commit,
            tree=_commit,
            contractEpoch=_epoch,
            origin=_text,  # where the publisher took it from: a URL, or "tree" for one of its own
            licence=_or_null(_digest),  # null: there is none, and whoever admits it must know
            notice=_or_null(_digest),
            links=_list_of(_exactly(name=_text, target=_text)),  # in the tree, not among the files
            images=_list_of(_exactly(dockerfile=_text, manifest=_digest, archive=_digest, inventory=_digest)),
            tournament=_or_null(
                _exactly(tournamentId=_text, position=_count, hotkey=_text, competedCommit=_or_null(_commit))
            ),
            publishedAt=_time,
        ),
        APPROVAL: _exactly(
            approver=_text,
            printedName=_text,
            meaning=_one_of("approval", "review", "responsibility", "authorship"),
            reason=_text,
            approvedAt=_time,
            policy=_digest,
        ),
        # Every decision about a champion but its admission, which is an SVR: that one lists passes only.
        CHAMPION_DECISION: _exactly(
            decision=_one_of("refused", "held", "released", "revoked"),
            decidedBy=_text,
            decidedAt=_time,
            reason=_text,  # a person's words, or the rules that refused
            tree=_commit,  # a revocation is of this git tree too, under whatever name
            policy=_or_null(_digest),  # null, with facts and report: a person's decision, not a policy's
            facts=_or_null(_facts),
            approvals=_list_of(_digest),  # the bundles that counted
            report=_or_null(_digest),  # null: it was not inspected
        ),
        # That the appliance itself read the champion's files, and what the report on them is.
        CHAMPION_INSPECTION: _exactly(report=_digest, inspectedAt=_time),
        TRAINING_RUN: _exactly(
            runId=_text,
            submittedBy=_text,
            submittedAt=_time,
            order=_digest,
            contractEpoch=_epoch,
            champion=_exactly(name=_text, commit=_commit, tree=_commit, manifest=_digest),
            baseModel=_exactly(name=_text, manifest=_digest),
            dataset=_exactly(manifest=_digest, train=_digest, heldOut=_digest),
            runtime=_exactly(python=_text, packages=_digest),
            startedAt=_time,
            endedAt=_time,
            exit=_exactly(reason=_text, code=_or_null(_integer)),
            limits=_map_of(_integer),
            log=_exactly(sha256=_sha256, bytes=_count),
            isolation=_digest,
        ),
        ISOLATION: _exactly(runId=_text, purpose=_purpose, measured=_any_object),
        VERDICT: _exactly(
            runId=_text,
            verdict=_one_of("trained", "unchanged", "noise-fallback", "partial"),
            rules=_list_of(_exactly(rule=_text, holds=_truth, detail=_text)),
            baseModel=_digest,
        ),
        EVALUATION: _exactly(
            runId=_text,
            metric=_text,
            unit=_one_of("micronat"),
            rows=_count,
            heldOut=_digest,
            baseModel=_digest,
            evaluator=_digest,
            losses=_digest,
            meanBefore=_integer,
            meanAfter=_integer,
            meanDifference=_integer,
            low=_integer,
            high=_integer,
            confidencePermille=_count,
            resamples=_count,
            isolation=_digest,
        ),
        EVIDENCE_MANIFEST: _exactly(runId=_text, sealedAt=_time, files=_count),
        SVR: _at_least(
            verifier=_at_least(id=_text, policies=_list_of(_at_least(uri=_text, digest=_foreign_digest))),
            timeCreated=_time,
            properties=_list_of(_text),
            proposedBy=_text,  # ours, like what follows: who may not approve
            facts=_facts,  # on which the policy decided: with its rules, anybody can decide again
            approvals=_list_of(_digest),  # the bundles that counted
            report=_or_null(_digest),  # the inspection report that the facts are from
        ),
        SLSA_PROVENANCE: _at_least(
            buildDefinition=_at_least(
                buildType=_one_of(BUILD_TYPE),
                externalParameters=_exactly(
                    taskType=_text, hoursToComplete=_text, model=_text, dataset=_text, champion=_text
                ),
                internalParameters=_exactly(),
                resolvedDependencies=_list_of(_at_least(uri=_text, digest=_foreign_digest)),
            ),
            runDetails=_at_least(
                builder=_at_least(id=_text),
                metadata=_at_least(invocationId=_text, startedOn=_time, finishedOn=_time),
            ),
        ),
    }
)
