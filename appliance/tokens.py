"""API tokens: made from randomness, shown once, kept only as a digest; pure.

A token has 256 random bits, so a fast hash suffices: there is nothing to guess. The prefix lets secret
scanners find one that got out.
"""

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

PREFIX: Final = "assay_"
SECRET_BYTES: Final = 32
_FORM: Final = re.compile(r"assay_[A-Za-z0-9_-]{43}")


class Role(StrEnum):
    """What a token may do.

    Everybody may read how runs stand, their events, what can be ordered, and the log's head. What a run made
    or printed may hold a customer's rows, so it belongs to its submitter: who else may have it says `Token`.
    """

    ADMIN = "admin"  # submits; cancels every run and fetches its log, model and evidence
    SUBMITTER = "submitter"  # submits; the same for runs of its own, nothing of others' runs
    APPROVER = "approver"  # approves champions, does not train with them; fetches every run's evidence
    AUDITOR = "auditor"  # reads only; fetches every run's evidence

    @property
    def may_submit(self) -> bool:
        return self in (Role.ADMIN, Role.SUBMITTER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token as the database has it: who it stands for, never the secret."""

    id: str
    name: str
    role: Role
    sha256: str
    created_at: datetime
    revoked_at: datetime | None = None

    def may_handle(self, submitted_by: str) -> bool:
        """Whether it may have the log and the model of that person's runs, and, if it submits, cancel them."""
        return self.role is Role.ADMIN or self.name == submitted_by

    def may_review(self, submitted_by: str) -> bool:
        """Whether it may have the evidence of that person's runs. Evidence holds the model and the log, too."""
        return self.role in (Role.APPROVER, Role.AUDITOR) or self.may_handle(submitted_by)


def format_token(random: bytes) -> str:
    """The secret made of 32 fresh random bytes."""
    if len(random) != SECRET_BYTES:
        raise ValueError(f"{len(random)} random bytes, wanted {SECRET_BYTES}")
    return PREFIX + base64.urlsafe_b64encode(random).rstrip(b"=").decode()


def is_token(secret: str) -> bool:
    """Whether `secret` has a token's form."""
    return _FORM.fullmatch(secret) is not None


def hashed(secret: str) -> str:
    """The digest under which `secret` is kept."""
    return hashlib.sha256(secret.encode()).hexdigest()


def is_secret_of(token: Token, secret_sha256: str) -> bool:
    """Whether that is this token's digest, in constant time."""
    return hmac.compare_digest(token.sha256, secret_sha256)
