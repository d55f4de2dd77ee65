"""Errors of the verifier.

AttestationError
├── MalformedError      the bytes are not what they claim to be: the one who wrote them must act
├── VerificationError   well-formed, but not true: wrong signature, digest, proof or link between claims
└── UndecidedError      cannot be checked here: unreadable, or material of a kind this verifier does not know

Only a returned value means "verified". None of these is ever to be read as a weaker form of yes.
"""

from collections.abc import Iterator
from contextlib import contextmanager


class AttestationError(Exception):
    """Base of everything this package raises on purpose.

    `check` is the step that failed (attestation.verify.CHECKS) and `file` the file it failed on, both
    None where the raiser cannot know them.
    """

    def __init__(self, message: str, *, check: str | None = None, file: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.check = check
        self.file = file

    def __str__(self) -> str:
        where = f"{self.file}: " if self.file else ""
        return f"[{self.check}] {where}{self.message}" if self.check else f"{where}{self.message}"


class MalformedError(AttestationError):
    """The bytes do not have the form they must have."""


class VerificationError(AttestationError):
    """The bytes are well-formed and what they say was found to be untrue."""


class UndecidedError(AttestationError):
    """Neither true nor untrue could be established. Never "passed"."""


@contextmanager
def locating(check: str, *, file: str) -> Iterator[None]:
    """Add the step and the file to an error raised inside, unless it already names its own."""
    try:
        yield
    except AttestationError as error:
        error.check = error.check or check
        error.file = error.file or file
        raise
