"""Rows can be invented by whoever reaches the database; what was signed cannot."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.adoption import adopt
from appliance.approvals import Counted
from appliance.assembly import Appliance
from appliance.attest import AdmittedChampion
from appliance.errors import AdmissionError
from appliance.facts import gather_facts
from appliance.home import add_person
from appliance.keys.file import create_claim_key
from appliance.permission import check_permission
from appliance.store import champions
from appliance.store.champions import ChampionRow
from appliance.store.engine import reading
from appliance.verdicts import sign_admission
from attestation.digest import sha256_hex
from attestation.trust import Role
from tests.appliance.vetting import approval, approved_by, set_trust
from tests.appliance.world import APPROVER, PROPOSER, PUBLISHER, START, SUBMITTER, propose


@pytest.fixture
def admitted(appliance: Appliance, champion: ChampionRow) -> AdmittedChampion:
    add_person(appliance.home, name="eve", role=Role.APPROVER, now=START)
    for name in (APPROVER, "eve"):
        approved_by(appliance, champion, name)
    assert adopt(appliance, champion, actor=PROPOSER).allowed
    with reading(appliance.engine) as conn:
        found = champions.admitted(conn, champion.manifest_sha256, trust=appliance.home.trust())
    assert found is not None
    return found


def test_what_was_signed_is_permitted(appliance: Appliance, admitted: AdmittedChampion) -> None:
    check_permission(admitted, appliance.home.trust(), submitter=SUBMITTER, proposer=PROPOSER)
    assert len(admitted.approval_bundles) == 2


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda a: replace(a, approval_bundles=a.approval_bundles[:1]), "counted other approvals"),
        (lambda a: replace(a, approval_bundles=()), "there is no approval"),
        (lambda a: replace(a, commit="9" * 40), "another commit, tree or epoch"),
        (lambda a: replace(a, tree="9" * 40), "another commit, tree or epoch"),
        (lambda a: replace(a, contract_epoch="E2"), "another commit, tree or epoch"),
        (lambda a: replace(a, name="other"), "about another champion"),
        (lambda a: replace(a, manifest_sha256="9" * 64), "about another champion"),
        (lambda a: replace(a, policy_sha256="9" * 64), "another policy set"),
        (lambda a: replace(a, admission_bundle=a.release_bundle), "is a champion-release"),
        (lambda a: replace(a, release_bundle=b"{}"), "champion-release does not verify"),
    ],
)
def test_a_row_that_was_changed_is_not(
    appliance: Appliance,
    admitted: AdmittedChampion,
    change: Callable[[AdmittedChampion], AdmittedChampion],
    told: str,
) -> None:
    with pytest.raises(AdmissionError, match=told):
        check_permission(change(admitted), appliance.home.trust(), submitter=SUBMITTER, proposer=PROPOSER)


def test_an_approval_that_the_decision_did_not_count_is_none(
    appliance: Appliance, admitted: AdmittedChampion, champion: ChampionRow
) -> None:
    signer = appliance.home.person_signer("eve")
    later = approval(appliance, champion, signer=signer, approver="eve", reason="and again")
    more = replace(admitted, approval_bundles=(*admitted.approval_bundles, later))
    with pytest.raises(AdmissionError, match="counted other approvals"):
        check_permission(more, appliance.home.trust(), submitter=SUBMITTER, proposer=PROPOSER)


def test_a_signed_refusal_is_no_admission(appliance: Appliance, admitted: AdmittedChampion) -> None:
    other = propose(appliance, name="god-text-other", note="x")
    adopt(appliance, other, actor=PROPOSER)
    with reading(appliance.engine) as conn:
        refusal = champions.newest_decision(conn, other.manifest_sha256)
    assert refusal is not None
    assert refusal.bundle is not None
    with pytest.raises(AdmissionError, match="admission does not verify"):
        check_permission(
            replace(admitted, admission_bundle=refusal.bundle),
            appliance.home.trust(),
            submitter=SUBMITTER,
            proposer=PROPOSER,
        )


@pytest.mark.parametrize("name", [APPROVER, APPROVER.upper(), "eve"])
def test_whoever_approved_it_may_not_run_it(
    appliance: Appliance, admitted: AdmittedChampion, name: str
) -> None:
    with pytest.raises(
        AdmissionError, match="approved god-text-reference and may neither propose, release nor run"
    ):
        check_permission(admitted, appliance.home.trust(), submitter=name, proposer=PROPOSER)


def test_an_admission_that_names_another_proposer_than_the_log_is_none(
    appliance: Appliance, admitted: AdmittedChampion
) -> None:
    with pytest.raises(AdmissionError, match="says that ada proposed it, the log says cleo"):
        check_permission(admitted, appliance.home.trust(), submitter=SUBMITTER, proposer="cleo")


@pytest.mark.parametrize("name", [PUBLISHER, PUBLISHER.upper()])
def test_an_approval_by_the_publishers_name_admits_nothing(
    appliance: Appliance, admitted: AdmittedChampion, champion: ChampionRow, tmp_path: Path, name: str
) -> None:
    """Signed before Assay knew better: the admission counted it."""
    signer = create_claim_key(tmp_path / "second.pem")
    trust = appliance.home.trust()
    key = replace(trust.keys[0], key_id=signer.key_id, pem=signer.public_pem, name=name, role=Role.APPROVER)
    set_trust(appliance, replace(trust, keys=(*trust.keys, key)))
    bundle = approval(appliance, champion, signer=signer, approver=name)
    gathered = gather_facts(appliance, champion, policy=appliance.admission_policy())
    counted = replace(gathered, approvals=(Counted(approver=name, sha256=sha256_hex(bundle)),))
    admission = sign_admission(appliance, champion, counted, policy=appliance.admission_policy())
    spoilt = replace(admitted, approval_bundles=(bundle,), admission_bundle=admission)
    with pytest.raises(AdmissionError, match=f"{PUBLISHER} approved god-text-reference and may neither"):
        check_permission(spoilt, appliance.home.trust(), submitter=SUBMITTER, proposer=PROPOSER)
