"""Each field of each shape is demanded, checked for its type, and (in our own) alone."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest

from attestation import predicates
from attestation.claims import Kind
from attestation.errors import MalformedError
from attestation.predicates import check_predicate
from attestation.statement import Statement

SHAPED = [kind for kind in Kind if kind not in {Kind.MODEL, Kind.DATASET}]
OWN = [kind for kind in SHAPED if kind not in {Kind.ADMISSION, Kind.PROVENANCE}]
FREE = {("measured",), ("limits",), ("facts",)}  # objects whose keys are not ours


class _AnyBundle(dict[Kind, bytes]):
    def __missing__(self, key: Kind) -> bytes:
        return b"bundle"


def statement(packs: ModuleType, kind: Kind) -> Statement:
    made: Statement = packs.base_statements(_AnyBundle())[kind]()
    return made


def fields(node: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    if isinstance(node, Mapping) and path not in FREE:
        for key, value in node.items():
            yield (*path, key)
            yield from fields(value, (*path, key))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from fields(value, (*path, index))


def without(node: Any, path: tuple[str | int, ...]) -> Any:
    key, *rest = path
    if isinstance(node, list):
        return [without(item, tuple(rest)) if index == key else item for index, item in enumerate(node)]
    if rest:
        return {**node, key: without(node[key], tuple(rest))}
    return {name: value for name, value in node.items() if name != key}


@pytest.mark.parametrize("kind", list(Kind))
def test_accepts_the_shape_that_a_pack_has(packs: ModuleType, kind: Kind) -> None:
    check_predicate(statement(packs, kind))


@pytest.mark.parametrize("kind", SHAPED)
def test_refuses_a_predicate_that_lacks_any_field(packs: ModuleType, kind: Kind) -> None:
    whole = statement(packs, kind)
    for path in fields(whole.predicate):
        if path[-1] == "gitCommit":
            continue  # optional in SLSA; the links between claims demand it
        with pytest.raises(MalformedError, match="lacks"):
            check_predicate(replace(whole, predicate=without(whole.predicate, path)))


@pytest.mark.parametrize("kind", SHAPED)
def test_refuses_a_predicate_with_any_field_of_another_type(packs: ModuleType, kind: Kind) -> None:
    whole = statement(packs, kind)
    for path in fields(whole.predicate):
        if path[-1] == "gitCommit":
            continue
        with pytest.raises(MalformedError, match=r"predicate\.\S+: expected"):
            check_predicate(packs.set_at(*path, value=(1,) if path[-1] == "rules" else "\0" * 5000)(whole))


@pytest.mark.parametrize("kind", OWN)
def test_refuses_an_unknown_field_anywhere_in_our_own(packs: ModuleType, kind: Kind) -> None:
    whole = statement(packs, kind)
    objects = {path[:-1] for path in fields(whole.predicate)} - FREE
    for path in objects:
        with pytest.raises(MalformedError, match=r"unknown fields \['extra'\]"):
            check_predicate(packs.set_at(*path, "extra", value=1)(whole))


def test_skips_unknown_fields_of_foreign_predicates(packs: ModuleType) -> None:
    check_predicate(packs.set_at("extra", value=1)(statement(packs, Kind.ADMISSION)))
    check_predicate(packs.set_at("runDetails", "extra", value=1)(statement(packs, Kind.PROVENANCE)))


def test_refuses_unknown_external_parameters(packs: ModuleType) -> None:
    path = ("buildDefinition", "externalParameters", "learningRate")
    with pytest.raises(MalformedError, match=r"externalParameters: unknown fields \['learningRate'\]"):
        check_predicate(packs.set_at(*path, value="1")(statement(packs, Kind.PROVENANCE)))


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        (Kind.EVALUATION, ("rows",), True),
        (Kind.EVALUATION, ("rows",), -1),
        (Kind.EVALUATION, ("meanBefore",), "1"),
        (Kind.EVALUATION, ("unit",), "nat"),
        (Kind.VERDICT, ("rules", 0, "holds"), 1),
        (Kind.VERDICT, ("verdict",), "good"),
        (Kind.TRAINING_RUN, ("champion", "commit"), "AB" * 20),
        (Kind.TRAINING_RUN, ("exit", "code"), "0"),
        (Kind.TRAINING_RUN, ("limits", "memoryBytes"), True),
        (Kind.TRAINING_RUN, ("contractEpoch",), "E1"),
        (Kind.APPROVAL, ("approvedAt",), "2026-11-20"),
        (Kind.APPROVAL, ("meaning",), "applause"),
        (Kind.APPROVAL, ("reason",), ""),
        # a purpose is train or evaluate
        (Kind.ISOLATION_TRAIN, ("purpose",), "play"),
    ],
)
def test_refuses_values_out_of_range(packs: ModuleType, kind: Kind, path: Any, value: object) -> None:
    with pytest.raises(MalformedError, match="expected"):
        check_predicate(packs.set_at(*path, value=value)(statement(packs, kind)))


def test_takes_a_run_that_had_no_exit_code(packs: ModuleType) -> None:
    check_predicate(packs.set_at("exit", "code", value=None)(statement(packs, Kind.TRAINING_RUN)))


def test_refuses_two_subjects(packs: ModuleType) -> None:
    whole = statement(packs, Kind.VERDICT)
    with pytest.raises(MalformedError, match="exactly one subject, found 2"):
        check_predicate(replace(whole, subjects=whole.subjects * 2))


def test_refuses_an_unknown_type_of_our_own(packs: ModuleType) -> None:
    with pytest.raises(MalformedError, match="unknown predicate type 'urn:assay:verdict:v2'"):
        check_predicate(replace(statement(packs, Kind.VERDICT), predicate_type="urn:assay:verdict:v2"))


def decision(packs: ModuleType, **fields: object) -> Statement:
    return Statement(
        subjects=(packs.CHAMPION,),
        predicate_type=predicates.CHAMPION_DECISION,
        predicate={**packs.decision_predicate(), **fields},
    )


@pytest.mark.parametrize("kind", ["refused", "held", "released", "revoked"])
def test_takes_every_decision_about_a_champion(packs: ModuleType, kind: str) -> None:
    check_predicate(decision(packs, decision=kind))
    check_predicate(decision(packs, decision=kind, policy=None, facts=None, report=None, approvals=[]))


@pytest.mark.parametrize("field", ["decision", "decidedBy", "decidedAt", "reason", "tree", "policy", "facts"])
def test_refuses_a_decision_without(packs: ModuleType, field: str) -> None:
    whole = decision(packs)
    with pytest.raises(MalformedError, match=rf"lacks \['{field}'\]"):
        check_predicate(replace(whole, predicate=without(whole.predicate, (field,))))


def test_refuses_a_decision_with_an_unknown_field(packs: ModuleType) -> None:
    with pytest.raises(MalformedError, match=r"unknown fields \['until'\]"):
        check_predicate(decision(packs, until="2026-12-01T00:00:00Z"))


def test_an_admission_is_no_decision(packs: ModuleType) -> None:
    with pytest.raises(MalformedError, match="one of refused, held, released, revoked"):
        check_predicate(decision(packs, decision="admitted"))


def inspection(packs: ModuleType, **fields: object) -> Statement:
    return Statement(
        subjects=(packs.CHAMPION,),
        predicate_type=predicates.CHAMPION_INSPECTION,
        predicate={**packs.inspection_predicate(), **fields},
    )


@pytest.mark.parametrize("field", ["report", "inspectedAt"])
def test_refuses_an_inspection_without(packs: ModuleType, field: str) -> None:
    whole = inspection(packs)
    check_predicate(whole)
    with pytest.raises(MalformedError, match=rf"lacks \['{field}'\]"):
        check_predicate(replace(whole, predicate=without(whole.predicate, (field,))))


@pytest.mark.parametrize(
    "fields", [{"report": None}, {"report": "0" * 64}, {"inspectedAt": "now"}, {"findings": 0}]
)
def test_refuses_an_inspection_with(packs: ModuleType, fields: dict[str, object]) -> None:
    with pytest.raises(MalformedError, match=r"^predicate"):
        check_predicate(inspection(packs, **fields))


@pytest.mark.parametrize("value", [None, {}, ["a", 1], [["a"]], "x" * 4097, ["x" * 4097]])
def test_refuses_facts_that_no_policy_decides_on(packs: ModuleType, value: object) -> None:
    with pytest.raises(MalformedError, match=r"predicate\.facts\.age_days: expected true, false, an integer"):
        check_predicate(decision(packs, facts={"age_days": value}))


@pytest.mark.parametrize("value", [True, -1, 0, "", [], ["", "a"]])
def test_takes_facts_of_every_kind(packs: ModuleType, value: object) -> None:
    check_predicate(decision(packs, facts={"a-fact": value}))


def test_knows_nothing_of_types_of_others(packs: ModuleType) -> None:
    check_predicate(replace(statement(packs, Kind.VERDICT), predicate_type="https://example.org/v1"))


def test_own_types_are_urns() -> None:
    assert predicates.TRAINING_RUN == "urn:assay:training-run:v1"
    assert predicates.EVIDENCE_MANIFEST == "urn:assay:evidence-manifest:v1"
