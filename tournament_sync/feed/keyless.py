"""Verifies keyless sigstore bundles offline, against a trust root that the site configured.

What is covered: certificate chain, certificate log, identity and issuer, signature over the artifact, and the
entry in the signature log with its proof, signed checkpoint and promise. None of them is optional.
Not covered: whether the log is honest over time; nobody is asked, so a split view is not noticed here.
"""

import importlib.util
import json

from attestation import canonical
from attestation.digest import parse_sha256_hex
from attestation.errors import MalformedError
from tournament_sync.errors import ReleaseError
from tournament_sync.feed.custom import MAX_KEYLESS_BYTES
from tournament_sync.limited_child import Work, ask, cpu_limit_s, program_of

# The extra "keyless", 29 packages, is for sites that use it.
IS_INSTALLED = importlib.util.find_spec("sigstore") is not None
MAX_TRUST_BYTES = 1 << 20  # the public instance's root has 7 KB
_VERIFIED = b"verified"  # what tournament_sync.feed.keyless_child prints, which imports sigstore
_PROGRAM = program_of("tournament_sync.feed.keyless_child")
_WORK = Work(name="check", timeout_s=30, max_printed_bytes=64 << 10)


def verify_keyless(bundle: bytes, artifact_sha256: str, *, trust: bytes, identity: str, issuer: str) -> None:
    """Raise ReleaseError unless `identity`, vouched for by `issuer`, signed the artifact and a log has the entry.

    `trust`: a TrustedRoot or ClientTrustConfig in JSON. No network is used, and nothing is left out without it:
    what cannot be checked is refused.
    """
    if not IS_INSTALLED:
        raise ReleaseError("keyless bundle cannot be checked: the extra 'keyless' is not installed")
    if not identity or not issuer:
        raise ReleaseError("keyless bundle cannot be checked: no identity and issuer are configured")
    _check_forms(bundle, artifact_sha256, trust)
    keyless = {
        "bundle": bundle.decode(),
        "artifact_sha256": artifact_sha256,
        "trust": trust.decode(),
        "identity": identity,
        "issuer": issuer,
    }
    request = {"cpu_s": cpu_limit_s(_WORK.timeout_s), "keyless": keyless}
    told = ask(_PROGRAM, json.dumps(request).encode(), work=_WORK)
    if told != _VERIFIED:
        why = told if isinstance(told, str) else told.decode(errors="replace")
        raise ReleaseError(f"keyless bundle is refused: {why or 'the check said nothing'}")


def _check_forms(bundle: bytes, artifact_sha256: str, trust: bytes) -> None:
    """Return if everything has one reading and no more than its size. Raises ReleaseError."""
    try:
        canonical.decode(bundle, max_bytes=MAX_KEYLESS_BYTES)
        is_object = isinstance(canonical.decode(trust, max_bytes=MAX_TRUST_BYTES), dict)
        parse_sha256_hex(artifact_sha256)
    except MalformedError as error:
        raise ReleaseError(f"keyless bundle cannot be checked: {error}") from error
    if not is_object:
        raise ReleaseError("keyless bundle cannot be checked: the trust root is no JSON object")
