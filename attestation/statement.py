"""in-toto Statement v1: which files (subjects), what is said (predicate type), and the saying (predicate).

Source: in-toto attestation framework, spec/v1/statement.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from attestation import canonical
from attestation.digest import parse_sha256_hex
from attestation.errors import MalformedError

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
OWN_NAMESPACE = "urn:assay:"
MAX_STATEMENT_BYTES = 16 << 20  # a manifest of 100,000 files with long names


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A thing a statement is about. The name is for people; the digest is what is meant."""

    name: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What somebody says about `subjects`. `predicate` is plain JSON without floats."""

    subjects: tuple[Subject, ...]
    predicate_type: str
    predicate: Mapping[str, Any]  # Any: its shape depends on `predicate_type`, see attestation.predicates

    @property
    def is_own(self) -> bool:
        return self.predicate_type.startswith(OWN_NAMESPACE)


def encode_statement(statement: Statement) -> bytes:
    """`statement` as compact JSON in in-toto's key order. Raises MalformedError if it could not be read."""
    if not statement.subjects:
        raise MalformedError("statement has no subject")
    return canonical.compact(
        {
            "_type": STATEMENT_TYPE,
            "subject": [
                {"name": subject.name, "digest": {"sha256": parse_sha256_hex(subject.sha256)}}
                for subject in statement.subjects
            ],
            "predicateType": statement.predicate_type,
            "predicate": statement.predicate,
        }
    )


def parse_statement(data: bytes) -> Statement:
    """The statement in `data`. Raises MalformedError.

    Unknown fields are skipped, as in-toto demands, except in our own types, where they are errors. A
    subject needs a SHA-256; other digests beside it are skipped, for they prove nothing to us.
    """
    raw = canonical.decode(data, max_bytes=MAX_STATEMENT_BYTES)
    if not isinstance(raw, dict) or raw.get("_type") != STATEMENT_TYPE:
        raise MalformedError("not an in-toto Statement v1")
    predicate_type, predicate, subjects = (
        raw.get(name) for name in ("predicateType", "predicate", "subject")
    )
    if not isinstance(predicate_type, str) or not isinstance(predicate, dict):
        raise MalformedError("statement lacks a predicate type or a predicate")
    if not isinstance(subjects, list) or not subjects:
        raise MalformedError("statement has no subject")
    statement = Statement(
        subjects=tuple(_subject(subject) for subject in subjects),
        predicate_type=predicate_type,
        predicate=predicate,
    )
    # Own types are exact: writing it again must give the same fields, in whatever order they came.
    if statement.is_own and canonical.decode(encode_statement(statement), max_bytes=len(data)) != raw:
        raise MalformedError(f"statement of type {predicate_type} has unknown fields")
    return statement


def _subject(raw: object) -> Subject:
    if not isinstance(raw, dict) or not isinstance(raw.get("name"), str):
        raise MalformedError("subject lacks a name")
    digest = raw.get("digest")
    if not isinstance(digest, dict) or "sha256" not in digest:
        raise MalformedError(f"subject {raw['name'][:80]!r} lacks a SHA-256 digest")
    return Subject(name=raw["name"], sha256=parse_sha256_hex(digest["sha256"]))
