"""Approving with a key that never comes here: the request that travels to the approver, and what they sign there.

Covered: on the approver's machine nothing is needed but the request and the key; whoever changes the request on
its way gets an approval of something else, which does not count here.
Not covered: whether the approver read what they approve; `--seen` compares the files they have with the request.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from sqlalchemy import Connection

from appliance.approvals import approval_statement
from appliance.champion_report import kept_report
from appliance.errors import AdmissionError, InvalidOrderError
from appliance.home import checked_name
from appliance.recorded import FOUR_EYES
from appliance.store.champions import ChampionRow
from attestation import canonical
from attestation.bundle import parse_bundle, sign_statement
from attestation.digest import sha256_hex
from attestation.errors import AttestationError, MalformedError
from attestation.keys import Signer
from attestation.statement import parse_statement
from attestation.times import format_time, parse_time
from attestation.trust import TrustRoot
from tournament_sync.champion import is_champion_name
from tournament_sync.inspection.report import encode_report

MAX_REQUEST_BYTES: Final = 256 << 10  # the release in it has at most 64 KiB
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_GitId = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]


@with_config(ConfigDict(extra="forbid", strict=True))
@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRequest:
    """What is to be approved, and under which policy set. `release` is the publisher's bundle, verbatim."""

    schema: Literal["assay.approval-request/v1"]
    name: Annotated[str, Field(max_length=100)]
    manifest_sha256: _Sha256
    channel: Annotated[str, Field(max_length=20)]
    commit: _GitId
    tree: _GitId
    contract_epoch: Annotated[str, Field(max_length=10)]
    proposed_by: Annotated[str, Field(max_length=200)]
    proposed_at: str
    policy_sha256: _Sha256
    report_sha256: _Sha256 | None  # of the inspection report; None if there is none
    release: str


_REQUEST: Final = TypeAdapter(ApprovalRequest)


def request_for(
    connection: Connection, champion: ChampionRow, *, policy_sha256: str, trust: TrustRoot
) -> dict[str, Any]:
    """The request to approve `champion` under that policy set, in plain JSON values."""
    report = kept_report(connection, champion.manifest_sha256, trust=trust)
    request = ApprovalRequest(
        schema="assay.approval-request/v1",
        name=champion.name,
        manifest_sha256=champion.manifest_sha256,
        channel=champion.channel,
        commit=champion.commit,
        tree=champion.tree,
        contract_epoch=champion.contract_epoch,
        proposed_by=champion.proposed_by,
        proposed_at=format_time(champion.proposed_at),
        policy_sha256=policy_sha256,
        report_sha256=None if report is None else sha256_hex(encode_report(report)),
        release=champion.release_bundle.decode(),
    )
    written: dict[str, Any] = _REQUEST.dump_python(request, mode="json")
    return written


def parse_request(data: bytes) -> ApprovalRequest:
    """The request in `data`. Raises InvalidOrderError for anything else, also one whose release is of other files."""
    try:
        canonical.decode(data, max_bytes=MAX_REQUEST_BYTES)  # size, depth, keys that are there twice
        request = _REQUEST.validate_json(data)
        parse_time(request.proposed_at)
        (subject,) = parse_statement(parse_bundle(request.release.encode()).payload).subjects
    except (MalformedError, ValidationError, AttestationError, ValueError) as error:
        raise InvalidOrderError(f"not an approval request: {error}", checked="request") from error
    if not is_champion_name(request.name) or (subject.name, subject.sha256) != (
        request.name,
        request.manifest_sha256,
    ):
        raise InvalidOrderError(
            f"the request is for {request.name} sha256:{request.manifest_sha256}, its release for"
            f" {subject.name} sha256:{subject.sha256}",
            checked="request",
        )
    return request


def sign_request(
    request: ApprovalRequest,
    signer: Signer,
    *,
    approver: str,
    printed_name: str,
    reason: str,
    now: datetime,
) -> bytes:
    """The bundle with which `approver` approves what the request names.

    Raises AdmissionError if the approver proposed it, HomeError for what is no plain name.
    """
    if checked_name(approver).casefold() == request.proposed_by.casefold():
        raise AdmissionError(
            f"{approver} proposed {request.name}: another person must approve it", reasons=FOUR_EYES
        )
    champion = ChampionRow(
        manifest_sha256=request.manifest_sha256,
        name=request.name,
        channel=request.channel,
        commit=request.commit,
        tree=request.tree,
        contract_epoch=request.contract_epoch,
        release_bundle=request.release.encode(),
        proposed_by=request.proposed_by,
        proposed_at=parse_time(request.proposed_at),
    )
    statement = approval_statement(
        champion,
        approver=approver,
        printed_name=printed_name,
        reason=reason,
        policy_sha256=request.policy_sha256,
        now=now,
    )
    return sign_statement(statement, signer)
