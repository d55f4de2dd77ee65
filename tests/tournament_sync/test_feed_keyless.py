"""Keyless bundles: an instance of our own, everything right, then each thing wrong once."""

import hashlib
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.tournament_sync.private_sigstore import IDENTITY, ISSUER, SIGNED_AT, PrivateSigstore
from tournament_sync.errors import ReleaseError
from tournament_sync.feed import keyless, keyless_child
from tournament_sync.feed.custom import MAX_KEYLESS_BYTES
from tournament_sync.feed.keyless import verify_keyless

ARTIFACT = b"an archive of a champion"


@pytest.fixture(scope="module")
def sigstore() -> PrivateSigstore:
    return PrivateSigstore()


@pytest.fixture(scope="module")
def good(sigstore: PrivateSigstore) -> bytes:
    return json.dumps(sigstore.bundle(ARTIFACT)).encode()


@pytest.fixture
def verify(sigstore: PrivateSigstore) -> Callable[..., None]:
    def call(bundle: bytes | dict[str, Any], **changes: Any) -> None:
        given = {
            "artifact_sha256": hashlib.sha256(ARTIFACT).hexdigest(),
            "trust": sigstore.trust(),
            "identity": IDENTITY,
            "issuer": ISSUER,
            **changes,
        }
        data = bundle if isinstance(bundle, bytes) else json.dumps(bundle).encode()
        verify_keyless(data, given.pop("artifact_sha256"), **given)

    return call


def changed(bundle: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    raw = json.loads(bundle)
    change(raw)
    return json.dumps(raw).encode()


def entry_of(raw: dict[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = raw["verificationMaterial"]["tlogEntries"][0]
    return entry


def test_accepts_what_the_configured_person_signed_and_logged(verify, good: bytes) -> None:
    verify(good)


def test_takes_the_trust_of_a_whole_client_configuration(
    verify, good: bytes, sigstore: PrivateSigstore
) -> None:
    verify(good, trust=sigstore.client_trust_config())


def test_refuses_another_identity(verify, good: bytes) -> None:
    with pytest.raises(ReleaseError, match="SANs do not match mallory@gradients"):
        verify(good, identity="mallory@gradients.test")


def test_refuses_another_issuer(verify, good: bytes) -> None:
    with pytest.raises(ReleaseError, match="keyless bundle is refused: VerificationError"):
        verify(good, issuer="https://login.evil.test")


def test_refuses_an_identity_that_another_issuer_vouched_for(verify, sigstore: PrivateSigstore) -> None:
    with pytest.raises(ReleaseError, match="keyless bundle is refused: VerificationError"):
        verify(sigstore.bundle(ARTIFACT, issuer="https://login.evil.test"))


@pytest.mark.parametrize("missing", ["identity", "issuer"])
def test_refuses_to_check_without_identity_or_issuer(verify, good: bytes, missing: str) -> None:
    with pytest.raises(ReleaseError, match="cannot be checked: no identity and issuer are configured"):
        verify(good, **{missing: ""})


def test_refuses_another_artifact(verify, good: bytes) -> None:
    with pytest.raises(ReleaseError, match="digest mismatch"):
        verify(good, artifact_sha256="a" * 64)


def test_refuses_another_artifact_of_which_the_bundle_hides_the_digest(verify, good: bytes) -> None:
    bundle = changed(good, lambda raw: raw["messageSignature"].pop("messageDigest"))
    with pytest.raises(ReleaseError, match="keyless bundle is refused"):
        verify(bundle, artifact_sha256="a" * 64)


def test_refuses_the_root_of_another_instance(verify, good: bytes) -> None:
    with pytest.raises(ReleaseError, match="failed to build timestamp certificate chain"):
        verify(good, trust=PrivateSigstore().trust())


def test_refuses_a_bundle_without_log_entry(verify, good: bytes) -> None:
    bundle = changed(good, lambda raw: raw["verificationMaterial"].update(tlogEntries=[]))
    with pytest.raises(ReleaseError, match="expected exactly one log entry"):
        verify(bundle)


@pytest.mark.parametrize(
    "part", ["inclusionProof", "inclusionPromise", "integratedTime", "canonicalizedBody"]
)
def test_refuses_a_log_entry_without_its_parts(verify, good: bytes, part: str) -> None:
    with pytest.raises(ReleaseError, match="keyless bundle is refused"):
        verify(changed(good, lambda raw: entry_of(raw).pop(part)))


def test_refuses_a_log_entry_without_signed_checkpoint(verify, good: bytes) -> None:
    with pytest.raises(ReleaseError, match="keyless bundle is refused"):
        verify(changed(good, lambda raw: entry_of(raw)["inclusionProof"].pop("checkpoint")))


def test_refuses_the_log_of_another_instance(verify, good: bytes, sigstore: PrivateSigstore) -> None:
    other = PrivateSigstore(ca_key=sigstore.ca_key, ct_key=sigstore.ct_key)
    other.ca = sigstore.ca
    with pytest.raises(ReleaseError, match="invalid log entry"):
        verify(other.bundle(ARTIFACT))


def test_refuses_a_log_entry_of_another_artifact(verify, sigstore: PrivateSigstore) -> None:
    with pytest.raises(ReleaseError, match="inconsistent with other materials"):
        verify(sigstore.bundle(ARTIFACT, logged=b"another"))


def test_refuses_a_certificate_that_no_certificate_log_saw(verify, sigstore: PrivateSigstore) -> None:
    stranger = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(ReleaseError, match="SCT verify failed"):
        verify(sigstore.bundle(ARTIFACT, ct_key=stranger))


def test_refuses_a_signature_made_after_the_certificate_ended(verify, sigstore: PrivateSigstore) -> None:
    with pytest.raises(ReleaseError, match="keyless bundle is refused"):
        verify(sigstore.bundle(ARTIFACT, integrated_at=SIGNED_AT + timedelta(hours=1)))


def test_refuses_a_trust_root_without_log(verify, good: bytes, sigstore: PrivateSigstore) -> None:
    trust = json.dumps({**sigstore.trusted_root(), "tlogs": []}).encode()
    with pytest.raises(ReleaseError, match="no transparency log instances"):
        verify(good, trust=trust)


@pytest.mark.parametrize(
    ("bundle", "message"),
    [
        (b"{}", "keyless bundle is refused"),
        (b"[]", "keyless bundle is refused"),
        (b"{", "cannot be checked: not JSON"),
        (b'{"a":1,"a":2}', "duplicate key 'a'"),
        (b" " * (MAX_KEYLESS_BYTES + 1), "over the limit"),
    ],
)
def test_refuses_what_is_no_bundle(verify, bundle: bytes, message: str) -> None:
    with pytest.raises(ReleaseError, match=message):
        verify(bundle)


@pytest.mark.parametrize("trust", [b"{}", b"[]", b'"x"', b"{", b'{"mediaType":1}'])
def test_refuses_what_is_no_trust(verify, good: bytes, trust: bytes) -> None:
    with pytest.raises(ReleaseError, match="keyless bundle"):
        verify(good, trust=trust)


def test_refuses_a_digest_that_is_none(verify, good: bytes) -> None:
    with pytest.raises(ReleaseError, match="expected 64 lower-case hexadecimal digits"):
        verify(good, artifact_sha256="A" * 64)


def test_any_flipped_letter_of_a_signature_is_refused(verify, good: bytes) -> None:
    flipped = changed(
        good,
        lambda raw: raw["messageSignature"].update(
            signature="MEUA" + raw["messageSignature"]["signature"][4:]
        ),
    )
    with pytest.raises(ReleaseError, match="keyless bundle is refused"):
        verify(flipped)


def test_without_the_extra_the_answer_is_that_it_cannot_be_checked(
    monkeypatch: pytest.MonkeyPatch, good: bytes, sigstore: PrivateSigstore
) -> None:
    monkeypatch.setattr(keyless, "IS_INSTALLED", False)
    with pytest.raises(ReleaseError, match="cannot be checked: the extra 'keyless' is not installed"):
        verify_keyless(good, "0" * 64, trust=b"{}", identity=IDENTITY, issuer=ISSUER)


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("raise SystemExit(0)", "the check said nothing"),
        ("print('verified, surely')", "verified, surely"),
        ("raise ImportError('sigstore_models')", "the check ended with code 1"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "died of signal SIGSEGV"),
    ],
)
def test_whatever_becomes_of_the_child_is_no_yes(
    monkeypatch: pytest.MonkeyPatch, good: bytes, program: str, why: str
) -> None:
    monkeypatch.setattr(keyless, "_PROGRAM", program)  # what the child does is the input here
    with pytest.raises(ReleaseError, match=f"keyless bundle is refused: .*{why}"):
        verify_keyless(good, "0" * 64, trust=b"{}", identity=IDENTITY, issuer=ISSUER)


def test_child_and_parent_have_one_word_for_yes() -> None:
    assert keyless_child.VERIFIED == keyless._VERIFIED
