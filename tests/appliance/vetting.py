"""Champions on their way to be admitted: approvals made by hand, trust that changes, what was logged."""

from dataclasses import replace
from typing import Any

from appliance.adoption import approve
from appliance.assembly import Appliance
from appliance.policy import Decision
from appliance.store import champions
from appliance.store.champions import ChampionRow
from attestation.bundle import sign_statement
from attestation.keys import Signer
from attestation.predicates import APPROVAL
from attestation.statement import Statement, Subject
from attestation.times import format_time
from attestation.trust import TrustRoot, encode_trust
from audit.event import Event
from audit.store import events_of
from tests.appliance.world import APPROVER, START
from tournament_sync.champion import Channel
from tournament_sync.tournament.details import Participant, TournamentDetails, TournamentStatus


def approved_by(appliance: Appliance, champion: ChampionRow, name: str) -> None:
    approve(appliance, champion, approver=name, printed_name=name.title(), reason="read whole")


def refused_rules(decision: Decision) -> list[str]:
    assert not decision.allowed
    return [reason.rule for reason in decision.reasons]


def set_trust(appliance: Appliance, root: TrustRoot) -> None:
    folder = appliance.home.trust_dir.resolve()
    for name, content in encode_trust(root).items():
        (folder / name).write_bytes(content)
    for pem in (folder / "keys").iterdir():
        if pem.stem not in {key.key_id for key in root.keys}:
            pem.unlink()


def change_key(appliance: Appliance, name: str, **fields: Any) -> None:
    trust = appliance.home.trust()
    keys = tuple(replace(key, **fields) if key.name == name else key for key in trust.keys)
    set_trust(appliance, replace(trust, keys=keys))


def add_bundle(
    appliance: Appliance, champion: ChampionRow, bundle: bytes, *, approver: str = APPROVER
) -> None:
    """Put an approval into the database past `approve`."""
    with appliance.engine.begin() as conn:
        champions.add_approval(
            conn,
            champion.manifest_sha256,
            approver=approver,
            policy_sha256=appliance.admission_policy().sha256,
            bundle=bundle,
            approved_at=appliance.clock.now(),
        )


def approval(appliance: Appliance, champion: ChampionRow, *, signer: Signer, **fields: Any) -> bytes:
    """An approval that counts, but for `fields`."""
    subject = Subject(name=champion.name, sha256=fields.pop("subject", champion.manifest_sha256))
    predicate = {
        "approver": APPROVER,
        "printedName": "Olu Approver",
        "meaning": "approval",
        "reason": "read whole",
        "approvedAt": format_time(START),
        "policy": {"sha256": appliance.admission_policy().sha256},
    }
    statement = Statement(subjects=(subject,), predicate_type=APPROVAL, predicate={**predicate, **fields})
    return sign_statement(statement, signer)


def events_about(appliance: Appliance, champion: ChampionRow) -> list[Event]:
    with appliance.engine.connect() as conn:
        return [logged.event for logged in events_of(conn, champion.manifest_sha256)]


def tournament(*, position: int = 1, commit: str = "8" * 40) -> TournamentDetails:
    """What the API might say of a tournament whose winner is `NAME`."""
    return TournamentDetails(
        tournament_id="tourn_0123456789abcdef_20261101",
        tournament_type=Channel.TEXT,
        status=TournamentStatus.COMPLETED,
        winner_hotkey=HOTKEY,
        participants=(
            Participant(
                tournament_id="tourn_0123456789abcdef_20261101",
                hotkey=HOTKEY,
                final_position=position,
                training_commit_hash=commit,
                backup_repo=f"https://example.org/{NAME}",
            ),
        ),
    )


NOBODY = TrustRoot(keys=(), log_vkey="")  # for what needs no signature to be believed
NAME = "god-text-tourn-0123456789abcdef-20261101-position-1"
HOTKEY = "5" + "F" * 47
DETAILS = tournament()
