"""The policy engine behind one pure function: default-deny, whatever is wrong with policy or facts."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from appliance.errors import PolicyError
from appliance.policy import MAX_POLICY_BYTES, PolicySet, Reason, decide, load_policy, parse_policy
from attestation.trust import trust_sha256

ADMISSION = Path(__file__).parents[2] / "policies" / "admission"
SET = load_policy(ADMISSION)
FACTS: Mapping[str, Any] = {
    "release_signed": True,
    "publisher": "feed",
    "origin": "feed",
    "keyless_identity": "",
    "tree_pinned": True,
    "licence": "Apache-2.0",
    "notice_present": True,
    "contract_epoch": "E4",
    "supported_tasks": ["InstructTextTask"],
    "inspected": True,
    "findings": ["python-exec"],
    "critical_findings": 0,
    "high_findings": 0,
    "age_days": 3,
    "approval_count": 1,
    "held": False,
    "revoked": False,
}


def decided(facts: Mapping[str, Any], policy: PolicySet = SET) -> tuple[bool, list[str]]:
    decision = decide(policy, actor="ada", champion="c" * 64, facts=facts)
    return decision.allowed, [reason.rule for reason in decision.reasons]


def with_rules(text: bytes) -> PolicySet:
    return parse_policy({"champions.cedar": text, "schema.json": SET.files["schema.json"]})


def test_all_facts_as_wanted_is_an_admission() -> None:
    assert decided(FACTS) == (True, [])


@pytest.mark.parametrize("fact", FACTS)
def test_a_missing_fact_is_a_refusal(fact: str) -> None:
    allowed, rules = decided({name: value for name, value in FACTS.items() if name != fact})
    assert not allowed
    assert rules


@pytest.mark.parametrize("fact", FACTS)
def test_a_fact_of_another_type_is_a_refusal(fact: str) -> None:
    allowed, rules = decided({**FACTS, fact: {"not": ["a", "fact"]}})
    assert not allowed
    assert rules


def test_a_fact_that_nobody_asked_for_is_a_refusal() -> None:
    assert decided({**FACTS, "is_trusted": True})[0] is False


@pytest.mark.parametrize("count", [0, -1])
def test_four_eyes_takes_one_approval_at_least(count: int) -> None:
    assert decided({**FACTS, "approval_count": count}) == (False, ["four-eyes"])


def test_the_facts_here_are_those_of_the_schema() -> None:
    context = json.loads(SET.schema)[""]["actions"]["admit_champion"]["appliesTo"]["context"]
    assert context["attributes"].keys() == FACTS.keys()


def test_a_rule_over_several_facts_tells_them_all() -> None:
    decision = decide(SET, actor="ada", champion="c" * 64, facts={**FACTS, "high_findings": 2})
    assert [str(reason) for reason in decision.reasons] == [
        "high-findings-need-two: found high_findings = 2, approval_count = 1, findings = python-exec;"
        " wanted no finding of severity high, or two approvals"
    ]


def test_rules_of_a_sites_own_can_ask_for_every_fact() -> None:
    rule = b"""
        @id("mine") forbid (principal, action, resource) unless {
            context.publisher == "feed" && context.keyless_identity == "" && context.age_days >= 3
            && context.supported_tasks.contains("InstructTextTask") && !context.findings.contains("x")
        };"""
    mine = with_rules(SET.files["champions.cedar"] + rule)
    assert decided(FACTS, mine) == (True, [])
    assert decided({**FACTS, "supported_tasks": []}, mine) == (False, ["mine"])
    assert decided({**FACTS, "findings": ["y", "x"]}, mine) == (False, ["mine"])
    assert decided({**FACTS, "age_days": 2}, mine) == (False, ["mine"])


def test_every_broken_rule_is_told_in_order_of_name() -> None:
    broken = {**FACTS, "release_signed": False, "licence": "MIT", "approval_count": 0}
    assert decided(broken) == (False, ["four-eyes", "licence-present", "release-signed"])


def test_the_digest_is_one_that_anybody_can_recompute() -> None:
    assert SET.sha256 == trust_sha256({p.name: p.read_bytes() for p in ADMISSION.iterdir()})


def test_the_decision_names_the_set_it_was_made_under() -> None:
    changed = with_rules(SET.files["champions.cedar"] + b"// changed\n")
    decision = decide(changed, actor="ada", champion="c" * 64, facts=FACTS)
    assert decision.policy_sha256 == changed.sha256 != SET.sha256


def test_a_set_whose_only_permit_never_fires_denies_by_default() -> None:
    text = SET.files["champions.cedar"].replace(
        b"permit (principal, ", b'permit (principal == User::"nobody", '
    )
    assert decided(FACTS, with_rules(text)) == (False, ["default-deny"])


@pytest.mark.parametrize("name", ['a"b', "a\\", "ü\n", "", 'x" || true || "'])
def test_any_name_is_only_a_name(name: str) -> None:
    assert decide(SET, actor=name, champion="c" * 64, facts=FACTS).allowed
    assert not decide(SET, actor=name, champion=name, facts={**FACTS, "approval_count": 0}).allowed


def test_reason_is_a_sentence() -> None:
    assert str(Reason(rule="r", got="this", wanted="that")) == "r: found this; wanted that"


@pytest.mark.parametrize(
    ("files", "match"),
    [
        ({}, "wanted schema.json and at least one .cedar"),
        ({"schema.json": b"{}"}, "at least one .cedar"),
        ({"a.cedar": b""}, "wanted schema.json"),
        ({"a.cedar": b"permit (principal, action, resource);", "schema.json": b"{"}, "schema"),
        ({"a.cedar": b"\xff", "schema.json": b"{}"}, "unreadable"),
        ({"a.cedar": b"", "schema.json": SET.files["schema.json"]}, "own @id"),
        ({"a.cedar": b"/" * MAX_POLICY_BYTES, "schema.json": b"{}"}, "larger than"),
    ],
    ids=["empty", "no-rules", "no-schema", "broken-schema", "no-utf-8", "no-rule", "too-large"],
)
def test_refuses_a_set_that_cannot_be_used(tmp_path: Path, files: dict[str, bytes], match: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(PolicyError, match=match):
        load_policy(tmp_path)


def test_refuses_two_rules_of_one_name() -> None:
    text = SET.files["champions.cedar"].replace(b'@id("notice-present")', b'@id("four-eyes")')
    with pytest.raises(PolicyError, match="own @id"):
        with_rules(text)


def test_refuses_a_rule_that_does_not_parse() -> None:
    with pytest.raises(PolicyError):
        with_rules(b"permit (principal, action, resource")
