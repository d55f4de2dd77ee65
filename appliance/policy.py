"""The admission policy: facts in, decision out. The only module that knows the policy engine (Cedar).

Default-deny: no policy, an empty one, a fact that is missing, extra or mistyped, and any evaluation error
are refusals. Cedar skips a rule that errors, so a decision with errors is never "allowed".
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cedarpy

from appliance.errors import PolicyError
from attestation.trust import trust_sha256

MAX_POLICY_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One rule that refused: what it found and what it wants."""

    rule: str
    got: str
    wanted: str

    def __str__(self) -> str:
        return f"{self.rule}: found {self.got}; wanted {self.wanted}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Allowed or not, why not, and under which rules."""

    allowed: bool
    reasons: tuple[Reason, ...]
    policy_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySet:
    """A loaded set: its bytes, its name (the digest anybody can recompute) and the parsed rules."""

    files: Mapping[str, bytes]
    sha256: str
    text: str
    schema: str
    rules: Mapping[str, Mapping[str, Any]]


def load_policy(folder: Path) -> PolicySet:
    """The policy set in `folder` (`*.cedar` and `schema.json`), validated against its schema.

    Raises PolicyError naming the file or rule at fault.
    """
    names = sorted(p.name for p in folder.glob("*")) if folder.is_dir() else []
    if "schema.json" not in names or not any(n.endswith(".cedar") for n in names):
        raise PolicyError(f"{folder}: found {names or 'nothing'}, wanted schema.json and at least one .cedar")
    files = {name: (folder / name).read_bytes() for name in names}
    if sum(map(len, files.values())) > MAX_POLICY_BYTES:
        raise PolicyError(f"{folder}: larger than {MAX_POLICY_BYTES} bytes")
    return parse_policy(files)


def parse_policy(files: Mapping[str, bytes]) -> PolicySet:
    """The policy set made of `files`. Raises PolicyError."""
    try:
        text = "\n".join(files[name].decode() for name in sorted(files) if name.endswith(".cedar"))
        schema = files["schema.json"].decode()
    except (UnicodeDecodeError, KeyError) as error:
        raise PolicyError(f"policy set is unreadable: {error}") from error
    validation = cedarpy.validate_policies(text, schema)
    if not validation.validation_passed:
        raise PolicyError(f"policy set does not fit its schema: {[str(e) for e in validation.errors]}")
    rules = json.loads(cedarpy.policies_to_json_str(text))["staticPolicies"]
    names = [rule.get("annotations", {}).get("id") for rule in rules.values()]
    if not names or None in names or len(set(names)) != len(names):
        raise PolicyError(f"every rule needs its own @id; found {names}")
    return PolicySet(files=files, sha256=trust_sha256(files), text=text, schema=schema, rules=rules)


def decide(policy: PolicySet, *, actor: str, champion: str, facts: Mapping[str, Any]) -> Decision:
    """Whether `actor` may admit the champion with root digest `champion`, given `facts`. Pure."""
    request = {
        # Cedar writes other letters as they are; of JSON's \u it knows nothing.
        "principal": f"User::{json.dumps(actor, ensure_ascii=False)}",
        "action": 'Action::"admit_champion"',
        "resource": f"Champion::{json.dumps(champion, ensure_ascii=False)}",
        "context": dict(facts),
    }
    answer = cedarpy.is_authorized(request, policy.text, [], schema=policy.schema)
    errors = tuple(
        Reason(rule="evaluation", got=str(error), wanted="facts that fit the schema")
        for error in answer.diagnostics.errors
    )
    fired = tuple(_reason(policy.rules[name], facts) for name in answer.diagnostics.reasons)
    refused = tuple(sorted((r for r in fired if r is not None), key=lambda r: r.rule))
    allowed = answer.decision is cedarpy.Decision.Allow and not errors
    if not allowed and not refused and not errors:
        refused = (Reason(rule="default-deny", got="no rule that permits", wanted="a permit"),)
    return Decision(allowed=allowed, reasons=refused + errors, policy_sha256=policy.sha256)


def _reason(rule: Mapping[str, Any], facts: Mapping[str, Any]) -> Reason | None:
    if rule["effect"] != "forbid":
        return None
    notes = rule["annotations"]
    # One rule may weigh several facts: all of them are told.
    got = ", ".join(f"{name} = {_shown(facts.get(name))}" for name in notes.get("fact", "fact").split())
    return Reason(rule=notes["id"], got=got, wanted=notes.get("wanted", "?"))


def _shown(fact: object) -> str:
    match fact:
        case None:
            return "nothing"
        case list():
            return " ".join(map(str, fact)) or "none"
        case _:
            return str(fact)
