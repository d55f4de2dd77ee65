"""Is a champion really admitted? Decided from signatures, since the database is only where they are kept.

Covered: rows that were invented or changed, approvals that were added or taken away since the decision, one
person in two places: who proposed, released or ordered it is no approver of it.
Not covered: that a later hold or revocation is missing; what is not there has no signature. For this the rows
and the log are asked, either of which stops a champion (appliance.store.decisions, appliance.recorded).
"""

from appliance.attest import AdmittedChampion
from appliance.errors import AdmissionError
from attestation.claims import Claim, Kind, open_claim
from attestation.digest import sha256_hex
from attestation.errors import AttestationError
from attestation.predicates import CHAMPION_ADMITTED
from attestation.trust import TrustRoot


def check_permission(champion: AdmittedChampion, trust: TrustRoot, *, submitter: str, proposer: str) -> None:
    """Return if release, approvals and admission verify, are about this champion, and `submitter` may run it.

    `proposer` is who proposed it by the log (appliance.recorded.intake_of), which the admission must say too.
    Whoever writes to the database can invent rows, but not these signatures. Raises AdmissionError.
    """
    release = _opened(champion.release_bundle, trust, Kind.CHAMPION_RELEASE)
    approvals = [_opened(bundle, trust, Kind.APPROVAL) for bundle in champion.approval_bundles]
    admission = _opened(champion.admission_bundle, trust, Kind.ADMISSION)
    said = release.predicate
    _demand(
        (said["commit"], said["tree"], said["contractEpoch"])
        == (champion.commit, champion.tree, champion.contract_epoch),
        "the release names another commit, tree or epoch than the database",
    )
    for claim in (release, *approvals, admission):
        same = (claim.subject.name, claim.subject.sha256) == (champion.name, champion.manifest_sha256)
        _demand(same, f"the {claim.kind} is about another champion, {claim.subject.name}")
    policies = [policy["digest"]["sha256"] for policy in admission.predicate["verifier"]["policies"]]
    _demand(policies == [champion.policy_sha256], "the admission names another policy set than the database")
    _demand(CHAMPION_ADMITTED in admission.predicate["properties"], "the admission does not admit")
    _demand(bool(approvals), "there is no approval")
    counted = {approval["sha256"] for approval in admission.predicate["approvals"]}
    _demand(
        counted == {sha256_hex(bundle) for bundle in champion.approval_bundles},
        "the admission counted other approvals than those that are here",
    )
    signed_proposer = admission.predicate["proposedBy"]
    _demand(
        signed_proposer == proposer,
        f"the admission says that {signed_proposer} proposed it, the log says {proposer}",
    )
    for approval in approvals:
        _check_approval(approval, champion, others=(submitter, proposer, release.key.name))


def _check_approval(approval: Claim, champion: AdmittedChampion, *, others: tuple[str, ...]) -> None:
    said = approval.predicate
    _demand(said["policy"]["sha256"] == champion.policy_sha256, "an approval is under another policy set")
    _demand(said["approver"] == approval.key.name, f"{approval.key.name} signed as {said['approver']}")
    for other in others:
        _demand(
            said["approver"].casefold() != other.casefold(),
            f"{other} approved {champion.name} and may neither propose, release nor run it",
        )


def _opened(bundle: bytes, trust: TrustRoot, kind: Kind) -> Claim:
    try:
        claim = open_claim(bundle, trust, file=kind.value)
    except AttestationError as error:
        raise AdmissionError(f"champion is not admitted: its {kind} does not verify: {error}") from error
    _demand(claim.kind is kind, f"what stands as its {kind} is a {claim.kind}")
    return claim


def _demand(holds: bool, otherwise: str) -> None:
    if not holds:
        raise AdmissionError(f"champion is not admitted: {otherwise}")
