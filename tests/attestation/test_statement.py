import json
from typing import Any

import pytest

from attestation.errors import MalformedError
from attestation.statement import Statement, Subject, encode_statement, parse_statement

SHA = "9372c470eeadd5ecd9c3c74c2b3cb633f8e2f2fad799250a0f70d652b6b825e4"
FOREIGN = "https://example.org/claim/v1"
OWN = "urn:assay:verdict:v1"


def raw(**changes: Any) -> bytes:
    return json.dumps(
        {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": "model", "digest": {"sha256": SHA}}],
            "predicateType": FOREIGN,
            "predicate": {"a": 1},
            **changes,
        }
    ).encode()


@pytest.mark.parametrize("predicate_type", [FOREIGN, OWN])
def test_parses_what_it_encodes(predicate_type: str) -> None:
    statement = Statement(
        subjects=(Subject(name="ü", sha256=SHA), Subject(name="b", sha256=SHA)),
        predicate_type=predicate_type,
        predicate={"z": [1, None], "a": "x"},
    )
    assert parse_statement(encode_statement(statement)) == statement


def test_writes_in_toto_key_order() -> None:
    statement = parse_statement(raw())
    assert encode_statement(statement) == (
        b'{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"model","digest":{"sha256":"'
        + SHA.encode()
        + b'"}}],"predicateType":"https://example.org/claim/v1","predicate":{"a":1}}'
    )


def test_skips_unknown_fields_of_foreign_statements() -> None:
    data = raw(extra=1, subject=[{"name": "m", "uri": "x", "digest": {"sha256": SHA, "gitCommit": "ab"}}])
    assert parse_statement(data).subjects == (Subject(name="m", sha256=SHA),)


@pytest.mark.parametrize(
    "changes",
    [
        {"extra": 1},
        {"subject": [{"name": "m", "uri": "x", "digest": {"sha256": SHA}}]},
        {"subject": [{"name": "m", "digest": {"sha256": SHA, "sha1": "ab"}}]},
    ],
)
def test_refuses_unknown_fields_of_our_own_statements(changes: dict[str, Any]) -> None:
    with pytest.raises(MalformedError, match="has unknown fields"):
        parse_statement(raw(predicateType=OWN, **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"_type": "https://in-toto.io/Statement/v0.1"}, "not an in-toto Statement v1"),
        ({"predicateType": 1}, "lacks a predicate type"),
        ({"predicate": None}, "lacks a predicate type or a predicate"),
        ({"subject": []}, "no subject"),
        ({"subject": {}}, "no subject"),
        ({"subject": ["x"]}, "lacks a name"),
        ({"subject": [{"digest": {"sha256": SHA}}]}, "lacks a name"),
        ({"subject": [{"name": "m", "digest": {"md5": "ab", "sha1": "cd"}}]}, "lacks a SHA-256"),
        ({"subject": [{"name": "m", "digest": {"sha256": SHA.upper()}}]}, "64 lower-case"),
        ({"predicate": {"x": 0.1}}, "not an integer"),
    ],
)
def test_refuses(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(MalformedError, match=message):
        parse_statement(raw(**changes))


def test_refuses_json_that_is_no_object() -> None:
    with pytest.raises(MalformedError, match="not an in-toto Statement"):
        parse_statement(b"[]")


def test_refuses_to_encode_a_statement_about_nothing() -> None:
    with pytest.raises(MalformedError, match="no subject"):
        encode_statement(Statement(subjects=(), predicate_type=FOREIGN, predicate={}))
