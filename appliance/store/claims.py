"""Signed claims, byte for byte, beside the log entries that name them."""

from dataclasses import dataclass

from sqlalchemy import Connection, insert, select

from appliance.attest import Claim
from appliance.store.tables import claim as claim_table


@dataclass(frozen=True, slots=True, kw_only=True)
class EnteredClaim(Claim):
    """A claim and the entry under which the audit log has it."""

    entry: bytes


def add(conn: Connection, run_id: str, *, ordinal: int, claim: Claim, entry: bytes) -> None:
    """Keep the claim `ordinal` (from 1) of a run. Raises IntegrityError if it exists: claims stay."""
    conn.execute(
        insert(claim_table).values(
            run_id=run_id,
            ordinal=ordinal,
            kind=claim.kind,
            bundle=claim.bundle,
            sha256=claim.sha256,
            entry=entry,
        )
    )


def of_run(conn: Connection, run_id: str) -> tuple[EnteredClaim, ...]:
    """The run's claims in the order in which they were signed."""
    query = select(claim_table).where(claim_table.c.run_id == run_id).order_by(claim_table.c.ordinal)
    return tuple(
        EnteredClaim(kind=row.kind, bundle=row.bundle, sha256=row.sha256, entry=row.entry)
        for row in conn.execute(query)
    )
