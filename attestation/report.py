"""What assay-verify says, as text for a person and as JSON for a machine. Pure.

Names and reasons in claims were written by others: nothing of them reaches a terminal unescaped.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from attestation.claims import Claim, Kind
from attestation.errors import AttestationError, MalformedError, UndecidedError
from attestation.isolation import told
from attestation.times import format_time
from attestation.verify import CHECKS, Verified

SCHEMA = "assay.verify/v1"
_MARKS = {True: "✓", False: "✗", None: "·"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a check of `folder` ended: exactly one of `verified` and `error` is set."""

    folder: str
    now: datetime
    verified: Verified | None = None
    error: AttestationError | None = None

    @property
    def exit_code(self) -> int:
        """0 verified, 1 failed, 3 cannot decide."""
        if self.verified is not None:
            return 0
        return 3 if isinstance(self.error, UndecidedError) else 1


def render_text(outcome: Outcome) -> str:
    """A page for a security engineer."""
    return "\n".join(_plain(line) for line in _lines(outcome)) + "\n"


def render_json(outcome: Outcome) -> str:
    """One JSON object, also on failure. ASCII only."""
    verified = outcome.verified
    answer: dict[str, Any] = {  # Any: JSON
        "schema": SCHEMA,
        "verdict": {0: "pass", 1: "fail", 3: "undecided"}[outcome.exit_code],
        "code": _code(outcome),
        "subject": None,
        "checks": [{"id": check, "ok": ok, "why": why} for check, ok, why in _checks(outcome)],
        "signers": [],
        "trust_root": None,
        "time": {"source": "system", "value": format_time(outcome.now)},
        "policy": None,
        "proved": [],
        "not_proved": [],
        "hints": _hints(outcome),
    }
    if verified is not None:
        answer |= {
            "subject": {"run": verified.run_id, "model": {"sha256": verified.model_root}},
            "signers": [
                {"claim": by.kind, "role": by.role, "name": by.name, "key_id": by.key_id}
                for by in verified.signers
            ],
            "trust_root": {"sha256": verified.trust_sha256},
            "policy": {"sha256": verified.policy_sha256, "result": "admitted"},
            "proved": list(_proved(verified)),
            "not_proved": list(verified.not_proved),
        }
    return json.dumps(answer, indent=1) + "\n"


def _lines(outcome: Outcome) -> Iterator[str]:
    words = {0: "VERIFIED", 1: "FAILED", 3: "CANNOT DECIDE"}
    yield f"{words[outcome.exit_code]}  {outcome.folder}"
    for check, ok, why in _checks(outcome):
        yield f"  {_MARKS[ok]} {check:<11}{why}"
    for hint in _hints(outcome):
        yield f"  → {hint}"
    if outcome.verified is None:
        return
    yield "Signed by"
    signed: dict[str, list[str]] = {}
    for by in outcome.verified.signers:
        signed.setdefault(f"{by.name} ({by.role}, key {by.key_id[:16]}…)", []).append(by.kind)
    for who, kinds in signed.items():
        yield f"  {who}: {', '.join(kinds)}"
    yield "Proved"
    yield from (f"  ✓ {sentence}" for sentence in _proved(outcome.verified))
    yield "NOT proved"
    yield from (f"  ! {sentence}" for sentence in outcome.verified.not_proved)


def _checks(outcome: Outcome) -> Iterator[tuple[str, bool | None, str]]:
    """Each check in order: its id, whether it passed (None: not done), and a text."""
    if outcome.verified is not None:
        for check, title in CHECKS.items():
            is_done = check in outcome.verified.checks
            yield check, (True if is_done else None), (title if is_done else "not asked for")
        return
    assert outcome.error is not None  # exactly one is set
    ok: bool | None = True
    if outcome.error.check not in CHECKS:  # what the reader brought could not be read: nothing was checked
        yield "input", False, _why(outcome.error)
        ok = None
    for check, title in CHECKS.items():
        if check == outcome.error.check:
            yield check, False, _why(outcome.error)
            ok = None
        else:
            yield check, ok, title if ok else "not reached"


def _why(error: AttestationError) -> str:
    return f"{error.file}: {error.message}" if error.file else error.message


def _code(outcome: Outcome) -> str:
    if outcome.error is None:
        return "OK"
    kind = {MalformedError: "MALFORMED", UndecidedError: "UNDECIDED"}.get(type(outcome.error), "FAILED")
    return f"{(outcome.error.check or 'input').upper()}_{kind}"


def _hints(outcome: Outcome) -> list[str]:
    match outcome.error.check if outcome.error is not None else None:
        case "trust":
            return ["Ask the appliance's owner, by another way than this pack, for the trust pin."]
        case "checkpoint" if isinstance(outcome.error, UndecidedError):
            return ["Ask the appliance for a consistency proof and give it with --consistency."]
        case _:
            return []


def _proved(verified: Verified) -> Iterator[str]:
    claims, interval = verified.claims, verified.interval
    run = claims.one(Kind.TRAINING_RUN).predicate
    release, head = claims.one(Kind.CHAMPION_RELEASE), verified.head
    champion = run["champion"]
    yield f"Model {verified.model_root[:16]}… came out of run {verified.run_id}, which {run['submittedBy']} ordered."
    yield (
        f"Made by champion {champion['name']} at commit {champion['commit'][:12]}, "
        f"released by {release.key.name}."
    )
    yield (
        f"From base model {run['baseModel']['name']} ({run['baseModel']['manifest']['sha256'][:16]}…) "
        f"and dataset {run['dataset']['manifest']['sha256'][:16]}…."
    )
    for approval in claims.of(Kind.APPROVAL):
        yield _approved(approval)
    yield f"Admitted under policy {verified.policy_sha256[:16]}…."
    for guest, kind in (("training", Kind.ISOLATION_TRAIN), ("evaluation", Kind.ISOLATION_EVALUATE)):
        measured = claims.one(kind).predicate["measured"]
        yield f"The appliance measured whole walls around {guest}: {told(measured)}."
    change = "lower" if interval.high < 0 else "higher" if interval.low > 0 else "not shown to differ"
    yield (
        f"Held-out loss {_nats(interval.mean_before)} → {_nats(interval.mean_after)} nats over "
        f"{interval.rows} rows, interval of the change {_nats(interval.low)} to {_nats(interval.high)}: "
        f"{change}. Recomputed here."
    )
    yield f"All {len(claims.all)} claims are in log {head.origin}, size {head.size}."


def _approved(approval: Claim) -> str:
    said = approval.predicate
    return (
        f"{said['meaning'].capitalize()} by {said['printedName']} ({said['approver']}), not the submitter, "
        f"before the run: “{said['reason']}”."
    )


def _nats(micronats: int) -> str:
    sign, rest = ("-" if micronats < 0 else ""), abs(micronats)
    return f"{sign}{rest // 1_000_000}.{rest % 1_000_000:06}"


def _plain(text: str) -> str:
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
