"""Our bundles, a bundle made elsewhere, and openssl as a second opinion."""

import base64
import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from attestation import predicates
from attestation.bundle import Bundle, open_bundle, parse_bundle, sign_statement
from attestation.dsse import PAYLOAD_TYPE, pae
from attestation.errors import AttestationError, MalformedError, UndecidedError, VerificationError
from attestation.keys import P256_ORDER, load_public_key, low_s
from attestation.statement import Statement, Subject, encode_statement

STATEMENT = Statement(
    subjects=(Subject(name="model", sha256="ab" * 32),),
    predicate_type="https://example.org/claim/v1",
    predicate={"said": "ü"},
)


@pytest.fixture(scope="module")
def signed(packs: ModuleType) -> bytes:
    return sign_statement(STATEMENT, packs.APPLIANCE)


def changed(signed: bytes, change: Callable[[Any], object]) -> bytes:
    raw = json.loads(signed)
    change(raw)
    return json.dumps(raw, ensure_ascii=False, separators=(",", ":")).encode()


def test_opens_what_it_signs(signed: bytes, packs: ModuleType) -> None:
    key = load_public_key(packs.APPLIANCE.public_pem)
    assert b"\n" not in signed
    assert open_bundle(parse_bundle(signed), key) == STATEMENT


def test_opens_a_bundle_made_elsewhere(vectors: Path) -> None:
    key = load_public_key((vectors / "key.pem").read_bytes())
    bundle = parse_bundle((vectors / "bundle.json").read_bytes().removesuffix(b"\n"))
    # Its maker left s as it came, which is not our one form; the signature is the same in either.
    with pytest.raises(VerificationError, match="higher of its two values"):
        open_bundle(bundle, key)
    ours = replace(bundle, signature=low_s(bundle.signature))
    key.verify(ours.signature, pae(PAYLOAD_TYPE, ours.payload))
    assert open_bundle(ours, key).predicate["runId"] == "run-0042"


def _openssl_accepts(folder: Path, signed: bytes, pem: bytes) -> bool:
    bundle = parse_bundle(signed)
    size = len(bundle.payload)
    # Written out by hand, not with our pae().
    (folder / "pae").write_bytes(f"DSSEv1 28 application/vnd.in-toto+json {size} ".encode() + bundle.payload)
    (folder / "sig").write_bytes(bundle.signature)
    (folder / "k.pub").write_bytes(pem)
    command = ["openssl", "dgst", "-sha256", "-verify", "k.pub", "-signature", "sig", "pae"]
    return subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode == 0


def test_openssl_accepts_our_bundle_and_refuses_it_changed(
    signed: bytes, packs: ModuleType, tmp_path: Path
) -> None:
    assert _openssl_accepts(tmp_path, signed, packs.APPLIANCE.public_pem)
    assert not _openssl_accepts(tmp_path, signed, packs.STRANGER.public_pem)
    payload = base64.b64encode(encode_statement(STATEMENT).replace(b"model", b"modem")).decode()
    forged = changed(signed, lambda raw: raw["dsseEnvelope"].update(payload=payload))
    assert not _openssl_accepts(tmp_path, forged, packs.APPLIANCE.public_pem)


def _without_key_id(raw: Any) -> None:
    del raw["dsseEnvelope"]["signatures"][0]["keyid"]


def _without_time_stamps(raw: Any) -> None:
    del raw["verificationMaterial"]["timestampVerificationData"]


def _reordered(raw: Any) -> None:
    raw["mediaType"] = raw.pop("mediaType")


def _reordered_inside(raw: Any) -> None:
    raw["dsseEnvelope"]["payload"] = raw["dsseEnvelope"].pop("payload")


def _other_s(raw: Any) -> None:
    signature = raw["dsseEnvelope"]["signatures"][0]
    r, s = decode_dss_signature(base64.b64decode(signature["sig"]))
    signature["sig"] = base64.b64encode(encode_dss_signature(r, P256_ORDER - s)).decode()


@pytest.mark.parametrize(
    "change",
    [
        _without_key_id,
        _without_time_stamps,
        _reordered,
        _reordered_inside,
        _other_s,
        lambda raw: raw["dsseEnvelope"]["signatures"][0].update(keyid=""),
        lambda raw: raw["dsseEnvelope"]["signatures"][0].update(keyid=None),
        lambda raw: raw["verificationMaterial"].update(timestampVerificationData={}),
    ],
)
def test_a_signed_statement_has_one_spelling(
    signed: bytes, packs: ModuleType, change: Callable[[Any], object]
) -> None:
    key, other = load_public_key(packs.APPLIANCE.public_pem), changed(signed, change)
    assert other != signed
    with pytest.raises(AttestationError):
        open_bundle(parse_bundle(other), key)


def _envelope(**fields: Any) -> Callable[[Any], object]:
    return lambda raw: raw["dsseEnvelope"].update(fields)


def _signature(**fields: Any) -> Callable[[Any], object]:
    return lambda raw: raw["dsseEnvelope"]["signatures"][0].update(fields)


def _material(**fields: Any) -> Callable[[Any], object]:
    return lambda raw: raw["verificationMaterial"].update(fields)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_envelope(signatures=[]), "exactly one signature, found 0"),
        (lambda raw: raw["dsseEnvelope"]["signatures"].append({"sig": "AAAA"}), "signature, found 2"),
        (_envelope(signatures=None), "signature, found none"),
        (_envelope(signatures=[{"keyid": ""}]), "signature lacks"),
        (_signature(sig="AAAA", keyid="ab"), "differs from the bundle's hint"),
        (_signature(sig="AAA"), "signature is not base64"),
        (_signature(sig="A A="), "signature is not base64"),
        (_signature(sig="AB=="), "signature is not base64"),  # stray bits
        (_signature(sig="ab-_"), "signature is not base64"),  # a second spelling
        (_signature(sig=""), "signature is not base64"),
        (_envelope(payload=7), "payload is not base64"),
        (_envelope(payload="é"), "payload is not base64"),
        (_envelope(payloadType="text/plain"), "payload type is not"),
        (_envelope(extra=1), r"envelope has unknown fields \['extra'\]"),
        (_material(extra=1), "verification material has unknown fields"),
        (_material(tlogEntries=[{}]), "another log"),
        (_material(publicKey={}), "public key lacks"),
        (_material(publicKey={"hint": ""}), "hint is missing"),
        (_material(publicKey={"hint": 5}), "hint is missing"),
        (_material(timestampVerificationData=[]), "time-stamp data is not an object"),
        (_material(timestampVerificationData={}), "time-stamp data lacks"),
        (_without_key_id, "signature lacks"),
        (_without_time_stamps, "verification material lacks"),
        (_reordered, "not in its one spelling"),
        (_reordered_inside, "not in its one spelling"),
        (lambda raw: raw.update(mediaType="application/json"), "media type is not"),
        (lambda raw: raw.update(extra=1), "bundle has unknown fields"),
        (lambda raw: raw.pop("dsseEnvelope"), "bundle lacks"),
    ],
)
def test_refuses(signed: bytes, change: Callable[[Any], object], message: str) -> None:
    with pytest.raises(MalformedError, match=message):
        parse_bundle(changed(signed, change))


@pytest.mark.parametrize(
    ("material", "message"),
    [
        ({"certificate": {"rawBytes": "AA=="}}, "signed with a certificate"),
        ({"timestampVerificationData": {"rfc3161Timestamps": [{"signedTimestamp": "AA=="}]}}, "time-stamps"),
    ],
)
def test_cannot_decide_about_material_it_does_not_check(
    signed: bytes, material: dict[str, Any], message: str
) -> None:
    with pytest.raises(UndecidedError, match=message):
        parse_bundle(changed(signed, _material(**material)))


@pytest.mark.parametrize("spelling", [b"[]", b"null", b"{}", b" {}", b'{"a":1}\n'])
def test_refuses_what_is_no_compact_bundle(spelling: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_bundle(spelling)


def test_refuses_white_space_and_duplicates(signed: bytes) -> None:
    for other in (signed + b"\n", signed.replace(b":", b": ", 1), b" " + signed):
        with pytest.raises(MalformedError, match="not in its one spelling"):
            parse_bundle(other)
    with pytest.raises(MalformedError, match="duplicate key 'mediaType'"):
        parse_bundle(signed.replace(b'{"mediaType"', b'{"mediaType":"x","mediaType"'))


def test_refuses_another_key(signed: bytes, packs: ModuleType) -> None:
    stranger = load_public_key(packs.STRANGER.public_pem)
    bundle = parse_bundle(signed)
    with pytest.raises(VerificationError, match="signed by key 0bcc8908"):
        open_bundle(bundle, stranger)
    relabelled = Bundle(hint=stranger.key_id, payload=bundle.payload, signature=bundle.signature)
    with pytest.raises(VerificationError, match="signature is not by key"):
        open_bundle(relabelled, stranger)


def test_refuses_a_signed_payload_that_is_no_statement(packs: ModuleType) -> None:
    signature = packs.APPLIANCE.sign(pae(PAYLOAD_TYPE, b"{}"))
    bundle = Bundle(hint=packs.APPLIANCE.key_id, payload=b"{}", signature=signature)
    with pytest.raises(MalformedError, match="not an in-toto Statement"):
        open_bundle(bundle, load_public_key(packs.APPLIANCE.public_pem))


def test_refuses_a_signed_predicate_of_the_wrong_shape(packs: ModuleType) -> None:
    bad = Statement(subjects=STATEMENT.subjects, predicate_type=predicates.VERDICT, predicate={})
    payload = encode_statement(bad)
    signature = packs.APPLIANCE.sign(pae(PAYLOAD_TYPE, payload))
    bundle = Bundle(hint=packs.APPLIANCE.key_id, payload=payload, signature=signature)
    with pytest.raises(MalformedError, match="predicate: lacks"):
        open_bundle(bundle, load_public_key(packs.APPLIANCE.public_pem))


def test_refuses_to_sign_a_malformed_predicate(packs: ModuleType) -> None:
    bad = Statement(subjects=STATEMENT.subjects, predicate_type=predicates.VERDICT, predicate={})
    with pytest.raises(MalformedError, match="predicate: lacks"):
        sign_statement(bad, packs.APPLIANCE)


def test_refuses_every_changed_byte(signed: bytes, packs: ModuleType) -> None:
    key = load_public_key(packs.APPLIANCE.public_pem)
    for at in range(len(signed)):
        for spoiled in (
            signed[:at] + bytes([signed[at] ^ 1]) + signed[at + 1 :],
            signed[:at] + signed[at + 1 :],
            signed[:at] + b"0" + signed[at:],
        ):
            if spoiled != signed:
                with pytest.raises(AttestationError):
                    open_bundle(parse_bundle(spoiled), key)
