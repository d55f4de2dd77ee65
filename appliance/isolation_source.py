"""Where what is known of a run's walls is read: from its signed claims, else from what its jobs have measured so far.

What is covered: a claim that is there is verified, and nothing else is shown in its place.
What is not covered: files of a job that is not attested yet; they are this machine's word, and the screen says so.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection

from appliance.attest import walls_with_end
from appliance.domain import Run
from appliance.errors import EvidenceError, NotReadyError
from appliance.home import Home
from appliance.isolation_report import Found, Purpose
from appliance.jobs import job_ids
from appliance.store import claims
from appliance.store.claims import EnteredClaim
from attestation.claims import Kind, open_claim
from attestation.errors import AttestationError
from attestation.trust import TrustRoot
from runner.errors import SpecError
from runner.sandbox.cgroup import CPU_PERIOD_US
from runner.spec import Exit, Limits, parse_exit, parse_spec

MAX_FILE_BYTES: Final = 4 << 20
NOT_SIGNED: Final = "measured by this machine; nothing of it is signed yet"
_KINDS: Final[Mapping[Purpose, Kind]] = {
    Purpose.TRAIN: Kind.ISOLATION_TRAIN,
    Purpose.EVALUATE: Kind.ISOLATION_EVALUATE,
}


def find_walls(conn: Connection, run: Run, *, home: Home) -> tuple[Found, ...]:
    """What is known of the run's guests, training first.

    Raises NotReadyError while nothing was measured, EvidenceError for a claim that does not verify.
    """
    signed = claims.of_run(conn, run.id)
    trust = home.trust()
    jobs = {Purpose.TRAIN: job_ids(run).train, Purpose.EVALUATE: job_ids(run).evaluate}
    found = tuple(
        one
        for purpose, job_id in jobs.items()
        if (one := _find(run, purpose, home.jobs_dir / job_id, signed=signed, trust=trust)) is not None
    )
    if not found:
        raise NotReadyError(
            f"run {run.id} is {run.state}: no walls of it were measured"
            + ("" if run.state.is_final else " yet; ask again when it runs"),
            checked="run state",
            found=run.state,
            wanted="a run whose sandbox was measured",
        )
    return found


def _find(
    run: Run, purpose: Purpose, job_dir: Path, *, signed: tuple[EnteredClaim, ...], trust: TrustRoot
) -> Found | None:
    claim = next((claim for claim in signed if claim.kind == _KINDS[purpose]), None)
    facts = _unsigned(job_dir) if claim is None else _claimed(run, purpose, claim, trust)
    if facts is None:
        return None
    return Found(
        purpose=purpose,
        facts=facts,
        is_signed=claim is not None,
        source=NOT_SIGNED if claim is None else f"signed claim {claim.kind}, sha256:{claim.sha256}",
        asked=_asked(job_dir),
    )


# Any, below: the plain JSON of a claim or file.
def _claimed(run: Run, purpose: Purpose, claim: EnteredClaim, trust: TrustRoot) -> Mapping[str, Any]:
    try:
        said = open_claim(claim.bundle, trust, file=claim.kind).predicate
    except AttestationError as error:
        raise EvidenceError(f"the {claim.kind} claim of run {run.id} does not verify: {error}") from error
    if (said.get("runId"), said.get("purpose")) != (run.id, purpose.value):
        raise EvidenceError(f"the {claim.kind} claim of run {run.id} is about another run or guest")
    measured: Mapping[str, Any] = said["measured"]
    return measured


def _unsigned(job_dir: Path) -> Mapping[str, Any] | None:
    data = _read(job_dir / "isolation.json")
    if data is None:
        return None
    try:
        facts = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise EvidenceError(f"isolation.json of {job_dir.name} is not JSON: {error}") from error
    if not isinstance(facts, dict):
        raise EvidenceError(f"isolation.json of {job_dir.name} is not a JSON object")
    ended = _exit(job_dir)
    return facts if ended is None else walls_with_end(facts, ended, job_dir=str(job_dir))


def _exit(job_dir: Path) -> Exit | None:
    data = _read(job_dir / "exit.json")
    with suppress(SpecError):
        return None if data is None else parse_exit(data)
    return None


def _asked(job_dir: Path) -> dict[str, int] | None:
    """The limits of the order, by the names under which they are read back."""
    data = _read(job_dir / "job.json")
    with suppress(SpecError):
        return None if data is None else _read_back_names(parse_spec(data).limits)
    return None


def _read_back_names(limits: Limits) -> dict[str, int]:
    return {
        "memory_bytes": limits.memory_bytes,
        "pids": limits.pids,
        "cpu_quota_us": limits.cpu_millis * CPU_PERIOD_US // 1000,
    }


def _read(file: Path) -> bytes | None:
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise EvidenceError(f"{file.name} of {file.parent.name} cannot be read: {error.strerror}") from error
    if len(data) > MAX_FILE_BYTES:
        raise EvidenceError(f"{file.name} of {file.parent.name} is over the limit of {MAX_FILE_BYTES} bytes")
    return data
