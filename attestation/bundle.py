"""Sigstore bundle v0.3: one signed statement in one line of JSON.

Stricter than the format: a bundle is exactly what `sign_statement` writes around its key hint, payload and
signature, byte for byte, and a signature has one form (attestation.keys). So nobody but the signer can
spell a bundle in a second way, and its digest names it.
"""

import base64
import binascii
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from attestation import canonical
from attestation.dsse import PAYLOAD_TYPE, pae
from attestation.errors import MalformedError, UndecidedError, VerificationError
from attestation.keys import PublicKey, Signer
from attestation.predicates import check_predicate
from attestation.statement import MAX_STATEMENT_BYTES, Statement, encode_statement, parse_statement

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
MAX_BUNDLE_BYTES = MAX_STATEMENT_BYTES * 4 // 3 + 4096  # base64, and the JSON around it


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A signed payload, not yet verified. `hint` says which key to try; it grants no trust."""

    hint: str
    payload: bytes
    signature: bytes


def sign_statement(statement: Statement, signer: Signer) -> bytes:
    """A bundle: one line of compact JSON without LF. Its SHA-256 is the bundle digest.

    Raises MalformedError for a statement whose predicate does not have its type's shape.
    """
    check_predicate(statement)
    payload = encode_statement(statement)
    return _encode(signer.key_id, payload, signer.sign(pae(PAYLOAD_TYPE, payload)))


def parse_bundle(data: bytes) -> Bundle:
    """The bundle in `data`, without any trust in it.

    Raises MalformedError, or UndecidedError for certificates and time-stamps, which are not checked here.
    """
    raw = canonical.decode(data, max_bytes=MAX_BUNDLE_BYTES)
    outer = _fields(raw, {"mediaType", "verificationMaterial", "dsseEnvelope"}, what="bundle")
    if outer["mediaType"] != MEDIA_TYPE:
        raise MalformedError(f"media type is not {MEDIA_TYPE}")
    hint = _hint(outer["verificationMaterial"])
    envelope = _fields(outer["dsseEnvelope"], {"payload", "payloadType", "signatures"}, what="envelope")
    if envelope["payloadType"] != PAYLOAD_TYPE:
        raise MalformedError(f"payload type is not {PAYLOAD_TYPE}")
    bundle = Bundle(
        hint=hint,
        payload=_unbase64(envelope["payload"], what="payload"),
        signature=_signature(envelope["signatures"], hint=hint),
    )
    if _encode(bundle.hint, bundle.payload, bundle.signature) != data:
        raise MalformedError("bundle is not in its one spelling: compact JSON, fields in the order we write")
    return bundle


def open_bundle(bundle: Bundle, key: PublicKey) -> Statement:
    """The statement in `bundle`, proved to be signed by `key`.

    Raises VerificationError, or MalformedError for a signed payload that is no statement of its type.
    """
    if bundle.hint != key.key_id:
        raise VerificationError(f"signed by key {bundle.hint[:16]}…, not by {key.key_id[:16]}…")
    key.verify(bundle.signature, pae(PAYLOAD_TYPE, bundle.payload))
    statement = parse_statement(bundle.payload)
    check_predicate(statement)
    return statement


def _encode(hint: str, payload: bytes, signature: bytes) -> bytes:
    return canonical.compact(
        {
            "mediaType": MEDIA_TYPE,
            "verificationMaterial": {
                "publicKey": {"hint": hint},
                "tlogEntries": [],
                "timestampVerificationData": {"rfc3161Timestamps": []},
            },
            "dsseEnvelope": {
                "payload": base64.b64encode(payload).decode(),
                "payloadType": PAYLOAD_TYPE,
                "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": hint}],
            },
        }
    )


def _hint(raw: object) -> str:
    if isinstance(raw, dict) and ("certificate" in raw or "x509CertificateChain" in raw):
        raise UndecidedError("signed with a certificate; only bare keys are checked here")
    material = _fields(
        raw, {"publicKey", "tlogEntries", "timestampVerificationData"}, what="verification material"
    )
    if material["tlogEntries"] != []:
        raise MalformedError("bundle carries log entries of another log")
    stamps = _fields(material["timestampVerificationData"], {"rfc3161Timestamps"}, what="time-stamp data")
    if stamps["rfc3161Timestamps"] != []:
        raise UndecidedError("bundle carries time-stamps; they are not checked here")
    hint = _fields(material["publicKey"], {"hint"}, what="public key")["hint"]
    if not isinstance(hint, str) or not hint:
        raise MalformedError("public key hint is missing")
    return hint


def _signature(raw: object, *, hint: str) -> bytes:
    if not isinstance(raw, list) or len(raw) != 1:
        found = len(raw) if isinstance(raw, list) else "none"
        raise MalformedError(f"expected exactly one signature, found {found}")
    only = _fields(raw[0], {"sig", "keyid"}, what="signature")
    if only["keyid"] != hint:
        raise MalformedError("signature key id differs from the bundle's hint")
    return _unbase64(only["sig"], what="signature")


# Any: JSON whose fields the caller checks one by one.
def _fields(raw: object, required: AbstractSet[str], *, what: str) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise MalformedError(f"{what} is not an object")
    if missing := required - raw.keys():
        raise MalformedError(f"{what} lacks {sorted(missing)}")
    if unknown := raw.keys() - required:
        raise MalformedError(f"{what} has unknown fields {sorted(unknown)}")
    return raw


def _unbase64(text: object, *, what: str) -> bytes:
    if isinstance(text, str):
        try:
            data = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            data = b""
        if data and base64.b64encode(data).decode() == text:  # b64decode ignores stray padding bits
            return data
    raise MalformedError(f"{what} is not base64")
