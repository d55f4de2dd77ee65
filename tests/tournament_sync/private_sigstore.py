"""A private Sigstore in memory: certificate authority, certificate log and signature log, each one key.

It signs as a person would with the public one, and can leave out or falsify one thing before it signs.
"""

import base64
import hashlib
import json
import struct
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID, ObjectIdentifier

IDENTITY = "publisher@gradients.test"
ISSUER = "https://login.gradients.test"
SIGNED_AT = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
_ORIGIN = "rekor.gradients.test"
_ISSUER_OID = ObjectIdentifier("1.3.6.1.4.1.57264.1.1")
_PRIVATE_KEY = ec.EllipticCurvePrivateKey


def _key() -> _PRIVATE_KEY:
    return ec.generate_private_key(ec.SECP256R1())


def _spki(key: _PRIVATE_KEY) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _sign(key: _PRIVATE_KEY, data: bytes) -> bytes:
    return key.sign(data, ec.ECDSA(SHA256()))


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


@dataclass
class PrivateSigstore:
    ca_key: _PRIVATE_KEY = field(default_factory=_key)
    ct_key: _PRIVATE_KEY = field(default_factory=_key)
    log_key: _PRIVATE_KEY = field(default_factory=_key)

    def __post_init__(self) -> None:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Gradients test CA")])
        public = self.ca_key.public_key()
        self.ca = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(public)
            .serial_number(1)
            .not_valid_before(SIGNED_AT - timedelta(days=10))
            .not_valid_after(SIGNED_AT + timedelta(days=3650))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(key_cert_sign=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .sign(self.ca_key, SHA256())
        )

    def trusted_root(self) -> dict[str, Any]:
        start = {"start": "2026-01-01T00:00:00Z"}

        def log(key: _PRIVATE_KEY) -> dict[str, Any]:
            return {
                "baseUrl": "https://log.gradients.test",
                "hashAlgorithm": "SHA2_256",
                "publicKey": {
                    "rawBytes": _b64(_spki(key)),
                    "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                    "validFor": start,
                },
                "logId": {"keyId": _b64(hashlib.sha256(_spki(key)).digest())},
            }

        return {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [log(self.log_key)],
            "ctlogs": [log(self.ct_key)],
            "certificateAuthorities": [
                {
                    "subject": {"organization": "Gradients test", "commonName": "Gradients test CA"},
                    "uri": "https://ca.gradients.test",
                    "certChain": {"certificates": [{"rawBytes": _b64(self.ca.public_bytes(Encoding.DER))}]},
                    "validFor": start,
                }
            ],
            "timestampAuthorities": [],
        }

    def trust(self) -> bytes:
        return json.dumps(self.trusted_root()).encode()

    def client_trust_config(self) -> bytes:
        service = {"url": "https://x.gradients.test", "majorApiVersion": 1, "operator": "test"}
        service |= {"validFor": {"start": "2026-01-01T00:00:00Z"}}
        return json.dumps(
            {
                "mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json",
                "trustedRoot": self.trusted_root(),
                "signingConfig": {
                    "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
                    "caUrls": [service],
                    "oidcUrls": [service],
                    "rekorTlogUrls": [service],
                    "rekorTlogConfig": {"selector": "ANY"},
                    "tsaUrls": [],
                    "tsaConfig": {"selector": "ANY"},
                },
            }
        ).encode()

    def bundle(
        self,
        artifact: bytes,
        *,
        identity: str = IDENTITY,
        issuer: str = ISSUER,
        integrated_at: datetime = SIGNED_AT,
        ct_key: _PRIVATE_KEY | None = None,
        logged: bytes | None = None,
    ) -> dict[str, Any]:
        """`logged`: another artifact, whose digest the log entry has."""
        key = _key()
        leaf = self._leaf(key, identity=identity, issuer=issuer, ct_key=ct_key or self.ct_key)
        signature, digest = _sign(key, artifact), hashlib.sha256(artifact).digest()
        body = self._body(leaf, signature, hashlib.sha256(logged or artifact).hexdigest())
        return {
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {
                "certificate": {"rawBytes": _b64(leaf.public_bytes(Encoding.DER))},
                "tlogEntries": [self._entry(body, integrated_at)],
            },
            "messageSignature": {
                "messageDigest": {"algorithm": "SHA2_256", "digest": _b64(digest)},
                "signature": _b64(signature),
            },
        }

    def _leaf(
        self, key: _PRIVATE_KEY, *, identity: str, issuer: str, ct_key: _PRIVATE_KEY
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.ca.subject)
            .public_key(key.public_key())
            .serial_number(7)
            .not_valid_before(SIGNED_AT - timedelta(minutes=1))
            .not_valid_after(SIGNED_AT + timedelta(minutes=9))
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.RFC822Name(identity)]), critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.ca_key.public_key()), critical=False
            )
            .add_extension(x509.UnrecognizedExtension(_ISSUER_OID, issuer.encode()), critical=False)
        )
        poisonless = builder.sign(self.ca_key, SHA256()).tbs_certificate_bytes
        stamps = self._signed_certificate_timestamps(poisonless, ct_key)
        oid = ExtensionOID.PRECERT_SIGNED_CERTIFICATE_TIMESTAMPS
        return builder.add_extension(x509.UnrecognizedExtension(oid, stamps), critical=False).sign(
            self.ca_key, SHA256()
        )

    def _signed_certificate_timestamps(self, tbs: bytes, ct_key: _PRIVATE_KEY) -> bytes:
        """RFC 6962, 3.2 and 3.3: one timestamp over the certificate without it, as the extension's value."""
        at_ms = int(SIGNED_AT.timestamp() * 1000)
        entry = hashlib.sha256(_spki(self.ca_key)).digest() + len(tbs).to_bytes(3, "big") + tbs
        signature = _sign(ct_key, struct.pack("!BBQH", 0, 0, at_ms, 1) + entry + bytes(2))
        log_id = hashlib.sha256(_spki(ct_key)).digest()
        stamp = struct.pack("!B32sQHBBH", 0, log_id, at_ms, 0, 4, 3, len(signature)) + signature
        listed = struct.pack("!HH", len(stamp) + 2, len(stamp)) + stamp
        assert len(listed) < 128  # so that its DER length is one byte
        return b"\x04" + bytes([len(listed)]) + listed

    @staticmethod
    def _body(leaf: x509.Certificate, signature: bytes, sha256: str) -> bytes:
        return _canonical(
            {
                "apiVersion": "0.0.1",
                "kind": "hashedrekord",
                "spec": {
                    "data": {"hash": {"algorithm": "sha256", "value": sha256}},
                    "signature": {
                        "content": _b64(signature),
                        "publicKey": {"content": _b64(leaf.public_bytes(Encoding.PEM))},
                    },
                },
            }
        )

    def _entry(self, body: bytes, integrated_at: datetime) -> dict[str, Any]:
        log_id, at_s = hashlib.sha256(_spki(self.log_key)).digest(), int(integrated_at.timestamp())
        promise = {"body": _b64(body), "integratedTime": at_s, "logID": log_id.hex(), "logIndex": 0}
        root = hashlib.sha256(b"\0" + body).digest()
        note = f"{_ORIGIN}\n1\n{_b64(root)}\n"
        signed = _b64(log_id[:4] + _sign(self.log_key, note.encode()))
        return {
            "logIndex": "0",
            "logId": {"keyId": _b64(log_id)},
            "kindVersion": {"kind": "hashedrekord", "version": "0.0.1"},
            "integratedTime": str(at_s),
            "inclusionPromise": {"signedEntryTimestamp": _b64(_sign(self.log_key, _canonical(promise)))},
            "inclusionProof": {
                "logIndex": "0",
                "rootHash": _b64(root),
                "treeSize": "1",
                "hashes": [],
                "checkpoint": {"envelope": f"{note}\n\u2014 {_ORIGIN} {signed}\n"},
            },
            "canonicalizedBody": _b64(body),
        }


def _usage(*, key_cert_sign: bool = False, digital_signature: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=key_cert_sign,
        encipher_only=False,
        decipher_only=False,
    )
