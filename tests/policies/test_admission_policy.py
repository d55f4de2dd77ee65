"""Every worked example decides as written, and the engine's ways of failing open are closed."""

import json
from pathlib import Path
from typing import Any

import pytest

from appliance.errors import PolicyError
from appliance.policy import decide, load_policy, parse_policy

POLICIES = Path(__file__).parents[2] / "policies"
EXAMPLES = json.loads((POLICIES / "examples" / "champions.json").read_text())
SET = load_policy(POLICIES / "admission")


@pytest.mark.parametrize("example", EXAMPLES, ids=[e["title"] for e in EXAMPLES])
def test_example_decides_as_written(example: dict[str, Any]) -> None:
    decision = decide(SET, actor="ada", champion="c" * 64, facts=example["facts"])
    assert decision.allowed is example["allowed"]
    assert [r.rule for r in decision.reasons] == example["rules"]
    assert decision.policy_sha256 == SET.sha256


def test_every_rule_has_a_heading_and_an_example_that_fires_it() -> None:
    headings = {
        line[4:] for line in (POLICIES / "README.md").read_text().splitlines() if line.startswith("### ")
    }
    rules = {rule["annotations"]["id"] for rule in SET.rules.values()}
    assert rules == headings
    fired = {name for example in EXAMPLES for name in example["rules"]}
    assert rules - {"base"} == fired - {"evaluation"}


def test_reason_says_what_was_found_and_wanted() -> None:
    facts = {**EXAMPLES[0]["facts"], "licence": "none"}
    (reason,) = decide(SET, actor="ada", champion="c" * 64, facts=facts).reasons
    assert "licence = none" in str(reason)
    assert "Apache-2.0" in str(reason)


def test_empty_set_is_refused() -> None:
    with pytest.raises(PolicyError, match="own @id"):
        parse_policy({"a.cedar": b"", "schema.json": SET.files["schema.json"]})


def test_misspelt_fact_is_found_at_load() -> None:
    text = SET.files["champions.cedar"].replace(b"context.licence ==", b"context.license ==")
    with pytest.raises(PolicyError, match="schema"):
        parse_policy({"champions.cedar": text, "schema.json": SET.files["schema.json"]})


def test_rule_without_a_name_is_refused() -> None:
    text = SET.files["champions.cedar"].replace(b'@id("four-eyes")', b"")
    with pytest.raises(PolicyError, match="own @id"):
        parse_policy({"champions.cedar": text, "schema.json": SET.files["schema.json"]})


def test_set_without_permit_denies_by_default() -> None:
    text = SET.files["champions.cedar"].replace(b"permit (", b"forbid (")
    denied = decide(
        parse_policy({"champions.cedar": text, "schema.json": SET.files["schema.json"]}),
        actor="ada",
        champion="c" * 64,
        facts=EXAMPLES[0]["facts"],
    )
    assert not denied.allowed


def test_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"wanted schema\.json"):
        load_policy(tmp_path / "nothing")


def test_actor_cannot_inject_policy_syntax() -> None:
    decision = decide(SET, actor='ada" || true || "', champion="c" * 64, facts=EXAMPLES[1]["facts"])
    assert not decision.allowed
