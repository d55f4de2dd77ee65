import pytest

from attestation import canonical
from attestation.errors import MalformedError, VerificationError
from attestation.pack import (
    MANIFEST_BUNDLE,
    EvidenceManifest,
    encode_manifest,
    manifest_of,
    pack_of,
    parse_manifest,
)

MANIFEST = EvidenceManifest(run_id="run-0042", files=manifest_of({"a": b"1", "b/c": b"22"}))
FILE = {"name": "a", "sha256": "ab" * 32, "size": 1}


def test_parses_what_it_encodes() -> None:
    assert parse_manifest(encode_manifest(MANIFEST)) == MANIFEST


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": "assay.evidence/v2"}, "not of schema"),
        ({"extra": 1}, "not of schema"),
        ({"runId": 1}, "wrong type"),
        ({"files": {}}, "wrong type"),
        ({"files": []}, "at least one file"),
        ({"files": [1]}, "other fields"),
        ({"files": [{**FILE, "mode": 1}]}, "other fields"),
        ({"files": [{**FILE, "name": 1}]}, "name is not a text"),
        ({"files": [{**FILE, "name": "../a"}]}, "unsafe file name"),
        ({"files": [{**FILE, "size": -1}]}, "not a count of bytes"),
        ({"files": [{**FILE, "size": True}]}, "not a count of bytes"),
        ({"files": [{**FILE, "sha256": "ab"}]}, "64 lower-case"),
        ({"files": [FILE, FILE]}, "listed twice"),
    ],
)
def test_refuses(changes: dict[str, object], message: str) -> None:
    raw = canonical.decode(encode_manifest(MANIFEST), max_bytes=9999)
    with pytest.raises(MalformedError, match=message):
        parse_manifest(canonical.encode({**raw, **changes}))


def test_refuses_another_spelling() -> None:
    with pytest.raises(MalformedError, match="not canonical JSON"):
        parse_manifest(encode_manifest(MANIFEST) + b"\n")


def test_names_a_file_that_is_not_there() -> None:
    with pytest.raises(VerificationError, match=r"claims\.jsonl: missing from the pack"):
        pack_of({"a": b""}).content("claims.jsonl")


def test_gives_files_below_a_folder_only() -> None:
    pack = pack_of({"trust/a": b"1", "trust.txt": b"2", "model/w": b"3"})
    assert pack.below("trust") == {"a": b"1"}
    assert pack.below("model") == {}
    assert set(pack.digests_below("model")) == {"w"}


def test_refuses_an_oversized_manifest_signature_before_it_is_parsed() -> None:
    assert pack_of({MANIFEST_BUNDLE: b"x" * (64 << 10)}).content(MANIFEST_BUNDLE)
    with pytest.raises(MalformedError, match=r"MANIFEST\.sigstore\.json: .*over the limit of 65536"):
        pack_of({MANIFEST_BUNDLE: b"x" * (64 << 10) + b"x"}).content(MANIFEST_BUNDLE)
