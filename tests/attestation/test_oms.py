import hashlib
from dataclasses import replace
from typing import Any

import pytest

from attestation.errors import MalformedError, VerificationError
from attestation.oms import FileDigest, Manifest, check_file_names, oms_statement, parse_oms
from attestation.statement import Statement

A, B = hashlib.sha256(b"a").hexdigest(), hashlib.sha256(b"b").hexdigest()
MANIFEST = Manifest(
    files=(FileDigest(name="a.txt", sha256=A, size_bytes=1), FileDigest(name="sub/b", sha256=B, size_bytes=2))
)


def statement(**changes: Any) -> Statement:
    whole = oms_statement("model", MANIFEST, ignore_paths=["claims.jsonl"])
    return replace(whole, predicate={**whole.predicate, **changes})


def test_root_is_the_digest_of_the_raw_digests_in_name_order() -> None:
    wanted = hashlib.sha256(hashlib.sha256(b"a").digest() + hashlib.sha256(b"b").digest()).hexdigest()
    assert MANIFEST.root_sha256 == wanted


def test_root_does_not_cover_names() -> None:
    renamed = Manifest(files=tuple(replace(file, name=f"x-{file.name}") for file in MANIFEST.files))
    assert renamed.root_sha256 == MANIFEST.root_sha256
    assert renamed != MANIFEST


def test_parses_what_it_states_but_for_sizes() -> None:
    parsed = parse_oms(statement())
    assert [(file.name, file.sha256) for file in parsed.files] == [("a.txt", A), ("sub/b", B)]
    assert {file.size_bytes for file in parsed.files} == {None}
    assert parsed.root_sha256 == MANIFEST.root_sha256


def test_finds_files_by_name_and_sums_sizes() -> None:
    assert MANIFEST.size_bytes == 3
    assert MANIFEST.file("sub/b") == MANIFEST.files[1]
    assert MANIFEST.file("sub") is None


def test_refuses_a_subject_that_is_not_the_root() -> None:
    whole = statement()
    with pytest.raises(VerificationError, match="listed files give"):
        parse_oms(replace(whole, subjects=(replace(whole.subjects[0], sha256=A),)))


def test_refuses_two_subjects() -> None:
    whole = statement()
    with pytest.raises(MalformedError, match="exactly one subject, found 2"):
        parse_oms(replace(whole, subjects=whole.subjects * 2))


def test_refuses_another_predicate_type() -> None:
    with pytest.raises(MalformedError, match="predicate type is not"):
        parse_oms(replace(statement(), predicate_type="https://model_signing/signature/v2.0"))


SERIALIZATION = statement().predicate["serialization"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"serialization": None}, "lacks its serialization"),
        ({"serialization": {**SERIALIZATION, "method": "shards"}}, "method is not 'files'"),
        ({"serialization": {**SERIALIZATION, "hash_type": "blake3"}}, "hash_type is not"),
        ({"serialization": {**SERIALIZATION, "allow_symlinks": True}}, "allow_symlinks is not False"),
        ({"serialization": {**SERIALIZATION, "ignore_paths": [1]}}, "ignore_paths"),
        ({"resources": {}}, "lacks resources"),
        ({"resources": []}, "at least one file"),
        ({"resources": [1]}, "lacks a name"),
        ({"resources": [{"name": "a", "algorithm": "md5", "digest": A}]}, "algorithm is not sha256"),
        ({"resources": [{"name": "a", "algorithm": "sha256", "digest": "x"}]}, "64 lower-case"),
        ({"resources": list(reversed(statement().predicate["resources"]))}, "not sorted"),
    ],
)
def test_refuses_predicates(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(MalformedError, match=message):
        parse_oms(statement(**changes))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "normalised relative path"),
        ("/etc/passwd", "normalised relative path"),
        ("a//b", "normalised relative path"),
        ("a/", "normalised relative path"),
        ("./a", "normalised relative path"),
        ("a/../b", "normalised relative path"),
        ("..", "normalised relative path"),
        ("-rf", "starts with '-'"),
        ("a/-b", "starts with '-'"),
        ("a\\b", "backslash"),
        ("a\nb", "control character"),
        ("a\x1b[2Jb", "control character"),
        ("a\u202eb", "control character"),
        ("a\u2028b", "control character"),
        ("a\udcffb", "control character"),
        ("u\u0308", "NFC"),
        ("x" * 256, "part longer than 255 bytes"),
        ("ab/" * 400 + "c", "longer than 1024 bytes"),
    ],
)
def test_refuses_unsafe_names(name: str, message: str) -> None:
    with pytest.raises(MalformedError, match=message):
        Manifest(files=(FileDigest(name=name, sha256=A),))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["README", "readme"], "differ only in case"),
        (["A/x", "a/y"], "differ only in case"),
        (["straße", "STRASSE"], "differ only in case"),
        (["ﬁle", "file"], "Unicode form"),
        (["a", "a"], "listed twice"),
        (["a", "a/b"], "both a file and a folder"),
        (["a/b", "a"], "both a file and a folder"),
    ],
)
def test_refuses_names_that_meet(names: list[str], message: str) -> None:
    with pytest.raises(MalformedError, match=message):
        check_file_names(names)


def test_accepts_plain_names() -> None:
    check_file_names(["a", "b/c", "b/d-e", "b c", "größe.txt", "模型.bin", ".hidden"])


def test_refuses_too_many_files() -> None:
    with pytest.raises(MalformedError, match="over the limit of 100000"):
        Manifest(files=(FileDigest(name="a", sha256=A),) * 100_001)
