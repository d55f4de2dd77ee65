from pathlib import Path
from types import ModuleType

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attestation.errors import MalformedError, VerificationError
from attestation.keys import P256_ORDER, PublicKey, key_id, load_public_key, low_s


def test_key_id_is_the_digest_of_the_pem_file(vectors: Path) -> None:
    pem = (vectors / "key.pem").read_bytes()
    assert key_id(pem) == "90e59615f2b40fe11b61b46e4683083b3771d108b314b9bb55ee98f56dbb870a"
    assert load_public_key(pem).key_id == key_id(pem)


def test_verifies_its_own_signature_and_no_other(packs: ModuleType) -> None:
    key, signature = load_public_key(packs.APPLIANCE.public_pem), packs.APPLIANCE.sign(b"message")
    key.verify(signature, b"message")
    with pytest.raises(VerificationError, match="not by key 0bcc8908c3cc5f2c"):
        key.verify(signature, b"massage")
    with pytest.raises(VerificationError, match="not by key"):
        load_public_key(packs.STRANGER.public_pem).verify(signature, b"message")


def test_rejects_signatures_that_are_not_strict_der(packs: ModuleType) -> None:
    key, signature = load_public_key(packs.APPLIANCE.public_pem), packs.APPLIANCE.sign(b"m")
    r, s = decode_dss_signature(signature)
    long_form = b"\x30\x81" + bytes([len(signature) - 2]) + signature[2:]
    for bad in (
        b"",
        signature + b"\0",
        signature[:-1],
        long_form,
        r.to_bytes(32, "big") + s.to_bytes(32, "big"),
    ):
        with pytest.raises(VerificationError, match="DER"):
            key.verify(bad, b"m")


@pytest.mark.parametrize("r, s", [(0, 0), (0, 1), (2**256, 1), (1, 2**300)])
def test_rejects_signatures_out_of_range(packs: ModuleType, r: int, s: int) -> None:
    with pytest.raises(VerificationError, match=r"not by key|higher of its two values"):
        load_public_key(packs.APPLIANCE.public_pem).verify(encode_dss_signature(r, s), b"m")


def _pem(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def test_rejects_keys_of_other_kinds() -> None:
    for key in (
        ec.derive_private_key(1, ec.SECP384R1()),
        ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32)),
    ):
        with pytest.raises(MalformedError, match="not ECDSA P-256"):
            load_public_key(_pem(key))


def test_rejects_pem_in_another_form(packs: ModuleType) -> None:
    pem = packs.APPLIANCE.public_pem
    for other in (pem + b"\n", pem.replace(b"\n", b"\r\n"), b"comment\n" + pem, pem.rstrip(b"\n")):
        with pytest.raises(MalformedError, match="one PEM form"):
            load_public_key(other)


@pytest.mark.parametrize(
    "pem", [b"", b"junk", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"]
)
def test_rejects_what_is_no_key(pem: bytes) -> None:
    with pytest.raises(MalformedError, match="not a PEM public key"):
        load_public_key(pem)


def test_rejects_an_oversized_key() -> None:
    with pytest.raises(MalformedError, match="over the limit of 1024"):
        load_public_key(b"x" * 1025)


def test_rejects_a_key_under_another_id(packs: ModuleType) -> None:
    with pytest.raises(MalformedError, match="key id is not"):
        PublicKey(key_id=packs.STRANGER.key_id, pem=packs.APPLIANCE.public_pem)


def test_each_signature_has_one_form_only(packs: ModuleType) -> None:
    key = load_public_key(packs.APPLIANCE.public_pem)
    for number in range(20):
        message = str(number).encode()
        low = packs.APPLIANCE.sign(message)
        r, s = decode_dss_signature(low)
        high = encode_dss_signature(r, P256_ORDER - s)
        key.verify(low, message)
        with pytest.raises(VerificationError, match="higher of its two values"):
            key.verify(high, message)
        assert low_s(high) == low_s(low) == low


def test_half_the_order_is_the_last_low_value() -> None:
    low, high = encode_dss_signature(1, P256_ORDER // 2), encode_dss_signature(1, P256_ORDER // 2 + 1)
    assert low_s(low) == low_s(high) == low
